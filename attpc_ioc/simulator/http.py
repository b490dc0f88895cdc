"""The HTTP side of an ECC server: sockets, heads, backlog, and the end of connections.

It uses sockets directly, not an HTTP library, because the real server does what such libraries reject or
hide: requests without a head, bodies that end with the envelope whatever their length, replies of zero bytes,
connections that are reset, and a stopped process whose kernel still accepts.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from attpc_ioc.log import get_logger

from .messages import other_method

log = get_logger(__name__)

BACKLOG = 100
_CHUNK = 1 << 16
_LENGTH = re.compile(rb"\r?\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r?\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
_EXPECT = re.compile(rb"\r?\nexpect:[ \t]*100-continue", re.IGNORECASE)
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_ENVELOPE = re.compile(rb"<(?:[\w.-]+:)?Envelope[\s/>]")
_ENVELOPE_END = re.compile(rb"</(?:[\w.-]+:)?Envelope\s*>|<(?:[\w.-]+:)?Envelope[^>]*/>")


@dataclass(frozen=True, slots=True)
class Head:
    """The relevant parts of a request's head; `length` is None and `method` empty if missing."""

    method: str
    length: int | None
    chunked: bool
    expect: bool


_heads: dict[bytes, Head] = {}


def _parse_head(head: bytes) -> Head:
    known = _heads.get(head)
    if known is None:
        if len(_heads) > 200:
            _heads.clear()
        length = _LENGTH.search(head)
        known = _heads[head] = Head(
            method=_method(head.partition(b"\n")[0]),
            length=int(length[1]) if length else None,
            chunked=bool(_CHUNKED.search(head)),
            expect=bool(_EXPECT.search(head)),
        )
    return known


def _method(line: bytes) -> str:
    """Return the method of a request line; empty if it is not a request line."""
    return line.split(b" ", 1)[0].decode("latin-1") if b" HTTP/" in line else ""


NO_HEAD = Head("POST", None, False, False)


def _unchunk(data: bytes) -> tuple[bytes, bool]:
    """Return the received part of a chunked body, and whether it is complete."""
    parts: list[bytes] = []
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        try:
            size = int(data[at:end].split(b";")[0], 16)
        except ValueError:
            return b"".join(parts), True
        if size == 0:
            return b"".join(parts), True
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts), False


class Connection:
    """One client: reads one request, gets one reply, and ends.

    `late`: the connection or its request came while the process was stopped.
    """

    __slots__ = (
        "_buffer",
        "_expected",
        "_head",
        "_listener",
        "_out",
        "began_s",
        "fd",
        "late",
        "open",
        "sock",
    )

    def __init__(self, listener: Listener, sock: socket.socket, now_s: float) -> None:
        self._listener = listener
        self.sock = sock
        # The descriptor, not the socket: asyncio would format the socket into an exception at each turn.
        self.fd = sock.fileno()
        self._buffer = b""
        self._head: Head | None = None
        self._expected = False
        self._out: memoryview | None = None
        self.began_s = now_s
        self.late = False
        self.open = True

    @property
    def caller_gone(self) -> bool:
        """Whether the caller has closed its side; a caller that only half-closes looks the same."""
        if not self.open:
            return True
        try:
            while data := self.sock.recv(_CHUNK):
                del data  # a pipelined second request is dropped
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def on_readable(self) -> None:
        """Receive data, and pass on a complete request."""
        try:
            data = self.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not data:
            self.close()
            return
        self.began_s = self._listener.loop.time()
        self._buffer = self._buffer + data if self._buffer else data
        self._advance()

    def _advance(self) -> None:
        if self._head is None and self._buffer.lstrip().startswith(b"<"):
            self._head = NO_HEAD  # the real server also answers XML without a head
        if self._head is None:
            found = _HEAD_END.search(self._buffer)
            if found is None:
                return
            head = _parse_head(self._buffer[: found.start()])
            if not head.method:
                return  # the real server waits for a request line, and so does the caller
            self._head = head
            self._buffer = self._buffer[found.end() :]
        head = self._head
        if head.method != "POST":
            self._listener.quiet(self)
            self.reply(other_method(head.method))
            return
        if head.expect and not self._expected:
            self._expected = True
            with contextlib.suppress(OSError):
                self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body, complete = self._body(head)
        # The envelope's end ends the request, whatever length the head says.
        if end := _ENVELOPE_END.search(body):
            self._listener.quiet(self)
            self._listener.on_body(self, body[: end.end()])
        elif complete and not body:
            self._listener.quiet(self)
            self._listener.on_body(self, b"")
        elif complete and not _ENVELOPE.search(body):
            self.close()
        # else: the real server waits for the end of the envelope, and so does the caller

    def _body(self, head: Head) -> tuple[bytes, bool]:
        if head.chunked:
            return _unchunk(self._buffer)
        if head.length is not None:
            return self._buffer, len(self._buffer) >= head.length
        # Without a length, a body that is not XML is recognised at once.
        return self._buffer, self._buffer.lstrip()[:1] not in (b"", b"<")

    def reply(self, data: bytes) -> None:
        """Send `data` and close; does nothing if the caller has disconnected."""
        if not self.open:
            return
        self._out = memoryview(data)
        self._on_writable()

    def _on_writable(self) -> None:
        assert self._out is not None
        try:
            sent = self.sock.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._out = self._out[sent:]
        if self._out:
            self._listener.loop.add_writer(self.fd, self._on_writable)
        else:
            self.close()

    def close(self) -> None:
        """Close the connection normally; without a reply the caller sees zero bytes."""
        if not self.open:
            return
        # Closing with unread bytes would send a reset, which could discard the reply.
        _ = self.caller_gone
        self._end()

    def reset(self) -> None:
        """Reset the connection, as when a process dies."""
        if not self.open:
            return
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end()

    def _end(self) -> None:
        self.open = False
        loop = self._listener.loop
        loop.remove_reader(self.fd)
        if self._out is not None:
            loop.remove_writer(self.fd)
        self.sock.close()
        self._listener.forget(self)


