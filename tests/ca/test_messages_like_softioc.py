"""The same messages to EPICS base's `softIoc` and to this server: replies, event masks, events held back.

`DIFFERENT` lists where the replies differ, and why they may.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, CAServer, Client, PVSpec, Value
from attpc_ioc.ioc.ca.wire import Command
from tests.ca.test_like_softioc import softioc
from tests.support.ca import LOOPBACK, CaPlace, ca_place

DATABASE = """
record(ao, "C:ao") { field(MDEL, "1") field(ADEL, "5") field(HIHI, "9") field(HHSV, "MAJOR")
  field(HIGH, "8") field(HSV, "MINOR") field(VAL, "0") field(PINI, "YES") }
record(ao, "C:always") { field(MDEL, "-1") field(ADEL, "2") field(VAL, "0") field(PINI, "YES") }
record(longout, "C:end") { field(VAL, "0") field(PINI, "YES") }
record(ai, "C:ai") { field(VAL, "1") field(PINI, "YES") }
record(waveform, "C:w") { field(FTVL, "LONG") field(NELM, "5") }
"""
NAMES = ("C:ao", "C:w", "C:ai", "C:end", "C:always")
AO, W, AI, END, ALWAYS = range(5)
VALUE, LOG, ALARM, PROPERTY = 1, 2, 4, 8
STRING, LONG, DOUBLE, STS_DOUBLE, NO_TYPE = 0, 5, 6, 13, 99


def pvs() -> list[PV]:
    limits = {"HHSV": 2, "HSV": 1}
    double, long = ChannelType.DOUBLE, ChannelType.LONG
    return [
        PV(
            PVSpec(
                "C:ao", "ao", double, mdel=1, adel=5, hihi=9, high=8, limit_severities=limits, writable=True
            ),
            0.0,
        ),
        PV(PVSpec("C:always", "ao", double, mdel=-1, adel=2, writable=True), 0.0),
        PV(PVSpec("C:end", "longout", long, writable=True), 0),
        PV(PVSpec("C:ai", "ai", double), 1.0),
        PV(PVSpec("C:w", "waveform", long, max_elements=5, writable=True), ()),
    ]


def put(pv: PV, value: Value, _: Client) -> None:
    """Post with the alarm that the record's limits tell."""
    severity, status = 0, 0
    if pv.name == "C:ao" and isinstance(value, float):
        severity, status = (2, 3) if value >= 9 else (1, 4) if value >= 8 else (0, 0)
    pv.post(value, severity=severity, status=status)


@dataclass(frozen=True)
class Message:
    """One message as it was sent: its header, and its payload."""

    command: int
    dtype: int
    count: int
    p1: int
    p2: int
    payload: bytes = b""


def message(
    command: int, dtype: int = 0, count: int = 0, p1: int = 0, p2: int = 0, payload: bytes = b""
) -> bytes:
    payload += bytes(-len(payload) % 8)
    return struct.pack(">HHHHII", command, len(payload), dtype, count, p1, p2) + payload


_END = 100
"""The number of the monitor of C:end, and of puts to it."""


