"""The journal: what happened is on disk here first, until the database has it.

Records are appended in the event loop and written by a thread of their own, which makes everything that came
meanwhile one write and one fsync (group commit). They are read back in order, and segments that the database
has are deleted. See `journal_files` for the files.

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
    load_cursor,
    put_aside,
    read_lines,
    save_cursor,
    segment_path,
    segments,
    sync_folder,
)
from .store.codec import decode, encode
from .store.records import EditRecord, Record, RunRecord, UnknownRecord

log = get_logger(__name__)

COMMIT_WINDOW_S = 0.02
"""How long records that nobody waits for may wait for company."""

SLOW_S = 0.05
"""A commit that takes longer than this is said: puts wait no longer for it."""

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


@dataclass(slots=True)
class _Waiting:
    """A record that is not on disk yet."""

    body: bytes
    done: asyncio.Future[None] | None


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
        self.fault = ""
        """Why the disk takes no records; empty while it does. A start of a run is refused then."""
        self.slow_s = 0.0
        """How long the commit took that was too slow; 0 while they are quick."""
        self.refused = 0
        """Records that found no room since the program began."""
        self.damaged = 0
        """Damaged lines that were kept aside since the program began."""
        self.on_trouble = on_trouble
        self._segment_bytes = segment_bytes
        self._disk_bytes = disk_bytes
        self._memory_records = memory_records
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._urgent = False
        self._closing = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._committing_since_s: float | None = None
        self._fd = -1
        self._segment = 0
        self._size = 0
        self._stored_bytes = 0
        self._committed = Position()
        self._read_to = Position()
        self._grown = asyncio.Event()

    # ------------------------------------------------------------------ the loop's side

    def open(self) -> None:
        """Begin to write, in a new segment; never raises: a disk that takes nothing is a trouble."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write_for_ever, name="attpc-journal", daemon=True)
        self._thread.start()

    def append(self, record: Record) -> asyncio.Future[None]:
        """Keep a record; the future is done when it is on disk, or was refused for want of room."""
        assert self._loop is not None
        done: asyncio.Future[None] = self._loop.create_future()
        if not self._put(record, done):
            done.set_result(None)
        return done

    def append_soon(self, record: Record) -> None:
        """Keep a record that nobody waits for; it is on disk soon."""
        self._put(record, None)

    def _put(self, record: Record, done: asyncio.Future[None] | None) -> bool:
        vital = isinstance(record, RunRecord | EditRecord)
        full = len(self._waiting) >= self._memory_records or (
            not self.fault and self._stored_bytes >= self._disk_bytes
        )
        if full and not vital:
            self.refused += 1
            if self.refused == 1 or self.refused % 1000 == 0:
                log.error("journal is full", refused=self.refused, folder=self.folder)
                self.on_trouble()
            return False
        body = encode(record).encode("utf-8", "replace")
        with self._changed:
            if self._closing:
                log.error("journal is closed", record=record)
                return False
            self._waiting.append(_Waiting(body, done))
            self._urgent = self._urgent or done is not None
            self._changed.notify()
        return True

    @property
    def full(self) -> bool:
        """Whether the journal has reached its size, because the database was away for long."""
        return self._stored_bytes >= self._disk_bytes

    @property
    def stalled(self) -> bool:
        """Whether the disk has been at one commit for longer than anyone is to wait."""
        since_s = self._committing_since_s
        return bool(self.fault) or (since_s is not None and time.monotonic() - since_s > SLOW_S)

    @property
    def in_memory(self) -> int:
        """How many records are not on disk yet."""
        return len(self._waiting)

    @property
    def drained(self) -> bool:
        """Whether everything was read that is on disk, and nothing waits to get there."""
        return not self._waiting and self._read_to >= self._committed

    async def grown(self, limit_s: float) -> None:
        """Wait until there is something to read, at most `limit_s` seconds."""
        if self._read_to < self._committed:
            return
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
            self._changed.notify()
        while self._waiting and time.monotonic() < end_s:  # noqa: ASYNC110 - a thread ends it
            await asyncio.sleep(0.002)
        return not self._waiting

    async def close(self, limit_s: float = 1.0) -> bool:
        """Write what waits and end; returns whether all of it is on disk."""
        if self._thread is None:
            return True
        await self.flush(limit_s)
        with self._changed:
            self._closing = True
            self._changed.notify()
        end_s = time.monotonic() + limit_s
        while self._thread.is_alive() and time.monotonic() < end_s:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.002)
        if self._waiting:
            log.error("records lost", count=len(self._waiting), reason=self.fault or "the disk is too slow")
        return not self._waiting

    # ------------------------------------------------------------------ the writing thread

    def _write_for_ever(self) -> None:
        self._try(self._set_up)
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait(RETRY_S)
                if not self._urgent and not self._closing:
                    self._changed.wait_for(lambda: self._urgent or self._closing, COMMIT_WINDOW_S)
                if self._closing and (not self._waiting or self.fault):
                    break
                batch = list(self._waiting)
                self._urgent = False
            if self._try(lambda batch=batch: self._commit(batch)):
                self._settle(batch)
            else:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, RETRY_S)
        self._close_segment()
        if self._committed == Position(self._segment, 0):
            with contextlib.suppress(OSError):
                segment_path(self.folder, self._segment).unlink()

    def _try(self, step: Callable[[], None]) -> bool:
        """Do something with the disk; a failure is a trouble until the next time that it works."""
        began_s = self._committing_since_s = time.monotonic()
        try:
            step()
        except OSError as error:
            # What became of the segment is not known: the next records begin a new one.
            self._close_segment()
            fault = f"the journal cannot be written: {self.folder}: {error.strerror or error}"
            if fault != self.fault:
                log.error("journal cannot be written", folder=self.folder, reason=error.strerror or error)
            self.fault, changed = fault, fault != self.fault
        else:
            took_s = time.monotonic() - began_s
            slow_s = took_s if took_s > SLOW_S else 0.0
            changed = bool(self.fault) or bool(slow_s) != bool(self.slow_s)
            if self.fault:
                log.info("journal is written again", folder=self.folder)
            self.fault, self.slow_s = "", slow_s
        finally:
            self._committing_since_s = None
        if changed:
            self._tell(self.on_trouble)
        return not self.fault

    def _set_up(self) -> None:
        """Find out what is there and begin a new segment; raises `OSError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        present = segments(self.folder)
        first_time = not self._segment
        if first_time:
            cursor = load_cursor(self.folder)
            first = min(present, default=0)
            self._read_to = cursor if present and cursor.segment >= first else Position(first, 0)
            # A cursor beyond what is there belongs to files that are gone: what is there is to be read.
            if present and self._read_to.segment > present[-1]:
                self._read_to = Position(first, 0)
        self._segment = max([*present, self._segment]) + 1
        self._stored_bytes = sum(self._size_of(number) for number in present)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._fd = os.open(segment_path(self.folder, self._segment), flags, 0o644)
        sync_folder(self.folder)
        self._size = 0
        self._committed = Position(self._segment, 0)
        if first_time:
            self._take_back_newer()
        self._tell(self._grown.set)

    def _size_of(self, number: int) -> int:
        with contextlib.suppress(FileNotFoundError):
            return segment_path(self.folder, number).stat().st_size
        return 0

    def _take_back_newer(self) -> None:
        path = self.folder / NEWER
        if not path.exists():
            return
        bodies = [line.body for line in read_lines(path, 0, 0, None) if not line.fault]
        self._write([frame(body) for body in bodies])
        path.unlink()

    def _commit(self, batch: list[_Waiting]) -> None:
        if self._fd < 0 or self._size >= self._segment_bytes:
            self._close_segment()
            self._set_up()
        self._write([frame(waiting.body) for waiting in batch])

    def _write(self, frames: list[bytes]) -> None:
        if not frames:
            return
        data = memoryview(b"".join(frames))
        while data:
            data = data[os.write(self._fd, data) :]
        os.fdatasync(self._fd)
        size = sum(len(part) for part in frames)
        self._size += size
        with self._changed:
            self._stored_bytes += size
        self._committed = Position(self._segment, self._size)

    def _close_segment(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def _settle(self, batch: list[_Waiting]) -> None:
        with self._changed:
            for _ in batch:
                self._waiting.popleft()
        futures = [waiting.done for waiting in batch if waiting.done is not None]

        def tell() -> None:
            for future in futures:
                if not future.done():
                    future.set_result(None)
            self._grown.set()

        self._tell(tell)

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
        for number in self._segments_from(at, committed):
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

    def _segments_from(self, at: Position, committed: Position) -> list[int]:
        return [n for n in segments(self.folder) if at.segment <= n <= committed.segment]

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
        self.damaged += 1
        log.error("journal line damaged", reason=fault, kept_in=path)
        self._tell(self.on_trouble)
        return None

    def applied(self, end: Position) -> None:
        """Take note that the database has everything before `end`; raises `OSError`."""
        self._read_to = end
        save_cursor(self.folder, end)
        for number in segments(self.folder):
            if number < end.segment:
                with self._changed:
                    self._stored_bytes -= self._size_of(number)
                segment_path(self.folder, number).unlink(missing_ok=True)

    def keep_newer(self, records: Iterable[UnknownRecord]) -> None:
        """Keep records of a newer program for the next start; raises `OSError`."""
        self._keep(NEWER, [record.body.encode("utf-8", "replace") for record in records])

    def keep_rejected(self, record: Record, reason: str) -> None:
        """Keep a record that the database will never take, with the reason; raises `OSError`."""
        note = reason.replace("\n", " ").encode("utf-8", "replace")
        self._keep(REJECTED, [encode(record).encode("utf-8", "replace"), b"# " + note])

    def _keep(self, name: str, bodies: list[bytes]) -> None:
        if not bodies:
            return
        with (self.folder / name).open("ab") as stream:
            for body in bodies:
                stream.write(frame(body))
            stream.flush()
            os.fsync(stream.fileno())

    def kept_aside(self) -> list[str]:
        """Return the names of files with damaged or refused lines that nobody has removed yet."""
        rejected = [REJECTED] if (self.folder / REJECTED).exists() else []
        return [*damaged_files(self.folder), *rejected]


__all__ = ["NEWER", "REJECTED", "Batch", "Journal"]
