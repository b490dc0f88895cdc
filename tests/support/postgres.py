"""A real PostgreSQL for tests: one embedded server a worker, a fresh database for each that asks.

Import what you use into the `conftest.py` of your folder:

    from tests.support.postgres import database, dsn, empty_dsn, postgres_place, postgres_server  # noqa: F401

- `dsn` is the URL of a database with the schema in it, `empty_dsn` of one without;
- `database` makes more: `async with database() as url:`, `database(migrated=False)` for one without a schema;
- `postgres_server` is the running `EmbeddedServer`;
- `facility_server` runs a server as a facility does: TCP on loopback, passwords, TLS where it can;
- `postgres_place` makes empty folders in which an embedded server can be made, also as root.

The servers are PostgreSQL's that the product would take, unless the environment variable
`ATTPC_TEST_POSTGRES` names others: the folder with `postgres` in it, `wheel` or `system`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from attpc_plugins.run_history.embedded.binaries import account_for, find_binaries
from attpc_plugins.run_history.embedded.server import DATABASE, ROLE, EmbeddedServer
from attpc_plugins.run_history.errors import EmbeddedError

QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "100"}
"""For tests that do not try what survives a power cut."""

PROGRAMS = "ATTPC_TEST_POSTGRES"
"""The environment variable that says with whose programs the tests run their servers."""

Databases = Callable[..., AbstractAsyncContextManager[str]]


def programs() -> str | None:
    """Return what the environment says of the programs to use, as `find_binaries` takes it; None: nothing."""
    return os.environ.get(PROGRAMS) or None


@contextlib.contextmanager
def place(inside: Path | None = None) -> Iterator[Path]:
    """Give a folder that any account may pass; pytest's own are closed to all but their maker."""
    folder = Path(tempfile.mkdtemp(prefix="attpc-pg-", dir=inside))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgres_place() -> Iterator[Callable[[], Path]]:
    """Return a maker of paths for embedded servers, which do not exist yet and are removed afterwards."""
    with place() as folder:
        yield lambda: folder / secrets.token_hex(4)


