"""Limits on clients: connections by address, and one memory budget for all of them.

There are few rules, and each log line names the one that applied:

- One address has at most `max_clients_per_address` connections.
- A tenth of `max_clients` is reserved for addresses that have no connection yet.
- When no place is free, a connection without a channel is closed, else the newest one of the address with the
  most.
- When all clients use `max_memory_bytes`, the largest client of the address that uses most is closed.
- When four times `max_puts` puts are running, only addresses without a running put may put.

A new client whose address has as many connections as the one that would be closed is refused instead, so
that clients do not displace each other in turn.
"""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING

from attpc_ioc.ioc.ca.limits import ServerLimits, ServerStats
from attpc_ioc.log import get_logger

if TYPE_CHECKING:
    from attpc_ioc.ioc.ca.circuit import Circuit

log = get_logger(__name__)

CHANNEL_BYTES = 2048
"""Bytes counted for a channel: 250 are measured, 600 for a field's, 3500 if the field is then read
in all types."""
SUBSCRIPTION_BYTES = 512
"""Bytes counted for a subscription: 250 are measured."""
NO_CHANNEL_S = 5.0
"""A client without a channel keeps its place for this time when others of its address want it."""
_MANY_MORE = 8
"""An address with this many times the connections of another counts as a crowd."""
_KEPT = 10
"""One in this many places is reserved for addresses without a connection."""
_OTHER_FILES = 256
"""Files and sockets that the rest of the program may need."""
_PUTS = 4
"""Running puts of all clients are limited to this many times `max_puts`."""


class Places:
    """The connected clients by address; decides who may stay. Used from the event loop's thread only."""

    def __init__(self, limits: ServerLimits, counts: ServerStats) -> None:
        self._limits = limits
        self._counts = counts
        self._most = limits.max_clients
        self._all: dict[Circuit, None] = {}
        self._by_address: dict[str, dict[Circuit, None]] = {}
        """Circuits by address, oldest first, as in `_all`."""
        self._leaving: set[Circuit] = set()
        """Circuits being closed to make room, until their connections have ended."""
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Raise the system's limit of open files to what clients may need."""
        self._loop = asyncio.get_running_loop()
        self._most = self._limits.max_clients
        wanted = self._most + _OTHER_FILES
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY or soft >= wanted:
            return
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            self._most = max(1, allowed - _OTHER_FILES)
            log.warning(
                "fewer clients than max_clients can connect: raise the limit of open files (LimitNOFILE)",
                max_clients=self._limits.max_clients,
                clients=self._most,
                open_files=allowed,
                wanted=wanted,
            )

    # --- connections ---

    def take(self, circuit: Circuit) -> None:
        """Accept a new circuit, if necessary by closing another; or close it."""
        address = circuit.client.host_address
        own = self._by_address.setdefault(address, {})
        own[circuit] = self._all[circuit] = None
        kept = self._most // _KEPT if len(own) > 1 else 0
        connected = len(self._all)
        if len(own) > self._limits.max_clients_per_address:
            idle = self._idle(own, circuit)
            reason = "its host has the most connections that one may have (max_clients_per_address)"
        elif connected > self._most - kept:
            idle = self._idle(self._all, circuit)
            reason = "the other places are for hosts that have fewer connections (max_clients)"
        else:
            return
        if idle is not None:
            self._end(idle, "it has no channel, and there are too many clients", connections=connected)
            return
        busiest = max(self._by_address.values(), key=len)
        if len(own) < len(busiest):
            reason = "there are too many clients (max_clients), and its host has the most connections"
            self._end(next(reversed(busiest)), reason, host_connections=len(busiest))
        else:
            event = "client refused: there are too many clients"
            self._end(circuit, reason, event=event, connections=connected, host_connections=len(own))

    def leave(self, circuit: Circuit) -> None:
        """Forget a circuit whose connection has ended."""
        self._leaving.discard(circuit)
        self._remove(circuit)

    def _idle(self, circuits: dict[Circuit, None], new: Circuit) -> Circuit | None:
        """Return the oldest circuit without a channel that has had time to make one.

        It may go sooner for a client of another address, unless that address has many more connections: a
        crowd of new connections must not end an operator's.
        """
        assert self._loop is not None
        address, before_s = new.client.host_address, self._loop.time() - NO_CHANNEL_S
        most = len(self._by_address[address])

        def may_go(one: Circuit) -> bool:
            other = one.client.host_address
            sooner = other != address and _MANY_MORE * len(self._by_address[other]) >= most
            return sooner or one.connected_at < before_s

        return next((one for one in circuits if not one.channels and one is not new and may_go(one)), None)

    def _end(
        self, circuit: Circuit, reason: str, *, event: str = "client disconnected", **keys: object
    ) -> None:
        circuit.drop(reason, event=event, **keys)
        self._remove(circuit)
        self._leaving.add(circuit)

    def _remove(self, circuit: Circuit) -> None:
        address = circuit.client.host_address
        self._all.pop(circuit, None)
        own = self._by_address.get(address, {})
        own.pop(circuit, None)
        if not own:
            self._by_address.pop(address, None)

    # --- memory ---

    def may_put(self, circuit: Circuit, running: int) -> bool:
        """Return whether another put may start; beyond the limit only the first one of an address."""
        if running < _PUTS * self._limits.max_puts:
            return True
        return not any(one.puts for one in self._by_address.get(circuit.client.host_address, ()))

    @property
    def has_room(self) -> bool:
        """Whether channels, subscriptions and queued updates are within the budget."""
        counts = self._counts
        taken = (
            counts.channels * CHANNEL_BYTES + counts.subscriptions * SUBSCRIPTION_BYTES + counts.queued_bytes
        )
        if self._leaving:
            taken -= sum(map(memory_bytes, self._leaving))
        return taken < self._limits.max_memory_bytes

    def make_room(self, circuit: Circuit) -> bool:
        """Return whether `circuit` may take more memory; beyond the budget another one is closed for it.

        That is the largest circuit of the address that takes most. It stays if `circuit` and its address both
        take at least half as much: then `circuit` is refused.
        """
        while not self.has_room:
            taken = {address: sum(map(memory_bytes, own)) for address, own in self._by_address.items()}
            if not taken:
                return True
            busiest = max(taken, key=taken.__getitem__)
            largest = max(self._by_address[busiest], key=memory_bytes)
            address_is_small = 2 * taken.get(circuit.client.host_address, 0) < taken[busiest]
            if largest is circuit or not (
                address_is_small or 2 * memory_bytes(circuit) < memory_bytes(largest)
            ):
                return False
            self._end(
                largest,
                "clients take too much memory (max_memory_bytes), and it is the largest of the largest host",
                most=self._limits.max_memory_bytes,
                bytes=memory_bytes(largest),
                host_bytes=taken[busiest],
            )
        return True


def memory_bytes(circuit: Circuit) -> int:
    """Return roughly what a client's channels, subscriptions and queued updates take."""
    channels = len(circuit.channels) * CHANNEL_BYTES
    return channels + circuit.subscriptions * SUBSCRIPTION_BYTES + circuit.backlog.bytes
