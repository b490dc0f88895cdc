"""Hosts of data routers that do what no host does, each a process of its own.

`python -m tests.support.hostile_hosts ssh WAY` is an SSH server that lets everybody in and answers `perl -`
in that way; `… sentry WAY` an HTTP server in the place of a sentry. WAY may be `each in turn`, with the next
session or request. It prints its port, and an SSH host key.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

import asyncssh
from asyncssh import kex_dh
from asyncssh.constants import MSG_GLOBAL_REQUEST, MSG_IGNORE
from asyncssh.packet import Boolean, String

from tests.support.forked import PIPE, forked
from tests.support.pace import Stopwatch

LASTS_S = 120.0
"""A process ends by itself after so long, or another time that is given, whatever becomes of its maker."""

EACH_IN_TURN = "each in turn"

Way = TypeVar("Way")

BLOCK = b"A" * 32768
GREETING = b"attpc-agent 1 4711\n"

# ---------------------------------------------------------------------------- SSH

Session = asyncssh.SSHServerProcess[bytes]


def fields(*values: bytes | str) -> bytes:
    """Return an agent's good answer."""
    raw = [value.encode() if isinstance(value, str) else value for value in values]
    return b" ".join([b"ok", *(b"x" + value.hex().encode() for value in raw)]) + b"\n"


GOOD_LOOK = fields("1", "0", "0", "1000", "2000", "0", "0")


async def _script(session: Session) -> None:
    """Read the agent's program, as perl does."""
    while (await session.stdin.readline()) not in (b"__END__\n", b""):
        pass


async def _write(session: Session, data: bytes, *, errors: bool = False) -> None:
    stream = session.stderr if errors else session.stdout
    stream.write(data)
    await stream.drain()


async def _flood(session: Session, data: bytes, *, errors: bool = False) -> None:
    while True:
        await _write(session, data, errors=errors)


async def _requests(session: Session) -> AsyncIterator[str]:
    await _script(session)
    await _write(session, GREETING)
    while line := await session.stdin.readline():
        yield line.split(b" ")[0].decode()


def _always(answer: bytes) -> Callable[[Session], Awaitable[None]]:
    async def way(session: Session) -> None:
        async for _name in _requests(session):
            await _write(session, answer)

    return way


async def _greets_without_end(session: Session) -> None:
    await _flood(session, BLOCK)


async def _prints_lines_before_greeting(session: Session) -> None:
    await _flood(session, b"Welcome to this host!\n" * 1000)


async def _drips(session: Session) -> None:
    await _script(session)
    for byte in GREETING:
        await _write(session, bytes([byte]))
        await asyncio.sleep(1)


async def _says_nothing(session: Session) -> None:
    await session.stdin.read()


async def _floods_unasked(session: Session) -> None:
    await _script(session)
    await _write(session, GREETING)
    await _flood(session, BLOCK)


async def _floods_after_each_answer(session: Session) -> None:
    async for _name in _requests(session):
        await _write(session, GOOD_LOOK)
        await asyncio.sleep(0.05)
        await _flood(session, BLOCK)


async def _answers_twice(session: Session) -> None:
    async for _name in _requests(session):
        await _write(session, GOOD_LOOK * 2)


async def _answers_without_end(session: Session) -> None:
    async for _name in _requests(session):
        await _flood(session, b"ok x" + BLOCK)


async def _answers_in_fields_without_end(session: Session) -> None:
    async for _name in _requests(session):
        await _flood(session, b" x" * 16384)


async def _floods_errors(session: Session) -> None:
    async for _name in _requests(session):
        await _flood(session, BLOCK, errors=True)


async def _breaks_off(session: Session) -> None:
    async for _name in _requests(session):
        await _write(session, b"ok x3")
        return


async def _ends_at_once(session: Session) -> None:
    await _write(session, b"\x1b[2Jno such program\n" * 10, errors=True)


async def _ignores_closing(session: Session) -> None:
    """Send on, whatever the other end has said of the channel."""
    async for _name in _requests(session):
        connection = session.channel.get_connection()
        while True:
            connection.send_packet(MSG_IGNORE, String(b"x" * 1000))
            await asyncio.sleep(0)


