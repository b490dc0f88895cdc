"""Events of the core: stamped, logged, and given to the plugins."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from dataclasses import replace
from typing import Any

from attpc_ioc.model.command import Put
from attpc_ioc.model.events import Event
from attpc_ioc.model.stamp import Stamp
from attpc_ioc.plugin.host import DURABLE, Handled, PluginHost

DURABLE_LIMIT_S = 0.05
"""How long a completed put may wait for a plugin that promised to have it on disk (group commit)."""


class Emitter:
    """Stamps events with IOC, boot and sequence number, and notifies the plugins."""

    def __init__(self, host: PluginHost, ioc: str) -> None:
        self._host = host
        self._ioc = ioc
        self._boot = uuid.uuid4().hex
        self._numbers = itertools.count(1)

    def emit(
        self, hook: str, kind: type[Event], *, waits_for: str = DURABLE, **fields: Any
    ) -> Handled | None:
        """Make an event and deliver it to the implementations of `hook`; see `PluginHost.notify`."""
        fields.setdefault("time_s", time.time())
        event = kind(stamp=self._stamp(), **fields)
        argument = "change" if hook == "attpc_state_changed" else "event"
        return self._host.notify(hook, waits_for=waits_for, **{argument: event})

    def put(self, put: Put) -> Handled | None:
        """Stamp a put and deliver it; see `PluginHost.notify`."""
        return self._host.notify("attpc_put", put=replace(put, stamp=self._stamp()))

    async def tell(self, hook: str, kind: type[Event], **fields: Any) -> bool:
        """Emit what a plugin tells the others; see `on_record` for what it returns."""
        return await on_record(self.emit(hook, kind, **fields))

    def _stamp(self) -> Stamp:
        return Stamp(self._ioc, self._boot, next(self._numbers))


async def on_record(handled: Handled | None) -> bool:
    """Give plugins that promised durability up to 50 ms to have an event on disk.

    Returns False where one of them is known not to have it: it raised, or the event was dropped.
    """
    if handled is None:
        return True
    done, _ = await asyncio.wait((handled,), timeout=DURABLE_LIMIT_S)
    return not done or all(handled.result())
