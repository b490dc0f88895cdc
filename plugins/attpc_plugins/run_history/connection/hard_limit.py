"""A time limit that also holds for work that does not end when cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def hard_limit(limit_s: float, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of the work; raises `TimeoutError` after `limit_s` seconds.

    `asyncio.timeout` waits for cancelled work to end, and the return of a connection to its pool is shielded:
    while the server hangs, that takes seconds. Here the work is cancelled and not waited for.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait((task,), timeout=limit_s)
    except asyncio.CancelledError:
        _leave(task)
        raise
    if not done:
        _leave(task)
        raise TimeoutError
    return task.result()


def _leave(task: asyncio.Task[Any]) -> None:
    # The result is not needed; reading it stops asyncio from logging that it was never retrieved.
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    task.cancel()
