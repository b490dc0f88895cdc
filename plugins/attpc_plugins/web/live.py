"""The live stream: what changes, to every open page, at most ten times a second.

All pages that may read the same PVs get the same bytes, which are made once. A page that does not keep up
gets what has changed since its last message in one: nothing is queued for it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

from attpc_ioc.plugin.contract import PvSurface

from .shown import iso, value_of

PERIOD_S = 0.1
"""At most one message in this time."""

SOON_S = 0.005
"""What changes within this time after rest is one message."""

ALIVE_S = 1.0
"""With nothing to tell there is a message all the same, by which a page knows that it is connected."""


def message(kind: str, content: Any) -> bytes:
    """Return an event of `text/event-stream`."""
    text = json.dumps(content, separators=(",", ":"))
    return f"event: {kind}\ndata: {text}\n\n".encode("ascii")


class Live:
    """Collects what changes and makes messages of it."""

    def __init__(self, pvs: PvSurface) -> None:
        self._pvs = pvs
        self._changed: set[str] = set()
        self._number_of: dict[str, int] = {}
        """The number of the last message with each PV."""
        self.number = 0
        """Of the last message."""
        self._latest_names: set[str] = set()
        self._latest: bytes | None = None
        """The last message, once somebody needs it."""
        self._next: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._last_s = 0.0
        self._unwatch: Callable[[], None] = pvs.watch(self._posted)
        self._plan(ALIVE_S)

    def close(self) -> None:
        """Watch nothing any more."""
        self._unwatch()
        if self._timer is not None:
            self._timer.cancel()
        if self._next is not None:
            self._next.cancel()

    def everything(self, hidden: frozenset[str] = frozenset()) -> bytes:
        """Return a message with every PV that is not hidden."""
        return message("snapshot", self.content(hidden))

    def content(self, hidden: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return what every PV shows that is not hidden."""
        return self._content(name for name in self._pvs.table if name not in hidden)

    async def after(self, number: int, hidden: frozenset[str] = frozenset()) -> tuple[int, bytes]:
        """Wait for news after a message; returns the number and the message."""
        if number == self.number:
            if self._next is None:
                self._next = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._next)
        if number == self.number - 1 and not hidden:
            if self._latest is None:
                self._latest = self._of(self._latest_names)
            return self.number, self._latest
        names = (name for name, last in self._number_of.items() if last > number and name not in hidden)
        return self.number, self._of(names)

    def _posted(self, name: str) -> None:
        if not self._changed:
            now = time.monotonic()
            self._plan(max(SOON_S, self._last_s + PERIOD_S - now))
        self._changed.add(name)

    def _plan(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._tell)

    def _tell(self) -> None:
        self.number += 1
        self._latest, self._latest_names, self._changed = None, self._changed, set()
        for name in self._latest_names:
            self._number_of[name] = self.number
        self._last_s = time.monotonic()
        self._plan(ALIVE_S)
        if self._next is not None:
            waiting, self._next = self._next, None
            waiting.set_result(None)

    def _of(self, names: Iterable[str]) -> bytes:
        return message("change", self._content(names))

    def _content(self, names: Iterable[str]) -> dict[str, Any]:
        table, read = self._pvs.table, self._pvs.read
        pvs = {name: value_of(table[name], read(name)) for name in names}
        return {"number": self.number, "time": iso(time.time()), "pvs": pvs}
