"""Who gets in: the number of connections, how many requests come, and how long they and answers may take.

aiohttp limits the size of a request and how long a connection may rest; it waits without limit for the rest
of a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

REQUEST_S = 10.0
"""A request must have arrived this long after its beginning, and the first one this long after connecting."""

STALLED_S = 15.0
"""A client that does not read for so long, with answers waiting, is dropped."""

BURST_S = 3.0
"""Requests of this time may come at once."""


class Door:
    """Makes the protocol of each connection, and knows them."""

    def __init__(self, make: Callable[[], asyncio.Protocol], most: int) -> None:
        self._make = make
        self._most = most
        self.inside: set[_Guard] = set()
        self.turned_away = 0

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _Guard(self, self._make())

    def is_full(self, besides: int = 0) -> bool:
        """Return whether further connections are closed at once; `besides`: others that have a place."""
        return len(self.inside) + besides >= self._most


class _Guard(asyncio.Protocol):
    """Stands before aiohttp's protocol of one connection."""

    def __init__(self, door: Door, inner: asyncio.Protocol) -> None:
        self._door = door
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._busy = False
        self._early = b""
        """What came before the connection was made, in the turn in which a TLS handshake ended."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if self._door.is_full():
            self._door.turned_away += 1
            transport.abort()
            return
        self._transport = transport
        self._door.inside.add(self)
        self._inner.connection_made(transport)
        self._begin()
        if self._early:
            self._inner.data_received(self._early)
            self._early = b""

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self._reads_again()
        if self._transport is not None:
            self._door.inside.discard(self)
            self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._transport is None:
            self._early += data
            return
        if not self._busy and self._timer is None:
            self._begin()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received() if self._transport is not None else None

    def pause_writing(self) -> None:
        self._reads_again()
        self._stalled = asyncio.get_running_loop().call_later(STALLED_S, self._late)
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._reads_again()
        self._inner.resume_writing()

    def taken_up(self) -> None:
        """Note that the head of a request is here: its handler limits the rest."""
        self._busy = True
        self._end()

    def answered(self) -> None:
        """Note that the connection rests until the next request."""
        self._busy = False

    def _begin(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(REQUEST_S, self._late)

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _reads_again(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _late(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def guard_of(transport: asyncio.BaseTransport | None) -> Any:
    """Return what guards a connection; None if it is closed."""
    protocol = transport.get_protocol() if transport is not None else None
    return protocol if isinstance(protocol, _Guard) else None


class Requests:
    """Counts for each address, or another key: a bucket that drains at so many a second."""

    MOST = 10_000
    """Keys that are remembered."""

    def __init__(self, per_s: float, burst: float | None = None) -> None:
        self._per_s = per_s
        self._burst = burst or max(10.0, per_s * BURST_S)
        self._level: dict[str, tuple[float, float]] = {}

    def peek_s(self, key: str) -> float:
        """Return how long to wait until another one would not be too many, else 0."""
        level, then = self._level.get(key, (0.0, 0.0))
        level = max(0.0, level - (time.monotonic() - then) * self._per_s)
        return max(0.0, level + 1.0 - self._burst) / self._per_s

    def wait_s(self, key: str) -> float:
        """Count one; returns how long to wait where it was too many, else 0."""
        now = time.monotonic()
        wait_s = self.peek_s(key)
        level, then = self._level.pop(key, (0.0, now))
        level = max(0.0, level - (now - then) * self._per_s)
        self._level[key] = (level if wait_s else level + 1.0, now)
        if len(self._level) > self.MOST:
            del self._level[next(iter(self._level))]
        return wait_s
