"""What takes long for one client is done in slices: nobody else waits."""

from __future__ import annotations

import asyncio
import socket

import caproto
from caproto import ChannelType

from attpc_ioc.ioc.ca.wire import Command, message
from tests.ca.conftest import Rig
from tests.ca.raw import raw_client
from tests.ca.test_isolation import LATE_S, healthy
from tests.support.ca import LOOPBACK, eventually


async def test_small_gets_of_a_big_array(rig: Rig) -> None:
    rig["numbers"].post(tuple(number + 0.1 for number in range(20_000)))
    async with healthy(rig) as took, raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:numbers")).sid
        raw.send(*(caproto.ReadNotifyRequest(ChannelType.STRING, 1 + n % 45, sid, n) for n in range(400)))
        for _ in range(400):
            await raw.until(caproto.ReadNotifyResponse, 20)
        assert max(took) < LATE_S


async def test_a_flood_of_names_with_many_channels(rig: Rig) -> None:
    async with healthy(rig) as took, raw_client(rig.server.port) as raw:
        raw.send(b"".join(bytes(caproto.CreateChanRequest("T:ai", cid, 13)) for cid in range(10_000)))
        for _ in range(10_000):
            await raw.until(caproto.CreateChanResponse, 20)
        took.clear()
        raw.send(*(caproto.ClientNameRequest(f"user{n}") for n in range(60)))
        raw.send(caproto.EchoRequest())
        await raw.until(caproto.EchoResponse, 60)
        assert took
        assert max(took) < LATE_S


async def test_datagrams_full_of_searches(rig: Rig) -> None:
    """Searches for fields make no field."""
    requests = b"".join(message(Command.SEARCH, 5, 13, n, n, b"T:long.DESC\0") for n in range(2000))
    async with healthy(rig) as took:
        await eventually(lambda: len(took) > 5, "the healthy client")
        took.clear()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(200):
                sock.sendto(requests, (LOOPBACK, rig.place.port))
                await asyncio.sleep(0)
        await eventually(lambda: rig.server.stats.searches >= 4000, "the searches")
        await eventually(lambda: len(took) > 5, "the healthy client")
        assert max(took) < LATE_S
    assert not rig["long"].fields
