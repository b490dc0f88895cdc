"""A real PostgreSQL for tests: one embedded server a worker, a fresh database for each that asks.

Import what you use into the `conftest.py` of your folder:

    from tests.support.postgres import database, dsn, empty_dsn, postgres_place, postgres_server  # noqa: F401

- `dsn` is the URL of a database with the schema in it, `empty_dsn` of one without;
- `database` makes more: `async with database() as url:`, `database(migrated=False)` for one without a schema;
- `postgres_server` is the running `EmbeddedServer`;
- `postgres_place` makes empty folders in which an embedded server can be made, also as root.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
from attpc_plugins.run_history.embedded import DATABASE, ROLE, EmbeddedServer

QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "100"}
"""For tests that do not try what survives a power cut."""

Databases = Callable[..., AbstractAsyncContextManager[str]]


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """Give a folder that any account may pass; pytest's own are closed to all but their maker."""
    folder = Path(tempfile.mkdtemp(prefix="attpc-pg-"))
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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedServer]:
    """Run one server for all tests of this worker."""
    with place() as folder:
        server = EmbeddedServer(folder / "db", options=QUICK, purpose="the tests")
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
        await order(postgres_server, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
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


_templates: dict[str, str] = {}


async def _template(server: EmbeddedServer) -> str:
    """Return the name of a database with the schema, made once a server."""
    key = str(server.folder)
    if key not in _templates:
        from attpc_plugins.run_history.migrate import migrate

        name = "with_schema"
        await order(server, f"CREATE DATABASE {name} TEMPLATE template0")
        connection = await asyncpg.connect(url_of(server, name))
        try:
            await migrate(connection)
        finally:
            await connection.close()
        _templates[key] = name
    return _templates[key]
