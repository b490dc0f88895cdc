"""The way of `GetState`, up to 50 times a second and server: one small request and reply on a bare socket.

The event loop's own transports cost 1.4 times as much for a connection that carries one reply, and aiohttp's
client 2.6 times (see `benchmarks/poll_cpu.py`).
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
from .transport import reason_of

RESOLVE_PERIOD_S = 10.0
"""A host's name is looked up again after this time, for polls as for other calls (aiohttp's default)."""

_PIECE_BYTES = 64 * 1024


class _Address(NamedTuple):
    """Where a host's name led."""

    family: int
    place: Any
    """As the family has it, for `connect`."""


class _Exchange:
    """One connection with one request and its reply.

    `done` gets the reply, `TimeoutError`, `BrokenHttp` where the connection ended without a whole reply, or
    `OSError` where there was none: then `sent_at_s` is 0.
    """

    def __init__(self, request: bytes, connect_timeout_s: float, timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._rest = request
        self._deadline = self._loop.time() + timeout_s
        self._reader = ReplyReader()
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
            refused = sock.connect_ex(address.place)
            if refused not in (0, errno.EINPROGRESS):
                raise OSError(refused, os.strerror(refused))
            # By number: the loop looks the file up, and words for one that it does not find cost a socket two
            # calls of the system each time.
            self._loop.add_writer(sock.fileno(), self._send)
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Leave nothing open, whoever may still be at the other end."""
        self._timer.cancel()
        sock, self._sock = self._sock, None
        if sock is not None:
            self._loop.remove_writer(sock.fileno())
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def _send(self) -> None:
        sock = self._sock
        if sock is None:
            return
        if not self.sent_at_s:
            refused = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if refused:
                self._fail(OSError(refused, os.strerror(refused)))
                return
            self.sent_at_s = time.monotonic()
            self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._late)
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
            self._fail(error)
        else:
            self._finish(None)

    def _finish(self, error: OSError | None) -> None:
        try:
            reply = self._reader.finish(error)
        except BrokenHttp as broken:
            self._fail(broken)
            return
        self.close()
        if not self.done.done():
            self.done.set_result(reply)

    def _late(self) -> None:
        self._fail(TimeoutError())

    def _fail(self, error: Exception) -> None:
        self.close()
        if not self.done.done():
            self.done.set_exception(error)


class QuickTransport:
    """Sends one request again and again, a new connection for each; `envelope` is called once."""

    def __init__(
        self, url: str, envelope: Callable[[], bytes], timeout_s: float, connect_timeout_s: float
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"an ECC server's address has the form http://HOST:PORT/, not {url!r}")
        self._url = url
        self._host, self._port = parts.hostname, parts.port or 80
        self._address: _Address | None = None
        self._resolve_at_s = 0.0
        self._timeout_s = timeout_s
        self._connect_timeout_s = min(timeout_s, connect_timeout_s)
        self._path, self._netloc = parts.path or "/", parts.netloc
        self._envelope = envelope
        self._request = b""

    def _request_bytes(self) -> bytes:
        envelope = self._envelope()
        lines = [f"POST {self._path} HTTP/1.1", f"Host: {self._netloc}"]
        lines += [f"{key}: {value}" for key, value in HEADERS.items()]
        lines += [f"Content-Length: {len(envelope)}", "", ""]
        return "\r\n".join(lines).encode("latin-1") + envelope

    async def exchange(self, where: str) -> tuple[HttpReply, float]:
        """Return the reply and the monotonic time in seconds at which the request went out.

        Raises as `AiohttpTransport.post` does. The time limit covers connecting and reply together.
        """
        self._request = self._request or self._request_bytes()
        deadline = time.monotonic() + self._timeout_s
        try:
            addresses = await self._addresses()
        except TimeoutError as error:
            raise self._no_connection_in_time() from error
        except (OSError, UnicodeError) as error:
            raise EccUnreachable(f"no connection to {self._url}: {reason_of(error)}") from error
        failed: OSError | None = None
        connect_by = min(deadline, time.monotonic() + self._connect_timeout_s)
        for number, address in enumerate(addresses):
            now = time.monotonic()
            # What is left for connecting is shared, so that a dead address leaves time for those after it.
            share_s = max(0.0, connect_by - now) / (len(addresses) - number)
            exchange = _Exchange(self._request, share_s, deadline - now)
            try:
                exchange.connect(address)
                reply = await exchange.done
            except TimeoutError as error:
                if exchange.sent_at_s:
                    raise EccTimeout(f"{where}: no answer within {self._timeout_s:g} s") from error
                failed = failed or error
            except BrokenHttp as error:
                raise EccBrokenReply(f"{where}: {error}") from error
            except OSError as error:
                failed = failed or error
            else:
                self._keep(address)
                return reply, exchange.sent_at_s
            finally:
                exchange.close()
        self._address = None
        if isinstance(failed, TimeoutError):
            raise self._no_connection_in_time() from failed
        reason = reason_of(failed) if failed else "it has no address"
        raise EccUnreachable(f"no connection to {self._url}: {reason}") from failed

    def _no_connection_in_time(self) -> EccUnreachable:
        return EccUnreachable(f"no connection to {self._url} within {self._connect_timeout_s:g} s")

    async def _addresses(self) -> list[_Address]:
        """Return where to connect: a look-up is a thread's work, not for 50 times a second."""
        if self._address is not None and time.monotonic() < self._resolve_at_s:
            return [self._address]
        try:
            found = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        except OSError:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(self._connect_timeout_s):
                found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        addresses = [_Address(family, place) for family, _, _, _, place in found]
        # The one that answered last comes first: a dead one before it would slow a poll down each time.
        return sorted(addresses, key=lambda address: address != self._address)

    def _keep(self, address: _Address) -> None:
        """Remember where the host's name led, until it is to be looked up again."""
        now = time.monotonic()
        if address != self._address or now >= self._resolve_at_s:
            self._address, self._resolve_at_s = address, now + RESOLVE_PERIOD_S