class Listener:
    """The listening socket of one server and all of its connections.

    `on_body` gets each complete request. `idle_s` is how long a silent connection stays open.
    """

    def __init__(
        self, host: str, port: int, on_body: Callable[[Connection, bytes], None], idle_s: float = 60.0
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.on_body = on_body
        self.idle_s = idle_s
        self.connections: dict[Connection, None] = {}
        self._reading: dict[Connection, None] = {}
        self._sock: socket.socket | None = None
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        # A second socket, which does not listen, reserves the port while the server is down.
        self._reserved = bound_socket(host, port)
        self.host, self.port = self._reserved.getsockname()[:2]

    @property
    def listening(self) -> bool:
        """Whether connections are accepted, at least by the kernel."""
        return self._sock is not None

    def open(self) -> None:
        """Start listening; does nothing while it listens."""
        if self._sock is not None:
            return
        self._sock = bound_socket(self.host, self.port)
        self._sock.listen(BACKLOG)
        if not self._paused:
            self.loop.add_reader(self._sock, self._accept)
        if self._timer is None:
            self._sweep()

    def close(self) -> None:
        """Stop listening, so that connections are refused; open ones stay."""
        if self._sock is None:
            return
        self.loop.remove_reader(self._sock)
        self._sock.close()
        self._sock = None

    def die(self) -> None:
        """Stop listening and reset every connection."""
        self.close()
        for connection in list(self.connections):
            connection.reset()
        self._paused = False

    def end(self) -> None:
        """Release everything, including the port."""
        self.die()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._reserved.close()

    def pause(self) -> None:
        """Stop all work; the kernel still accepts connections until the backlog is full."""
        if self._paused:
            return
        self._paused = True
        if self._sock is not None:
            self.loop.remove_reader(self._sock)
        for connection in self._reading:
            self.loop.remove_reader(connection.fd)

    def resume(self, dice: random.Random | None = None) -> None:
        """Continue with the open connections, then with those that the kernel has accepted.

        `dice` shuffles them, because threads that wake together run in any order.
        """
        if not self._paused:
            return
        self._paused = False
        waiting = list(self._reading)
        for connection in waiting:
            self.loop.add_reader(connection.fd, connection.on_readable)
        if self._sock is not None:
            self.loop.add_reader(self._sock, self._accept)
            waiting += self._accept()
        if dice is not None:
            dice.shuffle(waiting)
        for connection in waiting:
            connection.late = True
            connection.on_readable()
            if connection in self._reading:
                connection.late = False  # its request is still to come

    def quiet(self, connection: Connection) -> None:
        """Stop reading from `connection`: its request is complete."""
        if connection in self._reading:
            del self._reading[connection]
            self.loop.remove_reader(connection.fd)

    def forget(self, connection: Connection) -> None:
        """Remove `connection`, which has ended."""
        self.connections.pop(connection, None)
        self._reading.pop(connection, None)

    def _accept(self) -> list[Connection]:
        accepted: list[Connection] = []
        while self._sock is not None and not self._paused:
            try:
                sock, _ = self._sock.accept()
            except BlockingIOError:
                break
            except OSError as fault:
                log.warning("cannot accept a connection", port=self.port, reason=fault)
                break
            sock.setblocking(False)
            connection = Connection(self, sock, self.loop.time())
            accepted.append(connection)
            self.connections[connection] = None
            self._reading[connection] = None
            self.loop.add_reader(connection.fd, connection.on_readable)
        return accepted

    def _sweep(self) -> None:
        now_s = self.loop.time()
        if not self._paused:
            for connection in list(self._reading):
                if now_s - connection.began_s > self.idle_s:
                    connection.close()
        self._timer = self.loop.call_later(min(1.0, self.idle_s / 4), self._sweep)


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a TCP socket that does not block, bound to a port (0: a free one) but not listening."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock
