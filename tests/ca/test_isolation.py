"""What bad clients cost the others: measured by a healthy client that asks all the while."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import caproto
import pytest
from caproto import ChannelType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attpc_ioc.ioc.ca import PV, CAServer, PVSpec
from attpc_ioc.ioc.ca.circuit import Circuit
from attpc_ioc.ioc.ca.limits import ServerStats
from attpc_ioc.ioc.ca.link import Link
from attpc_ioc.ioc.ca.monitor import Backlog
from attpc_ioc.ioc.ca.wire import Command, message
from tests.ca.conftest import Rig
from tests.ca.raw import NORMAL, Raw, raw_client
from tests.ca.test_fuzz import session
from tests.support.ca import LOOPBACK, caget, eventually
from tests.support.pace import Stopwatch

LATE_S = 0.5
"""Far above what a healthy client waits on a quiet machine (1 ms), far below any time limit of a screen."""


def resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmRSS:")[1].split()[0]) / 1024


@contextlib.asynccontextmanager
async def healthy(rig: Rig) -> AsyncIterator[list[float]]:
    """Get a value again and again from another client; yields how long each took."""
    took: list[float] = []
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:long")).sid

        async def ask() -> None:
            while True:
                taking = Stopwatch()
                raw.send(caproto.ReadNotifyRequest(ChannelType.LONG, 1, sid, 1))
                assert list((await raw.until(caproto.ReadNotifyResponse)).data) == [42]
                took.append(taking.s)
                await asyncio.sleep(0.002)

        task = asyncio.create_task(ask())
        try:
            yield took
            assert not task.done(), task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def ten_thousand_channels(rig: Rig, raw: Raw) -> None:
    raw.send(b"".join(bytes(caproto.CreateChanRequest("T:ai", cid, 13)) for cid in range(10_000)))
    for _ in range(10_000):
        await raw.until(caproto.CreateChanResponse, 20)
    assert rig.server.stats.channels == 10_001


async def flood_of_puts(rig: Rig, raw: Raw) -> None:
    sid = (await raw.channel("T:longout")).sid
    raw.send(
        b"".join(
            bytes(caproto.WriteNotifyRequest((n % 1000,), ChannelType.LONG, 1, sid, n)) for n in range(10_000)
        )
    )
    for _ in range(10_000):
        await raw.until(caproto.WriteNotifyResponse, 20)


async def garbage(rig: Rig, raw: Raw) -> None:
    for number in range(100):
        _, writer = await asyncio.open_connection(LOOPBACK, rig.server.port)
        writer.write(random.Random(number).randbytes(5000))
        await asyncio.sleep(0)
        writer.transport.abort()
    await eventually(lambda: rig.server.stats.clients == 2, "the babblers are still there")


async def half_messages(rig: Rig, raw: Raw) -> None:
    """Sixty clients that promise a megabyte each, send half of it, and wait."""
    writers = []
    for _ in range(60):
        _, writer = await asyncio.open_connection(LOOPBACK, rig.server.port)
        writer.write(message(Command.WRITE_NOTIFY, 4, 900_000, 1, 1, bytes(900_000))[:450_000])
        writers.append(writer)
    await asyncio.sleep(0.5)
    assert rig.server.stats.clients == 62
    for writer in writers:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("do", "most_mb"),
    [(ten_thousand_channels, 60), (flood_of_puts, 60), (garbage, 20), (half_messages, 80)],
)
async def test_nobody_waits(rig: Rig, do: Callable[[Rig, Raw], Awaitable[None]], most_mb: float) -> None:
    async with healthy(rig) as took, raw_client(rig.server.port) as raw:
        await eventually(lambda: len(took) > 20, "the healthy client")
        took.clear()
        before = resident_mb()
        await do(rig, raw)
        assert took
        assert max(took) < LATE_S, (max(took), len(took))
        assert resident_mb() - before < most_mb


# --- connections that end without a word ---


async def test_a_peer_that_vanishes_is_watched_for(rig: Rig) -> None:
    """The operating system asks a silent peer whether it is there, and gives it `dead_peer_s` in all."""
    async with raw_client(rig.server.port):
        (circuit,) = rig.server._circuits
        assert circuit._transport is not None
        sock: socket.socket = circuit._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, interval, count = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + interval * count <= rig.server.limits.dead_peer_s + 1


async def test_half_open(rig: Rig) -> None:
    """A client that shuts its sending side down is gone, as for `softIoc`; nothing is left of it."""
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:long")).sid
        raw.send(caproto.EventAddRequest(ChannelType.LONG, 1, sid, 1, 0, 0, 0, 5))
        await raw.until(caproto.EventAddResponse)
        raw.writer.write_eof()
        await raw.closed()
    await eventually(lambda: rig.server.stats.clients == 0, "the client is left")
    assert rig.server.stats.subscriptions == 0


# --- big arrays ---


async def test_big_arrays_and_clients_that_take_only_small_ones(rig: Rig) -> None:
    rig["numbers"].post(tuple(float(i) for i in range(20_000)))
    rig.place.extra["EPICS_CA_MAX_ARRAY_BYTES"] = "200000"
    ran = await caget(rig.place, "-t", "T:numbers")
    assert ran.out.split()[0] == "20000"
    assert ran.out.split()[-1] == "19999"
    rig.place.extra["EPICS_CA_MAX_ARRAY_BYTES"] = "16384"
    rig.place.extra["EPICS_CA_AUTO_ARRAY_BYTES"] = "NO"
    ran = await caget(rig.place, "-t", "-w", "1", "T:numbers")
    assert ran.code >= 0  # libca itself refuses: it does not abort
    assert "19999" not in ran.out
    ran = await caget(rig.place, "-t", "-#", "100", "T:numbers")
    assert ran.out.split()[0] == "100"
    assert (await caget(rig.place, "-t", "T:long")).out.strip() == "42"


async def test_a_long_array_in_and_out(rig: Rig) -> None:
    """A put whose size and count need the long header."""
    pv = PV(PVSpec("T:waves", "waveform", ChannelType.DOUBLE, max_elements=100_000, writable=True), ())
    rig.server.add(pv)
    values = tuple(float(i) for i in range(100_000))
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:waves")).sid
        raw.send(caproto.WriteNotifyRequest(values, ChannelType.DOUBLE, len(values), sid, 1))
        assert (await raw.until(caproto.WriteNotifyResponse)).status.code_with_severity == NORMAL
        assert pv.value == values
        raw.send(caproto.ReadNotifyRequest(ChannelType.DOUBLE, 0, sid, 2))
        assert tuple((await raw.until(caproto.ReadNotifyResponse)).data) == values


# --- any bytes at all ---


class Sink(asyncio.Transport):
    """A transport that takes everything and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.ended = False
        self._socket = socket.socket()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"socket": self._socket, "peername": ("192.0.2.1", 1)}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.ended

    def abort(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


def feed(link: Link, data: bytes, cuts: list[int]) -> None:
    """Give a connection its bytes in pieces, as they come from a network."""
    at = 0
    for cut in [*sorted(c % (len(data) + 1) for c in cuts), len(data)]:
        piece = data[at:cut]
        at = max(at, cut)
        for start in range(0, len(piece), 1000):
            part = piece[start : start + 1000]
            link.get_buffer(len(part))[: len(part)] = part
            link.buffer_updated(len(part))


SESSION = session()
MUTATION = st.tuples(st.integers(0, len(SESSION) - 1), st.binary(max_size=20), st.integers(0, 20))
"""Where in a recorded session, what is put there, and how many bytes it replaces."""


def changed(mutations: list[tuple[int, bytes, int]]) -> bytes:
    data = bytearray(SESSION)
    for at, new, length in mutations:
        data[at : at + length] = new
    return bytes(data)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=400) | st.lists(MUTATION, min_size=1, max_size=6).map(changed),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
)
def test_any_bytes_on_tcp(data: bytes, cuts: list[int], caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        stated: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: stated.append(str(context)))
        pvs = [
            PV(PVSpec("T:longout", "longout", ChannelType.LONG, drvl=0, drvh=1000, writable=True), 7),
            PV(PVSpec("T:title", "lsi", ChannelType.CHAR, max_elements=1024, writable=True), ""),
            PV(PVSpec("T:strings", "waveform", ChannelType.STRING, max_elements=50), ("one",)),
        ]
        server = CAServer(pvs, put=lambda pv, value, _: pv.post(value), port=1)
        circuit, sink = Circuit(server), Sink()
        circuit.connection_made(sink)
        feed(circuit, data, cuts)
        for _ in range(5):
            await asyncio.sleep(0)
        for pv in pvs[:2]:
            pv.post(pv.value, force=True)
        await asyncio.sleep(0)
        assert len(circuit._in) <= server.limits.max_message_bytes + 65536
        assert len(sink.sent) < 2_000_000
        assert 0 <= int(str(pvs[0].value)) <= 1000
        circuit.connection_lost(None)
        sink._socket.close()
        assert stated == []
        counts = server.counts
        assert (counts.channels, counts.subscriptions, counts.clients) == (0, 0, 0)
        assert not any(pv.subscriptions for pv in pvs)

    caplog.clear()
    asyncio.run(run())
    assert not [record for record in caplog.records if record.exc_info]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.binary(max_size=30)), max_size=60), st.integers(1, 5))
def test_a_backlog_is_bounded_and_ends_with_the_newest(posts: list[tuple[int, bytes]], depth: int) -> None:
    class Fake:
        def __init__(self) -> None:
            self.queued, self.last, self.ended = 0, None, False

    subscriptions = [Fake() for _ in range(5)]
    backlog = Backlog(depth, ServerStats())
    for number, payload in posts:
        backlog.add(subscriptions[number], (b"", payload))  # type: ignore[arg-type]
        assert all(s.queued <= depth for s in subscriptions)
    assert len(backlog) + backlog.dropped == len(posts)
    out = [(subscriptions.index(s), m[1]) for s, m in backlog.drain()]  # type: ignore[arg-type]
    for number in range(5):
        mine = [payload for n, payload in posts if n == number]
        got = [payload for n, payload in out if n == number]
        assert got[-1:] == mine[-1:]
        assert got[: depth - 1] == mine[: depth - 1]
    assert backlog.bytes == 0
