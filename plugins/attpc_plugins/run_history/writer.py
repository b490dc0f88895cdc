"""From the journal to the database: in order, a batch in one transaction, what is refused set aside."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from attpc_ioc.log import get_logger

from .journal import Batch, Journal
from .store import Applied, Rejected, Store
from .store.records import Record, UnknownRecord
from .store_errors import StoreError, StoreRejected
from .troubles import Troubles

log = get_logger(__name__)

BATCH = 500
"""Records of one transaction at most; fewer after one took too long."""

GATHER_S = 0.1
"""How long nothing has to come before what is on disk goes to the database, where nobody waits for it.

An event of a run comes with others: one transaction for all leaves the time of the start to the start.
"""

GATHER_MOST_S = 1.0
"""How long it waits for company at most."""

BATCH_LIMIT_S = 10.0
IDLE_S = 1.0
RETRY_S = 1.0
POLL_S = 0.005


class Writer:
    """Drains a journal. `on_applied` is told of the records that the database has now."""

    def __init__(
        self, journal: Journal, troubles: Troubles, on_applied: Callable[[Sequence[Record]], None]
    ) -> None:
        self._journal = journal
        self._troubles = troubles
        self._on_applied = on_applied
        self._batch: Batch | None = None
        self._size = BATCH
        self._hurried = asyncio.Event()
        self._without_run: set[str] = set()
        self.rejected = 0
        """Records that the database refused since the program began."""

    @property
    def drained(self) -> bool:
        """Whether the database has everything that the journal was given."""
        return self._batch is None and self._journal.drained

    async def until_drained(self) -> None:
        """Wait until the database has everything."""
        while not self.drained:
            self._hurried.set()
            await asyncio.sleep(POLL_S)

    async def drain(self, store: Store) -> None:
        """Give the store everything there is, for ever; raises `StoreError` where that cannot be now.

        What was read and not applied is kept for the next call.
        """
        while True:
            try:
                batch = self._batch or await self._next()
                if batch is None:
                    await self._journal.grown(IDLE_S)
                    await self._gather()
                    continue
                self._batch = batch
                applied = await self._apply(store, batch.records)
                await self._keep_aside(applied)
                await asyncio.to_thread(self._journal.applied, batch.end)
            except OSError as error:
                # StoreError is none: this is the journal's disk.
                self._troubles.say("journal reading", f"the journal cannot be read or tidied: {error}")
                await asyncio.sleep(RETRY_S)
                continue
            self._batch = None
            self._size = min(BATCH, 2 * self._size)
            self._troubles.clear("journal reading")
            self._on_applied(batch.records)

    async def _gather(self) -> None:
        """Wait until nothing has come for a while, or somebody waits for the database."""
        began_s, before = time.monotonic(), None
        while self._journal.committed != before and time.monotonic() - began_s < GATHER_MOST_S:
            before = self._journal.committed
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    await self._hurried.wait()
                    break
        self._hurried.clear()

    async def _next(self) -> Batch | None:
        batch = await asyncio.to_thread(self._journal.read, self._size)
        if not batch.records:
            if self._journal.drained:
                return None
            await asyncio.to_thread(self._journal.applied, batch.end)
            return None
        return batch

    async def _apply(self, store: Store, records: Sequence[Record]) -> Applied:
        try:
            return await store.apply_many(records, limit_s=BATCH_LIMIT_S)
        except StoreError:
            # It may have been too much at once: the next batches are smaller, down to one record.
            self._size = max(1, self._size // 2)
            if len(records) > self._size:
                self._batch = None
            raise
        except Exception as error:  # a record that this program cannot handle must not hold up the rest
            log.exception("record cannot be applied", count=len(records))
            if len(records) == 1:
                return _refused(records[0], f"fault of the program: {error!r}")
        parts = [await self._one(store, record) for record in records]
        return Applied(
            sum(part.new for part in parts),
            sum(part.repeated for part in parts),
            tuple(rejected for part in parts for rejected in part.rejected),
            tuple(unknown for part in parts for unknown in part.unknown),
        )

    async def _one(self, store: Store, record: Record) -> Applied:
        try:
            return await store.apply_many((record,), limit_s=BATCH_LIMIT_S)
        except StoreRejected as error:
            return _refused(record, str(error))
        except StoreError:
            raise
        except Exception as error:  # as above
            return _refused(record, f"fault of the program: {error!r}")

    async def _keep_aside(self, applied: Applied) -> None:
        await asyncio.to_thread(self._journal.keep_newer, applied.unknown)
        for rejected in applied.rejected:
            if rejected.no_run:
                await self._keep_without_run(rejected)
                continue
            await asyncio.to_thread(self._journal.keep_rejected, rejected.record, rejected.reason)
            self.rejected += 1
            log.error("record refused by the database", reason=rejected.reason, kind=rejected.record.KIND)

    async def _keep_without_run(self, rejected: Rejected) -> None:
        """Keep what is told of a run that a restored database does not have; of each run it is told once."""
        file = await asyncio.to_thread(self._journal.keep_without_run, rejected.record)
        if rejected.reason not in self._without_run:
            self._without_run.add(rejected.reason)
            log.warning("kept aside: the database does not have this run", reason=rejected.reason, file=file)


def _refused(record: Record, reason: str) -> Applied:
    if isinstance(record, UnknownRecord):
        return Applied(0, 0, unknown=(record,))
    return Applied(0, 0, (Rejected(record, reason),))
