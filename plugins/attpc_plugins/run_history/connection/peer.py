"""Connects to a PostgreSQL server, and to nothing else that listens at its address."""

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
    """Connect as `asyncpg.connect` does, but only to a PostgreSQL server.

    `session` are server settings for the whole session. A pooler has no sessions: then the connection
    is a `SharedConnection`, without them and without prepared statements. An answer longer than
    `answer_bytes` ends the connection. Raises what asyncpg raises, and `NotPostgresError` for anything that
    does not answer like PostgreSQL.
    """
    wire.answer_bytes.set(answer_bytes)
    connection = await _connect(text, options)
    if connection.get_server_version().major < OLDEST:
        return connection  # the caller refuses it
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
            pass  # not every pooler accepts it
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _connect(text: str | None, options: Mapping[str, Any]) -> asyncpg.Connection:
    with _understood():
        return await asyncpg.connect(text or None, **options)


@contextlib.contextmanager
def _understood() -> Iterator[None]:
    """Raise `NotPostgresError` if asyncpg fails on an answer that no server would send."""
    try:
        yield
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError):
        raise
    except Exception as error:
        raise wire.NotPostgresError(f"it does not answer like PostgreSQL ({error!r:.100})") from error
