"""Connecting to a PostgreSQL server, and to nothing else that happens to listen at its address."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import asyncpg

from attpc_plugins.run_history.embedded.binaries import OLDEST

from . import wire
from .poolers import SharedConnection, settle


async def connect(
    text: str | None,
    *,
    session: Mapping[str, str] | None = None,
    answer_bytes: int = wire.ANSWER_BYTES,
    **options: Any,
) -> asyncpg.Connection:
    """Connect as `asyncpg.connect` does, to a PostgreSQL server only.

    `session` are settings of the server for the whole session. Through a pooler there is none: the connection
    is a `SharedConnection` then, without them and without prepared statements. An answer that is longer than
    `answer_bytes` ends the connection. Raises what asyncpg raises, and `NotPostgresError` for what answers in
    any other way than such a server.
    """
    wire.answer_bytes.set(answer_bytes)
    connection = await _connect(text, options)
    if connection.get_server_version().major < OLDEST:
        return connection  # who asked for it refuses it
    try:
        with _understood():
            alone = await settle(connection, session or {})
        if alone:
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
    with _understood():
        return await asyncpg.connect(text or None, **options)


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """Raise `NotPostgresError` where asyncpg trips over what a server would never say."""
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError):
        raise
    except Exception as error:
        raise wire.NotPostgresError(f"it answers as no PostgreSQL server does ({error!r:.100})") from error
