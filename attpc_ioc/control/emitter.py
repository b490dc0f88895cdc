"""Events of the core: stamped, recorded, and given to the plugins."""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from dataclasses import replace
from typing import Any

from attpc_ioc.eventlog import RECORD_LIMIT_S, EventLog
from attpc_ioc.model.command import Put
from attpc_ioc.model.events import Event, PluginRecord
from attpc_ioc.model.stamp import Stamp
from attpc_ioc.plugin.host import PluginHost


class Emitter:
    """Stamps events with IOC, boot and sequence number, records them, and notifies the plugins."""

    def __init__(self, host: PluginHost, event_log: EventLog, ioc: str) -> None:
        self._host = host
        self._log = event_log
        self._ioc = ioc
        self._boot = uuid.uuid4().hex
        self._numbers = itertools.count(1)

    def make(self, kind: type[Event], **fields: Any) -> Event:
        """Make an event of now, for `emit`."""
        fields.setdefault("time_s", time.time())
        return kind(stamp=self._stamp(), **fields)

    def emit(self, event: Event | Put) -> asyncio.Future[bool]:
        """Record an event and notify the plugins; the result tells whether it is on disk, see `on_record`."""
        self._log.append(event)
        self._host.notify("attpc_event", event=event)
        return self._log.committed()

    def emit_new(self, kind: type[Event], **fields: Any) -> asyncio.Future[bool]:
        """Make an event of now and emit it."""
        return self.emit(self.make(kind, **fields))

    def put(self, put: Put) -> asyncio.Future[bool]:
        """Stamp a put and emit it."""
        return self.emit(replace(put, stamp=self._stamp()))

    def record(self, plugin: str, kind: str, value: dict[str, Any]) -> asyncio.Future[bool]:
        """Record what a plugin has of its own; see `EventLog.committed` for the result."""
        stamp = self._stamp()
        event = PluginRecord(stamp=stamp, time_s=time.time(), plugin=plugin, kind=kind, value=value)
        self._log.append(event)
        return self._log.committed()

    async def tell(self, kind: type[Event], **fields: Any) -> bool:
        """Emit what a plugin tells the others; see `on_record` for what it returns."""
        return await self.on_record(self.emit_new(kind, **fields))

    async def on_record(self, committed: asyncio.Future[bool]) -> bool:
        """Wait up to 50 ms until an event is on disk; returns False where the disk cannot be written."""
        done, _ = await asyncio.wait((committed,), timeout=RECORD_LIMIT_S)
        return committed.result() if done else not self._log.fault

    def _stamp(self) -> Stamp:
        return Stamp(self._ioc, self._boot, next(self._numbers))
