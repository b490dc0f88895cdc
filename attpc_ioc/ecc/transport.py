"""HTTP for the client: one connection per call, as the ECC server requires, on a socket of the event loop.

`GetState` is sent up to 50 times a second to each server, and aiohttp's client takes four times as much CPU
for it (see `benchmarks/poll_cpu.py`).

The errors tell whether a transition may be called again: `EccUnreachable` means that no connection was made,
so nothing was accepted; every later failure is `EccTimeout` or `EccBrokenReply`, and the call may have run.
Nothing is ever sent twice.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from attpc_ioc.errors import EccBrokenReply, EccTimeout, EccUnreachable, system_reason

from .http1 import BrokenHttp, HttpReply, ReplyReader
from .soap import HEADERS

RESOLVE_PERIOD_S = 10.0
"""A host's name is looked up again after this time."""

KEEP_ALIVE_IDLE_S = 10
KEEP_ALIVE_INTERVAL_S = 5
KEEP_ALIVE_COUNT = 4
DEAD_HOST_MS = 30_000
"""A host that vanished is noticed after this time: idle + count * interval of the keep-alive probes."""

_PIECE_BYTES = 64 * 1024


class _Address(NamedTuple):
    """An address that a host name was resolved to."""

    family: int
    place: Any
    """The address for `connect`, in the form of its family."""


@dataclass(frozen=True, slots=True)
class _Call:
    """The arguments of `Transport.exchange`; `until_s` is the loop's time at which `timeout_s` is over."""

    request: bytes
    where: str
    limit: int
    timeout_s: float | None
    until_s: float | None
    on_connected: Callable[[], None] | None


