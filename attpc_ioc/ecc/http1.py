"""Reading one small HTTP/1 reply as it comes in: just what a SOAP server sends, and nothing more trusted."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache

from .xml import shortened

MAX_REPLY_BYTES = 16 * 1024 * 1024
"""No reply is longer: the longest of the 2021 server, Configure's, has 370 kB."""

MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What came back over HTTP."""

    status: int
    reason: str
    body: bytes


@dataclass(frozen=True, slots=True)
class _Head:
    """Status line and headers, as far as they matter; `length` is None where none was told."""

    status: int = 0
    reason: str = ""
    length: int | None = None
    chunked: bool = False


class BrokenHttp(Exception):
    """The connection ended without a whole reply, or what came is not HTTP."""


class ReplyReader:
    """Takes the bytes of one reply; the length is told by Content-Length, by chunks or by the end."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._body_at = 0
        self._head = _Head()

    def feed(self, data: bytes) -> bool:
        """Take what was received; return whether the reply is whole. Raises `BrokenHttp`."""
        received = self._received
        received += data
        if len(received) > MAX_REPLY_BYTES:
            raise BrokenHttp(f"a reply of more than {MAX_REPLY_BYTES} bytes")
        # Interim replies (1xx) are skipped, though no known server sends one to such a request.
        while not self._body_at:
            if not self._read_head():
                return False
            if 100 <= self._head.status < 200:
                del received[: self._body_at]
                self._body_at = 0
        head = self._head
        if head.chunked:
            return received.endswith(b"0\r\n\r\n") and _dechunked(received, self._body_at) is not None
        return head.length is not None and len(received) - self._body_at >= head.length

    def finish(self, error: Exception | None) -> HttpReply:
        """Return the reply once the connection is closed; `error` says how, None for an orderly end.

        Raises `BrokenHttp` where it is not whole.
        """
        received = self._received
        if not received:
            raise BrokenHttp(f"the connection ended without a reply{_because(error)}")
        if not self._body_at:
            seen = shortened(bytes(received))
            raise BrokenHttp(f"the reply is no HTTP or was cut off{_because(error)}: {seen}")
        head = self._head
        body: bytes | None
        if head.chunked:
            body = _dechunked(received, self._body_at)
        else:
            body = bytes(received[self._body_at :])
            if head.length is not None:
                body = body[: head.length] if len(body) >= head.length else None
            elif error is not None:
                body = None
        if body is None:
            have = len(received) - self._body_at
            raise BrokenHttp(f"the reply was cut off after {have} bytes{_because(error)}")
        return HttpReply(head.status, head.reason, body)

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > MAX_HEAD_BYTES:
                raise BrokenHttp(f"no HTTP reply: {shortened(bytes(self._received[:1000]))}")
            return False
        self._head = _read_head(bytes(self._received[:end]))
        self._body_at = end + 4
        return True


@lru_cache(maxsize=64)
def _read_head(data: bytes) -> _Head:
    """Read status line and headers; raises `BrokenHttp`. Servers send the same few again and again."""
    first, *lines = data.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    status, _, reason = rest.partition(" ")
    if not (version.startswith("HTTP/1.") and re.fullmatch("[1-9][0-9]{2}", status)):
        raise BrokenHttp(f"no HTTP reply: {shortened(first)}")
    length, chunked = None, False
    for line in lines:
        key, _, value = line.partition(":")
        key, value = key.lower(), value.strip()
        if key == "content-length":
            if not re.fullmatch("[0-9]{1,12}", value):
                raise BrokenHttp(f"a reply with Content-Length {shortened(value)}")
            length = int(value)
            if length > MAX_REPLY_BYTES:
                raise BrokenHttp(f"a reply of more than {MAX_REPLY_BYTES} bytes")
        elif key == "transfer-encoding":
            chunked = "chunked" in value.lower()
    return _Head(int(status), reason, length, chunked)


def _dechunked(received: bytearray, at: int) -> bytes | None:
    """Return the body of a chunked reply, or None where it is not whole. Raises `BrokenHttp`."""
    body = bytearray()
    while True:
        end = received.find(b"\r\n", at)
        if end < 0:
            return None
        size_text = bytes(received[at:end]).partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size_text):
            raise BrokenHttp(f"a reply with a broken chunk: {shortened(size_text)}")
        size = int(size_text, 16)
        if size == 0:
            return bytes(body)
        at = end + 2
        if len(received) < at + size + 2:
            return None
        body += received[at : at + size]
        at += size + 2


def _because(error: Exception | None) -> str:
    if isinstance(error, OSError) and error.errno:
        return f" ({os.strerror(error.errno)})"
    return f" ({error})" if error else ""
