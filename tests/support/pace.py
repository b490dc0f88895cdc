"""How long something takes without what other programs take of the processors, for tests that judge that.

Linux counts, for each thread, how long it could have run and had to wait for a processor. That is not counted
here: it is nothing on an idle machine, and on a busy one what is left is what something takes on an idle one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

SLEEP_S = 0.02


class Stopwatch:
    """Runs from the moment that it is made."""

    def __init__(self, *pids: int, programs: bool = False) -> None:
        """See what these processes wait, the test's own without any; and those that they start as well."""
        self._pids = pids or (os.getpid(),)
        self._programs = programs
        self._first = dict(self._waits_ns())
        self._last: dict[int, int] = {}
        self._began_s = time.monotonic()

    @property
    def wall_s(self) -> float:
        """How long it has been."""
        return time.monotonic() - self._began_s

    @property
    def waited_s(self) -> float:
        """How long there was a wait for a processor; of what has ended meanwhile, as far as it was asked."""
        self._last.update(self._waits_ns())
        return sum(last - self._first.get(thread, 0) for thread, last in self._last.items()) / 1e9

    @property
    def s(self) -> float:
        """How long it has been, without the waits."""
        return max(0.0, self.wall_s - self.waited_s)

    @contextlib.asynccontextmanager
    async def looking(self) -> AsyncIterator[Self]:
        """Look again and again in a block: for programs that end in it."""
        task = asyncio.create_task(self._look_on())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _look_on(self) -> None:
        while True:
            _ = self.waited_s
            await asyncio.sleep(SLEEP_S)

    def _waits_ns(self) -> Iterator[tuple[int, int]]:
        """Yield how long each thread has waited since it began."""
        left = list(self._pids)
        while left:
            # A thread, or the whole process, may be gone at any moment.
            with contextlib.suppress(OSError):
                for thread in Path(f"/proc/{left.pop()}/task").iterdir():
                    with contextlib.suppress(OSError, IndexError):
                        yield int(thread.name), int((thread / "schedstat").read_text().split()[1])
                        if self._programs:
                            left += map(int, (thread / "children").read_text().split())
