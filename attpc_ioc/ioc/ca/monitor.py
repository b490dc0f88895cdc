"""Channels and subscriptions, and the queue of updates that a slow client has not taken yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from attpc_ioc.ioc.ca.limits import ServerStats
    from attpc_ioc.ioc.ca.pv import PV, Message

_OVERHEAD_BYTES = 200
"""Bytes that a queued update costs beside its value."""


class Channel:
    """One client's connection to one PV."""

    __slots__ = ("cid", "pv", "rights", "sid", "subscriptions")

    def __init__(self, pv: PV, cid: int, sid: int) -> None:
        self.pv = pv
        self.cid = cid
        self.sid = sid
        self.rights = 0
        self.subscriptions: dict[int, Subscription] = {}


class _Circuit(Protocol):
    """The part of `Circuit` that a subscription uses."""

    def send_event(self, subscription: Subscription) -> None: ...


class Subscription:
    """One monitor of one client: the event mask, type and count that it subscribed to."""

    __slots__ = ("channel", "circuit", "count", "dtype", "ended", "id", "last", "mask", "queued")

    def __init__(
        self, circuit: _Circuit, channel: Channel, dtype: int, count: int, mask: int, subscription_id: int
    ) -> None:
        self.circuit = circuit
        self.channel = channel
        self.dtype = dtype
        self.count = count
        self.mask = mask
        self.id = subscription_id.to_bytes(4, "big")
        self.queued = 0
        self.last: _Update | None = None
        self.ended = False

    def deliver(self) -> None:
        """Send the PV's current value to the client, or queue it."""
        self.circuit.send_event(self)


class _Update:
    __slots__ = ("message", "subscription")

    def __init__(self, subscription: Subscription, message: Message) -> None:
        self.subscription = subscription
        self.message = message


class Backlog:
    """Updates queued for one client, in the order in which they were posted.

    A subscription has at most `depth` of them; a further one replaces its newest, so that the last value a
    client gets is the current one. Once squeezed, each subscription has one until all are sent. `bytes` is
    roughly what they cost, `dropped` counts replaced updates. `counts.queued_bytes` is the sum over all
    backlogs.
    """

    __slots__ = ("_counts", "_depth", "_full_depth", "_updates", "bytes", "dropped")

    def __init__(self, depth: int, counts: ServerStats) -> None:
        self._counts = counts
        self._depth = self._full_depth = depth
        self._updates: deque[_Update] = deque()
        self.bytes = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._updates)

    def add(self, subscription: Subscription, message: Message) -> None:
        """Queue an update."""
        newest = subscription.last
        if newest is not None and subscription.queued >= self._depth:
            self._count(len(message[1]) - len(newest.message[1]))
            newest.message = message
            self.dropped += 1
            return
        self._count(len(message[1]) + _OVERHEAD_BYTES)
        subscription.last = _Update(subscription, message)
        subscription.queued += 1
        self._updates.append(subscription.last)

    def squeeze(self) -> None:
        """Keep only the newest update of each subscription."""
        if self._depth == 1:
            return
        self._depth = 1
        kept: deque[_Update] = deque()
        for update in self._updates:
            if update is update.subscription.last:
                update.subscription.queued = 1
                kept.append(update)
            else:
                self._count(-len(update.message[1]) - _OVERHEAD_BYTES)
                self.dropped += 1
        self._updates = kept

    def drain(self) -> Iterator[tuple[Subscription, Message]]:
        """Remove and yield the updates, oldest first; stop iterating to keep the rest."""
        while self._updates:
            update = self._updates.popleft()
            subscription = update.subscription
            subscription.queued -= 1
            if subscription.last is update:
                subscription.last = None
            self._count(-len(update.message[1]) - _OVERHEAD_BYTES)
            if not subscription.ended:
                yield subscription, update.message
        self._depth = self._full_depth

    def clear(self) -> None:
        """Drop all updates."""
        self._updates.clear()
        self._count(-self.bytes)

    def _count(self, more: int) -> None:
        self.bytes += more
        self._counts.queued_bytes += more
