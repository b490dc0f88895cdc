"""One plugin's queue of notifications, delivered in order by its own task."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from attpc_ioc.log import get_logger

from .guard import end, reason_of, tame

log = get_logger(__name__)

CAPACITY = 10_000
"""Maximum queued notifications; beyond that the oldest is dropped and the plugin is Degraded."""

DROPPED = "dropped notifications"
"""The cause of the fault that reports drops; it stays until the IOC restarts."""


class Mailbox:
    """Delivers notifications to one plugin, one after the other; a failure is reported, and the next follows.

    `on_fault(cause, text)` is called for a failure, with hook and kind of event as the cause, and
    `on_good(cause)` when one of the same cause succeeds again.
    """

    def __init__(
        self, plugin: str, on_fault: Callable[[str, str], None], on_good: Callable[[str], None]
    ) -> None:
        self._plugin = plugin
        self._on_fault = on_fault
        self._on_good = on_good
        self._queue: deque[tuple[str, Callable[[], Any], asyncio.Future[bool]]] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start delivering."""
        self._task = asyncio.get_running_loop().create_task(self._deliver(), name=f"mailbox {self._plugin}")

    def post(self, hook: str, call: Callable[[], Any]) -> asyncio.Future[bool]:
        """Queue one notification; the future is done when it was handled, with whether that succeeded.

        It is False for a dropped notification.
        """
        handled: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if len(self._queue) >= CAPACITY:
            dropped, _, future = self._queue.popleft()
            _done(future, well=False)
            self._dropped += 1
            self._on_fault(DROPPED, f"too slow: {self._dropped} notifications were dropped, last {dropped}")
        self._queue.append((hook, call, handled))
        self._idle.clear()
        self._wake.set()
        return handled

    async def _deliver(self) -> None:
        while True:
            while self._queue:
                hook, call, handled = self._queue.popleft()
                try:
                    result = call()
                except Exception as error:  # the contract: never affects others or the run
                    self._failed(hook, error)
                    _done(handled, well=False)
                    continue
                if not inspect.isawaitable(result):
                    self._on_good(hook)
                    _done(handled, well=True)
                else:
                    await self._finish(hook, result, handled)
            self._idle.set()
            self._wake.clear()
            await self._wake.wait()

    async def _finish(self, hook: str, result: Awaitable[Any], handled: asyncio.Future[bool]) -> None:
        well = False
        try:
            await tame(result)
        except Exception as error:  # as above
            self._failed(hook, error)
        else:
            self._on_good(hook)
            well = True
        finally:
            _done(handled, well=well)

    def _failed(self, hook: str, error: Exception) -> None:
        log.exception("plugin failed", plugin=self._plugin, hook=hook)
        self._on_fault(hook, f"{hook}: {reason_of(error)}")

    async def close(self, limit_s: float) -> None:
        """Deliver what is queued, for at most `limit_s` seconds, then end."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("plugin's notifications dropped", plugin=self._plugin, count=len(self._queue))
        if await end([self._task], limit_s):
            log.warning("plugin's notification did not end", plugin=self._plugin)
        self._task = None
        self.give_up()

    def give_up(self) -> None:
        """Drop what is queued."""
        for _, _, handled in self._queue:
            _done(handled, well=False)
        self._queue.clear()


def _done(handled: asyncio.Future[bool], *, well: bool) -> None:
    if not handled.done():
        handled.set_result(well)
