"""What EPICS base's own programs send, recorded, with bytes changed: no crash, and nobody else notices."""

from __future__ import annotations

import asyncio
import random
import socket

import caproto
import pytest
from caproto import ChannelType

from tests.ca.conftest import Rig
from tests.ca.raw import raw_client
from tests.ca.relay import Relay, relay
from tests.ca.test_fuzz import mutated
from tests.support.ca import LOOPBACK, camonitor, run

NAMES = tuple(f"T:{name}" for name in ("longout", "ao", "choice", "title", "strings", "numbers", "ai.EGU"))


async def record(rig: Rig) -> Relay:
    """Let the programs read, write and monitor through a relay."""
    async with relay(rig.place.port) as it:
        for command in (
            ("caget", *NAMES),
            ("caget", "-d", "DBR_CTRL_DOUBLE", "T:ai", "T:longout"),
            ("caget", "-S", "T:title.VAL$"),
            ("caput", "-c", "T:longout", "12"),
            ("caput", "T:choice", "Idle"),
            ("caput", "-c", "-S", "T:title", "a title of some length"),
            ("cainfo", "T:state"),
        ):
            ran = await run(it.place, *command)
            assert ran.code == 0, ran.both
        async with camonitor(it.place, *NAMES) as monitor:
            await monitor.until(len(NAMES))
    assert len(it.sessions) == 8
    assert len(it.datagrams) >= 8
    return it


@pytest.mark.parametrize("seed", range(2))
async def test_recorded_sessions(rig: Rig, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    recorded = await record(rig)
    rig.puts.clear()
    caplog.clear()
    chance = random.Random(seed)
    async with raw_client(rig.server.port) as healthy:
        sid = (await healthy.channel("T:long")).sid
        for number in range(100):
            _, writer = await asyncio.open_connection(LOOPBACK, rig.server.port)
            writer.write(mutated(bytes(chance.choice(recorded.sessions)), chance))
            rig["ai"].post(float(number))
            healthy.send(caproto.ReadNotifyRequest(ChannelType.LONG, 1, sid, number))
            assert list((await healthy.until(caproto.ReadNotifyResponse)).data) == [42]
            writer.transport.abort()
        assert await healthy.echo() == []
    assert not [record for record in caplog.records if record.exc_info]
    # What was stored in spite of it is what the records can hold.
    for name, value, _ in rig.puts:
        if name == "T:longout":
            assert isinstance(value, int)
            assert 0 <= value <= 1000
        if name == "T:choice":
            assert value in (0, 1, 2)


async def test_recorded_datagrams(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    recorded = await record(rig)
    chance = random.Random(3)
    loop = asyncio.get_running_loop()
    where = (LOOPBACK, rig.place.port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        for _ in range(1000):
            await loop.sock_sendto(sock, mutated(chance.choice(recorded.datagrams), chance), where)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        request = bytes(caproto.VersionRequest(0, 13)) + bytes(caproto.SearchRequest("T:long", 1, 13))
        await loop.sock_sendto(sock, request, where)
        assert len(await asyncio.wait_for(loop.sock_recv(sock, 1000), 3)) == 40
    assert not [record for record in caplog.records if record.exc_info]
