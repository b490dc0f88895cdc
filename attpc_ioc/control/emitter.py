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
from attpc_ioc.plugin.host import DURABLE, PluginHost

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
    ) -> asyncio.Future[Any] | None:
        """Make an event and deliver it to the implementations of `hook`; see `PluginHost.notify`."""
        fields.setdefault("time_s", time.time())
        event = kind(stamp=self._stamp(), **fields)
        argument = "change" if hook == "attpc_state_changed" else "event"
        return self._host.notify(hook, waits_for=waits_for, **{argument: event})

    def put(self, put: Put) -> asyncio.Future[Any] | None:
        """Stamp a put and deliver it; see `PluginHost.notify`."""
        return self._host.notify("attpc_put", put=replace(put, stamp=self._stamp()))

    async def tell(self, hook: str, kind: type[Event], **fields: Any) -> None:
        """Emit what a plugin tells the others, and give those that promised durability time for it."""
        await on_record(self.emit(hook, kind, **fields))

    def _stamp(self) -> Stamp:
        return Stamp(self._ioc, self._boot, next(self._numbers))


async def on_record(handled: asyncio.Future[Any] | None) -> None:
    """Give plugins that promised durability up to 50 ms to have an event on disk."""
    if handled is not None:
        await asyncio.wait((handled,), timeout=DURABLE_LIMIT_S)
