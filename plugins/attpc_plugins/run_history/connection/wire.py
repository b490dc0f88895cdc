"""Checks what a PostgreSQL server sends: complete well-formed messages, and no more than an answer has.

asyncpg (0.32) trusts its server. It buffers data without limit; a message shorter than its own fields makes
it read beyond its buffer, a type of zero keeps it in its reader for ever, and it computes as many rounds of
the password's hash as the server demands. So each byte is checked here first, and a server that sends
anything else is disconnected.
"""

from __future__ import annotations

import asyncio
import re
import struct
from contextvars import ContextVar
from typing import Any

import asyncpg.protocol

ANSWER_BYTES = 1 << 20
"""Maximum bytes of one answer in an IOC. As Python objects it takes up to ten times as much.

The longest is an open run: 250 kB with 1,000 modules.
"""

COMMAND_ANSWER_BYTES = 1 << 28
"""The same for a shell command, which reads whole runs and then ends."""

answer_bytes: ContextVar[int] = ContextVar("answer_bytes", default=ANSWER_BYTES)
"""The limit for connections made in this context."""

MESSAGE_COSTS = 64
"""Bytes counted for each message besides its length: an empty one costs time and memory too."""

READ_BYTES = 1 << 14
"""Bytes handled in one turn of the event loop: some 3,000 of the shortest messages, a few milliseconds."""

_HEAD = struct.Struct(">BI")

_FORMS = {
    kind: re.compile(form, re.DOTALL)
    for kinds, form in {
        # A hash of 99,999 rounds takes some 50 ms.
        b"R": rb"\0{3}(?:[\x00\x02\x03\x06\x07\x09]|\x05.{4}|[\x08\x0c].*|\x0a.*\0\0"
        rb"|\x0br=[^,]*,s=[^,]*,i=[0-9]{1,5}(?:,.*)?)",
        b"K": rb".{8}",
        b"Z": rb"[ITE]",
        b"S": rb"[^\0]+\0[^\0]*\0",
        b"A": rb".{4}[^\0]*\0[^\0]*\0",
        b"EN": rb".*\0\0|\0",
        b"C": rb"[^\0]+\0",
        b"123nsIc": rb"",
        # asyncpg reads their contents within their bounds.
        b"TtDdGHW": rb".*",
    }.items()
    for kind in kinds
}
_READY, _AUTHENTICATION = b"ZR"


class NotPostgresError(ConnectionError):
    """What answers there is not a PostgreSQL server, or not a usable one."""


def reason_in(error: BaseException | None) -> str:
    """Return the invalid data from a server if that caused the error, else an empty text."""
    while error is not None:
        if isinstance(error, NotPostgresError):
            return str(error)
        error = error.__cause__
    return ""


class _Asking:
    """A transport as asyncpg uses it; `asked` is called before each request."""

    def __init__(self, transport: Any, asked: Any) -> None:
        self._transport = transport
        self._asked = asked

    def write(self, data: Any) -> None:
        """Send a request, or a part of one."""
        self._asked()
        self._transport.write(data)

    def writelines(self, pieces: Any) -> None:
        """Send a request in pieces."""
        self._asked()
        self._transport.writelines(pieces)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class CheckedProtocol(asyncpg.protocol.Protocol, asyncio.BufferedProtocol):
    """asyncpg's protocol, fed only with complete valid messages."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._most = self._left = answer_bytes.get()
        self._answered = False
        self._fault: NotPostgresError | None = None
        self._taken = memoryview(bytearray(READ_BYTES))
        self._held = bytearray()

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        super().connection_made(_Asking(transport, self._asked))

    def connection_lost(self, exc: Exception | None) -> None:
        """End with the fault."""
        self._held.clear()
        super().connection_lost(self._fault or exc)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return the buffer for received data."""
        return self._taken

    def buffer_updated(self, nbytes: int) -> None:
        """Check received data, and pass complete messages to asyncpg."""
        self._held += self._taken[:nbytes]
        try:
            if end := self._checked():
                whole = bytes(self._held[:end])
                del self._held[:end]
                self.data_received(whole)
        except NotPostgresError as error:
            self._fault = error
            self._transport.abort()
        except Exception as error:  # asyncpg fails on an answer that nobody waits for
            self._fault = NotPostgresError(f"the server sent an unrequested answer ({error!r:.100})")
            self._transport.abort()

    def _checked(self) -> int:
        """Return the end of the last complete message; raises `NotPostgresError` for an invalid one."""
        held, end = self._held, 0
        while len(held) - end >= _HEAD.size:
            kind, size = _HEAD.unpack_from(held, end)
            form = _FORMS.get(kind)
            if form is None or size < 4:
                raise NotPostgresError("what answers is not a PostgreSQL server; are host and port right?")
            if size + MESSAGE_COSTS > self._left:
                raise NotPostgresError(
                    f"the server sends more than {self._most >> 20} MB at once; no answer is that long"
                )
            begin, after = end + _HEAD.size, end + 1 + size
            if len(held) < after:
                break
            if form.fullmatch(held, begin, after) is None:
                raise NotPostgresError(_malformed(kind, bytes(held[begin : begin + 4])))
            self._left -= size + MESSAGE_COSTS
            self._answered = kind == _READY or self._answered
            end = after
        return end

    def _asked(self) -> None:
        if self._answered:
            self._answered, self._left = False, self._most


def _malformed(kind: int, begin: bytes) -> str:
    if kind == _AUTHENTICATION and begin == b"\0\0\0\x0b":
        return (
            "the server asks for a password hash of 100000 rounds or more (scram_iterations), and an IOC "
            "cannot wait for that; set it lower there, and set the role's password again"
        )
    return f"the server sends a malformed message {chr(kind)!r}"


asyncpg.protocol.Protocol = CheckedProtocol  # pyright: ignore[reportPrivateImportUsage]