@pytest.fixture(name="place")
def database_place(postgres_place: Callable[[], Path]) -> Path:
    """Make a folder that the server's account may pass."""
    folder = postgres_place()
    folder.mkdir(mode=0o711)
    return folder


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the variables of PostgreSQL's programs that this shell may have."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedServer]:
    """Run one server for all tests of this worker."""
    with place() as folder:
        server = EmbeddedServer(folder / "db", binaries=programs(), options=QUICK, purpose="the tests")
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def database(postgres_server: EmbeddedServer) -> Databases:
    """Return a context manager that makes a database, gives its URL and drops it with all its connections."""

    @contextlib.asynccontextmanager
    async def make(*, migrated: bool = True) -> AsyncIterator[str]:
        template = await _template(postgres_server) if migrated else "template0"
        name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
        await order(postgres_server, f'CREATE DATABASE "{name}" TEMPLATE "{template}"{_strategy()}')
        try:
            yield url_of(postgres_server, name)
        finally:
            await order(postgres_server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    return make


@pytest.fixture
async def dsn(database: Databases) -> AsyncIterator[str]:
    """Return the URL of a fresh database with the schema."""
    async with database() as url:
        yield url


@pytest.fixture
async def empty_dsn(database: Databases) -> AsyncIterator[str]:
    """Return the URL of a fresh database without anything in it."""
    async with database(migrated=False) as url:
        yield url


def url_of(server: EmbeddedServer, name: str = DATABASE) -> str:
    """Return the URL of a database of the server, for asyncpg and for psql."""
    return f"postgresql://{ROLE}@/{name}?host={quote(str(server.socket), safe='')}"


async def order(server: EmbeddedServer, *statements: str, name: str = "postgres") -> None:
    """Give statements to a database of the server, each in a transaction of its own."""
    connection = await asyncpg.connect(url_of(server, name))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@dataclass(frozen=True)
class FacilityServer:
    """A server as a facility runs it. Role `ioc` owns the database `attpc`; `admin` is its superuser.

    `trusting` asks for no password, `closed` lets nobody in, `denied` not `ioc`. At most 20 connections.
    """

    port: int
    password: str
    certificate: Path | None

    def url(self, user: str, password: str = "", database: str = "attpc") -> str:
        """Return the URL of a database for a role."""
        secret = f":{quote(password, safe='')}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"


FACILITY_HBA = """\
local all all trust
host trusting all 127.0.0.1/32 trust
host closed all 127.0.0.1/32 reject
host all all 127.0.0.1/32 scram-sha-256
"""


@contextlib.contextmanager
def facility_server(*, tls: bool = True, binaries: str | None = None) -> Iterator[FacilityServer]:
    """Run a server on a free port of loopback for the time of the `with`."""
    account = account_for()
    wanted = binaries or programs()
    try:
        found = find_binaries(account, wanted or "system")
    except EmbeddedError:
        found = find_binaries(account, wanted)
    with place() as folder, socket.socket() as reserved:
        data, password = folder / "data", secrets.token_hex(8)
        data.mkdir(mode=0o700)
        if account.other:
            os.chown(data, account.uid, account.gid)

        def as_account(*command: object, **more: Any) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [str(word) for word in command],
                check=True,
                capture_output=True,
                text=True,
                user=account.user,
                group=account.group,
                extra_groups=account.groups,
                **more,
            )

        as_account(
            found.program("initdb"), "-D", data, "-U", "admin", "-E", "UTF8", "--no-locale", "--no-sync"
        )
        certificate = _certificate(as_account, data, found.program("postgres")) if tls else None
        hba = folder / "pg_hba.conf"
        hba.write_text(FACILITY_HBA)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        reserved.close()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": data,
            "hba_file": hba,
            "fsync": "off",
            "max_connections": 20,
            "ssl": "on" if certificate else "off",
        }
        words = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        with (folder / "log").open("wb") as log:
            child = subprocess.Popen(
                [found.program("postgres"), "-D", data, *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=account.user,
                group=account.group,
                extra_groups=account.groups,
            )
        try:
            # A thread of its own: a test that asks for the server may have an event loop running.
            with ThreadPoolExecutor(1) as pool:
                pool.submit(asyncio.run, _furnish(data, port, password)).result()
            yield FacilityServer(port, password, certificate)
        finally:
            child.send_signal(signal.SIGINT)
            child.wait(20)


def _certificate(run: Callable[..., Any], data: Path, postgres: Path) -> Path | None:
    """Make a certificate of the server's own for the host `db.lab`; None where that cannot be."""
    libraries = subprocess.run(["ldd", postgres], capture_output=True, text=True, check=False).stdout
    if "libssl" not in libraries or shutil.which("openssl") is None:
        return None
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=db.lab"),
        *("-addext", "subjectAltName=DNS:db.lab"),
        *("-keyout", data / "server.key", "-out", data / "server.crt"),
        cwd=data,
    )
    (data / "server.key").chmod(0o600)
    copy = data.parent / "server.crt"
    shutil.copy(data / "server.crt", copy)
    return copy


async def _furnish(data: Path, port: int, password: str) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                connection = await asyncpg.connect(
                    host=str(data), port=port, user="admin", database="postgres"
                )
                break
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.01)
    try:
        await connection.execute(f"CREATE ROLE ioc LOGIN PASSWORD '{password}'")
        for name in ("attpc", "trusting", "closed", "denied"):
            await connection.execute(f"CREATE DATABASE {name}" + (" OWNER ioc" if name == "attpc" else ""))
        await connection.execute("REVOKE CONNECT ON DATABASE denied FROM PUBLIC")
    finally:
        await connection.close()


@functools.cache
def _strategy() -> str:
    """How a database is made: by files, a quarter of the work of the way through the log that 15 took up."""
    return " STRATEGY FILE_COPY" if find_binaries(account_for(), programs()).major >= 15 else ""


_templates: dict[str, str] = {}


async def _template(server: EmbeddedServer) -> str:
    """Return the name of a database with the schema, made once a server."""
    key = str(server.folder)
    if key not in _templates:
        from attpc_plugins.run_history.schema.migrate import migrate

        name = "with_schema"
        await order(server, f"CREATE DATABASE {name} TEMPLATE template0")
        connection = await asyncpg.connect(url_of(server, name))
        try:
            await migrate(connection)
        finally:
            await connection.close()
        _templates[key] = name
    return _templates[key]
