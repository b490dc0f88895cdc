"""From the core's event log to the database: in order, a batch and its position in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Sequence

from attpc_ioc.errors import StateDirError
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Put
from attpc_ioc.model.events import Event
from attpc_ioc.plugin import PluginContext
from attpc_ioc.plugin.faults import Faults
from attpc_plugins.run_history.errors import StoreError
from attpc_plugins.run_history.store import Applied, Rejected, Step, Store
from attpc_plugins.run_history.store.errors import PositionMoved
from attpc_plugins.run_history.store.model.records import Record, kind_word

from .old_journal import OldJournal
from .translate import Translator

log = get_logger(__name__)

BATCH = 500
"""The most events in one transaction; fewer after a transaction that failed."""

GATHER_S = 0.1
"""Events are written once none has arrived for this time, unless somebody waits for them.

Events of a run arrive together: one transaction for all of them does not slow down the start of the run.
"""

GATHER_MOST_S = 1.0
"""The longest time that events wait for others."""

BATCH_LIMIT_S = 10.0
RETRY_S = 1.0
POLL_S = 0.005

Found = Sequence[tuple[int, Event | Put | ValueError]]


class Writer:
    """Follows the event log. `on_applied` is called with the records that the database has accepted."""

    def __init__(
        self,
        ctx: PluginContext,
        translator: Translator,
        faults: Faults,
        old_journal: OldJournal,
        on_applied: Callable[[Sequence[Record]], None],
    ) -> None:
        self._ctx = ctx
        self._translator = translator
        self._faults = faults
        self._old_journal = old_journal
        self._on_applied = on_applied
        self._size = BATCH
        self._hurried = asyncio.Event()
        self._without_run: set[str] = set()
        self._stored = 0
        """The position that the database has."""
        self._begun: int | None = ctx.position
        """The newest event when the program began; None once a step was taken."""
        self._asked = False
        """Whether the present connection has read the database's position."""
        self.position: int | None = None
        """The database has every event up to here that belongs to the history; None: not known yet."""
        self.rejected = 0
        """Events that were not recorded since the program began."""

    @property
    def drained(self) -> bool:
        """Whether the database has every event."""
        return self._asked and self.position is not None and self.position >= self._ctx.position

    @property
    def waiting(self) -> int:
        """How many events are not in the database; 0 while that is not known."""
        return 0 if self.position is None else max(0, self._ctx.position - self.position)

    async def until_drained(self) -> None:
        """Wait until the database has every event."""
        while not self.drained:
            self._hurried.set()
            await asyncio.sleep(POLL_S)

    def seen(self) -> None:
        """Let the log prune the events that the database has."""
        self._ctx.seen(min(self._stored, self.position or 0))

    async def drain(self, store: Store) -> None:
        """Write every event to the store, without end; raises `StoreError` where that fails.

        The database's own position says where to go on: a restored database gets again what it has lost.
        """
        while True:
            self._asked = False
            try:
                await self._old_journal.drain(store, BATCH_LIMIT_S)
                self._stored = await store.position(self._ctx.log_id)
                self.position = self._first_position()
                self._asked = True
                self.seen()
                await self._follow(store)
            except PositionMoved as error:
                log.warning("the event log is applied again", reason=error)
            except (OSError, sqlite3.Error, StateDirError) as error:
                # Not a StoreError: the fault is in the state directory.
                self._faults.set("log reading", f"the event log cannot be read: {error}")
                await asyncio.sleep(RETRY_S)

    def _first_position(self) -> int:
        """Return the position to go on from: where the database is, unless the log was put back since."""
        if self._begun is None or self._stored <= self._begun:
            return self._stored
        log.warning("the event log is older than the database", log=self._begun, database=self._stored)
        return self._begun

    async def _follow(self, store: Store) -> None:
        while True:
            found, upto = await self._next()
            self._faults.clear("log reading")
            records = self._records(found)
            if records or not self._stored <= upto <= self._stored + BATCH:
                applied = await self._apply(store, records, upto)
                self._stored, self._begun = upto, None
                self._report(applied)
            self.position = upto
            self._size = min(BATCH, 2 * self._size)
            self._on_applied(records)

    async def _next(self) -> tuple[Found, int]:
        """Return the next events, and the position up to which that is all there is."""
        assert self.position is not None
        if self._ctx.recorded <= self.position:
            await self._ctx.events(self.position, 1)
            # More events follow the first one.
            await self._gather()
        while True:
            recorded = self._ctx.recorded
            found = await self._ctx.events(self.position, self._size)
            if found:
                return found, found[-1][0]
            if recorded > self.position:
                # An event that could not be written has a position, too.
                return (), recorded

    async def _gather(self) -> None:
        """Wait until no event has arrived for a while, or somebody waits for the database."""
        began_s, before = time.monotonic(), None
        while self._ctx.position != before and time.monotonic() - began_s < GATHER_MOST_S:
            before = self._ctx.position
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    await self._hurried.wait()
                    break
        self._hurried.clear()

    def _records(self, found: Found) -> list[Record]:
        records: list[Record] = []
        for position, event in found:
            try:
                if isinstance(event, ValueError):
                    raise event
                record = self._translator.record(event)
            except ValueError as error:
                self._refuse(f"event {position}: {error}")
            else:
                if record is not None:
                    records.append(record)
        return records

    async def _apply(self, store: Store, records: Sequence[Record], upto: int) -> Applied:
        step = Step(self._ctx.log_id, self._ctx.prefix, self._stored, upto)
        try:
            return await store.follow(records, step, limit_s=BATCH_LIMIT_S)
        except PositionMoved:
            raise
        except StoreError:
            # The batch may have been too large: the next ones are smaller, down to one event.
            self._size = max(1, self._size // 2)
            raise

    def _report(self, applied: Applied) -> None:
        for rejected in applied.rejected:
            if rejected.no_run:
                self._say_without_run(rejected)
            else:
                self._refuse(f"{kind_word(rejected.record)}: {rejected.reason}")

    def _refuse(self, reason: str) -> None:
        self.rejected += 1
        log.error("event not recorded", reason=reason)
        text = f"{self.rejected} events were not recorded, the last because of this: {reason}"
        self._faults.set("rejected", text)

    def _say_without_run(self, rejected: Rejected) -> None:
        """Log once that a record belongs to a run that the database does not have, such as an emptied one."""
        if rejected.reason not in self._without_run:
            self._without_run.add(rejected.reason)
            log.warning("not recorded: the database does not have this run", reason=rejected.reason)
