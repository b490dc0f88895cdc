"""Short text (STRING): as long text through `$`, with all the record's events; what is too long for it."""

from __future__ import annotations

import caproto
import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, PVSpec
from attpc_ioc.ioc.ca.wire import Command, Eca, message
from tests.ca.conftest import Rig
from tests.ca.raw import Raw, raw_client
from tests.support.ca import caget, caput

STRING, CHAR = 0, 4
VALUE_AND_ALARM = 5


async def watched(raw: Raw, name: str, dtype: int, number: int) -> None:
    """Monitor value and alarm of `name`."""
    sid = (await raw.channel(name)).sid
    low_high_to_mask = bytes(12) + VALUE_AND_ALARM.to_bytes(2, "big") + bytes(2)
    raw.send(message(Command.EVENT_ADD, dtype, 0, sid, number, low_high_to_mask))
    assert (await raw.until(caproto.EventAddResponse)).subscriptionid == number


async def events(raw: Raw) -> list[int]:
    return sorted(one.subscriptionid for one in await raw.echo())


async def test_long_forms_of_short_text_have_its_events(rig: Rig) -> None:
    """`X$` and `X.VAL$` tell of an alarm alone and of a forced post; other fields of their own change."""
    record = rig["string"]
    record.post("one")
    async with raw_client(rig.server.port) as raw:
        await watched(raw, "T:string", STRING, 1)
        await watched(raw, "T:string$", CHAR, 2)
        await watched(raw, "T:string.VAL$", CHAR, 3)
        await watched(raw, "T:string.DESC", STRING, 4)
        await watched(raw, "T:string.DESC$", CHAR, 5)
        record.post("one")
        assert await events(raw) == []
        record.post("one", severity=2, status=7)
        assert await events(raw) == [1, 2, 3]
        record.post("one", severity=2, status=7, force=True)
        assert await events(raw) == [1, 2, 3]
        record.post("two", severity=2, status=7)
        assert await events(raw) == [1, 2, 3]


@pytest.fixture
def name(rig: Rig) -> PV:
    """A short text that can be written, `T:name`."""
    pv = PV(PVSpec("T:name", "stringout", ChannelType.STRING, writable=True), "before")
    rig.server.add(pv)
    return pv


async def test_short_text_of_39_and_of_40_bytes(rig: Rig, name: PV) -> None:
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:name")).sid
        for payload, status in (
            (b"y" * 40, Eca.PUTFAIL),
            (b"y" * 60 + b"\0", Eca.PUTFAIL),
            ("ä".encode() * 20, Eca.PUTFAIL),
            (b"z" * 39 + b"\0", Eca.NORMAL),
        ):
            raw.send(message(Command.WRITE_NOTIFY, STRING, 1, sid, 9, payload))
            answer = await raw.until(caproto.WriteNotifyResponse)
            assert answer.status.code_with_severity == status, payload
            assert name.value == ("before" if status is Eca.PUTFAIL else "z" * 39)
    assert (await caget(rig.place, "-t", "T:name")).out.strip() == "z" * 39


async def test_long_text_written_as_a_string_is_not_cut(rig: Rig) -> None:
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:title")).sid
        for payload, status in ((b"x" * 60 + b"\0", Eca.PUTFAIL), (b"x" * 39, Eca.NORMAL)):
            raw.send(message(Command.WRITE_NOTIFY, STRING, 1, sid, 9, payload))
            answer = await raw.until(caproto.WriteNotifyResponse)
            assert answer.status.code_with_severity == status
    assert rig["title"].value == "x" * 39
    assert [reason for _, _, reason in rig.rejected] == [
        "a string has at most 39 bytes; long text is written as bytes"
    ]


async def test_bytes_for_a_short_text(rig: Rig, name: PV) -> None:
    """libca sends no array to what has one element; others may."""
    async with raw_client(rig.server.port) as raw:
        sid = (await raw.channel("T:name")).sid
        for payload, status in ((b"hello", Eca.NORMAL), (b"y" * 40, Eca.PUTFAIL)):
            raw.send(message(Command.WRITE_NOTIFY, CHAR, len(payload), sid, 9, payload))
            answer = await raw.until(caproto.WriteNotifyResponse)
            assert answer.status.code_with_severity == status
    assert name.value == "hello"
    assert rig.rejected[-1][2] == "40 characters are more than 39"


@pytest.mark.parametrize("form", ["T:name$", "T:name.VAL$"])
async def test_short_text_written_as_bytes(rig: Rig, name: PV, form: str) -> None:
    """With `caput -S`, which refuses by itself what has no room."""
    for text, code in (("hello", 0), ("ä" * 19 + "x", 0), ("ä" * 20, 1), ("z" * 40, 1), ("z" * 39, 0)):
        before = name.value
        assert (await caput(rig.place, "-c", "-S", form, text)).code == code, text
        assert name.value == (before if code else text)
