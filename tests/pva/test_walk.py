"""Every PV of the table over PVAccess and over Channel Access, field by field."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any

import aioca
import pytest
from p4p.client.asyncio import Context

from attpc_ioc.ioc.ca import STATUS_LABELS
from attpc_ioc.ioc.pvaccess import form_of
from attpc_ioc.model.command import ScopeKind
from attpc_ioc.pva import Form
from attpc_ioc.pvs.row import Record
from attpc_ioc.pvs.table import PvEntry
from tests.ioc.test_every_pv import HISTORY, chunks
from tests.support.ca import camonitor, eventually, libca_place, run
from tests.support.data_rig import data_rig
from tests.support.patience import PATIENCE_S
from tests.support.pva import fields, p4p_client, pva_run, pvget

ID = {
    Form.ENUM: "epics:nt/NTEnum:1.0",
    Form.STRINGS: "epics:nt/NTScalarArray:1.0",
    Form.DOUBLES: "epics:nt/NTScalarArray:1.0",
}
CATEGORY = {"NO_ALARM": 0, "STATE": 1, "HIHI": 1, "HIGH": 1, "LOW": 1, "LOLO": 1, "COMM": 2, "UDF": 2}
"""The normative types' status of EPICS's, as QSRV has it."""


@pytest.fixture
async def it(tmp_path, monkeypatch):
    """libca reads its variables once, so that all its servers are in one corner."""
    place = libca_place()
    monkeypatch.setattr("tests.support.rig.ca_place", lambda: place)
    monkeypatch.setattr(place, "close", lambda: None)
    async with data_rig(tmp_path, monkeypatch, alone=False, **HISTORY) as it:
        yield it
        aioca.purge_channel_caches()


async def over_ca(entry: PvEntry) -> tuple[Any, dict[str, Any]]:
    """Value with time stamp, and all that Channel Access says of it."""
    text = entry.row.record is Record.LONG_TEXT
    timed = await aioca.caget(
        entry.name, format=aioca.FORMAT_TIME, datatype=aioca.DBR_CHAR_STR if text else None
    )
    about = {"alarm.severity": timed.severity, "alarm.status": CATEGORY[STATUS_LABELS[timed.status]]}
    about["alarm.message"] = STATUS_LABELS[timed.status] if timed.status else ""
    about["display.description"] = await aioca.caget(f"{entry.name}.DESC$", datatype=aioca.DBR_CHAR_STR)
    form = form_of(entry)
    if form is Form.INT and entry.row.labels:
        return timed, about
    if form is Form.ENUM:
        control = await aioca.caget(entry.name, format=aioca.FORMAT_CTRL)
        about["value.choices"] = list(control.enums)
    elif form.is_number:
        control = await aioca.caget(entry.name, format=aioca.FORMAT_CTRL)
        about |= {
            "display.units": control.units,
            "display.limitHigh": control.upper_disp_limit,
            "display.limitLow": control.lower_disp_limit,
            "control.limitHigh": control.upper_ctrl_limit,
            "control.limitLow": control.lower_ctrl_limit,
            "valueAlarm.highAlarmLimit": control.upper_alarm_limit,
            "valueAlarm.highWarningLimit": control.upper_warning_limit,
            "valueAlarm.lowWarningLimit": control.lower_warning_limit,
            "valueAlarm.lowAlarmLimit": control.lower_alarm_limit,
        }
        if form is Form.DOUBLE:
            about["display.precision"] = control.precision
            severities = (
                ("highAlarm", "HHSV"),
                ("highWarning", "HSV"),
                ("lowWarning", "LSV"),
                ("lowAlarm", "LLSV"),
            )
            for name, field in severities:
                severity = await aioca.caget(f"{entry.name}.{field}", datatype=int)
                about[f"valueAlarm.{name}Severity"] = int(severity)
    return timed, about


def same(one: Any, other: Any) -> bool:
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return both_nan or one == other


def same_value(entry: PvEntry, shown: Any, timed: Any) -> bool:
    match form_of(entry):
        case Form.STRINGS:
            return [text.encode()[:39] for text in shown] == [str(text).encode() for text in timed]
        case Form.DOUBLES:
            return shown == list(timed)
        case _:
            return same(shown, type(shown)(timed))


async def compare(client: Context, entry: PvEntry) -> None:
    while True:
        value = await client.get(entry.name)
        found = fields(value)
        timed, expected = await over_ca(entry)
        if (found["timeStamp.secondsPastEpoch"], found["timeStamp.nanoseconds"]) == timed.raw_stamp:
            break  # else it changed in between
    form = form_of(entry)
    assert value.getID() == ID.get(form, "epics:nt/NTScalar:1.0"), entry.name
    if form is not Form.ENUM:
        assert value.type()["value"] == form.value, entry.name
    shown = found["value.index" if form is Form.ENUM else "value"]
    assert same_value(entry, shown, timed), (entry.name, shown, timed)
    wrong = {name: (found[name], right) for name, right in expected.items() if not same(found[name], right)}
    assert not wrong, (entry.name, wrong)


async def test_every_pv_is_equal_over_both_protocols(it):
    async with p4p_client(it.place) as client:
        for entries in chunks(it.app.table):
            await asyncio.gather(*(compare(client, entry) for entry in entries))


@pytest.mark.parametrize(("program", "options"), [("pvget", ("-M", "raw")), ("pvinfo", ())])
async def test_programs_of_every_pv(it, program, options):
    """These programs now and then print a value without its name: the rest is asked for singly, and again."""
    for entries in chunks(it.app.table):
        names = {entry.name for entry in entries}
        ran = await pva_run(it.place, program, *options, *names)
        shown = {line.split(" ", 1)[0] for line in ran.out.splitlines()}
        for name in names - shown:
            for _ in range(5):
                again = pvget(it.place, *options, name) if options else pva_run(it.place, program, name)
                ran = await again
                assert (ran.code, ran.err) == (0, ""), ran
                if ran.out.startswith(name):
                    break
            else:
                raise AssertionError(ran)


async def test_pvmonitor_of_every_pv(it):
    """It is asked again for what it has not shown.

    Where a value comes before its monitor is made, it prints "bad_weak_ptr" and never shows that PV.
    """
    missing = {entry.name for entry in it.app.table}

    def see(lines: list[str]) -> bool:
        missing.difference_update(line.split(" ", 1)[0] for line in lines)
        return not missing

    for _ in range(4):
        async with camonitor(it.place, "-M", "raw", *missing, name="pvmonitor") as monitor:
            with contextlib.suppress(TimeoutError):
                await eventually(lambda lines=monitor.lines: see(lines), limit_s=PATIENCE_S / 4)
        if not missing:
            break
    assert not missing


def is_module(entry: PvEntry) -> bool:
    return entry.row.part == "State_RBV" and entry.scope.kind in (ScopeKind.ECC, ScopeKind.SOURCE)


async def test_pvlist_names_every_pv(it):
    port = it.app.server.pvaccess.server.port
    ran = await run(it.place, "pvlist", f"127.0.0.1:{port}")
    assert (ran.code, ran.err) == (0, "")
    names = {entry.name for entry in it.app.table}
    names |= {it.prefix + table for table in ("Fleet", "Routers", "History", "Alarms", "PVI")}
    names |= {f"{it.prefix}{scope}:PVI" for scope in ("Run", "Ecc", "Sources")}
    names |= {entry.name.removesuffix("State_RBV") + "PVI" for entry in it.app.table if is_module(entry)}
    assert set(ran.out.split()) == names
    assert f"127.0.0.1:{port}" in (await run(it.place, "pvlist")).out
