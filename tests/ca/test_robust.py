"""Clients that stall, flood, talk nonsense or vanish: they pay, nobody else does."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import tracemalloc
from dataclasses import replace

import caproto
import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import ServerLimits
from attpc_ioc.ioc.ca.circuit import Circuit
from attpc_ioc.ioc.ca.fields import FieldPV
from attpc_ioc.ioc.ca.monitor import Channel, Subscription
from attpc_ioc.ioc.ca.wire import Command, Eca, message
from tests.ca.conftest import Rig
from tests.ca.raw import NORMAL, raw_client
from tests.support.ca import LOOPBACK, caget, camonitor, caput, eventually
from tests.support.pace import Stopwatch
from tests.support.patience import PATIENCE_S

SMALL = ServerLimits(
    max_clients=8,
    max_channels=50,
    max_subscriptions=60,
    max_puts=4,
    max_message_bytes=65536,
    send_buffer_bytes=16384,
    max_backlog_bytes=1 << 20,
    stall_s=0.6,
)


@pytest.fixture
def limits() -> ServerLimits:
    return SMALL


def forced(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.keys["reason"] for r in caplog.records if r.message == "client disconnected"]  # type: ignore[attr-defined]


async def test_stopped_camonitor_stops_nobody(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig["numbers"].post(tuple(float(i) for i in range(20_000)))
    async with camonitor(rig.place, "T:numbers", "T:long") as stopped:
        await stopped.until(2)
        os.kill(stopped.process.pid, signal.SIGSTOP)
        try:
            async with camonitor(rig.place, "T:long") as healthy:
                await healthy.until(1)
                sent = 0
                # A machine that holds this process up for long may have it disconnected at once.
                while not any(info.dropped for info in rig.server.clients()) and not forced(caplog):
                    sent += 1
                    assert sent < 400
                    rig["numbers"].post((float(sent),) * 20_000)
                    rig["long"].post(sent)
                    await asyncio.sleep(0.002)
                await healthy.until(1 + sent)
                assert [line.split()[-1] for line in healthy.lines[1:]] == [
                    str(i) for i in range(1, sent + 1)
                ]
                assert (await caget(rig.place, "-t", "T:long")).out.strip() == str(sent)
                worst = max(info.queued_bytes for info in rig.server.clients())
                assert worst < SMALL.max_backlog_bytes
                await eventually(lambda: bool(forced(caplog)), "the stopped client was not disconnected")
                assert forced(caplog) == ["it reads no data"]
        finally:
            os.kill(stopped.process.pid, signal.SIGCONT)


async def test_slow_client_sees_the_newest_value(rig: Rig) -> None:
    rig.server.limits = replace(SMALL, stall_s=PATIENCE_S)
    async with raw_client(rig.server.port, receive_bytes=4096) as raw:
        chan = await raw.channel("T:text")
        big = await raw.channel("T:numbers")
        raw.send(caproto.EventAddRequest(ChannelType.CHAR, 0, chan.sid, 7, 0, 0, 0, 5))
        raw.send(caproto.EventAddRequest(ChannelType.DOUBLE, 20_000, big.sid, 8, 0, 0, 0, 5))
        await raw.until(caproto.EventAddResponse)
        await raw.until(caproto.EventAddResponse)
        for number in range(100):
            rig["numbers"].post((float(number),) * 20_000)
            rig["text"].post(f"value {number}")
        assert rig.server.stats.queued <= 2 * SMALL.queue_depth
        assert rig.server.stats.dropped > 0
        seen = []
        while seen[-1:] != ["value 99"]:
            event = await raw.until(caproto.EventAddResponse)
            if event.subscriptionid == 7:
                seen.append(bytes(event.data).rstrip(b"\0").decode())
        numbers = [int(text.split()[1]) for text in seen]
        assert numbers == sorted(numbers)
        assert rig.server.stats.disconnected == 0


async def test_paused_client_gets_the_latest_rights_only(rig: Rig) -> None:
    allowed = [True]
    rig.server._access = lambda _pv, _client: (True, allowed[0])
    async with raw_client(rig.server.port, receive_bytes=4096) as raw:
        chan, big = await raw.channel("T:longout"), await raw.channel("T:numbers")
        raw.send(caproto.EventAddRequest(ChannelType.DOUBLE, 20_000, big.sid, 8, 0, 0, 0, 5))
        await raw.until(caproto.EventAddResponse)
        (circuit,) = rig.server._circuits
        for number in range(200):
            rig["numbers"].post((float(number),) * 20_000)
        assert circuit._paused
        queued = rig.server.clients()[0].queued_bytes
        for _ in range(101):
            allowed[0] = not allowed[0]
            await rig.server.refresh_access_in_turns()
        assert rig.server.clients()[0].queued_bytes == queued
        told = await raw.until(caproto.AccessRightsResponse)
        assert (told.cid, told.access_rights) == (chan.cid, 1)
        assert not [m for m in await raw.echo() if isinstance(m, caproto.AccessRightsResponse)]


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: ioc\r\n\r\n",
        bytes(range(100, 256)),
        b"\xff" * 64,
        message(Command.CREATE_CHANNEL, payload=b"x" * 70_000)[:1000],
        message(99),
    ],
)
async def test_garbage(rig: Rig, garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with raw_client(rig.server.port) as raw, raw_client(rig.server.port) as other:
        raw.send(garbage)
        await raw.closed()
        assert len(forced(caplog)) == 1
        assert await other.echo() == []
    assert "Traceback" not in caplog.text


async def test_half_a_message(rig: Rig) -> None:
    async with raw_client(rig.server.port) as raw, raw_client(rig.server.port) as other:
        whole = bytes(caproto.CreateChanRequest("T:long", 1, 13))
        for cut in range(1, len(whole)):
            raw.send(whole[:cut])
            assert await other.echo() == []
            raw.send(whole[cut:])
            await raw.until(caproto.CreateChanResponse)
        raw.send(whole[:20])
        assert await other.echo() == []
    await eventually(lambda: rig.server.stats.channels == 0, "channels are left")


async def test_write_that_is_too_long(rig: Rig) -> None:
    async with raw_client(rig.server.port) as raw:
        chan = await raw.channel("T:title")
        payload = b"x" * 200_000
        raw.send(message(Command.WRITE_NOTIFY, 4, len(payload), chan.sid, 9, payload))
        reply = await raw.until(caproto.WriteNotifyResponse)
        assert reply.status.code_with_severity == Eca.TOLARGE
        raw.send(message(Command.WRITE, 4, len(payload), chan.sid, 10, payload))
        (told,) = await raw.echo()
        assert (told.header.parameter1, told.header.parameter2) == (chan.cid, Eca.TOLARGE)
    assert [reason for _, _, reason in rig.rejected] == ["200000 bytes are too many"] * 2
    assert rig.puts == []


async def test_too_many_channels(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    async with raw_client(rig.server.port) as raw:
        raw.send(*(caproto.CreateChanRequest("T:long", cid, 13) for cid in range(1000)))
        replies = await raw.echo()
        made = [r for r in replies if isinstance(r, caproto.CreateChanResponse)]
        refused = [r for r in replies if isinstance(r, caproto.CreateChFailResponse)]
        assert (len(made), len(refused)) == (50, 950)
        assert caplog.text.count("too many channels") == 1
        raw.send(
            *(caproto.EventAddRequest(ChannelType.LONG, 1, made[0].sid, i, 0, 0, 0, 5) for i in range(100))
        )
        replies = [r for r in await raw.echo() if isinstance(r, caproto.EventAddResponse)]
        good = [r for r in replies if r.status.code_with_severity == NORMAL]
        assert (len(replies), len(good)) == (100, 60)


async def test_too_many_clients(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.TaskGroup() as group:

        async def connect() -> bool:
            reader, writer = await asyncio.open_connection(LOOPBACK, rig.server.port)
            writer.write(bytes(caproto.VersionRequest(0, 13)))
            try:
                answered = bool(await asyncio.wait_for(reader.read(16), 5))
            except ConnectionError:
                answered = False
            await eventually(lambda: rig.server.stats.clients <= SMALL.max_clients, "too many")
            if answered:
                await all_tried.wait()
            tried.append(answered)
            if len(tried) >= 12:
                all_tried.set()
            writer.transport.abort()
            return answered

        tried: list[bool] = []
        all_tried = asyncio.Event()
        tasks = [group.create_task(connect()) for _ in range(20)]
    assert sum(task.result() for task in tasks) == SMALL.max_clients
    assert caplog.text.count("too many clients") >= 1
    assert (await caget(rig.place, "-t", "T:long")).code == 0


async def test_further_puts_are_refused_while_too_many_are_running(rig: Rig) -> None:
    """Whatever else the client asks is answered meanwhile: libca gives a server up that answers no echo."""
    rig.hold = asyncio.Event()
    async with raw_client(rig.server.port) as flood, raw_client(rig.server.port) as other:
        chan = await flood.channel("T:longout")
        flood.send(
            *(caproto.WriteNotifyRequest((n % 1000,), ChannelType.LONG, 1, chan.sid, n) for n in range(2000))
        )
        refused = await flood.echo()
        assert [reply.ioid for reply in refused] == list(range(SMALL.max_puts, 2000))
        assert {reply.status.code_with_severity for reply in refused} == {Eca.PUTFAIL}
        assert {reason for _, _, reason in rig.rejected} == {
            "4 puts of this client are running, the most allowed"
        }
        flood.send(caproto.ReadNotifyRequest(ChannelType.LONG, 1, chan.sid, 1))
        assert list((await flood.until(caproto.ReadNotifyResponse)).data) == [7]
        assert await other.echo() == []
        rig.hold.set()
        for number in range(SMALL.max_puts):
            reply = await flood.until(caproto.WriteNotifyResponse)
            assert (reply.ioid, reply.status.code_with_severity) == (number, NORMAL)
    assert [value for _, value, _ in rig.puts] == list(range(SMALL.max_puts))


async def test_flood_of_gets_from_one_who_does_not_read(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig["numbers"].post((1.0,) * 20_000)
    async with raw_client(rig.server.port, receive_bytes=4096) as flood, raw_client(rig.server.port) as other:
        chan = await flood.channel("T:numbers")
        request = bytes(caproto.ReadNotifyRequest(ChannelType.DOUBLE, 20_000, chan.sid, 1))
        flood.send(request * 5000)
        assert await other.echo() == []
        await eventually(lambda: bool(forced(caplog)), "it was not disconnected")
        assert await other.echo() == []


async def test_flood_of_requests_leaves_others_their_turn(rig: Rig) -> None:
    async with raw_client(rig.server.port) as flood, raw_client(rig.server.port) as other:
        flood.send(bytes(caproto.EchoRequest()) * 100_000)
        taking = Stopwatch()
        assert await other.echo() == []
        assert taking.s < 1.0


async def test_put_goes_on_without_its_client(rig: Rig) -> None:
    rig.hold = asyncio.Event()
    async with raw_client(rig.server.port) as raw:
        chan = await raw.channel("T:longout")
        raw.send(caproto.WriteNotifyRequest((5,), ChannelType.LONG, 1, chan.sid, 1))
        await eventually(lambda: len(rig.puts) == 1, "no put")
    await eventually(lambda: rig.server.stats.clients == 0, "still connected")
    rig.hold.set()
    await eventually(lambda: rig["longout"].value == 5, "the put ended with its client")


async def test_puts_run_side_by_side_and_gets_are_answered_meanwhile(rig: Rig) -> None:
    rig.hold = asyncio.Event()
    first = asyncio.create_task(caput(rig.place, "-c", "T:longout", "1"))
    second = asyncio.create_task(caput(rig.place, "-c", "T:longout", "2"))
    await eventually(lambda: len(rig.puts) == 2, "they do not run at the same time")
    assert (await caget(rig.place, "-t", "T:longout")).out.strip() == "7"
    rig.hold.set()
    assert ((await first).code, (await second).code) == (0, 0)


async def test_stop_ends_puts_and_clients(rig: Rig) -> None:
    rig.hold = asyncio.Event()
    async with raw_client(rig.server.port) as raw:
        chan = await raw.channel("T:longout")
        raw.send(caproto.WriteNotifyRequest((5,), ChannelType.LONG, 1, chan.sid, 1))
        await eventually(lambda: len(rig.puts) == 1, "no put")
        await rig.server.stop()
        await raw.closed()
    assert rig["longout"].value == 7
    with socket.socket() as sock:
        sock.settimeout(1)
        assert sock.connect_ex((LOOPBACK, rig.server.port)) != 0


async def test_nothing_is_left_of_clients_that_went(rig: Rig) -> None:
    rig["numbers"].post((1.0,) * 20_000)
    for _ in range(30):
        async with raw_client(rig.server.port, receive_bytes=4096) as raw:
            for name in ("T:long", "T:long.SEVR", "T:numbers", "T:string.VAL$"):
                chan = await raw.channel(name)
                raw.send(caproto.EventAddRequest(ChannelType.DOUBLE, 0, chan.sid, chan.sid, 0, 0, 0, 5))
            await raw.until(caproto.EventAddResponse)
            for number in range(5):
                rig["long"].post(number)
    await eventually(lambda: rig.server.stats.clients == 0, "clients are left")
    gc.collect()
    left = [o for o in gc.get_objects() if isinstance(o, Circuit | Channel | Subscription | FieldPV)]
    assert left == []
    stats = rig.server.stats
    assert (stats.channels, stats.subscriptions, stats.queued) == (0, 0, 0)
    assert not any(pv.subscriptions or pv.fields for pv in rig.pvs.values())


async def test_ten_thousand_events_cost_no_memory(rig: Rig) -> None:
    async with raw_client(rig.server.port) as raw:
        chan = await raw.channel("T:long")
        raw.send(caproto.EventAddRequest(ChannelType.TIME_LONG, 1, chan.sid, 1, 0, 0, 0, 5))
        await raw.until(caproto.EventAddResponse)

        async def burst() -> None:
            for number in range(5000):
                rig["long"].post(number)
            last = None
            while last != 4999:
                last = (await raw.until(caproto.EventAddResponse)).data[0]

        await burst()
        tracemalloc.start()
        try:
            await burst()
            before = tracemalloc.get_traced_memory()[0]
            await burst()
            assert tracemalloc.get_traced_memory()[0] - before < 100_000
        finally:
            tracemalloc.stop()