async def _packs_zeros(session: Session) -> None:
    """Send what unpacks to a thousand times as much, where the other end lets it be packed."""
    async for _name in _requests(session):
        while True:
            session.channel.get_connection().send_packet(MSG_IGNORE, String(bytes(100 << 20)))
            await asyncio.sleep(0.1)


async def _asks_without_end(session: Session) -> None:
    """Answer once; then ask what has to be answered, and read no answer."""
    async for _name in _requests(session):
        await _write(session, GOOD_LOOK)
        connection = session.channel.get_connection()
        as_it_is: Any = connection
        as_it_is._transport.pause_reading()
        while True:
            for _ in range(100):
                connection.send_packet(MSG_GLOBAL_REQUEST, String("what"), Boolean(True))
            await asyncio.sleep(0)


SSH_WAYS: dict[str, Callable[[Session], Awaitable[None]]] = {
    "greets without end": _greets_without_end,
    "prints lines before greeting": _prints_lines_before_greeting,
    "drips": _drips,
    "says nothing": _says_nothing,
    "floods unasked": _floods_unasked,
    "floods after each answer": _floods_after_each_answer,
    "answers twice": _answers_twice,
    "answers without end": _answers_without_end,
    "answers in fields without end": _answers_in_fields_without_end,
    "floods standard error": _floods_errors,
    "breaks off": _breaks_off,
    "ends at once": _ends_at_once,
    "sends packets to be ignored": _ignores_closing,
    "packs zeros": _packs_zeros,
    "asks without end": _asks_without_end,
    "offers a prime of its own": _says_nothing,
    "answers no fields": _always(b"\xff\xfe\x00\n"),
    "answers half a field": _always(b"ok x3\n"),
    "answers huge numbers": _always(fields("1", "1" + "0" * 400, "1" + "0" * 400, "0", "0", "0", "0")),
    "answers too many files": _always(fields("1", str(2**62), "0", "0", "0", "0", "0")),
    "answers negative numbers": _always(fields("1", "-1", "-5", "0", "0", "0", "0")),
    "answers infinite numbers": _always(fields("1", "inf", "nan", "inf", "1e9", "0", "0")),
    "refuses with control characters": _always(
        b"trouble x" + b"moon".hex().encode() + b" x2f x" + b"\x1b[2J\x00\x07\xff".hex().encode() + b"\n"
    ),
    "refuses with a long reason": _always(b"trouble x6f x2f x" + b"41" * 7000 + b"\n"),
}


class _Numbers:
    """The numbers of a key exchange, not computed: the prime costs the other end time, and not this one."""

    def __init__(self, g: int, p: int) -> None:
        self.g, self.p = g, p

    def get_public(self) -> int:
        return 5

    def get_shared(self, peer_public: int) -> int:
        return 7


SSH_OPTIONS: dict[str, dict[str, Any]] = {
    "packs zeros": {"compression_algs": ["zlib@openssh.com"]},
    "offers a prime of its own": {"kex_algs": ["diffie-hellman-group-exchange-sha256"]},
}
"""What an SSH server has to have for a way, besides what all have."""


