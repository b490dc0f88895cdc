"""Twenty ways and more in which a hostile peer answers, for every peer that the product calls.

A way writes to one connection what it has instead of an answer. `STREAM_WAYS` suit any peer, `HTTP_WAYS` one
over HTTP, and bodies such as `xml_bodies` are what `http` packs into a reply that is otherwise in order. Each
is bounded: it ends after `MOST_BYTES`, or when whoever serves the connection cancels it.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Iterable, Iterator

from tests.support.thorough import THOROUGH

Way = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]
"""Answers on a connection; the bytes are the good answer, for ways that begin with it."""

MOST_BYTES = 1 << 28
"""What one connection gets at most: more than any limit by far."""

PIECE = 1 << 16


def each_once(ways: Iterable[str], first: str, second: str) -> list[str]:
    """Return the ways to try, each `MOMENT:WAY`: one that may come at two moments comes at one of them.

    A thorough test tries it at both.
    """
    given = list(ways)
    both = {way for way in given if way.startswith(f"{first}:")}
    both &= {first + way.removeprefix(second) for way in given}
    left_out = {way for number, way in enumerate(sorted(both)) if number % 2}
    left_out |= {second + way.removeprefix(first) for way in both - left_out}
    return given if THOROUGH else [way for way in given if way not in left_out]


def http(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """Return a reply over HTTP with its length and further headers."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def at_once(data: bytes) -> Way:
    """Return a way that sends this and closes."""

    async def send(writer: asyncio.StreamWriter, _good: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return send


def for_ever(begin: bytes, again: bytes) -> Way:
    """Return a way that sends `again` after `begin` as fast as it is taken."""
    piece = again * max(1, PIECE // len(again))

    async def flood(writer: asyncio.StreamWriter, _good: bytes) -> None:
        writer.write(begin)
        for _ in range(MOST_BYTES // len(piece)):
            writer.write(piece)
            await writer.drain()

    return flood


def then_nothing(begin: bytes) -> Way:
    """Return a way that sends `begin` and keeps the connection open."""

    async def stay(writer: asyncio.StreamWriter, _good: bytes) -> None:
        writer.write(begin)
        await writer.drain()
        await asyncio.sleep(3600)

    return stay


async def drip(writer: asyncio.StreamWriter, good: bytes) -> None:
    """Send the good answer a byte at a time, and never its end."""
    for byte in good[:-1]:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.005)
    await asyncio.sleep(3600)


async def half(writer: asyncio.StreamWriter, good: bytes) -> None:
    """Send half of the good answer and close."""
    writer.write(good[: len(good) // 2])
    await writer.drain()


async def reset(writer: asyncio.StreamWriter, good: bytes) -> None:
    """Send half of the good answer and break the connection off."""
    writer.write(good[: len(good) // 2])
    writer.transport.abort()


async def good_and_flood(writer: asyncio.StreamWriter, good: bytes) -> None:
    """Send the good answer, and never stop."""
    await for_ever(good, b"x")(writer, good)


STREAM_WAYS: dict[str, Way] = {
    "nothing": at_once(b""),
    "silence": then_nothing(b""),
    "drip": drip,
    "half": half,
    "reset": reset,
    "flood": for_ever(b"", b"x"),
    "lines": for_ever(b"", b"\r\n"),
    "NUL bytes": for_ever(b"", b"\0"),
    "good and flood": good_and_flood,
}

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"

HTTP_WAYS: dict[str, Way] = {
    "endless body": for_ever(_OK + b"\r\n", b"<a>"),
    "endless header": for_ever(_OK + b"X: ", b"x"),
    "endless headers": for_ever(_OK, b"X: y\r\n"),
    "endless reason": for_ever(b"HTTP/1.1 200 ", b"x"),
    "interim replies": for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "small chunks": for_ever(_CHUNKED, b"1\r\nx\r\n"),
    "large chunks": for_ever(_CHUNKED, b"10000\r\n" + b"x" * 0x10000 + b"\r\n"),
    "huge chunk": for_ever(_CHUNKED + b"fffffffffffffff\r\n", b"x"),
    "chunk that says no number": for_ever(_CHUNKED, b"-1\r\nx\r\n"),
    "endless extension of a chunk": for_ever(_CHUNKED + b"1;", b"x"),
    "headers after the chunks": for_ever(_CHUNKED + b"0\r\n", b"X: y\r\n"),
    "length without end": then_nothing(_OK + b"Content-Length: 1000\r\n\r\n<a>"),
    "huge length": for_ever(_OK + b"Content-Length: 9000000000000000000\r\n\r\n", b"x"),
    "length of 300 digits": at_once(_OK + b"Content-Length: " + b"9" * 300 + b"\r\n\r\nx"),
    "negative length": at_once(_OK + b"Content-Length: -1\r\n\r\nx"),
    "two lengths": at_once(_OK + b"Content-Length: 1\r\nContent-Length: 5\r\n\r\nxxxxx"),
    "length and chunks": at_once(_OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "gzip": at_once(http(gzip.compress(b"\0" * (1 << 25)), "Content-Encoding: gzip")),
    "another protocol": for_ever(b"HTTP/1.1 101 Go\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", b"x"),
    "status 999": at_once(b"HTTP/1.1 999 \xff\xfe\r\n\r\n"),
    "redirect to itself": at_once(http(b"", "Location: /", status="302 Found")),
}


def _entities() -> bytes:
    lines = "".join(f'<!ENTITY a{n + 1} "{f"&a{n};" * 10}">' for n in range(20))
    return f'<!DOCTYPE a [<!ENTITY a0 "ha">{lines}]><a b="&a20;">&a20;</a>'.encode()


def _attributes(size: int) -> Iterator[str]:
    return (f'a{n}=""' for n in range(size // 10))


def xml_bodies(size: int) -> dict[str, bytes]:
    """Return documents of up to `size` bytes that are costly to read, or should be."""
    return {
        "no XML": b"x" * size,
        "entities": _entities(),
        "attribute with entities": _entities().replace(b">&a20;<", b"><"),
        "entity of a file": b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///dev/zero">]><a>&x;</a>',
        "tags": b"<a>" + b"<b/>" * (size // 4 - 10) + b"</a>",
        "attributes": f"<a {' '.join(_attributes(size))}/>".encode()[:size],
        "nesting": b"<a>" * (size // 3),
        "no UTF-8": b"<a>" + b"\xff" * (size - 10),
        "control characters": b"<a>" + b"\x01a" * (size // 2 - 10),
        "references": b"<a>" + b"&#1;" * (size // 4 - 10),
        "comments": b"<a>" + b"<!---->" * (size // 7 - 10) + b"</a>",
        "UTF-16": "<a>".encode("utf-16") * (size // 8),
        "long name": b"<" + b"a" * (size - 10) + b"/>",
    }
