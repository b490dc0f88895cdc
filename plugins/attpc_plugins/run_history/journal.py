"""The journal: what happened is on disk here first, until the database has it.

Records are appended in the event loop and get to the disk by two threads (`journal_disk`): first so that
they survive the end of this program, then, with one fsync for all that came meanwhile, so that they survive a
power cut. They are read back in order (`journal_reader`), and segments that the database has are deleted. See
`journal_files` for the files.

While the disk takes nothing, records wait in memory and it is tried again every second; `fault` says why.
Records of runs always find room, the others up to a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from attpc_ioc.log import get_logger

from . import journal_reader
from .journal_disk import Disk, Kept, Waiting
from .journal_files import NEWER, REJECTED, Position
from .journal_reader import Batch
from .store.codec import encode
from .store.records import EditRecord, Record, RunRecord, UnknownRecord

log = get_logger(__name__)

SEGMENT_BYTES = 4 * 2**20
DISK_BYTES = 1024 * 2**20
"""How large the journal may become while the database is away; records of runs may exceed it."""

MEMORY_RECORDS = 20_000
"""How many records may wait in memory while the disk takes nothing; those of runs may exceed it."""


class Journal:
    """One journal in one folder, written by one process.

    `open`, `append`, `append_soon`, `close` belong to the event loop; `read`, `applied`, `keep_newer` and
    `keep_rejected` block for the disk and are to be called in one thread at a time (`asyncio.to_thread`).
    `on_trouble` is called in the event loop when one of the troubles changes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        on_trouble: Callable[[], None] = lambda: None,
        segment_bytes: int = SEGMENT_BYTES,
        disk_bytes: int = DISK_BYTES,
        memory_records: int = MEMORY_RECORDS,
    ) -> None:
        self.folder = folder
        self.refused = 0
        """Records that found no room since the program began."""
        self._on_trouble = on_trouble
        self._disk_bytes = disk_bytes
        self._memory_records = memory_records
        self._grown = asyncio.Event()
        self._disk = Disk(folder, segment_bytes, on_trouble, self._grown.set)
        self._applied: Position | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # ------------------------------------------------------------------ writing

    def open(self) -> None:
        """Begin to write, in a new segment; never raises: a disk that takes nothing is a trouble."""
        self._loop = asyncio.get_running_loop()
        self._disk.start()

    def append(self, record: Record) -> Kept:
        """Keep a record that somebody waits for."""
        assert self._loop is not None
        kept = Kept(self._loop.create_future(), self._loop.create_future())
        if not self._put(record, kept):
            kept.written.set_result(None)
            kept.synced.set_result(None)
        return kept

    def append_soon(self, record: Record) -> None:
        """Keep a record that nobody waits for; it is on disk soon."""
        self._put(record, None)

    def _put(self, record: Record, kept: Kept | None) -> bool:
        vital = isinstance(record, RunRecord | EditRecord)
        if not vital and (self.in_memory >= self._memory_records or (self.full and not self.fault)):
            self.refused += 1
            if self.refused == 1 or self.refused % 1000 == 0:
                log.error("journal is full", refused=self.refused, folder=self.folder)
                self._on_trouble()
            return False
        if self._disk.put(Waiting(encode(record).encode("utf-8", "replace"), kept)):
            return True
        log.error("journal is closed", record=record)
        return False

    async def flush(self, limit_s: float) -> bool:
        """Wait until everything is on disk, at most `limit_s`; returns whether it is."""
        end_s = time.monotonic() + limit_s
        self._disk.hurry()
        while self.in_memory and time.monotonic() < end_s:  # noqa: ASYNC110 - a thread ends it
            await asyncio.sleep(0.002)
        return not self.in_memory

    async def close(self, limit_s: float = 1.0) -> bool:
        """Write what waits and end; returns whether all of it is on disk."""
        await self.flush(limit_s)
        self._disk.end()
        end_s = time.monotonic() + limit_s
        while not self._disk.ended and time.monotonic() < end_s:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.002)
        if self.in_memory:
            log.error("records lost", count=self.in_memory, reason=self.fault or "the disk is too slow")
        return not self.in_memory

    # ------------------------------------------------------------------ how it stands

    @property
    def fault(self) -> str:
        """Why the disk takes no records; empty while it does. A start of a run is refused then."""
        return self._disk.fault

    @property
    def full(self) -> bool:
        """Whether the journal has reached its size, because the database was away for long."""
        return self._disk.stored_bytes >= self._disk_bytes

    @property
    def slow_s(self) -> float:
        """How long the slowest commit of late took, where that was too long; 0 while they are quick."""
        return self._disk.slow_s

    @property
    def stalled(self) -> bool:
        """Whether the disk has been at one commit for longer than anyone is to wait."""
        return self._disk.stalled

    @property
    def in_memory(self) -> int:
        """How many records are not on disk yet."""
        return self._disk.in_memory

    @property
    def drained(self) -> bool:
        """Whether everything was read that is on disk, and nothing waits to get there."""
        known = self._disk.found is not None
        return known and not self.in_memory and self._read_to >= self._disk.committed

    # ------------------------------------------------------------------ reading

    @property
    def _read_to(self) -> Position:
        """Everything before it the database has."""
        return self._applied or self._disk.found or Position()

    async def grown(self, limit_s: float) -> None:
        """Wait until there is something to read, at most `limit_s` seconds."""
        self._grown.clear()
        if self._read_to < self.committed:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._grown.wait()

    @property
    def committed(self) -> Position:
        """Everything before it is on disk."""
        return self._disk.committed

    def read(self, limit: int) -> Batch:
        """Return the next records, at most `limit`, again and again the same until `applied` is called.

        Damaged lines are kept aside in a `.damaged` file and left out. Raises `OSError`.
        """
        return journal_reader.read_batch(self.folder, self._read_to, self.committed, limit)

    def applied(self, end: Position) -> None:
        """Take note that the database has everything before `end`; raises `OSError`."""
        self._applied = end
        self._disk.removed(journal_reader.save_applied(self.folder, end))

    def keep_newer(self, records: Iterable[UnknownRecord]) -> None:
        """Keep records of a newer program for the next start; raises `OSError`."""
        journal_reader.keep_newer(self.folder, records)

    def keep_rejected(self, record: Record, reason: str) -> None:
        """Keep a record that the database will never take, with the reason; raises `OSError`."""
        journal_reader.keep_rejected(self.folder, record, reason)

    def keep_without_run(self, record: Record) -> Path:
        """Keep a record of a run that the database does not have, and return the file; raises `OSError`."""
        return journal_reader.keep_without_run(self.folder, record)

    def kept_aside(self) -> list[str]:
        """Return the names of files with damaged or refused lines that nobody has removed yet."""
        return journal_reader.kept_aside(self.folder)


__all__ = ["NEWER", "REJECTED", "Batch", "Journal", "Kept"]
