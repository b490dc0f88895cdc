"""Texts put to numbers and labels, many of them, beside EPICS base's `softIoc`."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, PVSpec
from attpc_ioc.ioc.ca.wire import Command
from tests.ca import test_messages_like_softioc as messages
from tests.ca.test_messages_like_softioc import DOUBLE, LONG, STRING, both, message, talk

ENUM = 3
LABELS = ("None", "Idle", "2 Ready")
RECORDS = """
record(ao, "X:ao") { }
record(longout, "X:long") { }
record(bo, "X:bo") { field(ZNAM, "Done") field(ONAM, "Busy") }
record(mbbo, "X:mbbo") { field(ZRST, "None") field(ONST, "Idle") field(TWST, "2 Ready") }
"""
KINDS = {"X:ao": (DOUBLE, ">d"), "X:long": (LONG, ">i"), "X:bo": (ENUM, ">H"), "X:mbbo": (ENUM, ">H")}

TEXTS = (
    *("0", "1", "+1", "-1", "-0", "01", "010", "-010", "08", " 1", "1 ", "1\t", "\v1\r\n", "1.", "1.0"),
    *(".5", "1.5"),
    *("1e3", "1E3", "1.e3", "-.5e-2", "1e+2", "1e", "1e+", "1d3", "1e 3", "- 1", "--1", "+-1", "", "  "),
    *("one",),
    *("0x10", "0X1F", "-0x10", "+0x1f", "  0x10 ", "0x", "0x1p3", "0x1.8P1", "0x.8", "0x1p", "0x1p+", "0x1G"),
    *("0b1", "0o17", "0x7fffffff", "0x80000000", "0xffffffffffffffffff", "0x1p1024", "-0x1p9999", "1_000"),
    *("1,5",),
    *("2147483647", "2147483648", "-2147483648", "-2147483649", "99999999999", "1e400", "-1e400", "1 2"),
    *("1;",),
    *("nan", "NaN", "-nan", "nan(1)", "inf", "-Infinity", "infx", "nanx", "1 V", "1V", "1.5 mm", "1x"),
    *("1L", "1f"),
    *("\N{ARABIC-INDIC DIGIT ONE}", "\N{NO-BREAK SPACE}1", "Done", "done", "Busy", "Busy ", " Idle"),
    *("2 Ready", "2"),
    *("3", "16", "65536", "4294967296", "TRUE"),
)

REFUSED = "refused"
NO_DOUBLE = {
    *("1e", "1e+", "1d3", "1e 3", "0x", "0x1p", "0x1p+", "0x1G", "0b1", "0o17", "1_000", "1,5", "1 2"),
    *("1;", "1f"),
    *("1 V", "1V", "1.5 mm", "1x", "1L", "2 Ready", ""),
    *("nan", "NaN", "-nan", "nan(1)", "inf", "-Infinity", "infx", "nanx"),
}
"""Refused here for a double; softIoc takes the number at the beginning, 0 for an empty text, and NaN."""

WHOLE_NUMBERS = {
    "1.": 1,
    "1.0": 1,
    "1e3": 1000,
    "1E3": 1000,
    "1.e3": 1000,
    "1e+2": 100,
    "0x7fffffff": 0x7FFFFFFF,
    "0x10": 16,
    "0X1F": 31,
    "-0x10": -16,
    "+0x1f": 31,
    "  0x10 ": 16,
    "0x1p3": 8,
    "0x1.8P1": 3,
}
"""What other texts are to a long; softIoc takes the decimal digits at the beginning, 1 or 0 mostly."""


def expected(name: str, text: str, there: float | str) -> float | str:
    """What is to come of a text here, when `there` comes of it in softIoc."""
    if name == "X:ao":
        return REFUSED if text in NO_DOUBLE else there
    if re.fullmatch(r"\s*[+-]?\d+\s*", text, re.ASCII) or name == "X:bo":
        return there
    if name == "X:long":
        return WHOLE_NUMBERS.get(text, REFUSED)
    return there if text in LABELS else REFUSED


async def put_all(port: int) -> dict[tuple[str, str], float | str]:
    """What each record has after each text was put to it."""
    found: dict[tuple[str, str], float | str] = {}
    async with talk(port) as it:
        for number, (name, (dtype, form)) in enumerate(KINDS.items()):
            it.send(message(Command.CREATE_CHANNEL, p1=50 + number, p2=13, payload=name.encode() + b"\0"))
            it.sids.append((await it.until(Command.CREATE_CHANNEL))[-1].p2)
            which = len(it.sids) - 1
            for text in TEXTS:
                got = await it.answers(
                    it.put(which, dtype, struct.pack(form, 0), request=8),
                    it.put(which, STRING, text.encode() + b"\0", request=9),
                )
                (status,) = [m.p1 for m in got if m.command == Command.WRITE_NOTIFY and m.p2 == 9]
                (reply,) = await it.answers(it.get(which, dtype, 1))
                value = struct.unpack_from(form, reply.payload)[0]
                assert status == 1 or value == 0
                found[name, text] = value if status == 1 else REFUSED
    return found


async def test_texts_become_the_numbers_and_labels_that_softioc_makes_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [
        PVSpec("X:ao", "ao", ChannelType.DOUBLE, writable=True),
        PVSpec("X:long", "longout", ChannelType.LONG, writable=True),
        PVSpec("X:bo", "bo", ChannelType.ENUM, labels=("Done", "Busy"), writable=True),
        PVSpec("X:mbbo", "mbbo", ChannelType.ENUM, labels=LABELS, writable=True),
    ]
    theirs_too, ours_too = messages.DATABASE + RECORDS, [*messages.pvs(), *map(PV, specs)]
    monkeypatch.setattr(messages, "DATABASE", theirs_too)
    monkeypatch.setattr(messages, "pvs", lambda: ours_too)
    async with both(tmp_path, monkeypatch) as (theirs, ours):
        there, here = await put_all(theirs.port), await put_all(ours.port)
    wrong = {
        key: f"softIoc {value}, here {here[key]}"
        for key, value in there.items()
        if here[key] != expected(*key, value)
    }
    assert wrong == {}
