"""Waits for a poll of a data router that begins after now."""

from __future__ import annotations

import asyncio
import time

LIMIT_S = 2.0
"""The longest such wait."""


class NextPoll:
    """One for each router. Call `begins` and `ends` for each poll; polls do not overlap."""

    def __init__(self) -> None:
        self._began_s = 0.0
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []

    def begins(self) -> None:
        """Note that a poll begins."""
        self._began_s = time.monotonic()

    def ends(self) -> None:
        """Note that it was answered, or that the host counts as not answering."""
        left = []
        for since_s, seen in self._waiting:
            if self._began_s < since_s:
                left.append((since_s, seen))
            elif not seen.done():
                seen.set_result(None)
        self._waiting = left

    async def wait(self) -> None:
        """Wait for the end of a poll that begins after now, at most 2 s."""
        seen: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (time.monotonic(), seen)
        self._waiting.append(waiting)
        try:
            await asyncio.wait((seen,), timeout=LIMIT_S)
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
