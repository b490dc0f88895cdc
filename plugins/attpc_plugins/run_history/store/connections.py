"""Connections to the database: a small pool, every call bounded, every fault translated."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

import asyncpg

from attpc_plugins.run_history.connection.peer import connect
from attpc_plugins.run_history.connection.poolers import is_shared
from attpc_plugins.run_history.connection.wire import ANSWER_BYTES
from attpc_plugins.run_history.errors import SchemaError
from attpc_plugins.run_history.schema.migrate import MigrationStatus, compare, migrate, status

from .errors import FAULTS, StoreReadOnly, translate

POOL_MAX = 4
"""Connections at most: one for the event log, one for numbers and lease, two for screens and shell."""

IDLE_S = 300.0
"""An idle connection is closed after this time: a firewall may drop it silently."""

IDLE_IN_TRANSACTION_MS = "60000"
"""The longest time that a program that hangs in a transaction keeps its locks."""

Connection = Any
"""An asyncpg connection or its proxy from the pool."""

_STATE = """
    SELECT CASE WHEN pg_is_in_recovery() THEN 'it is a standby'
                WHEN current_setting('transaction_read_only')::boolean THEN 'it is set read-only'
           END AS state, m.version, m.name, m.checksum
    FROM (SELECT) AS server LEFT JOIN attpc.schema_migrations m ON true ORDER BY m.version
"""


class Connections:
    """The connection pool and the rules of its use; the base of the store's topics.

    Every call takes at most `limit_s` seconds, including connecting, or raises `StoreUnavailable`; streams
    and imports have a limit for each step instead.
    """

    def __init__(self, pool: asyncpg.Pool, limit_s: float) -> None:
        self._pool = pool
        self._limit_s = limit_s
        self._shared = False
        """Whether the last connection went through a pooler."""

    @classmethod
    async def connect(
        cls,
        dsn: str,
        *,
        limit_s: float = 5.0,
        pool_max: int = POOL_MAX,
        application: str = "attpc-ioc",
        answer_bytes: int = ANSWER_BYTES,
    ) -> Self:
        """Connect and check the schema.

        `dsn` is a PostgreSQL URL (empty: the `PG*` variables). Raises `StoreUnavailable`, `StoreDenied`,
        `StoreError` for a DSN that cannot be read, `SchemaError` where migrations are pending or changed,
        `SchemaTooNew`.
        """
        limit_ms = str(round(limit_s * 1000))
        try:
            async with asyncio.timeout(limit_s):
                pool = await asyncpg.create_pool(
                    dsn or None,
                    connect=partial(
                        connect,
                        answer_bytes=answer_bytes,
                        session={
                            "statement_timeout": limit_ms,
                            "lock_timeout": limit_ms,
                            "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MS,
                            # Filters differ from call to call: a generic plan fits none of them.
                            "plan_cache_mode": "force_custom_plan",
                        },
                    ),
                    min_size=1,
                    max_size=pool_max,
                    timeout=limit_s,
                    command_timeout=limit_s,
                    max_inactive_connection_lifetime=IDLE_S,
                    # Runs are hours apart; the next start should find its statements parsed.
                    max_cached_statement_lifetime=0,
                    reset=_nothing_to_reset,
                    # No other settings: poolers refuse them.
                    server_settings={"application_name": application, "timezone": "UTC"},
                )
        except (*FAULTS, ValueError) as error:
            raise translate(error) from error
        store = cls(pool, limit_s)
        try:
            _check_ready(await store.schema())
        except BaseException:
            pool.terminate()
            raise
        return store

    async def close(self, limit_s: float = 2.0) -> None:
        """Close all connections; those that do not end in time are aborted."""
        try:
            async with asyncio.timeout(limit_s):
                await self._pool.close()
        except FAULTS:
            self._pool.terminate()

    async def schema(self) -> MigrationStatus:
        """Return which of this program's migrations the database has."""
        async with self._use() as connection:
            return await status(connection)

    async def writable(self, *, warm: bool = False) -> None:
        """Raise if this program cannot write to the database now; one query.

        `StoreReadOnly` if the server takes no writes (a standby, or set read-only), `SchemaTooNew` or
        `SchemaError` if the schema changed since the last check. With `warm` a second connection stays in
        use, so that the start of a run finds one while the event log uses the other.
        """
        async with self._use() as connection:
            rows = await connection.fetch(_STATE)
            state = rows[0]["state"]
            if not state:
                _check_ready(compare([row for row in rows if row["version"] is not None]))
                if warm:
                    async with self._use() as other:
                        await self._warm_up(other)
        if state:
            await self._pool.expire_connections()
            raise StoreReadOnly(f"the database takes no writes: {state}")

    async def _warm_up(self, connection: Connection) -> None:
        """Prepare a connection for calls that must be quick; topics with such calls do more."""
        await connection.fetchval("SELECT 1")

    @asynccontextmanager
    async def _use(self, limit_s: float | None = None) -> AsyncIterator[Connection]:
        """Give a connection for one bounded call; faults become the store's exceptions."""
        limit_s = self._limit_s if limit_s is None else limit_s
        try:
            async with asyncio.timeout(limit_s), self._pool.acquire(timeout=limit_s) as connection:
                self._shared = is_shared(connection)
                with _lost_is_a_fault(connection):
                    yield connection
        except FAULTS as error:
            fault = translate(error, pooler=self._shared)
            if isinstance(fault, StoreReadOnly):
                # After a fail-over these lead to a standby; new connections find the primary.
                await self._pool.expire_connections()
            raise fault from error

    @asynccontextmanager
    async def _transaction(
        self, limit_s: float | None = None, *, read_only: bool = False
    ) -> AsyncIterator[Connection]:
        """Give a connection in a transaction; with `read_only` it sees a single moment."""
        isolation = "repeatable_read" if read_only else "read_committed"
        async with (
            self._use(limit_s) as connection,
            connection.transaction(isolation=isolation, readonly=read_only),
        ):
            if is_shared(connection):
                await connection.execute(
                    f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}"
                )
            yield connection

    @asynccontextmanager
    async def _streaming(self, *, read_only: bool = True) -> AsyncIterator[Connection]:
        """Give a connection in a transaction of any length; each statement has a time limit.

        It may be idle for any time: a person may read an export page by page.
        """
        isolation = "repeatable_read" if read_only else "read_committed"
        try:
            async with (
                self._pool.acquire(timeout=self._limit_s) as connection,
                connection.transaction(isolation=isolation, readonly=read_only),
            ):
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                with _lost_is_a_fault(connection):
                    yield connection
        except FAULTS as error:
            raise translate(error) from error


