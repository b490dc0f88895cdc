"""Reads one HTTP/1 reply with `httptools`, each byte once and up to a limit.

Replies of ECC servers are not trusted. The limit counts every byte of a reply, including chunk headers and
interim replies.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import httptools

from .xml import shortened

MAX_HEAD_BYTES = 16 * 1024
"""Limit of status line and headers, with the interim replies before them; a real server sends 200 bytes."""

MAX_HEADERS = 64


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply over HTTP."""

    status: int
    reason: str
    body: bytes


class BrokenHttp(Exception):
    """The connection ended without a complete reply, or the reply is not HTTP."""


class ReplyReader:
    """Parses one reply of at most `limit` bytes, including the head.

    Content-Length or the chunks determine the end of the reply; without either it ends with the connection.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._received = 0
        self._begin = b""
        """The first bytes, shown in the error if they are not HTTP."""
        self._head_bytes = self._headers = self._status = 0
        self._reason = b""
        self._body = bytearray()
        self._in_body = self._whole = self._says_length = False
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> bool:
        """Parse received bytes; return whether the reply is complete. Raises `BrokenHttp`."""
        assert self._parser is not None
        if not self._received:
            self._begin = data[:1000]
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            # Data after a complete reply is ignored.
            if not self._whole:
                # The parser wraps what a callback raises.
                ours = error.__context__
                raise ours if isinstance(ours, BrokenHttp) else self._not_http(f" ({error})") from None
        if self._received > self._limit:
            raise self._too_long()
        if not self._in_body and self._received > MAX_HEAD_BYTES:
            raise self._head_too_long()
        return self._whole

    def finish(self, error: Exception | None) -> HttpReply:
        """Return the reply at the end of the connection; `error` is what ended it, None for a regular end.

        Raises `BrokenHttp` if the reply is not complete.
        """
        if not self._received:
            raise BrokenHttp(f"the connection ended without a whole reply{_because(error)}")
        if not self._in_body:
            raise self._not_http(_because(error))
        if not self._whole and (self._says_length or error is not None):
            raise BrokenHttp(f"the reply was cut off after {len(self._body)} bytes{_because(error)}")
        return HttpReply(self._status, self._reason.decode("latin-1")[:200], bytes(self._body))

    def close(self) -> None:
        """Drop the parser: it refers to this object, and only the garbage collector frees such a cycle."""
        self._parser = None

    def _not_http(self, why: str) -> BrokenHttp:
        return BrokenHttp(f"the reply is not HTTP or was cut off{why}: {shortened(self._begin)}")

    def _too_long(self) -> BrokenHttp:
        return BrokenHttp(f"a reply of more than {self._limit} bytes")

    def _head_too_long(self) -> BrokenHttp:
        return BrokenHttp(
            f"a reply with a head of more than {MAX_HEAD_BYTES} bytes: {shortened(self._begin)}"
        )

    # ------------------------------------------------------------------ parser callbacks

    def on_message_begin(self) -> None:
        """Accept the reply and interim replies (1xx) before it, but no second reply."""
        if self._whole:
            raise BrokenHttp("a second reply")

    def on_status(self, reason: bytes) -> None:
        """Add to the reason phrase, which may come in pieces."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Check one header; trailers after the last chunk count too."""
        self._headers += 1
        self._head_bytes += len(name) + len(value)
        if self._headers > MAX_HEADERS:
            raise BrokenHttp(f"a reply with more than {MAX_HEADERS} headers")
        if self._head_bytes > MAX_HEAD_BYTES:
            raise self._head_too_long()
        name = name.lower()
        if name == b"content-length":
            self._says_length = True
            # The parser has checked it: at most 20 digits.
            if int(value) > self._limit:
                raise self._too_long()
        elif name == b"transfer-encoding":
            self._says_length = True
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise BrokenHttp(f"a reply with Content-Encoding {shortened(value)}, which was not asked for")

    def on_headers_complete(self) -> None:
        """Store the status; the body follows unless this is an interim reply."""
        assert self._parser is not None
        self._status = self._parser.get_status_code()
        self._in_body = self._status >= 200
        if not self._in_body:
            self._reason, self._says_length = b"", False

    def on_body(self, data: bytes) -> None:
        """Add to the body."""
        self._body += data

    def on_message_complete(self) -> None:
        """Note the end of the reply, or of an interim one."""
        self._whole = self._in_body


def _because(error: Exception | None) -> str:
    if isinstance(error, OSError) and error.errno:
        return f" ({os.strerror(error.errno)})"
    return f" ({error})" if error else ""
