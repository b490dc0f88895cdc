"""Channel Access: the search for names, and the beacons that announce a server."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct

import caproto
import pytest
from caproto import ChannelType
from caproto._commands import read_datagram

from attpc_ioc.ioc.ca import PV, CAServer, Client
from attpc_ioc.ioc.ca.udp import DATAGRAM_BYTES
from attpc_ioc.ioc.ca.wire import Command, message
from tests.ca.conftest import Rig, specs
from tests.ca.raw import raw_client
from tests.support.ca import LOOPBACK, CaPlace, caget
from tests.support.pace import Stopwatch
from tests.support.patience import PATIENCE_S


def ask(port: int, *requests: bytes, replies: int = 1) -> list[bytes]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(3)
        sock.sendto(b"".join(requests), (LOOPBACK, port))
        return [sock.recv(65536) for _ in range(replies)]


def version(sequence: int) -> bytes:
    return message(Command.VERSION, 1, 13, sequence)


async def test_search_echoes_the_sequence_number_and_batches(rig: Rig) -> None:
    names = ["T:long", "T:nonsense", "T:ai", "T:ai.DESC", "T:ai.NONSENSE", "T:long.PREC"]
    requests = [bytes(caproto.SearchRequest(name, cid, 13)) for cid, name in enumerate(names)]
    (reply,) = await asyncio.to_thread(ask, rig.place.port, version(4711), *requests)
    first, *found = read_datagram(reply, (LOOPBACK, 0), caproto.SERVER)
    assert (first.header.data_type, first.header.parameter1) == (1, 4711)
    assert [f.cid for f in found] == [0, 2, 3]
    assert {f.port for f in found} == {rig.server.port}
    many = [bytes(caproto.SearchRequest("T:long", cid, 13)) for cid in range(150)]
    replies = await asyncio.to_thread(ask, rig.place.port, version(1), *many, replies=3)
    assert all(len(r) <= DATAGRAM_BYTES for r in replies)
    assert sum((len(r) - 16) // 24 for r in replies) == 150


async def test_search_garbage_is_ignored(rig: Rig) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for junk in (b"", b"x", bytes(1000), b"\xff" * 60_000, version(1) + b"\0\6\xff\xff" + bytes(12)):
            sock.sendto(junk, (LOOPBACK, rig.place.port))
    wanted = bytes(caproto.SearchRequest("T:long", 5, 13))
    (reply,) = await asyncio.to_thread(ask, rig.place.port, version(3), wanted, b"\0\1garbage")
    assert len(reply) == 16 + 24


async def test_search_over_tcp(rig: Rig) -> None:
    async with raw_client(rig.server.port) as raw:
        raw.send(caproto.SearchRequest("T:long", 12, 13))
        reply = await raw.until(caproto.SearchResponse)
        assert (reply.cid, reply.port) == (12, rig.server.port)


async def test_four_thousand_channels_connect_at_once(
    place: CaPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put_into(monkeypatch)
    spec = specs()[4]
    pvs = [PV(type(spec)(f"T:{i}", "longin", ChannelType.LONG), i) for i in range(4000)]
    server = CAServer(pvs, put=nobody, interfaces=[LOOPBACK], port=place.port)
    await server.start()
    try:
        async with Stopwatch(programs=True).looking() as taking:
            ran = await caget(place, "-t", "-w", str(PATIENCE_S), *(pv.name for pv in pvs))
        assert ran.out.split() == [str(i) for i in range(4000)]
        assert taking.s < 2.0
        assert not any(pv.fields for pv in pvs)  # fields are made when asked for
    finally:
        await server.stop()


async def nobody(pv: PV, value: object, client: Client) -> None:
    raise AssertionError("no put was made")


async def test_beacons(
    place: CaPlace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place.put_into(monkeypatch)
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        nobody_there = sock.getsockname()[1]
    monkeypatch.setenv("EPICS_CAS_BEACON_ADDR_LIST", f"{LOOPBACK} {LOOPBACK}:{nobody_there}")
    server = CAServer([], put=nobody)
    place.repeater.setblocking(False)
    loop = asyncio.get_running_loop()
    with caplog.at_level(logging.DEBUG):
        await server.start()
        try:
            arrived = []
            for number in range(4):
                beacon = await asyncio.wait_for(loop.sock_recv(place.repeater, 1000), 3)
                arrived.append(loop.time())
                assert struct.unpack(">HHHHII", beacon) == (13, 0, 13, server.port, number, 0x7F000001)
            assert arrived[3] - arrived[2] > arrived[1] - arrived[0]
        finally:
            await server.stop()
    assert [r for r in caplog.records if r.levelno > logging.INFO] == []
