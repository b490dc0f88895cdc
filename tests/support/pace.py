"""How busy the machine is, for tests that judge how long something takes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

SPIN_S = 0.05
SLEEP_S = 0.02


def busy() -> float:
    """Return how many times longer than on an idle machine this process works now: 1.0 on an idle one.

    Works for `SPIN_S` of processor time, and holds the event loop meanwhile.
    """
    began_s, used_s = time.monotonic(), time.thread_time()
    while time.thread_time() - used_s < SPIN_S:
        pass
    return max(1.0, (time.monotonic() - began_s) / SPIN_S)


class Lost:
    """Time that other programs took from this process: how much later than asked its sleeps ended."""

    def __init__(self) -> None:
        self.s = 0.0

    async def count(self) -> None:
        """Count until cancelled."""
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(SLEEP_S)
            self.s += time.monotonic() - began_s - SLEEP_S


@contextlib.asynccontextmanager
async def lost_time() -> AsyncIterator[Lost]:
    """Count the time that is lost in a block: about none on an idle machine."""
    lost = Lost()
    counting = asyncio.create_task(lost.count())
    try:
        yield lost
    finally:
        counting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await counting
