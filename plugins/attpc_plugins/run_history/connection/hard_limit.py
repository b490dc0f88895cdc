"""Waiting that really ends at its limit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(limit_s: float, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns; raises `TimeoutError` after `limit_s` seconds.

    `asyncio.timeout` waits for the work to end, and giving a connection back to a pool is shielded: with a
    server that hangs that takes seconds. Here the work is cancelled and left to itself.
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
    # How it ends is of no interest, and asyncio is not to complain that nobody asked.
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    task.cancel()