class Transport:
    """POSTs to one ECC server, with a new connection for each call; calls may overlap."""

    def __init__(self, url: str, connect_timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"an ECC server's address has the form http://HOST:PORT/, not {url!r}")
        self._url = url
        self._host, self._port = parts.hostname, parts.port or 80
        self._address: _Address | None = None
        self._resolve_at_s = 0.0
        self._connect_timeout_s = connect_timeout_s
        self._path, self._netloc = parts.path or "/", parts.netloc
        self._limits: set[asyncio.Timeout] = set()
        """Timers of the running calls."""
        self._closed = False

    def request(self, envelope: bytes) -> bytes:
        """Return the whole request with `envelope`, for `exchange`."""
        lines = [f"POST {self._path} HTTP/1.1", f"Host: {self._netloc}"]
        lines += [f"{key}: {value}" for key, value in HEADERS.items()]
        lines += [f"Content-Length: {len(envelope)}", "", ""]
        return "\r\n".join(lines).encode("latin-1") + envelope

    async def exchange(
        self,
        request: bytes,
        where: str,
        *,
        limit: int,
        timeout_s: float | None,
        on_connected: Callable[[], None] | None = None,
    ) -> tuple[HttpReply, float]:
        """Return the reply and the monotonic time in seconds at which the request went out.

        `on_connected` is called once the connection is made, in the turn of the loop in which the request
        goes out. `timeout_s` covers connecting and reply together; None waits as long as the peer is alive.

        Raises `EccUnreachable` when no connection was made, `EccTimeout` after `timeout_s`, and
        `EccBrokenReply` when the connection ended without a complete HTTP reply of at most `limit` bytes;
        `where` names call and server in them.
        """
        began_s = asyncio.get_running_loop().time()
        until_s = None if timeout_s is None else began_s + timeout_s
        call = _Call(request, where, limit, timeout_s, until_s, on_connected)
        connect_s = self._connect_timeout_s if timeout_s is None else min(self._connect_timeout_s, timeout_s)
        try:
            addresses = await self._addresses(connect_s)
        except TimeoutError as error:
            raise self._no_connection_within(connect_s) from error
        except (OSError, UnicodeError) as error:
            raise EccUnreachable(f"no connection to {self._url}: {_reason_of(error)}") from error
        if self._closed:
            raise EccUnreachable(f"no connection to {self._url}: this client is closed")
        failed: OSError | None = None
        for number, address in enumerate(addresses):
            passed_s = asyncio.get_running_loop().time() - began_s
            # The addresses share the time for connecting, so that a dead one leaves time for the next.
            share_s = max(0.0, connect_s - passed_s) / (len(addresses) - number)
            try:
                reply = await self._once(address, call, share_s)
            except OSError as error:
                failed = failed or error
            else:
                self._keep(address)
                return reply
        self._address = None
        if isinstance(failed, TimeoutError):
            raise self._no_connection_within(connect_s) from failed
        reason = _reason_of(failed) if failed else "it has no address"
        raise EccUnreachable(f"no connection to {self._url}: {reason}") from failed

    async def _once(self, address: _Address, call: _Call, connect_s: float) -> tuple[HttpReply, float]:
        """Do as `exchange` at one address; raises `OSError` if no connection was made."""
        loop = asyncio.get_running_loop()
        timer, reader, sent_at_s = asyncio.timeout(connect_s), ReplyReader(call.limit), 0.0
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if call.timeout_s is None:
                _keep_alive(sock)
            async with timer:
                self._limits.add(timer)
                await loop.sock_connect(sock, address.place)
                timer.reschedule(call.until_s)
                sent_at_s = time.monotonic()
                if call.on_connected is not None:
                    call.on_connected()
                ended = await _converse(sock, call.request, reader)
            return reader.finish(ended), sent_at_s
        except TimeoutError as error:
            if self._closed:
                text = "the connection ended without a whole reply (this client is closed)"
                raise EccBrokenReply(f"{call.where}: {text}") from None
            if sent_at_s:
                raise EccTimeout(f"{call.where}: no answer within {call.timeout_s or 0:g} s") from error
            raise
        except BrokenHttp as error:
            raise EccBrokenReply(f"{call.where}: {error}") from error
        finally:
            self._limits.discard(timer)
            reader.close()
            sock.close()

    def close(self) -> None:
        """Refuse further calls for good; running calls end with `EccBrokenReply`."""
        self._closed = True
        for timer in self._limits:
            if not timer.expired():
                timer.reschedule(0.0)

    def _no_connection_within(self, connect_s: float) -> EccUnreachable:
        return EccUnreachable(f"no connection to {self._url} within {connect_s:g} s")

    async def _addresses(self, limit_s: float) -> list[_Address]:
        """Return the addresses to try; a look-up takes a thread, so its result is kept for a while."""
        if self._address is not None and time.monotonic() < self._resolve_at_s:
            return [self._address]
        try:
            found = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except OSError:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(limit_s):
                found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = [_Address(family, place) for family, _, _, _, place in found]
        # The last one that answered comes first: a dead one before it would slow down every poll.
        return sorted(addresses, key=lambda address: address != self._address)

    def _keep(self, address: _Address) -> None:
        """Use this address until the next look-up of the host name."""
        now = time.monotonic()
        if address != self._address or now >= self._resolve_at_s:
            self._address, self._resolve_at_s = address, now + RESOLVE_PERIOD_S


async def _converse(sock: socket.socket, request: bytes, reader: ReplyReader) -> OSError | None:
    """Send and receive until the reply is complete or the connection ends; return the error that ended it.

    Raises `BrokenHttp`.
    """
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(sock, request)
        while True:
            data = await loop.sock_recv(sock, _PIECE_BYTES)
            if not data or reader.feed(data):
                return None
            # Data that has arrived is received without waiting, so yield between two pieces.
            await asyncio.sleep(0)
    except OSError as error:
        return error


def _keep_alive(sock: socket.socket) -> None:
    """Make `sock` detect within `DEAD_HOST_MS` that its peer's host is gone.

    A transition's reply has no time limit: without this a power loss at the other end would never be noticed,
    and the module could not be commanded again.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEP_ALIVE_COUNT)
    # Keep-alive probes start only when nothing is unacknowledged: this time-out covers the request itself.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_HOST_MS)


def _reason_of(error: Exception) -> str:
    """Return the operating system's reason, in words for operators."""
    if isinstance(error, socket.gaierror):
        return system_reason(error)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
