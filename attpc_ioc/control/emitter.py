"""Events of the core: stamped, recorded, and given to the plugins."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from dataclasses import replace
from typing import Any

from attpc_ioc.eventlog import EventLog
from attpc_ioc.model.command import Put
from attpc_ioc.model.events import Event, PluginRecord
from attpc_ioc.model.stamp import Stamp
from attpc_ioc.plugin.host import DURABLE, Handled, PluginHost

DURABLE_LIMIT_S = 0.05
"""How long a completed put may wait until it is on disk (group commit)."""


class Emitter:
    """Stamps events with IOC, boot and sequence number, records them, and notifies the plugins."""

    def __init__(self, host: PluginHost, event_log: EventLog, ioc: str) -> None:
        self._host = host
        self._log = event_log
        self._ioc = ioc
        self._boot = uuid.uuid4().hex
        self._numbers = itertools.count(1)

    def emit(
        self, hook: str, kind: type[Event], *, waits_for: str = DURABLE, **fields: Any
    ) -> Handled | None:
        """Make an event, record it, and deliver it to the implementations of `hook`.

        See `PluginHost.notify` for the result.
        """
        fields.setdefault("time_s", time.time())
        event = kind(stamp=self._stamp(), **fields)
        self._log.append(event)
        beside = (self._log.committed(),) if waits_for == DURABLE else ()
        argument = "change" if hook == "attpc_state_changed" else "event"
        return self._host.notify(hook, waits_for=waits_for, beside=beside, **{argument: event})

    def put(self, put: Put) -> Handled | None:
        """Stamp a put, record it, and deliver it; see `PluginHost.notify`."""
        put = replace(put, stamp=self._stamp())
        self._log.append(put)
        return self._host.notify("attpc_put", beside=(self._log.committed(),), put=put)

    def record(self, plugin: str, kind: str, value: dict[str, Any]) -> asyncio.Future[bool]:
        """Record what a plugin has of its own; see `EventLog.committed` for the result."""
        stamp = self._stamp()
        event = PluginRecord(stamp=stamp, time_s=time.time(), plugin=plugin, kind=kind, value=value)
        self._log.append(event)
        return self._log.committed()

    async def tell(self, hook: str, kind: type[Event], **fields: Any) -> bool:
        """Emit what a plugin tells the others; see `on_record` for what it returns."""
        return await on_record(self.emit(hook, kind, **fields))

    def _stamp(self) -> Stamp:
        return Stamp(self._ioc, self._boot, next(self._numbers))


async def on_record(handled: Handled | None) -> bool:
    """Give the log, and plugins that promised durability, up to 50 ms to have an event on disk.

    Returns False where one of them is known not to have it: it cannot write, raised, or dropped the event.
    """
    if handled is None:
        return True
    done, _ = await asyncio.wait((handled,), timeout=DURABLE_LIMIT_S)
    return not done or all(handled.result())