class _Open(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


def _one_by_one(ways: Mapping[str, Way], way: str) -> Iterator[Way]:
    return itertools.cycle(ways.values() if way == EACH_IN_TURN else (ways[way],))


async def _ssh(way: str, lasts_s: float) -> None:
    ways = _one_by_one(SSH_WAYS, way)
    # That it is a prime takes three seconds to be seen; of one of twice the length, half a minute.
    exchange: Any = kex_dh
    exchange._dh_gex_groups, exchange.DH = ((0, 2, 2**4423 - 1),), _Numbers

    async def serve(session: Session) -> None:
        with contextlib.suppress(asyncssh.Error, OSError):
            await next(ways)(session)
        session.exit(0)

    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.create_server(
        _Open,
        "127.0.0.1",
        0,
        server_host_keys=[key],
        process_factory=serve,
        encoding=None,
        **SSH_OPTIONS.get(way, {}),
    )
    print(server.sockets[0].getsockname()[1], key.export_public_key().decode().strip(), flush=True)
    await asyncio.sleep(lasts_s)


# ---------------------------------------------------------------------------- a sentry

STATUS: dict[str, object] = {
    "disk": "Macintosh HD",
    "process": "dataRouter",
    "data_path": "/Users/attpc/Data",
    "data_written_gb": 1.25,
    "data_path_files": 7,
    "disk_avail_gb": 900.5,
    "disk_total_gb": 1000,
}
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def _reply(body: bytes, head: bytes = OK) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _status(raw: str = "", **changes: object) -> bytes:
    text = json.dumps({**STATUS, **changes})
    return _reply(text.replace('"RAW"', raw).encode())


def _bomb() -> bytes:
    return gzip.compress(b" " * (256 << 20), 9)


# What is sent first, and what is sent after it again and again; None: nothing, it hangs up; b"": nothing.
SENTRY_WAYS: dict[str, Callable[[], tuple[bytes, bytes | None]]] = {
    "says nothing": lambda: (b"", b""),
    "hangs up": lambda: (b"", None),
    "sends a head without end": lambda: (OK, b"X-More: " + b"a" * 4000 + b"\r\n"),
    "sends a head line without end": lambda: (OK + b"X-More: ", BLOCK),
    "sends a status line without end": lambda: (b"HTTP/1.1 200 ", BLOCK),
    "sets cookies without end": lambda: (OK, b"Set-Cookie: a=b\r\n" * 100),
    "sends a body without end": lambda: (OK + b"\r\n", BLOCK),
    "sends chunks without end": lambda: (CHUNKED, b"1\r\na\r\n" * 5000),
    "sends a chunk's size without end": lambda: (CHUNKED + b"1;", BLOCK),
    "sends a trailer without end": lambda: (CHUNKED + b"0\r\n", b"X-More: a\r\n" * 2000),
    "goes on without end": lambda: (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "sends a bomb": lambda: (_reply(_bomb(), OK + b"Content-Encoding: gzip\r\n"), None),
    "sends deep JSON": lambda: (_reply(b'{"disk":' * 7000), None),
    "sends a long status": lambda: (_status(extra="x" * 200_000), None),
    "says less than it sends": lambda: (OK + b"Content-Length: 3\r\n\r\n" + b"{" * 4096, BLOCK),
    "says more than it sends": lambda: (OK + b"Content-Length: 99999999999999999999\r\n\r\n{", None),
    "says a negative length": lambda: (OK + b"Content-Length: -1\r\n\r\n{}", None),
    "tells a number of 400 digits": lambda: (_status("1" + "0" * 400, data_path_files="RAW"), None),
    "tells infinite bytes": lambda: (_status("Infinity", data_written_gb="RAW"), None),
    "tells negative bytes": lambda: (_status(disk_avail_gb=-1), None),
    "tells control characters": lambda: (_status(process="\x1b[2J\x00\ud800", disk="\u202e"), None),
}


async def _sentry(way: str, lasts_s: float) -> None:
    ways = _one_by_one({name: cache(made) for name, made in SENTRY_WAYS.items()}, way)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first, again = next(ways)()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            await writer.drain()
            while again:
                writer.write(again)
                await writer.drain()
            if again is not None:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.sleep(lasts_s)


class Hostile:
    """A running host: its port and, of SSH, the line for the file of known hosts."""

    def __init__(self, port: int, key: str) -> None:
        self.port = port
        self.known = f"[127.0.0.1]:{port} {key}\n"


@contextlib.asynccontextmanager
async def hostile(kind: str, way: str, lasts_s: float = LASTS_S) -> AsyncIterator[Hostile]:
    """Run one in a process of its own for the length of a block."""
    process = await forked(__name__, kind, way, str(lasts_s), stdout=PIPE)
    try:
        assert process.stdout is not None
        port, _, key = (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip().partition(" ")
        yield Hostile(int(port), key)
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def slowest_turn() -> AsyncIterator[Callable[[], float]]:
    """Give what the longest time was, in seconds, for which the event loop gave nobody a turn."""
    longest = 0.0

    async def poll() -> None:
        nonlocal longest
        while True:
            taking = Stopwatch()
            await asyncio.sleep(0.005)
            longest = max(longest, taking.s - 0.005)

    looking = asyncio.create_task(poll())
    try:
        yield lambda: longest
    finally:
        looking.cancel()


if __name__ == "__main__":
    asyncio.run({"ssh": _ssh, "sentry": _sentry}[sys.argv[1]](sys.argv[2], float(sys.argv[3])))
