"""Every field of every record type that is served, beside those of EPICS base's `softIoc`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, PVSpec
from attpc_ioc.ioc.ca.field_table import fields_of
from attpc_ioc.ioc.ca.fields import has_field
from attpc_ioc.ioc.ca.wire import Command
from attpc_ioc.ioc.records import FORMS
from tests.ca import test_messages_like_softioc as messages
from tests.ca.conftest import Rig
from tests.ca.test_messages_like_softioc import Message, Talk, both, message, talk
from tests.support.ca import USR, caget, caput
from tests.support.patience import PATIENCE_S

RECORDS = """
record(ai, "F:ai") { field(VAL, "2.5") field(PREC, "3") field(EGU, "mm") field(HOPR, "10") field(DESC, "a") }
record(ao, "F:ao") { field(VAL, "2.5") field(PREC, "1") field(DRVH, "10") field(DRVL, "-10") }
record(bi, "F:bi") { field(ZNAM, "Off") field(ONAM, "On") field(VAL, "1") }
record(bo, "F:bo") { field(ZNAM, "Off") field(ONAM, "On") field(VAL, "1") }
record(longin, "F:longin") { field(VAL, "7") }
record(longout, "F:longout") { field(VAL, "7") field(DRVH, "10") }
record(mbbi, "F:mbbi") { field(ZRST, "a") field(ONST, "b") field(TWST, "c") field(VAL, "2") }
record(mbbo, "F:mbbo") { field(ZRST, "a") field(ONST, "b") field(TWST, "c") field(VAL, "2") }
record(stringin, "F:stringin") { field(VAL, "hello") }
record(stringout, "F:stringout") { field(VAL, "hello") }
record(calc, "F:calc") { }
record(calcout, "F:calcout") { }
record(waveform, "F:waveform") { field(FTVL, "CHAR") field(NELM, "1024") }
"""

ENUM, LONG, DOUBLE, STRING = ChannelType.ENUM, ChannelType.LONG, ChannelType.DOUBLE, ChannelType.STRING
PVS = [
    PV(PVSpec("F:ai", "ai", DOUBLE, precision=3, units="mm", hopr=10, desc="a"), 2.5),
    PV(PVSpec("F:ao", "ao", DOUBLE, precision=1, drvh=10, drvl=-10), 2.5),
    PV(PVSpec("F:bi", "bi", ENUM, labels=("Off", "On")), 1),
    PV(PVSpec("F:bo", "bo", ENUM, labels=("Off", "On")), 1),
    PV(PVSpec("F:longin", "longin", LONG), 7),
    PV(PVSpec("F:longout", "longout", LONG, drvh=10), 7),
    PV(PVSpec("F:mbbi", "mbbi", ENUM, labels=("a", "b", "c")), 2),
    PV(PVSpec("F:mbbo", "mbbo", ENUM, labels=("a", "b", "c")), 2),
    PV(PVSpec("F:stringin", "stringin", STRING), "hello"),
    PV(PVSpec("F:stringout", "stringout", STRING), "hello"),
    PV(PVSpec("F:calc", "calc", DOUBLE), 0.0),
    PV(PVSpec("F:calcout", "calcout", DOUBLE), 0.0),
    PV(PVSpec("F:waveform", "waveform", ChannelType.CHAR, max_elements=1024), "abc"),
]

LIMIT = "NaN here where there is no limit, so that no client draws one at 0"
DIFFERENT = {
    **dict.fromkeys(("ai.HIHI", "ao.HIHI", "calc.HIHI", "calcout.HIHI"), LIMIT),
    **dict.fromkeys(("ai.HIGH", "ao.HIGH", "calc.HIGH", "calcout.HIGH"), LIMIT),
    **dict.fromkeys(("ai.LOW", "ao.LOW", "calc.LOW", "calcout.LOW"), LIMIT),
    **dict.fromkeys(("ai.LOLO", "ao.LOLO", "calc.LOLO", "calcout.LOLO"), LIMIT),
    "waveform.FTVL": "a text here, a menu there",
    "calc.DTYP": "softIoc has no device support for it, and no text",
}
CALCULATION = re.compile(
    r"L?[A-L]|INP[A-L]|IN[A-L]V|CALC|CLCV|OUTV|ODLY|DLYA|DOPT|OCAL|OCLV|OEVT|POVL", re.ASCII
)
"""Of a calculation that takes place elsewhere than in the record: not served."""


def all_fields(rtyp: str) -> list[str]:
    """The fields that EPICS base defines for a record type and that a client may read."""
    database = (USR.parent / "dbd" / "softIoc.dbd").read_text()
    (body,) = re.findall(rf"^recordtype\({rtyp}\) \{{\n(.*?)^\}}", database, re.MULTILINE | re.DOTALL)
    names = re.findall(r"field\((\w+), ?DBF_(?!NOACCESS)", body)
    assert len(names) > 20
    return [*names, "RTYP"]


async def reply(it: Talk, command: Command) -> Message:
    while (got := await it.read()).command not in (command, Command.CREATE_FAILED):
        pass
    return got


async def read_fields(port: int) -> dict[str, tuple[str, str | float]]:
    """The kind and the value of each field that is answered; numbers are not told apart."""
    found: dict[str, tuple[str, str | float]] = {}
    async with talk(port) as it:
        for pv in PVS:
            for name in all_fields(pv.spec.rtyp):
                full = f"{pv.name}.{name}".encode()
                it.send(message(Command.CREATE_CHANNEL, p1=9, p2=13, payload=full + b"\0"))
                channel = await reply(it, Command.CREATE_CHANNEL)
                if channel.command == Command.CREATE_FAILED:
                    continue
                kind = {0: "text", 3: "menu"}.get(channel.dtype, "number")
                it.send(message(Command.READ_NOTIFY, 6 if kind == "number" else 0, 1, channel.p2, 7))
                got = await reply(it, Command.READ_NOTIFY)
                value = got.payload.split(b"\0")[0].decode() if kind != "number" else repr(got.payload[:8])
                found[f"{pv.spec.rtyp}.{name}"] = kind, value
                it.send(message(Command.CLEAR_CHANNEL, p1=channel.p2, p2=9))
    return found


async def test_every_field_has_the_value_of_a_passive_record_in_softioc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs_too, ours_too = messages.DATABASE + RECORDS, [*messages.pvs(), *PVS]
    monkeypatch.setattr(messages, "DATABASE", theirs_too)
    monkeypatch.setattr(messages, "pvs", lambda: ours_too)
    async with both(tmp_path, monkeypatch) as (theirs, ours):
        assert (await caput(theirs, "-c", "-S", "F:waveform", "abc")).code == 0
        for pv in PVS:
            assert (await caput(theirs, "-c", f"{pv.name}.PROC", "0")).code == 0
        there, here = await read_fields(theirs.port), await read_fields(ours.port)
    wrong = {
        name: f"softIoc {there[name]}, here {here.get(name)}"
        for name in there
        if here.get(name) != there[name]
        and not (name.startswith("calc") and CALCULATION.fullmatch(name.split(".")[1]))
    }
    assert set(wrong) == set(DIFFERENT), wrong
    assert set(here) <= set(there)


def test_every_record_type_of_the_product_is_compared() -> None:
    assert {form.rtyp for form in FORMS.values()} <= {pv.spec.rtyp for pv in PVS}


CLIENTS = {
    "pyepics, Device of an ai": (
        "T:ai",
        "VAL EGU HOPR LOPR PREC NAME DESC DTYP INP LINR RVAL ROFF EGUF EGUL AOFF ASLO ESLO EOFF SMOO "
        "HIHI LOLO HIGH LOW HHSV LLSV HSV LSV HYST",
    ),
    "pyepics, Device of an ao": (
        "T:ao",
        "OUT LINR RVAL ROFF EGUF EGUL AOFF ASLO ESLO EOFF VAL EGU HOPR LOPR PREC NAME DESC DTYP HIHI LOLO "
        "HIGH LOW HHSV LLSV HSV LSV HYST OMSL DOL OIF DRVH DRVL OROC OVAL",
    ),
    # Its EGU, HOPR, LOPR and PREC no bo or bi has in EPICS.
    "pyepics, Device of a bo": ("T:bo", "DOL OMSL RVAL HIGH ZNAM ONAM VAL NAME DESC DTYP"),
    "pyepics, Device of a bi": ("T:bi", "INP ZNAM ONAM RVAL VAL NAME DESC DTYP"),
    "StripTool": ("T:ai", "HOPR LOPR PREC EGU DESC"),
    "the archiver, of every PV": ("T:ao", "NAME MDEL ADEL SCAN RTYP"),
    "the archiver, of an ao": ("T:ao", "HIHI HIGH LOW LOLO LOPR HOPR DRVH DRVL"),
    "the archiver, of a longout": ("T:longout", "HIHI HIGH LOW LOLO LOPR HOPR DRVH DRVL"),
    "the archiver, of a longin": ("T:long", "HIHI HIGH LOW LOLO LOPR HOPR"),
    "the archiver, of a waveform": ("T:numbers", "LOPR HOPR"),
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_clients_find_the_fields_they_ask_for(rig: Rig, client: str) -> None:
    name, fields = CLIENTS[client]
    ran = await caget(rig.place, "-w", str(PATIENCE_S), *(f"{name}.{field}" for field in fields.split()))
    assert ran.code == 0, ran.both
    assert ran.err == ""
    assert len(ran.out.splitlines()) == len(fields.split())


def test_no_field_is_made_before_a_client_asks() -> None:
    pv = PV(PVSpec("F:lazy", "ao", DOUBLE), 1.0)
    assert len(fields_of("ao")) > 80
    assert has_field(pv, "SCAN")
    assert pv.fields is None


async def test_filters_and_slices_are_not_found_as_the_page_says(rig: Rig) -> None:
    names = ('T:ai.{"dbnd":{"d":1.5}}', "T:numbers.[0:1]", "T:numbers[0:1]", "T:numbers.VAL[0]", "T:ai.{}")
    assert [name for name in names if rig.server.has(name)] == []
