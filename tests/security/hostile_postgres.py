"""A hostile PostgreSQL server in a process of its own: a real one up to the moment when it misbehaves.

    python -m tests.security.hostile_postgres PORT SOCKET

It passes everything on to the server whose socket this is, until a line on stdin, `WHEN:WAY`, says when it
gives another answer: `CONNECT` to the first bytes, `LOGIN` to the name of the user, `QUERY` to any request
after that, `ROWS` to one that real rows would answer; `GOOD:` never. After each line it says how many answers
it has given in this way.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
import sys

from .peer import HostilePeer
from .ways import STREAM_WAYS, Way, at_once, for_ever, then_nothing

SSL_REQUEST = struct.pack(">II", 8, 80877103)
GOOD = "GOOD:"


def message(kind: bytes, body: bytes) -> bytes:
    """Return a message of the protocol."""
    return kind + struct.pack(">I", len(body) + 4) + body


ERROR = b"SERROR\0VERROR\0C57P01\0M"

_numbers = itertools.count()


async def _parameters(writer: asyncio.StreamWriter, _good: bytes) -> None:
    """Send settings of the server, each with another name."""
    while True:
        writer.write(b"".join(message(b"S", b"p%d\0x\0" % next(_numbers)) for _ in range(1000)))
        await writer.drain()


PG_WAYS: dict[str, Way] = {
    "types of zero": then_nothing(bytes(4096)),
    "a type nobody knows": for_ever(b"", message(b"?", b"x")),
    "a length of 0": then_nothing(b"S" + bytes(4) + b"x" * 4096),
    "a length of 3": then_nothing(b"Z\0\0\0\3" + bytes(4096)),
    "a negative length": then_nothing(b"D\xff\xff\xff\xf0" + bytes(4096)),
    "a message of 1 GB": for_ever(b"D" + struct.pack(">I", 1 << 30), b"x"),
    "a message of 2 GB": for_ever(b"N" + struct.pack(">I", (1 << 31) - 1), b"x"),
    "notices": for_ever(b"", message(b"N", b"SNOTICE\0C00000\0Mwell\0\0")),
    "empty notices": for_ever(b"", message(b"N", b"\0")),
    "notices of 1 MB": for_ever(b"", message(b"N", b"SNOTICE\0M" + b"x" * (1 << 20) + b"\0\0")),
    "parameters": _parameters,
    "notifications": for_ever(b"", message(b"A", b"\0\0\0\1a\0b\0")),
    "errors": for_ever(b"", message(b"E", ERROR + b"no\0\0")),
    "an error of 1 MB": at_once(message(b"E", ERROR + b"x" * (1 << 20) + b"\0\0")),
    "an error that steers terminals": at_once(message(b"E", ERROR + b"\x1b[2J\x07\xc2\x9b\xff\0\0")),
    "ready": for_ever(b"", message(b"Z", b"I")),
    "ready without a state": for_ever(b"", message(b"Z", b"")),
    "a parameter without its end": then_nothing(message(b"S", b"abc") + bytes(4096)),
    "a notice without its end": then_nothing(message(b"N", b"Sabc") + bytes(4096)),
    "half a key": then_nothing(message(b"K", b"abc") + bytes(4096)),
    "an unknown way to log in": for_ever(b"", message(b"R", struct.pack(">I", 99))),
    "the password again and again": for_ever(b"", message(b"R", struct.pack(">I", 5) + b"salt")),
    "columns": for_ever(b"", message(b"T", struct.pack(">h", 30_000) + b"a\0".ljust(20, b"\0") * 30_000)),
}


def _rows(good: bytes) -> tuple[bytes, bytes]:
    """Return a good answer up to its first row, and this row."""
    at = 0
    while True:
        (size,) = struct.unpack_from(">I", good, at + 1)
        if good[at : at + 1] == b"D":
            return good[:at], good[at : at + 1 + size]
        at += 1 + size


async def _endless_rows(writer: asyncio.StreamWriter, good: bytes) -> None:
    begin, row = _rows(good)
    await for_ever(begin, row)(writer, good)


async def _endless_answers(writer: asyncio.StreamWriter, good: bytes) -> None:
    await for_ever(good, good)(writer, good)


async def _nulls(writer: asyncio.StreamWriter, good: bytes) -> None:
    begin, row = _rows(good)
    (columns,) = struct.unpack_from(">h", row, 5)
    await for_ever(begin, message(b"D", row[5:7] + b"\xff" * 4 * columns))(writer, good)


async def _negative(writer: asyncio.StreamWriter, good: bytes) -> None:
    begin, row = _rows(good)
    (columns,) = struct.unpack_from(">h", row, 5)
    await for_ever(begin, message(b"D", row[5:7] + b"\xff\xff\xff\xf0" * columns))(writer, good)


async def _too_long(writer: asyncio.StreamWriter, good: bytes) -> None:
    begin, row = _rows(good)
    await for_ever(begin, message(b"D", row[5:7] + b"\x7f\xff\xff\xff" + row[11:]))(writer, good)


ROWS_WAYS: dict[str, Way] = {
    "rows": _endless_rows,
    "rows of nothing": _nulls,
    "rows without columns": for_ever(b"", message(b"D", b"\0\0")),
    "empty rows": for_ever(b"", message(b"D", b"")),
    "columns of negative length": _negative,
    "columns that are longer than their row": _too_long,
    "answers": _endless_answers,
}


def all_ways() -> dict[str, Way]:
    """Every way, by what is told on stdin."""
    connect = STREAM_WAYS | {"TLS and no TLS": for_ever(b"S", b"x"), "no TLS and more": for_ever(b"N", b"x")}
    when = {"CONNECT": connect, "LOGIN": PG_WAYS, "QUERY": STREAM_WAYS | PG_WAYS, "ROWS": ROWS_WAYS}
    return {f"{name}:{way}": ways[way] for name, ways in when.items() for way in ways}


class HostileDatabase(HostilePeer):
    """The server; `socket` is the real one's."""

    def __init__(self, socket: str) -> None:
        super().__init__(all_ways(), GOOD)
        self._socket = socket

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, until the moment comes."""
        up: asyncio.StreamWriter | None = None
        self.connections.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            down, up = await asyncio.open_unix_connection(self._socket)
            await self._pass(reader, writer, down, up)
        self.connections.discard(writer)
        for end in (writer, up):
            if end is not None:
                end.transport.abort()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        down: asyncio.StreamReader,
        up: asyncio.StreamWriter,
    ) -> None:
        while (begin := await _untyped(reader)) == SSL_REQUEST:
            if await self._misbehaved("CONNECT", reader, writer, b"N"):
                return
            writer.write(b"N")
        if await self._misbehaved("CONNECT", reader, writer, b"N"):
            return
        up.write(begin)
        good = await _answer(down, b"ZE")
        if await self._misbehaved("LOGIN", reader, writer, good):
            return
        writer.write(good)
        while True:
            request, last = await _request(reader)
            up.write(request)
            if last == b"X":
                return
            good = await _answer(down, b"Z" if last in b"QS" else b"TnE")
            if await self._misbehaved("QUERY", reader, writer, good):
                return
            if (
                request[:1] == b"B"
                and b"D" in _kinds(good)
                and await self._misbehaved("ROWS", reader, writer, good)
            ):
                return
            writer.write(good)

    async def _misbehaved(
        self, when: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, good: bytes
    ) -> bool:
        if not self.told.startswith(f"{when}:"):
            return False
        await self.misbehave(reader, writer, good)
        return True


async def _untyped(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(int.from_bytes(head) - 4)


async def _typed(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind = await reader.readexactly(1)
    return kind, kind + await _untyped(reader)


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return messages up to one that the server answers, and the kind of the last."""
    whole = b""
    while True:
        kind, one = await _typed(reader)
        whole += one
        if kind in b"QSHX":
            return whole, kind


async def _answer(reader: asyncio.StreamReader, last: bytes) -> bytes:
    """Return messages up to one of the kinds in `last`."""
    whole = b""
    while True:
        kind, one = await _typed(reader)
        whole += one
        if kind in last:
            return whole


def _kinds(answer: bytes) -> bytes:
    kinds, at = b"", 0
    while at < len(answer):
        kinds += answer[at : at + 1]
        at += 1 + int.from_bytes(answer[at + 1 : at + 5])
    return kinds


if __name__ == "__main__":
    hostile = HostileDatabase(sys.argv[2])
    asyncio.run(hostile.run(hostile.serve, int(sys.argv[1])))