class Talk:
    """One connection with its four channels; `sids` are in the order of `NAMES`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.sids: list[int] = []
        self.got: list[Message] = []
        """What came for the last `answers`, also where the connection ended meanwhile."""
        self._number = 0

    async def read(self) -> Message:
        """The next message; raises IncompleteReadError at the end of the connection."""
        async with asyncio.timeout(5):
            command, size, dtype, count, p1, p2 = struct.unpack(">HHHHII", await self.reader.readexactly(16))
            return Message(command, dtype, count, p1, p2, await self.reader.readexactly(size))

    def send(self, *data: bytes) -> None:
        self.writer.write(b"".join(data))

    async def until(self, command: int) -> list[Message]:
        """Everything up to a message of this kind, which is the last."""
        got = [await self.read()]
        while got[-1].command != command:
            got.append(await self.read())
        return got

    async def answers(self, *data: bytes) -> list[Message]:
        """What comes for `data`.

        softIoc answers puts and sends events from a thread of their own: so this waits for the answer to, and
        the event of, a put to C:end that follows.
        """
        self._number += 1
        end = struct.pack(">i", self._number)
        self.send(*data, self.put(END, LONG, end, request=_END))
        got = self.got = []
        waiting = {Command.WRITE_NOTIFY, Command.EVENT_ADD}
        while waiting:
            now = await self.read()
            if now.p2 == _END and now.command in (Command.WRITE_NOTIFY, Command.EVENT_ADD):
                if now.command == Command.WRITE_NOTIFY or now.payload[:4] == end:
                    waiting.discard(Command(now.command))
            else:
                got.append(now)
        return got

    def put(self, which: int, dtype: int, data: bytes, count: int = 1, request: int = 7) -> bytes:
        return message(Command.WRITE_NOTIFY, dtype, count, self.sids[which], request, data)

    def write(self, which: int, dtype: int, data: bytes, count: int = 1) -> bytes:
        return message(Command.WRITE, dtype, count, self.sids[which], 7, data)

    def get(self, which: int, dtype: int, count: int) -> bytes:
        return message(Command.READ_NOTIFY, dtype, count, self.sids[which], 7)

    def monitor(self, which: int, dtype: int, mask: int, number: int, count: int = 1) -> bytes:
        wanted = struct.pack(">fffHH", 0, 0, 0, mask, 0)
        return message(Command.EVENT_ADD, dtype, count, self.sids[which], number, wanted)


@contextlib.asynccontextmanager
async def talk(port: int) -> AsyncIterator[Talk]:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    it = Talk(reader, writer)
    try:
        it.send(message(Command.VERSION, 0, 13), message(Command.CLIENT_NAME, payload=b"tester\0"))
        it.send(message(Command.HOST_NAME, payload=b"here\0"))
        for number, name in enumerate(NAMES):
            it.send(message(Command.CREATE_CHANNEL, p1=number, p2=13, payload=name.encode() + b"\0"))
            it.sids.append((await it.until(Command.CREATE_CHANNEL))[-1].p2)
        it.send(it.monitor(END, LONG, VALUE, _END))
        await it.answers()
        yield it
    finally:
        writer.transport.abort()


LONGS = struct.pack(">3i", 1, 2, 3)

ASKED: dict[str, Callable[[Talk], bytes]] = {
    "get": lambda it: it.get(AO, DOUBLE, 1),
    "get as many as there are": lambda it: it.get(AO, DOUBLE, 0),
    "get of nothing": lambda it: it.get(W, LONG, 0),
    "get three of nothing": lambda it: it.get(W, LONG, 3),
    "get more than it can have": lambda it: it.get(AO, DOUBLE, 2),
    "get no type": lambda it: it.get(AO, NO_TYPE, 1),
    "get of no channel": lambda it: message(Command.READ_NOTIFY, DOUBLE, 1, 12345, 7),
    "no such name": lambda _: message(Command.CREATE_CHANNEL, p1=55, p2=13, payload=b"C:none\0"),
    "put": lambda it: it.put(AO, DOUBLE, struct.pack(">d", 0.5)),
    "put a text that is a number": lambda it: it.put(AO, STRING, b"0.25\0"),
    "put a text that is none": lambda it: it.put(AO, STRING, b"much\0"),
    "put of no type": lambda it: it.put(AO, NO_TYPE, bytes(8)),
    "put of no channel": lambda _: message(Command.WRITE_NOTIFY, DOUBLE, 1, 12345, 7, bytes(8)),
    "put an array": lambda it: it.put(W, LONG, LONGS, 3),
    "get the array": lambda it: it.get(W, LONG, 0),
    "get two of three": lambda it: it.get(W, LONG, 2),
    "get five of three": lambda it: it.get(W, LONG, 5),
    "monitor": lambda it: it.monitor(AO, DOUBLE, VALUE, 9),
    "monitor of no type": lambda it: it.monitor(AO, NO_TYPE, VALUE, 9),
    "monitor of too many": lambda it: it.monitor(AO, DOUBLE, VALUE, 9, 3),
    "end a monitor that is not there": lambda it: message(Command.EVENT_CANCEL, DOUBLE, 1, it.sids[AO], 9),
    "clear": lambda it: message(Command.CLEAR_CHANNEL, p1=it.sids[AO], p2=AO),
    "get of a cleared channel": lambda it: (
        message(Command.CLEAR_CHANNEL, p1=it.sids[AO], p2=AO) + it.get(AO, DOUBLE, 1)
    ),
    "read sync": lambda _: message(Command.READ_SYNC),
    "old get": lambda it: message(Command.READ, DOUBLE, 1, it.sids[AO], 7),
    "no such command": lambda _: message(99),
    "put too many": lambda it: it.put(AO, DOUBLE, bytes(16), 2),
    "put without an answer": lambda it: it.write(AO, DOUBLE, struct.pack(">d", 0.5)),
    "put a text that is none without an answer": lambda it: it.write(AO, STRING, b"much\0"),
    "put of no type without an answer": lambda it: it.write(AO, NO_TYPE, bytes(8)),
    "put of no channel without an answer": lambda _: message(Command.WRITE, DOUBLE, 1, 12345, 7, bytes(8)),
    "put too many without an answer": lambda it: it.write(AO, DOUBLE, bytes(16), 2),
}

DISCONNECTS = "softIoc disconnects the client; here the one request fails, with the reason as its status"
ZEROS = "softIoc fills up with zeros; here it fails with ECA_BADCOUNT. libca refuses to ask for it"
FIRST = "softIoc takes the first; here it is refused, as whatever does not fit"

DIFFERENT = {
    "get no type": DISCONNECTS,
    "get of no channel": DISCONNECTS,
    "get of a cleared channel": DISCONNECTS,
    "put of no type": DISCONNECTS,
    "put of no channel": DISCONNECTS,
    "monitor of no type": DISCONNECTS,
    "end a monitor that is not there": "softIoc disconnects the client; here it is confirmed",
    "get more than it can have": ZEROS,
    "monitor of too many": ZEROS,
    "put of no type without an answer": DISCONNECTS,
    "put of no channel without an answer": DISCONNECTS,
    "put too many": FIRST,
    "put too many without an answer": FIRST,
}


_SIZES = {LONG: 4, DOUBLE: 8}


async def reply(port: int, asked: Callable[[Talk], bytes]) -> object:
    """What comes back, without padding; instead of a channel's number, which a server chooses, its place."""
    async with talk(port) as it:
        try:
            got = await it.answers(asked(it))
        except (asyncio.IncompleteReadError, ConnectionError):
            return "disconnected"
        shown = []
        for m in got:
            if m.command == Command.ERROR:
                sid = struct.unpack_from(">I", m.payload, 8)[0]  # of the request that the message repeats
                place = it.sids.index(sid) if sid in it.sids else -1
                text = m.payload[16:].partition(b"\0")[0].decode()  # softIoc leaves its buffer after it
                shown.append((Command.ERROR.name, hex(m.p2), m.p1, m.payload[:8].hex(), place, text))
                continue
            own = m.command == Command.CLEAR_CHANNEL or (m.command == Command.EVENT_ADD and not m.payload)
            p1 = f"channel {it.sids.index(m.p1)}" if own else m.p1
            data = m.payload[: m.count * _SIZES.get(m.dtype, 0)].hex()
            shown.append((Command(m.command).name, m.dtype, m.count, p1, m.p2, data))
        return sorted(shown, key=str)


