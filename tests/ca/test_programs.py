"""EPICS base's own programs against the server."""

from __future__ import annotations

import asyncio

import pytest

from tests.ca.conftest import Rig
from tests.support.ca import caget, camonitor, caput, run


async def test_caget_of_every_pv_as_every_type(rig: Rig) -> None:
    kinds = [kind for kind in range(39) if kind not in (35, 36)]
    # A type that cannot be had makes caget wait for its whole limit; so does, for once, a busy machine.
    for some in (kinds[:13], kinds[13:26], kinds[26:]):
        runs = [caget(rig.place, "-w", "3", "-d", str(kind), *rig.pvs) for kind in some]
        for kind, ran in zip(some, await asyncio.gather(*runs), strict=True):
            assert ran.code >= 0, (kind, ran)
            assert "connect timed out" not in ran.both, (kind, ran)
            assert "nternal" not in ran.both, (kind, ran)
    ran = await caget(rig.place, *rig.pvs)
    assert ran.code == 0, ran


async def test_values_as_people_see_them(rig: Rig) -> None:
    ran = await caget(rig.place, "-t", "T:bi", "T:state", "T:long", "T:ai", "T:string")
    assert ran.out.split("\n")[:5] == ["Busy", "Ready", "42", "1.5", "Grüße"]
    ran = await caget(rig.place, "-t", "-S", "T:text")
    assert ran.out.strip() == rig["text"].value
    ran = await caget(rig.place, "-t", "-d", "DBR_STRING", "T:text", "T:ai")
    values = [line.split("Value:")[1].strip() for line in ran.out.splitlines() if "Value:" in line]
    assert values == ["long text: " + "äöü" * 4 + "äö", "1.500"]
    ran = await caget(rig.place, "-t", "T:strings")
    assert ran.out.strip().endswith("one two drei µ")


async def test_caput_with_completion(rig: Rig) -> None:
    ran = await caput(rig.place, "-c", "T:longout", "12")
    assert ran.code == 0, ran
    assert rig["longout"].value == 12
    name, value, client = rig.puts[-1]
    assert (name, value) == ("T:longout", 12)
    assert client.user
    assert client.host
    assert client.address.startswith("127.0.0.1:")


@pytest.mark.parametrize("reason", ["not now"])
async def test_refused_put(rig: Rig, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    rig.refuse = reason
    ran = await caput(rig.place, "-c", "T:longout", "12")
    assert ran.code == 1
    assert "Channel write request failed" in ran.both
    assert rig["longout"].severity == 0
    assert "Traceback" not in caplog.text
    rig.refuse = ""
    ran = await caput(rig.place, "-c", "T:longout", "13")
    assert ran.code == 0, ran


async def test_camonitor(rig: Rig) -> None:
    async with camonitor(rig.place, "T:state", "T:ai") as monitor:
        await monitor.until(2)
        rig["state"].post(1, severity=2, status=7)
        assert "Idle STATE MAJOR" in await monitor.until_text("Idle")
        rig["ai"].post(7.25)
        await monitor.until_text("7.25")


async def test_fields(rig: Rig) -> None:
    fields = {
        "T:state.DESC": "state of things",
        "T:state.RTYP": "mbbi",
        "T:state.NAME": "T:state",
        "T:state.ONST": "Idle",
        "T:bi.ONAM": "Busy",
        "T:bi.OSV": "MAJOR",
        "T:state.SEVR": "NO_ALARM",
        "T:ai.EGU": "MB/s",
        "T:ai.PREC": "3",
        "T:ai.HIHI": "9",
        "T:ai.HHSV": "MAJOR",
        "T:ai.LOLO": "nan",
        "T:ai.VAL": "1.5",
        "T:strings.NELM": "50",
        "T:strings.NORD": "3",
        "T:strings.FTVL": "STRING",
    }
    ran = await caget(rig.place, "-t", *fields)
    assert dict(zip(fields, ran.out.splitlines(), strict=True)) == fields
    ran = await caget(rig.place, "-t", "-S", "T:string.VAL$", "T:string$", "T:state.DESC$", "T:text$")
    assert ran.out.splitlines() == ["Grüße", "Grüße", "state of things", rig["text"].value]


async def test_cainfo(rig: Rig) -> None:
    ran = await run(rig.place, "cainfo", "T:state", "T:longout")
    assert ran.code == 0
    assert ran.out.count("Native data type: DBF_ENUM") == 1
    assert "Access:           read, no write" in ran.out
    assert "Access:           read, write" in ran.out


async def test_a_get_after_a_put_without_completion_sees_the_new_value(rig):
    # caput without -c puts, gets, and prints what it got as "New".
    for value in ("11", "12", "13"):
        ran = await caput(rig.place, "T:longout", value)
        assert ran.out.split("New :")[1].split()[-1] == value, ran.out