@contextmanager
def _lost_is_a_fault(connection: Connection) -> Iterator[None]:
    """Raise asyncpg's own exception where it stumbles over a connection that is lost during a call."""
    try:
        yield
    except AttributeError as error:
        if not connection.is_closed():
            raise
        raise asyncpg.InterfaceError("the connection was lost during a call") from error


async def prepare_schema(dsn: str, *, limit_s: float = 30.0) -> list[str]:
    """Connect, migrate, disconnect; returns what was applied. Raises as `Connections.connect` does."""
    try:
        async with asyncio.timeout(limit_s):
            connection = await connect(dsn, timeout=math.ceil(limit_s))
            try:
                return await migrate(connection)
            finally:
                await connection.close(timeout=2.0)
    except (*FAULTS, ValueError) as error:
        raise translate(error) from error


async def _nothing_to_reset(_connection: Connection) -> None:
    """Reset nothing: no setting here outlives its transaction, which asyncpg ends.

    asyncpg's own reset would cost one more round trip for each call.
    """


def _check_ready(known: MigrationStatus) -> None:
    """Raise `SchemaTooNew` or `SchemaError` unless this program can use the schema as it is."""
    known.check()
    if not known.ready:
        raise SchemaError(
            f"the database's schema is missing or old (version {known.version} of {known.known}): "
            "run `attpc-ioc db migrate`"
        )


def utc(unix_s: float | None) -> datetime | None:
    """Return a Unix time as PostgreSQL wants it; None stays None."""
    return None if unix_s is None else moment(unix_s)


def moment(unix_s: float) -> datetime:
    """Return a Unix time in seconds as an aware datetime; clamped to the calendar."""
    try:
        return datetime.fromtimestamp(unix_s, UTC)
    except (OverflowError, ValueError, OSError):
        early = unix_s < 0
        return datetime(1970, 1, 1, tzinfo=UTC) if early else datetime(9999, 12, 31, tzinfo=UTC)


TEXTS_MAX = 65536
"""The most characters of a stored text, if not stated otherwise."""


def clean(text: str, limit: int = TEXTS_MAX) -> str:
    """Return a text that PostgreSQL can store: no NUL, no lone surrogates, at most `limit` characters."""
    text = text.replace("\x00", "␀").encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


__all__ = ["Connection", "Connections", "clean", "moment", "prepare_schema", "utc"]
