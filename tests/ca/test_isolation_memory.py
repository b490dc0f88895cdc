"""What clients can make the server keep is bounded, and places go to those that do something."""

from __future__ import annotations

import asyncio

import caproto
import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import ServerLimits
from attpc_ioc.ioc.ca.limits import LineLimit, ServerStats
from attpc_ioc.ioc.ca.monitor import Backlog
from attpc_ioc.ioc.ca.places import NO_CHANNEL_S
from attpc_ioc.ioc.ca.wire import Command, message
from tests.ca.conftest import Rig
from tests.ca.raw import raw_client
from tests.support.ca import LOOPBACK, eventually


@pytest.fixture
def limits() -> ServerLimits:
    return ServerLimits(max_clients=3, max_input_bytes=1 << 20, message_s=0.5, max_backlog_bytes=1 << 18)


async def test_half_messages_are_bounded_in_all_and_in_time(rig: Rig) -> None:
    half = message(Command.WRITE_NOTIFY, 4, 900_000, 1, 1, bytes(900_000))[:700_000]
    async with raw_client(rig.server.port) as first, raw_client(rig.server.port) as second:
        first.send(half)
        second.send(half)
        await eventually(lambda: rig.server.stats.disconnected == 1, "nobody was disconnected for bytes")
        await eventually(lambda: rig.server.stats.disconnected == 2, "nobody was disconnected for time")
        await eventually(lambda: rig.server.stats.clients == 0, "clients are left")
    assert rig.server.stats.input_bytes == 0


async def test_a_silent_client_gives_its_place(rig: Rig) -> None:
    silent = [await asyncio.open_connection(LOOPBACK, rig.server.port) for _ in range(3)]
    await eventually(
        lambda: all(c.connected_s > NO_CHANNEL_S for c in rig.server.clients()), "they are too new", 15
    )
    async with raw_client(rig.server.port) as raw:
        await raw.channel("T:long")
        await eventually(lambda: rig.server.stats.clients == 3, "nobody made room")
    for _, writer in silent:
        writer.transport.abort()


async def test_events_held_back_of_a_big_array_end_with_the_newest(rig: Rig) -> None:
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:numbers")).sid
        raw.send(caproto.EventAddRequest(ChannelType.DOUBLE, 0, sid, 1, 0, 0, 0, 1))
        await raw.until(caproto.EventAddResponse)
        raw.send(caproto.EventsOffRequest())
        await raw.echo()
        for number in range(10):
            rig["numbers"].post((float(number),) * 20_000)
        raw.send(caproto.EventsOnRequest())
        assert (await raw.until(caproto.EventAddResponse)).data[0] == 9.0
    assert rig.server.stats.disconnected == 0


async def test_few_forms_of_a_big_array_are_kept(rig: Rig) -> None:
    rig["numbers"].post((1.0,) * 20_000)
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:numbers")).sid
        for less in range(10):
            raw.send(caproto.ReadNotifyRequest(ChannelType.DOUBLE, 20_000 - less, sid, less))
            await raw.until(caproto.ReadNotifyResponse)
    assert len(rig["numbers"]._messages) == 1


def test_lines_of_one_address_are_bounded() -> None:
    lines = LineLimit()
    assert [lines.ask("a", 0.0) for _ in range(8)] == [0] * 5 + [None] * 3
    assert lines.ask("b", 1.0) == 0
    assert lines.ask("a", 61.0) == 3


def test_lines_of_all_addresses_are_bounded() -> None:
    lines = LineLimit()
    told = [lines.ask(f"a{number}", 100.0) for number in range(3000)]
    assert told.count(0) == told.index(None) == 50
    assert [lines.ask("a2999", 130.0), lines.ask("a2999", 161.0)] == [None, 2]


def test_a_new_backlog_has_its_full_depth() -> None:
    backlog = Backlog(4, ServerStats())
    backlog.squeeze()
    assert list(backlog.drain()) == []
    assert backlog._depth == 4
