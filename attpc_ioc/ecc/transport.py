"""HTTP under the client: one connection a call, as the ECC server forces, on a bare socket.

`GetState` goes out up to 50 times a second and server, and one by aiohttp's client costs four times as much
(see `benchmarks/poll_cpu.py`).

What matters before a transition is called again is told apart: `EccUnreachable` means that no connection was
made, so nothing was accepted; after that, whatever goes wrong is `EccTimeout` or `EccBrokenReply`, and the
call may have run. Nothing is ever sent a second time.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from attpc_ioc.errors import EccBrokenReply, EccTimeout, EccUnreachable

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
    """Where a host's name led."""

    family: int
    place: Any
    """As the family has it, for `connect`."""


class _Exchange:
    """One connection with one request and its reply of at most `limit` bytes.

    `timeout_s` None waits as long as the peer is there. `done` gets the reply, `TimeoutError`, `BrokenHttp`
    where the connection ended without a whole reply, or `OSError` where there was none (`sent_at_s` is 0).
    """

    def __init__(
        self,
        request: bytes,
        limit: int,
        connect_timeout_s: float,
        timeout_s: float | None,
        on_connected: Callable[[], None] | None,
    ) -> None:
        self._on_connected = on_connected
        self._loop = asyncio.get_running_loop()
        self._rest = request
        self._deadline = None if timeout_s is None else self._loop.time() + timeout_s
        self._reader = ReplyReader(limit)
        self._sock: socket.socket | None = None
        self._timer = self._loop.call_later(connect_timeout_s, self._late)
        self.sent_at_s = 0.0
        """Monotonic time at which the request went out; 0 as long as there is no connection."""
        self.done: asyncio.Future[HttpReply] = self._loop.create_future()

    def connect(self, address: _Address) -> None:
        """Begin to connect; the rest follows by itself."""
        try:
            sock = self._sock = socket.socket(address.family, socket.SOCK_STREAM)
            sock.setblocking(False)
            if self._deadline is None:
                _keep_alive(sock)
            refused = sock.connect_ex(address.place)
            if refused not in (0, errno.EINPROGRESS):
                raise OSError(refused, os.strerror(refused))
            # By number: the loop looks the file up, and words for one that it does not find cost a socket two
            # calls of the system each time.
            self._loop.add_writer(sock.fileno(), self._send)
        except OSError as error:
            self.fail(error)

    def close(self) -> None:
        """Leave nothing open, whoever may still be at the other end."""
        self._timer.cancel()
        self._reader.close()
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_writer(sock.fileno())
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def fail(self, error: Exception) -> None:
        """Close, and end the waiting with `error`."""
        self.close()
        if not self.done.done():
            self.done.set_exception(error)

    def _send(self) -> None:
        sock = self._sock
        if sock is None:
            return
        if not self.sent_at_s:
            refused = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if refused:
                self.fail(OSError(refused, os.strerror(refused)))
                return
            self.sent_at_s = time.monotonic()
            self._timer.cancel()
            if self._deadline is not None:
                self._timer = self._loop.call_at(self._deadline, self._late)
            if self._on_connected is not None:
                self._on_connected()
        try:
            self._rest = self._rest[sock.send(self._rest) :]
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(error)
            return
        if not self._rest:
            self._loop.remove_writer(sock.fileno())
            self._loop.add_reader(sock.fileno(), self._receive)

    def _receive(self) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(_PIECE_BYTES)
            if data and not self._reader.feed(data):
                return
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(error)
        except BrokenHttp as error:
            self.fail(error)
        else:
            self._finish(None)

    def _finish(self, error: OSError | None) -> None:
        try:
            reply = self._reader.finish(error)
        except BrokenHttp as broken:
            self.fail(broken)
            return
        self.close()
        if not self.done.done():
            self.done.set_result(reply)

    def _late(self) -> None:
        self.fail(TimeoutError())


class Transport:
    """POSTs to one ECC server, a new connection for each call; calls may overlap."""

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
        self._exchanges: set[_Exchange] = set()
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

        `on_connected` is called when there is a connection, in the same turn of the loop in which the request
        goes out. `timeout_s` covers connecting and reply together; None waits as long as the peer is there.

        Raises `EccUnreachable` where no connection was made, `EccTimeout` after `timeout_s`, and
        `EccBrokenReply` where the connection ended without a whole HTTP reply of at most `limit` bytes;
        `where` names call and server there.
        """
        began = time.monotonic()
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
            passed_s = time.monotonic() - began
            # What is left for connecting is shared, so that a dead address leaves time for those after it.
            share_s = max(0.0, connect_s - passed_s) / (len(addresses) - number)
            left_s = None if timeout_s is None else timeout_s - passed_s
            exchange = _Exchange(request, limit, share_s, left_s, on_connected)
            self._exchanges.add(exchange)
            try:
                exchange.connect(address)
                reply = await exchange.done
            except TimeoutError as error:
                if exchange.sent_at_s:
                    assert timeout_s is not None
                    raise EccTimeout(f"{where}: no answer within {timeout_s:g} s") from error
                failed = failed or error
            except BrokenHttp as error:
                raise EccBrokenReply(f"{where}: {error}") from error
            except OSError as error:
                failed = failed or error
            else:
                self._keep(address)
                return reply, exchange.sent_at_s
            finally:
                self._exchanges.discard(exchange)
                exchange.close()
        self._address = None
        if isinstance(failed, TimeoutError):
            raise self._no_connection_within(connect_s) from failed
        reason = _reason_of(failed) if failed else "it has no address"
        raise EccUnreachable(f"no connection to {self._url}: {reason}") from failed

    def close(self) -> None:
        """Take no further call, for good; calls that are under way end with `EccBrokenReply`."""
        self._closed = True
        for exchange in list(self._exchanges):
            exchange.fail(BrokenHttp("the connection ended without a whole reply (this client is closed)"))

    def _no_connection_within(self, connect_s: float) -> EccUnreachable:
        return EccUnreachable(f"no connection to {self._url} within {connect_s:g} s")

    async def _addresses(self, limit_s: float) -> list[_Address]:
        """Return where to connect: a look-up is a thread's work, not for 50 times a second."""
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
        # The one that answered last comes first: a dead one before it would slow a poll down each time.
        return sorted(addresses, key=lambda address: address != self._address)

    def _keep(self, address: _Address) -> None:
        """Remember where the host's name led, until it is to be looked up again."""
        now = time.monotonic()
        if address != self._address or now >= self._resolve_at_s:
            self._address, self._resolve_at_s = address, now + RESOLVE_PERIOD_S


def _keep_alive(sock: socket.socket) -> None:
    """Have `sock` notice within `DEAD_HOST_MS` that its peer's host is gone.

    A transition's reply has no time limit; without this the loss of power at the other end would never be
    noticed, and the module could never be commanded again.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_IDLE_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_INTERVAL_S)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEP_ALIVE_COUNT)
    # Keep-alive probes start only when nothing is unacknowledged: this covers the request itself.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_HOST_MS)


def _reason_of(error: Exception) -> str:
    """Return why the operating system gave up, in words for operators."""
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
