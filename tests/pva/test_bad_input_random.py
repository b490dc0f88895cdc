"""Random puts over PVAccess to every writable PV, as over Channel Access, and sessions with bytes changed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import secrets
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import strategies as st
from p4p import Value
from p4p.client.thread import RemoteError

from attpc_ioc.ioc.ca import PV, ChannelType, PVSpec
from attpc_ioc.ioc.pvaccess import form_of
from attpc_ioc.model.states import State
from attpc_ioc.pva import Form, Put
from tests.ca.test_fuzz import mutated
from tests.support.bad_input import STARTS, see_random_puts
from tests.support.ca import LOOPBACK, CaPlace, free_port
from tests.support.puts import PREFIX, TABLE, WRITABLE, meaningful, to_any
from tests.support.pva import p4p_client, pva_server
from tests.support.rig import Rig

FORMS = {entry.name.removeprefix(PREFIX): form_of(entry) for entry in TABLE if entry.row.writable}

JUNK: dict[Form, st.SearchStrategy[Any]] = {
    Form.INT: st.integers(-(2**31), 2**31 - 1),
    Form.ENUM: st.integers(-(2**31), 2**31 - 1),
    Form.DOUBLE: st.floats(),
    Form.STRING: st.text(max_size=300) | st.sampled_from(("ä" * 201, "ä" * 3000, "\0", "x" * 100_000)),
}
"""Whatever the type can carry: clients convert to it or refuse themselves."""

OTHERS: tuple[tuple[str, st.SearchStrategy[Any]], ...] = (
    ("alarm.severity", st.integers(-5, 5)),
    ("alarm.message", st.text(max_size=5)),
    ("timeStamp.userTag", st.integers(0, 5)),
    ("display.description", st.text(max_size=5)),
)
"""Fields that every type has, and nobody may write."""


ANY = bytes(10) + b"\xff\xff" + bytes(4)
"""The address in an answer to a search: the one that it comes from."""


@dataclass(frozen=True)
class PvaPut:
    """A put of some fields, or of none; with `wait` the client waits for the answer before the next one."""

    name: str
    fields: tuple[tuple[str, Any], ...]
    block: bool
    wait: bool

    def build(self, value: Value) -> None:
        """Fill in what the client sends."""
        value.unmark()
        for name, one in self.fields:
            value[name] = one


def of(name: str) -> st.SearchStrategy[PvaPut]:
    """Puts to a PV, two of three sensible."""
    form, row = FORMS[name], WRITABLE[name]
    field = "value.index" if form is Form.ENUM else "value"
    good = meaningful(name, row).map(lambda value: ((field, value),))
    junk = JUNK[form].map(lambda value: ((field, value),))
    other = st.lists(st.one_of([st.tuples(st.just(key), values) for key, values in OTHERS]), max_size=2)
    odd = st.tuples(junk | st.just(()), other).map(lambda parts: (*parts[0], *parts[1]))
    choices = st.just((("value.choices", ["a", "b"]),)) if form is Form.ENUM else junk
    fields = st.one_of(good, good, good, good, junk, odd | choices)
    return st.builds(PvaPut, st.just(name), fields, st.booleans(), st.booleans())


PUTS = to_any(of)


async def play(it: Rig, sequence: list[PvaPut]) -> None:
    async with p4p_client(it.place) as client, asyncio.timeout(60):
        reasons: list[str] = []

        async def put(one: PvaPut) -> None:
            request = "field()record[block=true]" if one.block else None
            try:
                await client.put(it.prefix + one.name, one.build, request=request, get=False)
            except RemoteError as error:
                reasons.append(str(error))

        waiting: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            for one in sequence:
                waiting.add(group.create_task(put(one)))
                if one.wait:
                    await asyncio.wait(waiting)
                    waiting.clear()
        assert all(reasons), reasons


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS, ids=lambda state: state.label)
def test_random_puts(start: State) -> None:
    see_random_puts(start, PUTS, play)


@contextlib.asynccontextmanager
async def recorder(place: CaPlace) -> AsyncIterator[tuple[CaPlace, list[bytearray]]]:
    """Relay to a server; yields a corner for clients without searches, and what each has sent."""
    port = free_port()
    server_port, own_port = (struct.pack("<H", one) for one in (place.pva_port, port))
    sessions: list[bytearray] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = bytearray()
        sessions.append(session)
        from_server, to_server = await asyncio.open_connection(LOOPBACK, place.pva_port)

        async def back() -> None:
            while data := await from_server.read(1 << 16):
                # The answer to a search names the server's port, after its address.
                writer.write(data.replace(ANY + server_port, ANY + own_port))

        async with asyncio.TaskGroup() as group:
            answering = group.create_task(back())
            while data := await reader.read(1 << 16):
                session += data
                to_server.write(data)
            answering.cancel()
        for end in (writer, to_server):
            end.transport.abort()

    async with await asyncio.start_server(take, LOOPBACK, port):
        corner = CaPlace(
            place.port,
            place.repeater,
            free_port(),
            {"EPICS_PVA_NAME_SERVERS": f"{LOOPBACK}:{port}"},
        )
        yield corner, sessions


def messages(session: bytes) -> list[bytes]:
    """The messages of a session, each with a header of 8 bytes: flags in the third, the size at the end."""
    found: list[bytes] = []
    at = 0
    while at + 8 <= len(session):
        flags = session[at + 2]
        (size,) = struct.unpack_from(">I" if flags & 0x80 else "<I", session, at + 4)
        end = at + 8 + (0 if flags & 1 else size)
        found.append(session[at:end])
        at = end
    return found


@pytest.mark.parametrize("seed", range(2))
async def test_sessions_with_bytes_changed(seed, caplog, capfd):
    """Fields and channels that do not exist, lengths that lie: neither others nor the log notice."""
    prefix = f"T{secrets.token_hex(3)}:"
    pvs = {
        Form.STRING: PV(PVSpec(prefix + "text", "lsi", ChannelType.CHAR, 1024, writable=True), ""),
        Form.DOUBLE: PV(PVSpec(prefix + "ao", "ao", ChannelType.DOUBLE, writable=True), 0.0),
        Form.ENUM: PV(
            PVSpec(prefix + "choice", "mbbo", ChannelType.ENUM, labels=("a", "b"), writable=True), 0
        ),
    }
    heard: list[Put] = []

    async def ignore(_value: object) -> None:
        pass

    def put(record: Any, one: Put) -> None:
        heard.append(one)

    chance = random.Random(seed)
    async with pva_server([(pv, form) for form, pv in pvs.items()], put_to=put) as (_, place):
        async with recorder(place) as (corner, sessions):
            for name, value in (("text", "some text"), ("text", "x" * 300), ("ao", 1.5), ("choice", 1)):
                async with p4p_client(corner) as client:
                    await client.put(prefix + name, value, wait=True)
                    subscription = client.monitor(prefix + name, ignore)
                    await client.get([pv.name for pv in pvs.values()])
                    subscription.close()
        assert len(sessions) == 4
        assert [one.value for one in heard] == ["some text", "x" * 300, 1.5, 1]
        async with p4p_client(place) as healthy:
            for _ in range(100):
                _, writer = await asyncio.open_connection(LOOPBACK, place.pva_port)
                parts = messages(bytes(chance.choice(sessions)))
                for at in chance.choices(range(len(parts)), k=2):
                    parts[at] = mutated(parts[at], chance)
                for part in parts:
                    writer.write(part)
                    await asyncio.sleep(0.002)  # a client waits for the answer
                assert (await healthy.get(prefix + "text")).value == ""
                writer.transport.abort()
            await healthy.put(prefix + "text", "fine")
        assert heard[-1].value == "fine"
        assert len(heard) > 20
        for one in heard:
            assert one.fault or isinstance(one.value, str | int | float)
    assert not [record for record in caplog.records if record.exc_info]
    # An earlier test's client in this process may still look for its repeater.
    err = re.sub("CA client library is unable.*\n.*\n.*\n", "", capfd.readouterr().err)
    assert err == ""
