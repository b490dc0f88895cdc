"""Keeps the database connected: starts it, watches it, and reconnects after every fault."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import asyncpg

from attpc_ioc.log import get_logger
from attpc_ioc.plugin.faults import Faults
from attpc_plugins.run_history.connection.database import Database
from attpc_plugins.run_history.connection.faults import FAULTS
from attpc_plugins.run_history.connection.hard_limit import hard_limit
from attpc_plugins.run_history.connection.wire import reason_in
from attpc_plugins.run_history.store.errors import StoreConflict, StoreUnavailable

from .errors import DatabaseError
from .store import Store, prepare_schema

log = get_logger(__name__)

AWAY = "database"
"""The cause of the fault that says why the database cannot be used."""

BACKOFF_S = (0.05, 0.5, 1.0, 2.0, 5.0)
"""Delays before the next attempts to connect; they start again after a connection that lasted."""

WATCH_PERIOD_S = 1.0
WATCH_LIMIT_S = 3.0
"""Period of checking whether the server accepts writes, and the time limit of its answer."""

AGAIN_S = 0.05
"""Delay before a duty goes on after another transaction was in its way."""

WELL_S = 10.0
CLOSE_S = 0.2

Duty = Callable[[Store], Awaitable[None]]
"""A task that runs while the database is connected."""


class Supervisor:
    """One task, `run`, that never ends by itself. `store` is None while the database is not connected.

    All `duties` run while it is connected; one that gave way to another program's transaction begins again.
    When one fails with another `DatabaseError`, the supervisor reconnects: it checks the schema again, and
    starts the embedded server if it has ended.
    """

    def __init__(
        self,
        locate: Callable[[], Database],
        faults: Faults,
        duties: tuple[Duty, ...],
        *,
        query_limit_s: float = 5.0,
    ) -> None:
        self._locate = locate
        self._faults = faults
        self._duties = duties
        self._query_limit_s = query_limit_s
        self._database: Database | None = None
        self._task: asyncio.Task[None] | None = None
        self._there = asyncio.Event()
        self._closing = False
        self._connected: Store | None = None
        self.store: Store | None = None
        faults.set(AWAY, "the database is starting", blocks_start=True, expected=True)

    @property
    def alone(self) -> bool:
        """Whether no other IOC can use the database; False until it is located."""
        return self._database is not None and self._database.alone

    async def run(self) -> None:
        """Keep the database connected until cancelled."""
        self._task = asyncio.current_task()
        tries = 0
        while True:
            began_s = time.monotonic()
            try:
                store = await self._bring_up()
            except DatabaseError as error:
                self._set_fault(error)
            else:
                await self._use_and_close(store)
                if time.monotonic() - began_s > WELL_S:
                    tries = 0
            await asyncio.sleep(BACKOFF_S[min(tries, len(BACKOFF_S) - 1)])
            tries += 1

    async def _bring_up(self) -> Store:
        if self._database is None:
            self._database = self._locate()
        await self._database.start()
        dsn = self._database.dsn
        # A single connection first: its faults are explained as the shell commands explain them.
        connection = await self._database.connect()
        with contextlib.suppress(*FAULTS):
            await connection.close(timeout=CLOSE_S)
        await prepare_schema(dsn)
        store = await Store.connect(dsn, limit_s=self._query_limit_s)
        try:
            await store.writable(warm=True)
        except BaseException:
            await store.close(CLOSE_S)
            raise
        return store

    async def _use_and_close(self, store: Store) -> None:
        self._connected = store
        try:
            await self._use(store)
        except* DatabaseError as group:
            log.debug("session with the database ended", faults=len(group.exceptions))
        finally:
            self._lose(DatabaseError("the connection to the database ended"), expected=self._closing)
            await store.close(CLOSE_S)
            self._connected = None

    async def _use(self, store: Store) -> None:
        self.store = store
        self._there.set()
        self._faults.clear(AWAY)
        assert self._database is not None
        log.info("database connected", where=self._database.where)
        async with asyncio.TaskGroup() as group:
            for duty in (self._watch, *self._duties):
                group.create_task(self._do(duty, store), name=f"history {duty.__name__}")

    async def _do(self, duty: Duty, store: Store) -> None:
        try:
            await self._through_conflicts(duty, store)
        except DatabaseError as error:
            # Cut the connections at once: other duties may be waiting for a server that hangs.
            self._lose(error)
            await store.close(0.0)
            raise

    async def _through_conflicts(self, duty: Duty, store: Store) -> None:
        """Run a duty; a transaction that gave way to another one is no loss of the database."""
        while True:
            try:
                return await duty(store)
            except StoreConflict as error:
                log.warning("history gave way to another transaction", duty=duty.__name__, reason=error)
                await asyncio.sleep(AGAIN_S)

    def _lose(self, error: DatabaseError, *, expected: bool = False) -> None:
        """Note the loss of the database; only the first fault gives the reason, later ones follow from it."""
        if self.store is not None:
            self._there.clear()
            self.store = None
            self._set_fault(error, expected=expected)

    async def _watch(self, store: Store) -> None:
        """Detect a server that hangs or no longer takes writes, before a run needs it."""
        while True:
            await asyncio.sleep(WATCH_PERIOD_S)
            try:
                await hard_limit(WATCH_LIMIT_S, store.writable(warm=True))
            except TimeoutError as error:
                raise StoreUnavailable("the database does not answer in time") from error

    def _set_fault(self, error: DatabaseError, *, expected: bool = False) -> None:
        # asyncpg's texts on a connection that breaks within a request are for its developers.
        lost = isinstance(error.__cause__, asyncpg.InterfaceError | asyncpg.InternalClientError)
        lost = lost and not reason_in(error)
        text = "the connection to the database was lost" if lost else str(error)
        if self._database is not None and self._database.where not in text:
            text = f"{text} ({self._database.where})"
        self._faults.set(AWAY, text, blocks_start=True, expected=expected)

    async def connected(self, limit_s: float) -> Store | None:
        """Return the store as soon as it is connected; None after `limit_s` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._there.wait()
        return self.store

    async def close(self, limit_s: float) -> None:
        """End the task and the embedded server; what takes longer than `limit_s` ends in the background."""
        self._closing = True
        task = self._task
        if task is not None:
            task.cancel()
            await asyncio.wait((task,), timeout=limit_s / 2)
            if self._connected is not None:
                # Its connections did not close in time: cut them.
                await self._connected.close(0.0)
                await asyncio.wait((task,), timeout=limit_s / 2)
        if self._database is not None:
            stopping = asyncio.ensure_future(self._database.stop())
            await asyncio.wait((stopping,), timeout=limit_s)
