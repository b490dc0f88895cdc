"""The journal: what happened is on disk here first, until the database has it.

Records are appended in the event loop. One thread writes them at once, so that they survive the end of this
program, another has the disk take all that was written meanwhile with one fsync (group commit), so that they
survive a power cut. They are read back in order, and segments that the database has are deleted. See
`journal_files` for the files.

While the disk takes nothing, records wait in memory and it is tried again every second; `fault` says why.
Records of runs always find room, the others up to a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from attpc_ioc.log import get_logger

from .journal_files import (
    Line,
    Position,
    damaged_files,
    frame,
    put_aside,
    read_lines,
    save_cursor,
    segment_path,
    segments,
)
from .journal_segment import Segment, size_of
from .store.codec import decode, encode
from .store.records import EditRecord, Record, RunRecord, UnknownRecord

log = get_logger(__name__)

COMMIT_WINDOW_S = 0.02
"""How long records that nobody waits for may wait for company on their way to the disk."""

SLOW_S = 0.05
"""A commit that takes longer than this is said: puts do not wait for it any longer."""

QUICK_AGAIN_S = 30.0
"""How long commits must have been quick before the disk counts as quick again."""

RETRY_S = 1.0
"""How often a disk that takes nothing is tried again."""

SEGMENT_BYTES = 4 * 2**20
DISK_BYTES = 1024 * 2**20
"""How large the journal may become while the database is away; records of runs may exceed it."""

MEMORY_RECORDS = 20_000
"""How many records may wait in memory while the disk takes nothing; those of runs may exceed it."""

NEWER = "newer.records"
"""Records of a newer program: they are put back into the journal at each start, until one knows them."""

REJECTED = "rejected.records"
"""Records that the database will never take."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What becomes of a record: `written` survives the end of this program, `synced` a power cut.

    Both are done as well where the record was refused for want of room.
    """

    written: asyncio.Future[None]
    synced: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A record that is not on disk yet."""

    body: bytes
    kept: Kept | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in the order in which they were appended; `end` is where the next batch begins."""

    records: tuple[Record, ...]
    end: Position


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
        self.slow_s = 0.0
        """How long the slowest commit of late took, where that was too long; 0 while they are quick."""
        self._slow_at_s = 0.0
        self.refused = 0
        """Records that found no room since the program began."""
        self.on_trouble = on_trouble
        self._segment_bytes = segment_bytes
        self._disk_bytes = disk_bytes
        self._memory_records = memory_records
        # Everything below is shared by the loop and the two threads, and changed under this lock.
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._written: deque[_Waiting] = deque()
        self._urgent = False
        self._spoiled = False
        self._syncing = False
        self._closing = False
        self._writer_ended = False
        self._faults: dict[str, str] = {}
        self._segment = Segment(folder)
        self._stored_bytes = 0
        self._committed = Position()
        self._read_to = Position()
        self._busy_since_s: dict[str, float] = {}
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._grown = asyncio.Event()

    # ------------------------------------------------------------------ the loop's side

    def open(self) -> None:
        """Begin to write, in a new segment; never raises: a disk that takes nothing is a trouble."""
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=work, name=f"journal {name}", daemon=True)
            for name, work in (("writer", self._write_for_ever), ("syncer", self._sync_for_ever))
        ]
        for thread in self._threads:
            thread.start()

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
                self.on_trouble()
            return False
        waiting = _Waiting(encode(record).encode("utf-8", "replace"), kept)
        with self._changed:
            if self._closing:
                log.error("journal is closed", record=record)
                return False
            self._waiting.append(waiting)
            self._urgent = self._urgent or kept is not None
            self._changed.notify_all()
        return True

    @property
    def fault(self) -> str:
        """Why the disk takes no records; empty while it does. A start of a run is refused then."""
        return next(iter(list(self._faults.values())), "")

    @property
    def full(self) -> bool:
        """Whether the journal has reached its size, because the database was away for long."""
        return self._stored_bytes >= self._disk_bytes

    @property
    def stalled(self) -> bool:
        """Whether the disk has been at one commit for longer than anyone is to wait."""
        now_s = time.monotonic()
        return bool(self.fault) or any(now_s - s > SLOW_S for s in list(self._busy_since_s.values()))

    @property
    def in_memory(self) -> int:
        """How many records are not on disk yet."""
        return len(self._waiting) + len(self._written)

    @property
    def drained(self) -> bool:
        """Whether everything was read that is on disk, and nothing waits to get there."""
        return not self.in_memory and self._read_to >= self._committed

    async def grown(self, limit_s: float) -> None:
        """Wait until there is something to read, at most `limit_s` seconds."""
        self._grown.clear()
        if self._read_to < self._committed:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._grown.wait()

    async def flush(self, limit_s: float) -> bool:
        """Wait until everything is on disk, at most `limit_s`; returns whether it is."""
        end_s = time.monotonic() + limit_s
        with self._changed:
            self._urgent = True
            self._changed.notify_all()
        while self.in_memory and time.monotonic() < end_s:  # noqa: ASYNC110 - a thread ends it
            await asyncio.sleep(0.002)
        return not self.in_memory

    async def close(self, limit_s: float = 1.0) -> bool:
        """Write what waits and end; returns whether all of it is on disk."""
        await self.flush(limit_s)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        end_s = time.monotonic() + limit_s
        while any(t.is_alive() for t in self._threads) and time.monotonic() < end_s:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.002)
        if self.in_memory:
            log.error("records lost", count=self.in_memory, reason=self.fault or "the disk is too slow")
        return not self.in_memory

    # ------------------------------------------------------------------ the two threads

    def _write_for_ever(self) -> None:
        self._try("write", self._set_up)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._spoiled or self._closing)
                if self._spoiled:
                    self._take_back()
                if self._closing and (not self._waiting or self.fault):
                    self._writer_ended = True
                    self._changed.notify_all()
                    return
                batch = list(self._waiting)
            if self._try("write", lambda batch=batch: self._write(batch)):
                done = [waiting.kept.written for waiting in batch if waiting.kept is not None]
                self._tell(lambda done=done: _finish(done))
            else:
                with self._changed:
                    self._spoiled = True
                    self._changed.wait_for(lambda: self._closing, RETRY_S)

    def _sync_for_ever(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._to_sync or self._writer_ended)
                if not self._urgent and not self._closing:
                    self._changed.wait_for(lambda: self._urgent or self._closing, COMMIT_WINDOW_S)
                if not self._to_sync:
                    if self._writer_ended:
                        break
                    continue
                batch, end = list(self._written), self._segment.end
                self._urgent = False
                self._syncing = True
            worked = self._try("sync", self._segment.sync)
            with self._changed:
                self._syncing = False
                if worked:
                    for _ in batch:
                        self._written.popleft()
                    self._committed = max(self._committed, end)
                else:
                    self._spoiled = True
                self._changed.notify_all()
                if not worked:
                    self._changed.wait_for(lambda: self._closing, RETRY_S)
                    continue
            done = [waiting.kept.synced for waiting in batch if waiting.kept is not None]
            self._tell(lambda done=done: _finish(done))
            self._tell(self._grown.set)
        self._segment.close()

    @property
    def _to_sync(self) -> bool:
        return bool(self._written) and not self._spoiled

    def _take_back(self) -> None:
        """After a failure: what is not known to be on disk is written again, into a new segment.

        A record may then be there twice, which is harmless: the database knows the stamps that it was given.
        """
        self._changed.wait_for(lambda: not self._syncing)
        self._waiting.extendleft(reversed(self._written))
        self._written.clear()
        self._segment.close()

    def _try(self, what: str, step: Callable[[], None]) -> bool:
        """Do something with the disk; a failure is a trouble until the next time that the same works."""
        began_s = self._busy_since_s[what] = time.monotonic()
        before = (self.fault, bool(self.slow_s))
        try:
            step()
        except OSError as error:
            self._faults[what] = f"the journal cannot be written: {self.folder}: {error.strerror or error}"
        else:
            self._faults.pop(what, None)
            took_s = time.monotonic() - began_s
            if what == "sync":
                self._look_at_speed(took_s)
        finally:
            del self._busy_since_s[what]
        if before != (self.fault, bool(self.slow_s)):
            if self.fault != before[0]:
                log.error(self.fault) if self.fault else log.info("journal is written again")
            self._tell(self.on_trouble)
        return what not in self._faults

    def _look_at_speed(self, took_s: float) -> None:
        """Judge the disk's speed: it is slow until it was quick for a while, because its answers vary."""
        now_s = time.monotonic()
        if took_s > SLOW_S:
            self.slow_s, self._slow_at_s = max(self.slow_s, took_s), now_s
        elif now_s - self._slow_at_s > QUICK_AGAIN_S:
            self.slow_s = 0.0

    def _set_up(self) -> None:
        """Find out what there is to read, and begin a new segment; raises `OSError`."""
        first_time = not self._segment.end.segment
        if first_time:
            self._read_to = self._segment.first_unread()
        bytes_before = self._segment.begin()
        with self._changed:
            self._stored_bytes = bytes_before
            self._committed = self._segment.end
            self._spoiled = False
        if first_time:
            self._take_back_newer()
        self._tell(self._grown.set)

    def _take_back_newer(self) -> None:
        path = self.folder / NEWER
        if path.exists():
            bodies = [line.body for line in read_lines(path, 0, 0, None) if not line.fault]
            self._segment.write(b"".join(frame(body) for body in bodies))
            self._segment.sync()
            path.unlink()
            self._committed = self._segment.end

    def _write(self, batch: list[_Waiting]) -> None:
        if self._spoiled or not self._segment.open or self._rotates():
            self._set_up()
        data = b"".join(frame(waiting.body) for waiting in batch)
        self._segment.write(data)
        with self._changed:
            for _ in batch:
                self._written.append(self._waiting.popleft())
            self._stored_bytes += len(data)
            self._changed.notify_all()

    def _rotates(self) -> bool:
        """Tell whether the segment is long enough and all on disk, so that a new one may be begun."""
        if self._segment.end.offset < self._segment_bytes:
            return False
        with self._changed:
            self._urgent = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._written, RETRY_S)

    def _tell(self, what: Callable[[], object]) -> None:
        """Call something in the event loop, unless that has ended."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what)

    # ------------------------------------------------------------------ the reader's side

    def read(self, limit: int) -> Batch:
        """Return the next records, at most `limit`, again and again the same until `applied` is called.

        Damaged lines are kept aside in a `.damaged` file and left out. Raises `OSError`.
        """
        committed, at = self._committed, self._read_to
        found: list[Record] = []
        for number in [n for n in segments(self.folder) if at.segment <= n <= committed.segment]:
            offset = at.offset if number == at.segment else 0
            end = committed.offset if number == committed.segment else None
            at = Position(number, offset)
            for line in self._lines(number, offset, end):
                at = line.end
                if (record := self._record(line)) is not None:
                    found.append(record)
                if len(found) >= limit:
                    return Batch(tuple(found), at)
        return Batch(tuple(found), max(at, committed))

    def _lines(self, number: int, offset: int, end: int | None) -> Iterable[Line]:
        with contextlib.suppress(FileNotFoundError):
            yield from read_lines(segment_path(self.folder, number), number, offset, end)

    def _record(self, line: Line) -> Record | None:
        fault = line.fault
        if not fault:
            try:
                return decode(line.body)
            except ValueError as error:
                fault = str(error)
        path = put_aside(self.folder, line)
        log.error("journal line damaged", reason=fault, kept_in=path)
        return None

    def applied(self, end: Position) -> None:
        """Take note that the database has everything before `end`; raises `OSError`."""
        self._read_to = end
        save_cursor(self.folder, end)
        for number in segments(self.folder):
            if number < end.segment:
                size = size_of(self.folder, number)
                segment_path(self.folder, number).unlink(missing_ok=True)
                with self._changed:
                    self._stored_bytes -= size

    def keep_newer(self, records: Iterable[UnknownRecord]) -> None:
        """Keep records of a newer program for the next start; raises `OSError`."""
        self._keep(NEWER, [record.body.encode("utf-8", "replace") for record in records])

    def keep_rejected(self, record: Record, reason: str) -> None:
        """Keep a record that the database will never take, with the reason; raises `OSError`."""
        note = reason.replace("\n", " ").encode("utf-8", "replace")
        self._keep(REJECTED, [encode(record).encode("utf-8", "replace"), b"# " + note])

    def _keep(self, name: str, bodies: list[bytes]) -> None:
        if bodies:
            with (self.folder / name).open("ab") as stream:
                stream.write(b"".join(frame(body) for body in bodies))
                stream.flush()
                os.fsync(stream.fileno())

    def kept_aside(self) -> list[str]:
        """Return the names of files with damaged or refused lines that nobody has removed yet."""
        rejected = [REJECTED] if (self.folder / REJECTED).exists() else []
        return [*damaged_files(self.folder), *rejected]


def _finish(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


__all__ = ["NEWER", "REJECTED", "Batch", "Journal", "Kept"]
