"""Runs work that may block, such as on a shared folder whose server is gone, without blocking the IOC."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from .host import HostTimeout
from .limits import in_seconds

T = TypeVar("T")

GRACE_S = 0.2
"""Extra time for work that checks its deadline, so that it can stop between two steps."""


class Deadline:
    """The time at which work must stop; long work checks it between two files."""

    def __init__(self, limit_s: float) -> None:
        self._end = time.monotonic() + limit_s
        self._limit_s = limit_s

    def stop(self) -> None:
        """Make the work stop at its next check: its result is not needed any more."""
        self._end = 0.0

    def check(self) -> None:
        """Raise `HostTimeout` after the deadline."""
        if time.monotonic() > self._end:
            raise HostTimeout(f"no answer within {in_seconds(self._limit_s)}")


class Worker:
    """Runs blocking work in threads, each with a time limit.

    A thread that hangs in a system call cannot be ended. It is a daemon thread, so it does not delay the end
    of the program; no other thread is started until it returns.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._hung: set[threading.Thread] = set()

    async def run(self, limit_s: float, work: Callable[[Deadline], T]) -> T:
        """Return what `work` returns.

        Raises `HostTimeout` after `limit_s`; the work then stops at its next check of the deadline.
        """
        self._hung = {thread for thread in self._hung if thread.is_alive()}
        if self._hung:
            raise HostTimeout(f"{self._what} still hangs in an earlier call")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        deadline = Deadline(limit_s)

        def settle(result: T | None, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]

        def body() -> None:
            result, error = None, None
            try:
                result = work(deadline)
            except BaseException as caught:  # raised again where the answer is awaited
                error = caught
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(settle, result, error)

        thread = threading.Thread(target=body, name=f"host {self._what}", daemon=True)
        thread.start()
        try:
            async with asyncio.timeout(limit_s + GRACE_S):
                return await answer
        except TimeoutError:
            self._hung.add(thread)
            raise HostTimeout(f"{self._what} did not answer within {in_seconds(limit_s)}") from None
        finally:
            deadline.stop()
