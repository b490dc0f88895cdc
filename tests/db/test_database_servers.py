"""Connections to servers that refuse, are too old, or are none: each told, and no password shown."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from attpc_plugins.run_history.connection.database import Database, DatabaseKeys, locate
from attpc_plugins.run_history.errors import (
    DatabaseError,
    DatabaseRefused,
    DatabaseSettingsError,
    DatabaseTooOld,
    DatabaseUnreachable,
)
from attpc_plugins.run_history.store import Store, prepare_schema
from attpc_plugins.run_history.store.errors import StoreUnavailable

from tests.support import needs
from tests.support.databases import QUOTED, SECRET, at, fault
from tests.support.postgres import FacilityServer, facility_server

pytestmark = pytest.mark.usefixtures("no_variables")


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityServer]:
    with facility_server() as server:
        yield server


SSL_REQUEST = struct.pack("!i", 80877103)

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def answering(talk: Talk, port: int = 0) -> AsyncIterator[int]:
    """Run a bare server on loopback that talks to every client in that way."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
                await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def test_no_such_host() -> None:
    text = await fault(at(f"postgresql://ioc:{QUOTED}@no-such-host.invalid/attpc"), DatabaseUnreachable)
    assert "host name is not known" in text
    assert "no-such-host.invalid" in text


async def test_nothing_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            text = await fault(at(f"postgresql://ioc:{QUOTED}@{host}:{port}/attpc"), DatabaseUnreachable)
            assert f"{host}:{port}" in text
            assert "nothing listens" in text


async def test_no_socket_there(tmp_path: Path) -> None:
    text = await fault(at(f"postgresql://ioc@/attpc?host={tmp_path}"), DatabaseUnreachable)
    assert "no socket in that folder" in text


async def test_no_answer() -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with answering(silent) as port:
        database = at(f"postgresql://ioc:{QUOTED}@127.0.0.1:{port}/attpc")
        assert "no answer within 0.2 s" in await fault(database, DatabaseUnreachable, limit_s=0.2)


@pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-server\r\n",
        # asyncpg never comes back from messages that begin with a zero byte.
        b"\0" * 5,
        b"\0" * 2000,
        b"R\0\0\0\0",
        # Let in, and then nothing of what a server tells of itself.
        b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I",
    ],
)
async def test_no_postgresql_there(mode: str, said: bytes) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(8)
        writer.write(said)
        await writer.drain()

    async with answering(other) as port:
        database = at(f"postgresql://ioc:{QUOTED}@127.0.0.1:{port}/attpc?sslmode={mode}")
        text = await fault(database, DatabaseUnreachable, limit_s=1.0)
    assert "PostgreSQL" in text or "no answer" in text


