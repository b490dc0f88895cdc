"""Nonsense on TCP and UDP: random bytes, and a real session with bytes changed; nobody else notices."""

from __future__ import annotations

import asyncio
import random
import socket

import caproto
import pytest
from caproto import ChannelType
from hypothesis import given, settings
from hypothesis import strategies as st

from attpc_ioc.ioc.ca.udp import answers
from attpc_ioc.ioc.ca.wire import Header
from tests.ca.conftest import Rig
from tests.ca.raw import raw_client
from tests.support.ca import LOOPBACK


def session(first_sid: int = 1) -> bytes:
    """What a client says in one short life."""
    return b"".join(
        bytes(command)
        for command in (
            caproto.VersionRequest(0, 13),
            caproto.HostNameRequest("host"),
            caproto.ClientNameRequest("user"),
            caproto.CreateChanRequest("T:longout", 1, 13),
            caproto.CreateChanRequest("T:title", 2, 13),
            caproto.CreateChanRequest("T:strings.NORD", 3, 13),
            caproto.EventAddRequest(ChannelType.TIME_LONG, 1, first_sid, 1, 0, 0, 0, 5),
            caproto.EventAddRequest(ChannelType.CTRL_CHAR, 0, first_sid + 1, 2, 0, 0, 0, 15),
            caproto.ReadNotifyRequest(ChannelType.GR_DOUBLE, 1, first_sid, 3),
            caproto.WriteNotifyRequest((5,), ChannelType.LONG, 1, first_sid, 4),
            caproto.WriteRequest(b"some text", ChannelType.CHAR, 9, first_sid + 1, 5),
            caproto.EventsOffRequest(),
            caproto.EventsOnRequest(),
            caproto.EventCancelRequest(ChannelType.TIME_LONG, first_sid, 1),
            caproto.EchoRequest(),
            caproto.ClearChannelRequest(first_sid, 1),
        )
    )


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Change, drop, double or insert some bytes."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 12)):
        at = chance.randrange(len(changed))
        kind = chance.randrange(4)
        if kind == 0:
            changed[at] = chance.choice((0, 0xFF, chance.randrange(256)))
        elif kind == 1:
            del changed[at : at + chance.choice((1, 8, 16))]
        elif kind == 2:
            changed[at:at] = chance.randbytes(chance.choice((1, 8, 16)))
        else:
            changed[at:at] = changed[at : at + 16]
        if not changed:
            return data
    return bytes(changed)


@pytest.mark.parametrize("seed", range(4))
async def test_mutated_sessions(rig: Rig, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    chance = random.Random(seed)
    async with raw_client(rig.server.port) as healthy:
        sid = (await healthy.channel("T:long")).sid
        for number in range(60):
            _, writer = await asyncio.open_connection(LOOPBACK, rig.server.port)
            writer.write(mutated(session(), chance) if number % 4 else chance.randbytes(300))
            rig["longout"].post(number)
            healthy.send(caproto.ReadNotifyRequest(ChannelType.LONG, 1, sid, number))
            reply = await healthy.until(caproto.ReadNotifyResponse)
            assert list(reply.data) == [42]
            writer.transport.abort()
        assert await healthy.echo() == []
    assert not [record for record in caplog.records if record.exc_info]
    for name, value, _ in rig.puts:
        assert name in ("T:longout", "T:title", "T:choice", "T:bo", "T:ao")
        assert name != "T:longout" or 0 <= value <= 1000  # type: ignore[operator]


async def test_udp(rig: Rig) -> None:
    chance = random.Random(7)
    request = bytes(caproto.VersionRequest(0, 13)) + bytes(caproto.SearchRequest("T:long", 1, 13))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        for _ in range(500):
            await loop.sock_sendto(sock, mutated(request, chance), (LOOPBACK, rig.place.port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await loop.sock_sendto(sock, request, (LOOPBACK, rig.place.port))
        assert len(await asyncio.wait_for(loop.sock_recv(sock, 1000), 3)) == 40


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_datagram(data: bytes) -> None:
    asked: list[Header] = []
    list(answers(data, lambda header: asked.append(header) or b"12345678"))
    assert len(asked) <= len(data) // 16
