"""The journal's way to the disk: two threads write what waits, and have the disk take what was written.

Either thread does whichever is to be done and nobody does: a record that somebody waits for is written and
synced by one thread, without a change of threads in between, while the other writes what comes meanwhile. All
that was written when a sync begins is on disk with it (group commit).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attpc_ioc.log import get_logger

from .journal_files import NEWER, Position, frame, read_lines
from .journal_segment import Segment

log = get_logger(__name__)

COMMIT_WINDOW_S = 0.02
"""How long records that nobody waits for may wait for company on their way to the disk."""

SLOW_S = 0.05
"""A commit that takes longer than this is said: puts do not wait for it any longer."""

QUICK_AGAIN_S = 30.0
"""How long no commit must have been slow before the disk counts as quick again."""

RETRY_S = 1.0
"""How often a disk that takes nothing is tried again."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What becomes of a record: `written` survives the end of this program, `synced` a power cut.

    Both are done as well where the record was refused for want of room.
    """

    written: asyncio.Future[None]
    synced: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A record that is not on disk yet; nobody waits for one without `kept`."""

    body: bytes
    kept: Kept | None


class Disk:
    """Segments of one folder, written by one process. `start`, `put`, `hurry` and `end` are the loop's.

    `on_trouble` and `on_commit` are called in the event loop, when one of the troubles changes and when there
    is something new to read.
    """

    def __init__(
        self, folder: Path, segment_bytes: int, on_trouble: Callable[[], None], on_commit: Callable[[], None]
    ) -> None:
        self.stored_bytes = 0
        """How many bytes the segments have."""
        self.committed = Position()
        """Everything before it is on disk."""
        self.found: Position | None = None
        """Where reading had come to before this program began; None until the folder could be looked at."""
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._on_trouble = on_trouble
        self._on_commit = on_commit
        self._slow_s = self._slow_at_s = 0.0
        # Everything below is shared by the loop and the two threads, and changed under this lock.
        self._changed = threading.Condition()
        self._waiting: deque[Waiting] = deque()
        self._written: deque[Waiting] = deque()
        self._awaited = 0
        """How many of `_written` somebody waits for."""
        self._due_s = 0.0
        """When what was written and nobody waits for is to be synced, in monotonic time."""
        self._hurrying = False
        self._writing = False
        self._syncing = False
        self._rotating = False
        self._spoiled = False
        self._retry_at_s = 0.0
        self._closing = False
        self._faults: dict[str, str] = {}
        self._busy_since_s: dict[str, float] = {}
        self._segment = Segment(folder)
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    # ------------------------------------------------------------------ the loop's side

    def start(self) -> None:
        """Begin to write, in a new segment; never raises: a disk that takes nothing is a trouble."""
        self._loop = asyncio.get_running_loop()
        self._threads = [
            threading.Thread(target=self._work_for_ever, name=f"journal {n}", daemon=True) for n in (1, 2)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, waiting: Waiting) -> bool:
        """Take a record; False after `end`."""
        with self._changed:
            if self._closing:
                return False
            self._waiting.append(waiting)
            self._changed.notify()
        return True

    def hurry(self) -> None:
        """Have everything on disk soon."""
        with self._changed:
            self._hurrying = True
            self._changed.notify_all()

    def end(self) -> None:
        """Write and sync what is there, once more and no oftener, and end the threads."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        """Whether the threads have ended."""
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def slow_s(self) -> float:
        """How long the slowest commit of late took, where that was too long; 0 when none was for a while."""
        return self._slow_s if time.monotonic() - self._slow_at_s <= QUICK_AGAIN_S else 0.0

    @property
    def in_memory(self) -> int:
        """How many records are not on disk yet."""
        return len(self._waiting) + len(self._written)

    @property
    def fault(self) -> str:
        """Why the disk takes no records; empty while it does."""
        return next(iter(list(self._faults.values())), "")

    @property
    def stalled(self) -> bool:
        """Whether the disk has been at one commit for longer than anyone is to wait."""
        now_s = time.monotonic()
        return bool(self.fault) or any(now_s - s > SLOW_S for s in list(self._busy_since_s.values()))

    def removed(self, size: int) -> None:
        """Take note that so many bytes of segments are gone."""
        with self._changed:
            self.stored_bytes -= size

    # ------------------------------------------------------------------ what the two threads do

    def _work_for_ever(self) -> None:
        while (step := self._next_step()) is not None:
            step()

    def _next_step(self) -> Callable[[], None] | None:
        """Wait until there is something to do that nobody does; None at the end."""
        with self._changed:
            while True:
                wait_s: float | None = None
                now_s = time.monotonic()
                resting_s = 0.0 if self._closing else self._retry_at_s - now_s
                if self._has_to_write and resting_s <= 0.0:
                    if self._spoiled:
                        self._take_back()
                    self._writing = True
                    return self._write_step
                if self._to_sync:
                    early_s = 0.0 if self._urgent else self._due_s - now_s
                    if max(early_s, resting_s) <= 0.0:
                        self._syncing = True
                        return self._sync_step
                    wait_s = max(early_s, resting_s)
                if self._has_to_write:
                    wait_s = resting_s
                if self._over:
                    self._segment.close()
                    self._changed.notify_all()
                    return None
                self._changed.wait(wait_s)

    @property
    def _has_to_write(self) -> bool:
        if self._writing or (self._spoiled and self._syncing) or (self._closing and self.fault):
            return False
        return bool(self._waiting) or self._spoiled or self.found is None

    @property
    def _to_sync(self) -> bool:
        return bool(self._written) and not self._spoiled and not self._syncing

    @property
    def _urgent(self) -> bool:
        return bool(self._awaited) or self._hurrying or self._closing

    @property
    def _over(self) -> bool:
        if not self._closing or self._writing or self._syncing:
            return False
        return bool(self.fault) or not (self._waiting or self._written)

    def _write_step(self) -> None:
        with self._changed:
            batch = list(self._waiting)
        worked = self._try("write", lambda: self._write(batch))
        with self._changed:
            self._writing = False
            if not worked:
                self._spoil()
            if self._closing:
                self._changed.notify_all()
        if worked:
            self._finish([waiting.kept.written for waiting in batch if waiting.kept is not None])

    def _sync_step(self) -> None:
        with self._changed:
            batch, end = list(self._written), self._segment.end
        worked = self._try("sync", self._segment.sync)
        with self._changed:
            self._syncing = False
            if worked:
                for waiting in batch:
                    self._written.popleft()
                    self._awaited -= waiting.kept is not None
                self._hurrying = self._hurrying and bool(self._waiting or self._written)
                self.committed = max(self.committed, end)
            else:
                self._spoil()
            if self._closing or self._rotating or not worked:
                self._changed.notify_all()
        if worked:
            self._finish([waiting.kept.synced for waiting in batch if waiting.kept is not None])
            self._tell(self._on_commit)

    def _spoil(self) -> None:
        """After a failure nothing more goes into this segment, and the disk is left alone for a while."""
        self._spoiled = True
        self._retry_at_s = time.monotonic() + RETRY_S

    def _take_back(self) -> None:
        """After a failure: what is not known to be on disk is written again, into a new segment.

        A record may then be there twice, which is harmless: the database knows the stamps that it was given.
        """
        self._waiting.extendleft(reversed(self._written))
        self._written.clear()
        self._awaited = 0
        self._segment.close()

    def _write(self, batch: list[Waiting]) -> None:
        if self._spoiled or not self._segment.open or self._rotates():
            self._set_up()
        if not batch:
            return
        data = b"".join(frame(waiting.body) for waiting in batch)
        self._segment.write(data)
        with self._changed:
            if not self._written:
                self._due_s = time.monotonic() + COMMIT_WINDOW_S
            for waiting in batch:
                self._written.append(self._waiting.popleft())
                self._awaited += waiting.kept is not None
            self.stored_bytes += len(data)

    def _rotates(self) -> bool:
        """Tell whether the segment is long enough and all on disk, so that a new one may be begun."""
        if self._segment.end.offset < self._segment_bytes:
            return False
        with self._changed:
            self._hurrying = self._rotating = True
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._written, RETRY_S)
            self._rotating = False
            return done

    def _set_up(self) -> None:
        """Find out what there is to read, and begin a new segment; raises `OSError`."""
        first_unread = self._segment.first_unread() if self.found is None else self.found
        bytes_before = self._segment.begin()
        first_time = self.found is None
        with self._changed:
            self.stored_bytes = bytes_before
            self.committed = self._segment.end
            self._spoiled = False
            self.found = first_unread
        if first_time:
            self._take_back_newer()
        self._tell(self._on_commit)

    def _take_back_newer(self) -> None:
        path = self._folder / NEWER
        if path.exists():
            bodies = [line.body for line in read_lines(path, 0, 0, None) if not line.fault]
            self._segment.write(b"".join(frame(body) for body in bodies))
            self._segment.sync()
            path.unlink()
            self.committed = self._segment.end

    # ------------------------------------------------------------------ how it went

    def _try(self, what: str, step: Callable[[], None]) -> bool:
        """Do something with the disk; a failure is a trouble until the next time that the same works."""
        began_s = self._busy_since_s[what] = time.monotonic()
        before = (self.fault, bool(self.slow_s))
        try:
            step()
        except OSError as error:
            self._faults[what] = f"the journal cannot be written: {self._folder}: {error.strerror or error}"
        else:
            self._faults.pop(what, None)
            if what == "sync":
                self._look_at_speed(time.monotonic() - began_s)
        finally:
            del self._busy_since_s[what]
        if before != (self.fault, bool(self.slow_s)):
            if self.fault != before[0]:
                log.error(self.fault) if self.fault else log.info("journal is written again")
            self._tell(self._on_trouble)
        return what not in self._faults

    def _look_at_speed(self, took_s: float) -> None:
        """Judge the disk's speed: once slow it counts as slow for a while, because its answers vary."""
        if took_s > SLOW_S:
            self._slow_s, self._slow_at_s = max(self.slow_s, took_s), time.monotonic()

    def _finish(self, futures: list[asyncio.Future[None]]) -> None:
        if futures:
            self._tell(lambda: _set_done(futures))

    def _tell(self, what: Callable[[], object]) -> None:
        """Call something in the event loop, unless that has ended."""
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what)


def _set_done(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
