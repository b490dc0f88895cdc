"""One plugin's queue of notifications: delivered in order, by a task of its own."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Callable
from typing import Any

from attpc_ioc.log import get_logger

from .status import PluginStatus

log = get_logger(__name__)

CAPACITY = 10_000
"""Notifications that may wait; beyond that the oldest is dropped and the plugin is Degraded."""


class Mailbox:
    """Delivers notifications to one plugin one after the other; a failure is said and forgotten."""

    def __init__(self, plugin: str, set_status: Callable[[PluginStatus, str], None]) -> None:
        self._plugin = plugin
        self._set_status = set_status
        self._queue: deque[tuple[str, Callable[[], Any], asyncio.Future[None]]] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start delivering."""
        self._task = asyncio.get_running_loop().create_task(self._deliver(), name=f"mailbox {self._plugin}")

    def post(self, hook: str, call: Callable[[], Any]) -> asyncio.Future[None]:
        """Queue one notification; the future is done when it was handled, well or not."""
        handled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if len(self._queue) >= CAPACITY:
            dropped, _, future = self._queue.popleft()
            if not future.done():
                future.set_result(None)
            self._set_status(PluginStatus.DEGRADED, f"too slow: a notification ({dropped}) was dropped")
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
                    if inspect.isawaitable(result):
                        await result
                except Exception as error:  # the contract: never hurts the others or the run
                    log.exception("plugin failed", plugin=self._plugin, hook=hook)
                    self._set_status(PluginStatus.DEGRADED, f"{hook}: {type(error).__name__}: {error}")
                finally:
                    if not handled.done():
                        handled.set_result(None)
            self._idle.set()
            self._wake.clear()
            await self._wake.wait()

    async def close(self, limit_s: float) -> None:
        """Deliver what is queued, for at most `limit_s` seconds, then end."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("plugin's notifications dropped", plugin=self._plugin, count=len(self._queue))
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        for _, _, handled in self._queue:
            handled.cancel()
        self._queue.clear()
