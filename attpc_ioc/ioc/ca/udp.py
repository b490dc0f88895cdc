"""Channel Access over UDP: answers to searches, and the beacons that announce a server.

Raw non-blocking sockets are used because a datagram that cannot be sent at once may be lost (clients search
again), while asyncio would queue them without bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from time import perf_counter

from attpc_ioc.ioc.ca import wire
from attpc_ioc.ioc.ca.address import ANY, Addresses
from attpc_ioc.ioc.ca.wire import Command, Header

DATAGRAM_BYTES = 1400
"""Maximum size of collected replies: fits an Ethernet frame."""

_DATAGRAMS_A_TURN = 64
_SEARCHES = 20
"""Requests between two reads of the clock: one datagram can have thousands."""
_TURN_S = 0.002
"""Time for which requests are answered before clients have their turn."""
_FIRST_PERIOD_S = 0.02

Search = Callable[[Header], bytes]
"""Returns the reply to one search request; empty for none."""


def _socket(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.setblocking(False)
        sock.bind((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


class Searches:
    """Answers search requests on one interface's UDP port."""

    def __init__(
        self, address: str, port: int, search: Search, ignored: frozenset[str] = frozenset()
    ) -> None:
        """Bind; raises OSError if that fails. Hosts in `ignored` get no answer."""
        self._search = search
        self._ignored = ignored
        self._socket = _socket(address, port)
        self._loop = asyncio.get_running_loop()
        self._begun: tuple[Iterator[bytes], tuple[str, int]] | None = None
        self._handle: asyncio.Handle | None = None
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        """Stop answering."""
        if self._handle is not None:
            self._handle.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _readable(self) -> None:
        end = perf_counter() + _TURN_S
        for _ in range(_DATAGRAMS_A_TURN):
            try:
                data, peer = self._socket.recvfrom(65536)
            except OSError:
                return
            if peer[0] in self._ignored:
                continue
            self._begun = answers(data, self._search), peer
            if not self._answer(end):
                # The next turn continues this datagram; further ones wait or are lost.
                self._loop.remove_reader(self._socket.fileno())
                self._handle = self._loop.call_soon(self._go_on)
                return
            if perf_counter() > end:
                return

    def _go_on(self) -> None:
        if self._answer(perf_counter() + _TURN_S):
            self._handle = None
            self._loop.add_reader(self._socket.fileno(), self._readable)
        else:
            self._handle = self._loop.call_soon(self._go_on)

    def _answer(self, end: float) -> bool:
        """Continue answering the datagram; return whether it is finished."""
        if self._begun is None:
            return True
        replies, peer = self._begun
        for reply in replies:
            if reply:
                with contextlib.suppress(OSError):
                    self._socket.sendto(reply, peer)
            elif perf_counter() > end:
                return False
        self._begun = None
        return True


def answers(data: bytes, search: Search) -> Iterator[bytes]:
    """Yield the datagrams that answer one datagram of requests; messages after invalid data are ignored.

    Each begins with a VERSION message with the request's sequence number: it tells libca that the answer is
    for its latest requests, so that it searches for more names at once. An empty one is not sent: it
    lets the caller yield to other tasks.
    """
    buffer = bytearray(data)
    version = wire.message(Command.VERSION, 0, wire.MINOR_VERSION)
    replies: list[bytes] = []
    size, offset, asked = len(version), 0, 0
    while (header := wire.read_header(buffer, offset)) is not None and header.end <= len(buffer):
        offset = header.end
        asked += 1
        if asked % _SEARCHES == 0:
            yield b""
        if header.command == Command.VERSION:
            numbered = header.data_type & 1
            version = wire.message(
                Command.VERSION, numbered, wire.MINOR_VERSION, header.p1 if numbered else 0
            )
            continue
        if header.command != Command.SEARCH:
            break
        header.payload = bytes(buffer[header.start : header.end])
        reply = search(header)
        if reply:
            if size + len(reply) > DATAGRAM_BYTES:
                yield version + b"".join(replies)
                replies, size = [], len(version)
            replies.append(reply)
            size += len(reply)
    if replies:
        yield version + b"".join(replies)


class Beacons:
    """Announces the server to clients: quickly at first, then once a period.

    A new server's quick beacons make clients search at once for missing PVs.
    """

    def __init__(self, addresses: Addresses, tcp_port: int) -> None:
        self._addresses = addresses
        self._port = tcp_port
        self._number = 0
        self._sockets = [(_socket(i, 0), 0 if i == ANY else _as_int(i)) for i in addresses.interfaces]
        self._loop = asyncio.get_running_loop()
        self._period_s = _FIRST_PERIOD_S
        self._timer = self._loop.call_soon(self._send)

    def close(self) -> None:
        """Send no more."""
        self._timer.cancel()
        for sock, _ in self._sockets:
            sock.close()

    def _send(self) -> None:
        for sock, own_address in self._sockets:
            beacon = wire.message(
                Command.BEACON, wire.MINOR_VERSION, self._port, self._number & 0xFFFFFFFF, own_address
            )
            for target in self._addresses.beacons:
                with contextlib.suppress(OSError):  # no listener there, or the network is down
                    sock.sendto(beacon, target)
        self._number += 1
        self._timer = self._loop.call_later(self._period_s, self._send)
        self._period_s = min(self._period_s * 2, self._addresses.beacon_period_s)


def _as_int(address: str) -> int:
    return int.from_bytes(socket.inet_aton(address), "big")
