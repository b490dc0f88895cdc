"""The protocol itself, seen from a bare socket: what libca relies on, and what stock servers get wrong."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
from typing import Any

import caproto
import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, CAServer, Client, PutRejected, ServerLimits
from attpc_ioc.ioc.ca.wire import Command, Eca, message
from tests.ca.conftest import Rig, specs
from tests.ca.raw import NORMAL, Raw, raw_client
from tests.support.ca import LOOPBACK, CaPlace, caget, caput

VALUE, LOG, ALARM, PROPERTY = 1, 2, 4, 8


async def subscribe(raw: Raw, sid: int, subscription: int, mask: int, dtype: ChannelType) -> Any:
    raw.send(caproto.EventAddRequest(dtype, 0, sid, subscription, 0, 0, 0, mask))
    return await raw.until(caproto.EventAddResponse)


def events(commands: list[Any]) -> list[tuple[int, Any]]:
    return [
        (c.subscriptionid, c.data[0] if len(c.data) else None)
        for c in commands
        if isinstance(c, caproto.EventAddResponse)
    ]


async def nobody(pv: PV, value: object, client: Client) -> None:
    raise AssertionError("no put was made")


async def test_no_delay(rig: Rig) -> None:
    async with raw_client(rig.server.port):
        (circuit,) = rig.server._circuits
        assert circuit._transport is not None
        sock = circuit._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_tcp_port_taken(place: CaPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put_into(monkeypatch)
    pv = PV(specs()[4], 3)
    with socket.socket() as other:
        other.bind((LOOPBACK, place.port))
        other.listen()
        server = CAServer([pv], put=nobody)  # everything from the environment
        await server.start()
        try:
            assert server.port != place.port
            assert (await caget(place, "-t", "T:long")).out.strip() == "3"
        finally:
            await server.stop()


# --- monitors ---


async def test_event_masks(rig: Rig) -> None:
    ai = rig["ai"]
    ai.post(0.0)
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:ai")).sid
        for mask in (VALUE, LOG, ALARM, PROPERTY):
            await subscribe(raw, sid, mask, mask, ChannelType.DOUBLE)
        ai.post(0.5)
        assert events(await raw.echo()) == []
        ai.post(1.5)  # beyond MDEL 1, not ADEL 5
        assert events(await raw.echo()) == [(VALUE, 1.5)]
        ai.post(1.6, severity=1, status=4)
        assert events(await raw.echo()) == [(ALARM, 1.6)]
        ai.post(7.0, severity=1, status=4)
        assert sorted(events(await raw.echo())) == [(VALUE, 7.0), (LOG, 7.0)]


async def test_same_value_and_alarm_is_no_event_and_keeps_its_stamp(rig: Rig) -> None:
    long = rig["long"]
    long.post(9, severity=2, status=3)
    stamp = long.stamp_ns
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:long")).sid
        await subscribe(raw, sid, 1, VALUE | ALARM, ChannelType.LONG)
        for _ in range(3):
            long.post(9, severity=2, status=3)
        assert events(await raw.echo()) == []
        assert (long.severity, long.status, long.stamp_ns) == (2, 3, stamp)
        long.post(9, severity=2, status=3, force=True)
        assert events(await raw.echo()) == [(1, 9)]
        assert long.stamp_ns > stamp


async def test_an_update_is_encoded_once_for_all(rig: Rig) -> None:
    async with raw_client(rig.server.port) as one, raw_client(rig.server.port) as two:
        for raw in (one, two):
            sid = (await raw.channel("T:text")).sid
            await subscribe(raw, sid, 1, VALUE, ChannelType.TIME_CHAR)
        made: list[int] = []
        monitored = rig["text"]
        monitored.post("news")
        made.append(id(monitored.message(ChannelType.TIME_CHAR, 0)))
        assert [len(events(await raw.echo())) for raw in (one, two)] == [1, 1]
        assert made == [id(monitored.message(ChannelType.TIME_CHAR, 0))]
        assert len(monitored._messages) == 1


async def test_clear_channel_ends_only_its_own_monitors(rig: Rig) -> None:
    async with raw_client(rig.server.port) as raw:
        one, two = await raw.channel("T:long"), await raw.channel("T:ai")
        await subscribe(raw, one.sid, 1, VALUE, ChannelType.LONG)
        await subscribe(raw, two.sid, 2, VALUE, ChannelType.DOUBLE)
        raw.send(caproto.ClearChannelRequest(one.sid, one.cid))
        await raw.until(caproto.ClearChannelResponse)
        rig["long"].post(1)
        rig["ai"].post(100.0)
        assert events(await raw.echo()) == [(2, 100.0)]
        assert rig.server.stats.subscriptions == 1
        raw.send(caproto.EventCancelRequest(ChannelType.DOUBLE, two.sid, 2))
        confirmed = await raw.until(caproto.EventAddResponse)
        assert (confirmed.subscriptionid, confirmed.header.payload_size) == (2, 0)
        rig["ai"].post(0.0)
        assert events(await raw.echo()) == []


async def test_events_off_and_on(rig: Rig) -> None:
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:long")).sid
        await subscribe(raw, sid, 1, VALUE, ChannelType.LONG)
        raw.send(caproto.EventsOffRequest())
        await raw.echo()
        for number in range(1000, 1100):
            rig["long"].post(number)
        assert events(await raw.echo()) == []
        raw.send(caproto.EventsOnRequest())
        assert events(await raw.echo()) == [(1, 1099)]


async def test_fields_follow_their_record(rig: Rig) -> None:
    async with raw_client(rig.server.port) as raw:
        severity, description = await raw.channel("T:long.SEVR"), await raw.channel("T:long.DESC")
        await subscribe(raw, severity.sid, 1, VALUE, ChannelType.ENUM)
        await subscribe(raw, description.sid, 2, VALUE | LOG, ChannelType.STRING)
        rig["long"].post(5, severity=2, status=3)
        rig["long"].post(6, severity=2, status=3)
        assert events(await raw.echo()) == [(1, 2)]


# --- gets, and what cannot be had ---


async def test_gets_that_cannot_be_answered(rig: Rig) -> None:
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:string")).sid
        for dtype, count, channel, status in (
            (ChannelType.LONG, 1, sid, Eca.NOCONVERT),
            (ChannelType.PUT_ACKS, 1, sid, Eca.BADTYPE),
            (99, 1, sid, Eca.BADTYPE),
            (ChannelType.STRING, 2, sid, Eca.BADCOUNT),
            (ChannelType.STRING, 1, 4711, Eca.BADCHID),
        ):
            raw.send(struct.pack(">HHHHII", Command.READ_NOTIFY, 0, dtype, count, channel, 77))
            (reply,) = [await raw.reader.readexactly(16)]
            _, size, _, _, code, ioid = struct.unpack(">HHHHII", reply)
            await raw.reader.readexactly(size)
            assert (code, ioid) == (status, 77), dtype
        assert await raw.echo() == []


@pytest.mark.filterwarnings("ignore:ReadResponse was deprecated")
async def test_old_get(rig: Rig) -> None:
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:long")).sid
        raw.send(struct.pack(">HHHHII", Command.READ, 0, ChannelType.LONG, 1, sid, 77))
        assert list((await raw.until(caproto.ReadResponse)).data) == [42]
        raw.send(struct.pack(">HHHHII", Command.READ, 0, ChannelType.LONG, 1, 4711, 77))
        assert (await raw.until(caproto.ErrorResponse)).status.code_with_severity == Eca.BADCHID


async def test_a_value_of_the_wrong_type_is_logged_and_invalid(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig["state"].post("Idle")
    rig["long"].post(2**40)
    assert caplog.text.count("value cannot be posted") == 2
    ran = await caget(rig.place, "-a", "T:state", "T:long")
    assert ran.out.count("UDF INVALID") == 2
    assert "Ready" in ran.out


# --- puts ---


async def test_a_bad_enum_put_poisons_nothing(rig: Rig) -> None:
    for bad in ("99", "Nonsense"):
        await caput(rig.place, "-c", "T:choice", bad)
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:choice")).sid
        raw.send(caproto.WriteNotifyRequest((99,), ChannelType.ENUM, 1, sid, 1))
        assert (await raw.until(caproto.WriteNotifyResponse)).status.code_with_severity == Eca.PUTFAIL
        raw.send(caproto.WriteRequest((99,), ChannelType.ENUM, 1, sid, 2))
        (told,) = await raw.echo()
        assert told.error_message.rstrip(b"\0") == b"T:choice"
    ran = await caget(rig.place, "-t", "T:choice")
    assert (ran.code, ran.out.strip()) == (0, "None")
    assert rig["choice"].severity == 0
    assert rig.puts == []
    assert rig.server.stats.rejected == len(rig.rejected) >= 2
    name, raw_value, reason = rig.rejected[-1]
    assert (name, raw_value) == ("T:choice", "99")
    assert "number of a label" in reason


async def test_puts_to_what_is_not_writable(rig: Rig) -> None:
    async with raw_client(rig.server.port) as raw:
        for name in ("T:long", "T:longout.DESC", "T:choice.SEVR"):
            sid = (await raw.channel(name)).sid
            raw.send(caproto.WriteNotifyRequest((1,), ChannelType.LONG, 1, sid, 1))
            assert (await raw.until(caproto.WriteNotifyResponse)).status.code_with_severity == Eca.NOWTACCESS
        sid = (await raw.channel("T:longout.VAL")).sid
        raw.send(caproto.WriteNotifyRequest((1,), ChannelType.LONG, 1, sid, 1))
        assert (await raw.until(caproto.WriteNotifyResponse)).status.code_with_severity == NORMAL
        for dtype in (ChannelType.PUT_ACKT, ChannelType.PUT_ACKS, ChannelType.STS_LONG):
            raw.send(message(Command.WRITE_NOTIFY, dtype, 1, sid, 5, bytes(8)))
            assert (await raw.until(caproto.WriteNotifyResponse)).status.code_with_severity == Eca.PUTFAIL
    assert [pv for pv, _, _ in rig.puts] == ["T:longout"]


async def test_a_put_that_breaks_is_logged_once(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(pv: PV, value: object, client: Client) -> None:
        raise RuntimeError("a fault of the program")

    rig.server._put = broken
    ran = await caput(rig.place, "-c", "T:longout", "1")
    assert (ran.code, "Channel write request failed" in ran.both) == (1, True)
    assert len([r for r in caplog.records if r.exc_info]) == 1
    assert rig["longout"].severity == 0


# --- access ---


async def test_access_rights_change_at_once(place: CaPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put_into(monkeypatch)
    allowed = {"read": True, "write": True}
    asked: list[Client] = []

    def access(pv: PV, client: Client) -> tuple[bool, bool]:
        asked.append(client)
        return allowed["read"], allowed["write"] and client.user == "raw"

    pv = PV(specs()[5], 7)
    server = CAServer([pv], put=nobody, access=access, limits=ServerLimits(), interfaces=[LOOPBACK])
    await server.start()
    try:
        async with raw_client(server.port) as raw, raw_client(server.port, user="other") as other:
            chan = await raw.channel("T:longout")
            other.send(caproto.CreateChanRequest("T:longout", 1, 13))
            assert (await other.until(caproto.AccessRightsResponse)).access_rights == 1
            await subscribe(raw, chan.sid, 1, VALUE, ChannelType.LONG)
            allowed["write"] = False
            server.refresh_access()
            assert [r.access_rights for r in await raw.echo()] == [1]
            server.refresh_access()
            assert await raw.echo() == []
            allowed["read"] = False
            server.refresh_access()
            rights, event = await raw.echo()
            assert rights.access_rights == 0
            assert event.status.code_with_severity == Eca.NORDACCESS
            pv.post(8)
            await raw.echo()
            raw.send(caproto.ReadNotifyRequest(ChannelType.LONG, 1, chan.sid, 1))
            reply = await raw.until(caproto.ReadNotifyResponse)
            assert reply.status.code_with_severity == Eca.NORDACCESS
            allowed["read"] = True
            server.refresh_access()
            rights, event = await raw.echo()
            assert (rights.access_rights, list(event.data)) == (1, [8])
            assert {c.host for c in asked} == {"bench"}
    finally:
        await server.stop()


async def test_who_is_connected_to_what(rig: Rig) -> None:
    async with raw_client(rig.server.port, user="anna") as raw:
        chan = await raw.channel("T:long")
        await raw.channel("T:ai")
        await subscribe(raw, chan.sid, 1, VALUE, ChannelType.LONG)
        (info,) = rig.server.clients()
        assert (info.client.user, info.client.host) == ("anna", "bench")
        assert (info.channels, info.pvs, info.subscriptions) == (2, ("T:ai", "T:long"), 1)
        stats = rig.server.stats
        assert (stats.clients, stats.channels, stats.subscriptions) == (1, 2, 1)


async def test_a_put_that_is_done_at_once_needs_no_task(
    place: CaPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put_into(monkeypatch)

    def put(pv: PV, value: Any, client: Client) -> None:
        if value == 3:
            raise PutRejected("not three")
        if value == 4:
            raise RuntimeError("broken")
        pv.post(value)

    pv = PV(specs()[5], 0)
    server = CAServer([pv], put=put, interfaces=[LOOPBACK], port=place.port)
    await server.start()
    try:
        async with raw_client(server.port) as raw:
            sid = (await raw.channel("T:longout")).sid
            answers = []
            for value in range(6):
                raw.send(caproto.WriteNotifyRequest((value,), ChannelType.LONG, 1, sid, value))
                answers.append((await raw.until(caproto.WriteNotifyResponse)).status.code_with_severity)
            assert answers == [NORMAL, NORMAL, NORMAL, Eca.PUTFAIL, Eca.PUTFAIL, NORMAL]
            assert pv.value == 5
            assert server.stats.rejected == 1
    finally:
        await server.stop()


def test_numpy_is_not_needed() -> None:
    code = "import sys, attpc_ioc.ioc.ca; assert 'numpy' not in sys.modules; import numpy; print(numpy.pi)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("3.14")
