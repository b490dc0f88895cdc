"""A real PgBouncer for tests, between a client and a database of the tests' PostgreSQL server.

    async with bouncer(postgres_server, dsn, pool_mode="transaction") as pooler:
        ... pooler.dsn ...

PgBouncer refuses to run as root: as root it runs as the account that PostgreSQL runs as.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from attpc_plugins.run_history.embedded.binaries import account_for
from attpc_plugins.run_history.embedded.server import ROLE, EmbeddedServer

from tests.support.ca import free_port
from tests.support.needs import found, needs
from tests.support.postgres import place

PGBOUNCER = found("pgbouncer")

needs_pgbouncer = needs("pgbouncer")

PASSWORD = "s3cr3t"


@dataclass
class Bouncer:
    """One PgBouncer; `options` are keys of its `[pgbouncer]` section."""

    folder: Path
    port: int
    server: Path
    database: str
    options: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """The URL of the database through it."""
        return self.url()

    def url(self, database: str = "", *, user: str = ROLE, password: str = "") -> str:
        """Return the URL of a database through it."""
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database or self.database}"

    def write(self, **options: str) -> None:
        """Write its configuration; options stay from one time to the next."""
        self.options |= options
        settings = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "any",
            "auth_file": str(self.folder / "users"),
            "admin_users": ROLE,
            "logfile": str(self.folder / "log"),
            **self.options,
        }
        (self.folder / "users").write_text(f'"{ROLE}" "{PASSWORD}"\n')
        lines = [
            "[databases]",
            f"{self.database} = host={self.server} user={ROLE}",
            "[pgbouncer]",
            *(f"{key} = {value}" for key, value in settings.items()),
        ]
        (self.folder / "pgbouncer.ini").write_text("\n".join(lines) + "\n")

    async def start(self) -> None:
        """Start it and wait until it takes connections."""
        await asyncio.to_thread(self._spawn)
        async with asyncio.timeout(20):
            while not await self._answers():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.01)

    async def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    def _spawn(self) -> None:
        assert PGBOUNCER is not None
        account = account_for()
        self.process = subprocess.Popen(
            [PGBOUNCER, str(self.folder / "pgbouncer.ini")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=account.user,
            group=account.group,
            extra_groups=account.groups,
        )

    async def order(self, command: str) -> None:
        """Give a command to its console."""
        connection = await asyncpg.connect(self.url("pgbouncer", password=PASSWORD), statement_cache_size=0)
        try:
            await connection.execute(command)
        finally:
            connection.terminate()

    def stop(self) -> None:
        """End it at once."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    account = account_for()
    with place() as folder:
        if account.other:
            os.chown(folder, account.uid, account.gid)
        yield folder


@contextlib.asynccontextmanager
async def bouncer(server: EmbeddedServer, dsn: str, **options: str) -> AsyncIterator[Bouncer]:
    """Run one for the length of a block in front of the database that `dsn` names."""
    with _folder() as folder:
        made = Bouncer(folder, free_port(), server.socket, urlsplit(dsn).path[1:])
        made.write(**options)
        await made.start()
        try:
            yield made
        finally:
            made.stop()
