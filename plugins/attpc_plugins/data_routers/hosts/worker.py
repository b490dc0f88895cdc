"""Work that may block, such as on a shared folder whose server is gone, kept from doing harm to the IOC."""

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
"""Work that looks at its deadline is given so much longer, to stop at a place of its own choice."""


class Deadline:
    """When a piece of work has to stop; long work asks between two files."""

    def __init__(self, limit_s: float) -> None:
        self._end = time.monotonic() + limit_s
        self._limit_s = limit_s

    def stop(self) -> None:
        """Have the work stop as soon as it asks: nobody waits for it any more."""
        self._end = 0.0

    def check(self) -> None:
        """Raise `HostTimeout` when the time is over."""
        if time.monotonic() > self._end:
            raise HostTimeout(f"no answer within {in_seconds(self._limit_s)}")


class Worker:
    """Runs blocking work in threads of their own, each for a limited time.

    A thread that hangs in the system cannot be ended. It is left alone, holds up no end of the program, and
    until it comes back no other is started.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._hung: set[threading.Thread] = set()

    async def run(self, limit_s: float, work: Callable[[Deadline], T]) -> T:
        """Return what `work` returns.

        Raises `HostTimeout` after `limit_s`; the work stops then when it next looks at its deadline.
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
            except BaseException as caught:  # it is raised where the answer is awaited
                error = caught
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, nobody waits
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
