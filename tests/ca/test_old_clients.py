"""Clients of before Channel Access 4.9, which cannot read long messages: the same here as from softIoc."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from pathlib import Path

import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, CAServer, Client, PVSpec, Value
from attpc_ioc.ioc.ca.wire import Command, Eca
from tests.ca.test_like_softioc import softioc
from tests.ca.test_messages_like_softioc import message
from tests.support.ca import LOOPBACK, ca_place

COUNT = 20_000
DATABASE = f"""
record(waveform, "C:w") {{ field(FTVL, "DOUBLE") field(NELM, "{COUNT}") }}
record(ai, "C:ai") {{ field(VAL, "1") field(PINI, "YES") }}
"""
DOUBLE, VALUE = 6, 1


async def told(port: int, minor: int) -> list[tuple[object, ...]]:
    """The answers to a get and to a monitor of a long array, and to a get of a few of its elements."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)

    async def read() -> tuple[int, int, int, int, int, bytes]:
        command, size, dtype, count, p1, p2 = struct.unpack(">HHHHII", await reader.readexactly(16))
        if size == 0xFFFF:
            size, count = struct.unpack(">II", await reader.readexactly(8))
        return command, dtype, count, p1, p2, await reader.readexactly(size)

    try:
        async with asyncio.timeout(5):
            writer.write(message(Command.VERSION, 0, minor))
            writer.write(message(Command.CREATE_CHANNEL, p1=3, p2=minor, payload=b"C:w\0"))
            while (made := await read())[0] != Command.CREATE_CHANNEL:
                pass
            sid = made[4]
            mask = struct.pack(">fffHH", 0, 0, 0, VALUE, 0)
            found: list[tuple[object, ...]] = []
            for asked in (
                message(Command.READ_NOTIFY, DOUBLE, COUNT, sid, 7),
                message(Command.EVENT_ADD, DOUBLE, COUNT, sid, 8, mask),
                message(Command.READ_NOTIFY, DOUBLE, 3, sid, 9),
            ):
                writer.write(asked)
                command, dtype, count, p1, p2, data = await read()
                if command == Command.ERROR:
                    head = struct.unpack(">HHHHII", data[:16])
                    own = (*head[:4], head[4] == sid, head[5])
                    assert b"C:w" in data[16:]
                    found.append((command, p1, p2, own))
                else:
                    found.append((command, dtype, count, p1, p2, len(data)))
            return found
    finally:
        writer.transport.abort()


async def test_long_arrays_for_old_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def put(pv: PV, value: Value, client: Client) -> None:
        raise AssertionError("no put was made")

    database = tmp_path / "c.db"
    database.write_text(DATABASE)
    with contextlib.closing(ca_place()) as theirs, contextlib.closing(ca_place()) as ours:
        ours.put_into(monkeypatch)
        spec = PVSpec("C:w", "waveform", ChannelType.DOUBLE, max_elements=COUNT)
        server = CAServer([PV(spec, ())], put=put, interfaces=[LOOPBACK], port=ours.port)
        await server.start()
        try:
            async with softioc(theirs, database):
                for minor in (8, 9, 13):
                    here = await told(ours.port, minor)
                    assert here == await told(theirs.port, minor), minor
                    assert [one[2] for one in here[:2]] == (
                        [Eca.OLD_CLIENT] * 2 if minor < 9 else [COUNT] * 2
                    )
        finally:
            await server.stop()
