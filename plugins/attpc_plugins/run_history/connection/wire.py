"""What a PostgreSQL server may send: whole messages in their form, and no more than an answer has.

asyncpg (0.32) believes its server. It keeps what comes for as long as it comes; a message that is shorter
than its own fields leads it out of its buffer, a type of zero keeps it in its reader for ever, and it
computes as many rounds of the password's hash as the server names. So each byte passes here first, and a
server that sends anything else loses the connection.
"""

from __future__ import annotations

import asyncio
import re
import struct
from contextvars import ContextVar
from typing import Any

import asyncpg.protocol

ANSWER_BYTES = 1 << 20
"""What one answer may have in an IOC. As objects of Python it takes up to ten times of that.

The longest is that of an open run: 250 kB with 1,000 modules.
"""

COMMAND_ANSWER_BYTES = 1 << 28
"""The same in a command of the shell: it reads whole runs, and ends when it is done."""

answer_bytes: ContextVar[int] = ContextVar("answer_bytes", default=ANSWER_BYTES)
"""The limit of the connections that are made in this context."""

MESSAGE_COSTS = 64
"""What each message counts besides its length: an empty one costs time and memory too."""

READ_BYTES = 1 << 14
"""What is taken in one turn of the event loop: some 3,000 of the shortest messages, a few milliseconds."""

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
        # What they consist of asyncpg reads within their bounds.
        b"TtDdGHW": rb".*",
    }.items()
    for kind in kinds
}
_READY, _AUTHENTICATION = b"ZR"


class NotPostgresError(ConnectionError):
    """What answers there is no PostgreSQL server, or none that can be used."""


def reason_in(error: BaseException | None) -> str:
    """Return what a server sent that none sends, where that is why something failed; else nothing."""
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
    """asyncpg's protocol, which gets nothing but whole messages in order."""

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
        """End, with what was wrong."""
        self._held.clear()
        super().connection_lost(self._fault or exc)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return where to put what comes."""
        return self._taken

    def buffer_updated(self, nbytes: int) -> None:
        """Check what came, and give asyncpg the messages that are whole."""
        self._held += self._taken[:nbytes]
        try:
            if end := self._checked():
                whole = bytes(self._held[:end])
                del self._held[:end]
                self.data_received(whole)
        except NotPostgresError as error:
            self._fault = error
            self._transport.abort()
        except Exception as error:  # asyncpg trips over an answer that nobody waits for
            self._fault = NotPostgresError(f"the server answers what nobody asked ({error!r:.100})")
            self._transport.abort()

    def _checked(self) -> int:
        """Return where the last whole message ends; raises `NotPostgresError` for one that is none."""
        held, end = self._held, 0
        while len(held) - end >= _HEAD.size:
            kind, size = _HEAD.unpack_from(held, end)
            form = _FORMS.get(kind)
            if form is None or size < 4:
                raise NotPostgresError("no PostgreSQL server answers there; are host and port right?")
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
            "the server asks for a password's hash of 100000 rounds or more (scram_iterations), and an IOC "
            "cannot wait for that; set it lower there, and the role's password anew"
        )
    return f"the server sends a message {chr(kind)!r} that is no such message"


asyncpg.protocol.Protocol = CheckedProtocol  # pyright: ignore[reportPrivateImportUsage]
