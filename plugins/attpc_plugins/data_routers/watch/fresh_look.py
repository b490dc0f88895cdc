"""Waiting for a look at a data router that has begun after something was done there."""

from __future__ import annotations

import asyncio
import time

LIMIT_S = 2.0
"""How long such a look is waited for at most."""


class FreshLook:
    """One for each router: `begins` and `ends` are told of each look, which come one after the other."""

    def __init__(self) -> None:
        self._began_s = 0.0
        self._waiting: list[tuple[float, asyncio.Future[None]]] = []

    def begins(self) -> None:
        """Take that a look begins."""
        self._began_s = time.monotonic()

    def ends(self) -> None:
        """Take that it was answered, or that the host is known not to answer."""
        left = []
        for since_s, seen in self._waiting:
            if self._began_s < since_s:
                left.append((since_s, seen))
            elif not seen.done():
                seen.set_result(None)
        self._waiting = left

    async def wait(self) -> None:
        """Return once a look has ended that began after now, or after 2 s."""
        seen: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (time.monotonic(), seen)
        self._waiting.append(waiting)
        try:
            await asyncio.wait((seen,), timeout=LIMIT_S)
        finally:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