@pytest.mark.parametrize("mode", ["disable", "prefer"])
async def test_a_peer_that_is_no_postgresql_stops_neither_the_store_nor_the_loop(mode: str) -> None:
    async def zeros(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    async with answering(zeros) as port:
        dsn = f"postgresql://ioc@127.0.0.1:{port}/attpc?sslmode={mode}"
        beats = asyncio.create_task(longest_pause())
        for connect in (Store.connect(dsn, limit_s=1.0), prepare_schema(dsn, limit_s=1.0)):
            with pytest.raises(StoreUnavailable, match=r"not a PostgreSQL server|rejected SSL"):
                await connect
        beats.cancel()
        assert await beats < 1.0


async def longest_pause() -> float:
    """Return, when cancelled, for how long the event loop once stood still, in seconds."""
    longest, before = 0.0, time.monotonic()
    try:
        while True:
            await asyncio.sleep(0.01)
            longest, before = max(longest, time.monotonic() - before), time.monotonic()
    except asyncio.CancelledError:
        return longest


async def test_a_pool_does_not_reconnect_to_another_program() -> None:
    """The server is gone, and something else has its port: its pool's connections are made as carefully."""
    with facility_server(tls=False) as server:
        store_dsn = server.url("ioc", server.password) + "?sslmode=disable"
        await prepare_schema(store_dsn)
        store = await Store.connect(store_dsn, limit_s=2.0)
        port = server.port

    async def zeros(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(1000))
        await reader.read()

    try:
        async with answering(zeros, port):
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await store.writable()
    finally:
        await store.close(0.0)


async def test_a_server_that_is_too_old() -> None:
    def message(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("!i", len(body) + 4) + body

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        if await reader.readexactly(length - 4) == SSL_REQUEST:
            writer.write(b"N")
            return
        writer.write(message(b"R", struct.pack("!i", 0)))
        writer.write(message(b"S", b"server_version\x0013.9\x00"))
        writer.write(message(b"S", b"server_encoding\x00UTF8\x00"))
        writer.write(message(b"Z", b"I"))
        await writer.drain()
        await reader.read()

    async with answering(old) as port:
        database = at(f"postgresql://ioc@127.0.0.1:{port}/attpc?sslmode=disable")
        assert "PostgreSQL 13, and 14 is the oldest" in await fault(database, DatabaseTooOld)


async def test_a_server_as_a_facility_runs_it(facility: FacilityServer) -> None:
    connection = await at(facility.url("ioc", facility.password)).connect()
    assert await connection.fetchval("SELECT current_user") == "ioc"
    await connection.close()


async def test_a_wrong_password(facility: FacilityServer) -> None:
    text = await fault(at(facility.url("ioc", SECRET)), DatabaseRefused)
    assert "the password is wrong" in text


async def test_no_password(facility: FacilityServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    text = await fault(at(facility.url("ioc")), DatabaseRefused)
    assert "a password is needed" in text
    monkeypatch.setenv("PGPASSWORD", facility.password)
    connection = await at(facility.url("ioc")).connect()
    await connection.close()


async def test_the_variables_alone(facility: FacilityServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("PGPORT", str(facility.port))
    monkeypatch.setenv("PGUSER", "ioc")
    monkeypatch.setenv("PGPASSWORD", SECRET)
    database = locate(DatabaseKeys(), Path("/nowhere"))
    text = await fault(database, DatabaseRefused)
    assert "PGHOST, PGPORT, PGUSER" in text
    monkeypatch.setenv("PGPASSWORD", facility.password)
    monkeypatch.setenv("PGDATABASE", "attpc")
    connection = await locate(DatabaseKeys(), Path("/nowhere")).connect()
    assert await connection.fetchval("SELECT current_database()") == "attpc"
    await connection.close()


async def test_no_such_role(facility: FacilityServer) -> None:
    assert "or the role is" in await fault(at(facility.url("nobody_there", SECRET)), DatabaseRefused)
    text = await fault(at(facility.url("nobody_there", SECRET, database="trusting")), DatabaseRefused)
    assert "CREATE ROLE nobody_there" in text


async def test_no_such_database(facility: FacilityServer) -> None:
    text = await fault(at(facility.url("ioc", facility.password, database="absent")), DatabaseRefused)
    assert "CREATE DATABASE absent OWNER ioc" in text


async def test_not_let_in(facility: FacilityServer) -> None:
    closed = facility.url("ioc", facility.password, database="closed")
    assert "pg_hba.conf" in await fault(at(closed), DatabaseRefused)
    denied = facility.url("ioc", facility.password, database="denied")
    assert "GRANT" in await fault(at(denied), DatabaseRefused)


async def test_a_key_that_is_none(facility: FacilityServer) -> None:
    text = await fault(at(facility.url("ioc", facility.password) + "?no_such_key=1"), DatabaseRefused)
    assert "a key in the URL" in text


async def test_tls(facility: FacilityServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    url = facility.url("ioc", facility.password)
    if facility.certificate is None:
        assert "does not accept TLS" in await fault(at(f"{url}?sslmode=require"), DatabaseUnreachable)
        pytest.skip(needs.reason("openssl") if needs.missing("openssl") else "a PostgreSQL without OpenSSL")
    connection = await at(f"{url}?sslmode=verify-ca&sslrootcert={facility.certificate}").connect()
    assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    await connection.close()
    host = await fault(at(f"{url}?sslmode=verify-full&sslrootcert={facility.certificate}"), DatabaseRefused)
    assert "TLS:" in host
    assert "127.0.0.1" in host
    missing = await fault(at(f"{url}?sslmode=verify-full"), DatabaseSettingsError)
    assert "root.crt" in missing
    wrong = tmp_path / "other.crt"
    wrong.write_text("no certificate")
    assert "TLS:" in await fault(at(f"{url}?sslmode=verify-full&sslrootcert={wrong}"), DatabaseRefused)


async def test_no_tls_where_it_is_asked_for(postgres_place: Callable[[], Path]) -> None:
    with facility_server(tls=False) as server:
        database = at(server.url("ioc", server.password) + "?sslmode=require")
        assert "does not accept TLS" in await fault(database, DatabaseUnreachable)


async def take_all(database: Database, taken: list[asyncpg.Connection]) -> None:
    for _ in range(50):
        taken.append(await database.connect())


async def test_all_connections_taken(facility: FacilityServer) -> None:
    database = at(facility.url("ioc", facility.password))
    taken: list[asyncpg.Connection] = []
    try:
        with pytest.raises(DatabaseRefused, match="no connection left"):
            await take_all(database, taken)
    finally:
        for connection in taken:
            await connection.close()


async def test_logs_hold_no_password(facility: FacilityServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        with contextlib.suppress(DatabaseError):
            await at(facility.url("ioc", SECRET)).connect()
        await (await at(facility.url("ioc", facility.password)).connect()).close()
    assert SECRET not in caplog.text
    assert QUOTED not in caplog.text
    assert facility.password not in caplog.text