@contextlib.asynccontextmanager
async def both(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[CaPlace, CaPlace]]:
    """softIoc's place, and this server's."""
    database = folder / "c.db"
    database.write_text(DATABASE)
    with contextlib.closing(ca_place()) as theirs, contextlib.closing(ca_place()) as ours:
        ours.put_into(monkeypatch)
        server = CAServer(pvs(), put=put, interfaces=[LOOPBACK], port=ours.port)
        await server.start()
        try:
            async with softioc(theirs, database):
                yield theirs, ours
        finally:
            await server.stop()


async def test_same_replies_as_softioc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    differ = {}
    async with both(tmp_path, monkeypatch) as (theirs, ours):
        for name, asked in ASKED.items():
            there, here = await reply(theirs.port, asked), await reply(ours.port, asked)
            if there != here:
                differ[name] = f"softIoc: {there}\nhere:    {here}"
    assert set(differ) == set(DIFFERENT), "\n".join(f"{k}\n{v}" for k, v in differ.items())


def events(got: list[Message]) -> list[Message]:
    return [m for m in got if m.command == Command.EVENT_ADD]


async def masked(port: int) -> list[tuple[float, list[tuple[int, float, int, int]]]]:
    """The events of each mask (their number is the mask) after each put: mask, value, status, severity."""
    async with talk(port) as it:
        await it.answers(*(it.monitor(AO, STS_DOUBLE, mask, mask) for mask in (VALUE, LOG, ALARM, PROPERTY)))
        found = []
        for value in (0.5, 1.5, 1.5, 8.5, 8.6, 9.5, 20.0, 20.0, 0.0):
            got = events(await it.answers(it.put(AO, DOUBLE, struct.pack(">d", value))))
            read = [(m.p2, *struct.unpack_from(">hh4xd", m.payload)) for m in got]
            found.append((value, sorted((mask, v, status, sev) for mask, status, sev, v in read)))
        return found


async def repeated(port: int) -> list[tuple[float, list[tuple[int, float]]]]:
    """The events of a PV whose dead band for VALUE is negative, after each put: mask, value."""
    async with talk(port) as it:
        await it.answers(*(it.monitor(ALWAYS, DOUBLE, mask, mask) for mask in (VALUE, LOG)))
        found = []
        for value in (1.0, 1.0, 5.0, 5.0):
            got = events(await it.answers(it.put(ALWAYS, DOUBLE, struct.pack(">d", value))))
            found.append((value, sorted((m.p2, *struct.unpack(">d", m.payload)) for m in got)))
        return found


async def held(port: int) -> tuple[int, float]:
    """How many events come while they are switched off, and the last value when they are on again."""
    async with talk(port) as it:
        await it.answers(it.monitor(AO, DOUBLE, VALUE, 9))
        it.send(message(Command.EVENTS_OFF))
        off = 0
        for value in (10.0, 20.0, 30.0, 40.0, 50.0, 60.0):
            it.send(it.put(AO, DOUBLE, struct.pack(">d", value)))
            off += len(events(await it.until(Command.WRITE_NOTIFY)))
        last = events(await it.answers(message(Command.EVENTS_ON)))[-1]
        return off, struct.unpack(">d", last.payload)[0]


async def test_same_events_as_softioc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with both(tmp_path, monkeypatch) as (theirs, ours):
        here = await masked(ours.port)
        assert here == await masked(theirs.port)
        assert {mask for _, seen in here for mask, *_ in seen} == {VALUE, LOG, ALARM}
        assert await repeated(ours.port) == await repeated(theirs.port)
        assert await held(theirs.port) == await held(ours.port) == (0, 60.0)
