"""Connecting to a PostgreSQL server, and to nothing else that happens to listen at its address.

asyncpg (0.32) never leaves its reader when a message begins with a zero byte: the event loop stands still
from then on, and the IOC with it. Where TLS is wanted, it first asks whether the server knows TLS, and a
program that is no PostgreSQL server has no answer to that. Where it is not, the question is asked here.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from typing import Any

import asyncpg

from . import dsn as urls
from .binaries import OLDEST
from .poolers import SharedConnection, settle

ASK = struct.pack("!ii", 8, 80877103)
"""PostgreSQL's SSLRequest; the answer is one byte, or an error of a server that can do nothing now."""

ANSWERS = (b"S", b"N", b"E")

ASK_LIMIT_S = 2.0

UNASKED = ("disable", "allow")
"""Modes in which asyncpg begins without TLS, and so without this question."""


class NotPostgresError(ConnectionError):
    """What answers there is no PostgreSQL server."""


async def connect(
    text: str | None, *, session: Mapping[str, str] | None = None, **options: Any
) -> asyncpg.Connection:
    """Connect as `asyncpg.connect` does, to a PostgreSQL server only.

    `session` are settings of the server for the whole session. Through a pooler there is none: the connection
    is a `SharedConnection` then, without them and without prepared statements. Raises what asyncpg raises,
    and `NotPostgresError` for what answers in any other way than such a server.
    """
    place = urls.read(text or "")
    if place.sslmode in UNASKED:
        await _ask(place.hosts)
    connection = await _connect(text, options)
    if connection.get_server_version().major < OLDEST:
        return connection  # who asked for it refuses it
    try:
        if await settle(connection, session or {}):
            return connection
        await connection.close()
        connection = await _connect(
            text, {**options, "statement_cache_size": 0, "connection_class": SharedConnection}
        )
        async with connection.transaction():
            pass  # not every pooler takes one
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _connect(text: str | None, options: Mapping[str, Any]) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(text or None, **options)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError):
        raise
    except Exception as error:  # asyncpg trips over what a server would never say
        raise NotPostgresError(f"it answers as no PostgreSQL server does ({error!r:.100})") from error


async def _ask(hosts: tuple[str, ...]) -> None:
    """Ask all hosts at once; one that does not answer is left to asyncpg where there are others."""
    tcp = [host.rpartition(":") for host in hosts if not host.startswith("/") and ":" in host]
    found = await asyncio.gather(*(_answer(host.strip("[]"), int(port)) for host, _, port in tcp))
    for (host, _, port), answer in zip(tcp, found, strict=True):
        if answer and answer not in ANSWERS:
            raise NotPostgresError(f"what answers at {host}:{port} is no PostgreSQL server")
    if len(hosts) == 1 and None in found:
        raise TimeoutError


async def _answer(host: str, port: int) -> bytes | None:
    """Return the first byte of the answer; nothing where there is no connection, None where nothing comes."""
    try:
        async with asyncio.timeout(ASK_LIMIT_S):
            reader, writer = await asyncio.open_connection(host, port, limit=1024)
            try:
                writer.write(ASK)
                return await reader.read(1)
            finally:
                writer.transport.abort()
    except TimeoutError:
        return None
    except OSError:
        # asyncpg meets the same, and its words are understood elsewhere.
        return b""
