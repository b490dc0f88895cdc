"""Run sheets in a whole system: what people write, what other PVs say, runs that follow each other."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path

import pytest
from attpc_plugins.run_history.settings import RunHistorySettings
from attpc_plugins.run_history.sheets.settings import ObservableSettings
from attpc_plugins.run_history.store.model.history import Measurement, Moment, Observable
from attpc_plugins.run_history.store.model.values import ValueKind
from pydantic import ValidationError

from attpc_ioc.model.states import State
from tests.support.ca import free_port
from tests.support.history import EXPERIMENT, drained, history_rig, reading, until, untroubled
from tests.support.pace import Stopwatch
from tests.support.rig import Rig
from tests.support.softioc import soft_ioc
from tests.support.state_dir import make_unwritable, make_writable

SHEET = """
observable_limit_s = 2.5
[[plugins.run_history.observable]]
name = "Pressure"
units = "mbar"
comment = "Pressure of the target"
[[plugins.run_history.observable]]
name = "Gas"
type = "string"
[[plugins.run_history.observable]]
name = "Pumps"
type = "integer"
carry = false
"""

SOURCES = """
[[plugins.run_history.observable]]
name = "Field"
units = "T"
pv = "S:field"
[[plugins.run_history.observable]]
name = "Valve"
type = "string"
pv = "S:valve"
[[plugins.run_history.observable]]
name = "Gone"
pv = "S:gone"
[[plugins.run_history.observable]]
name = "Nan"
pv = "S:nan"
"""

RECORDS = """
record(ao, "S:field") {
    field(VAL,"2.85") field(EGU,"kG") field(PINI,"YES") field(HIGH,"2") field(HSV,"MINOR")
}
record(mbbo, "S:valve") { field(ZRST,"Shut") field(ONST,"Open") field(VAL,"1") field(PINI,"YES") }
record(calc, "S:nan") { field(CALC,"0/0") field(PINI,"YES") }
"""


async def run_once(it: Rig) -> int:
    """Take a run and return its number."""
    await it.ok("Run:Start")
    await it.ok("Run:Stop")
    return it.run.number


async def sheet_of(dsn: str, number: int) -> dict[tuple[str, Moment], Measurement]:
    async with reading(dsn) as store:
        detail = await store.run(EXPERIMENT, number)
    return {(m.observable, m.moment): m for m in detail.measurements}


async def until_measured(dsn: str, number: int, *keys: tuple[str, Moment]) -> dict:
    found: dict = {}

    async def there() -> bool:
        found.clear()
        found.update(await sheet_of(dsn, number))
        return all(key in found for key in keys)

    await until(there, 10.0, f"{keys} of run {number}, {found}")
    return found


async def test_what_people_write_is_of_the_run_that_is_on_or_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    entered = Moment.ENTERED
    async with history_rig(tmp_path, monkeypatch, dsn, section=SHEET, cobos=1) as it:
        assert await it.get("Obs:Pressure.EGU") == "mbar"
        assert await it.get("Obs:Pressure.DESC") == "Pressure of the target"
        await it.take_to(State.READY)
        await it.ok("Obs:Pressure", "500.5")
        assert (await it.put_text("Obs:Gas", "D2 ☢")).code == 0
        await it.ok("Obs:Pumps", "3")
        assert await it.get("Obs:Pressure") == "500.5"

        await it.ok("Run:Start")
        first = it.run.number
        await it.ok("Obs:Pressure", "501")
        assert await it.get("Obs:Pressure") == "501"
        await it.ok("Run:Stop")
        await it.ok("Obs:Pressure", "502")  # of the next one
        second = await run_once(it)
        third = await run_once(it)
        await drained(it)

        keys = [("Pressure", entered), ("Gas", entered)]
        found = await until_measured(dsn, first, *keys)
        assert found["Pressure", entered].value == 501.0
        assert found["Pressure", entered].units == "mbar"
        assert "@" in found["Pressure", entered].entered_by
        assert found["Gas", entered].value == "D2 ☢"
        assert found["Pumps", entered].value == 3
        found = await until_measured(dsn, second, *keys)
        assert (found["Pressure", entered].value, found["Pressure", entered].carried) == (502.0, False)
        assert (found["Gas", entered].value, found["Gas", entered].carried) == ("D2 ☢", True)
        assert ("Pumps", entered) not in found
        found = await until_measured(dsn, third, *keys)
        assert (found["Pressure", entered].value, found["Pressure", entered].carried) == (502.0, True)

        async with reading(dsn) as store:
            names = [(o.name, o.kind, o.units) for o in await store.observables(EXPERIMENT)]
        assert names == [
            ("Pressure", ValueKind.FLOAT, "mbar"),
            ("Gas", ValueKind.STRING, ""),
            ("Pumps", ValueKind.INTEGER, ""),
        ]

        for name, value in (("Obs:Pumps", "many"), ("Obs:Pressure", "nan"), ("Obs:Pumps", "1e12")):
            assert (await it.put(name, value)).code != 0, (name, value)
        assert await it.get("Obs:Pumps") == "3"


async def test_what_was_written_for_the_next_run_survives_the_ioc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn, section=SHEET, cobos=1) as it:
        await it.take_to(State.READY)
        await it.ok("Obs:Pressure", "7.5")
        await it.stop_ioc()
        await it.start_ioc()
        assert await it.get("Obs:Pressure") == "7.5"
        await it.until(lambda: it.run.checklist == (), 10.0, f"ready: {it.run.checklist}")
        await it.ok("Run:Start")
        number = it.run.number
        found = await until_measured(dsn, number, ("Pressure", Moment.ENTERED))
        assert found["Pressure", Moment.ENTERED].value == 7.5

        # A run that is found again has its sheet already, and takes what is written now.
        await it.stop_ioc()
        await it.start_ioc()
        await it.until(lambda: it.run.state.label == "Running", 10.0)
        assert (await it.put_text("Obs:Gas", "Ar")).code == 0
        await it.ok("Run:Stop")
        await drained(it)
        found = await sheet_of(dsn, number)
        assert (found["Gas", Moment.ENTERED].value, found["Pressure", Moment.ENTERED].value) == ("Ar", 7.5)


async def test_values_of_other_iocs_at_start_and_at_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    start, stop = Moment.START, Moment.STOP
    async with soft_ioc(tmp_path, RECORDS) as other:
        section = SHEET + SOURCES
        async with history_rig(tmp_path, monkeypatch, dsn, section=section, cobos=1) as it:
            monkeypatch.setenv("EPICS_CA_ADDR_LIST", other.address)
            await it.take_to(State.READY)
            taking = Stopwatch(programs=True)
            await it.ok("Run:Start")
            assert taking.s < 3.0
            number = it.run.number
            found = await until_measured(dsn, number, ("Field", start), ("Gone", start))
            field = found["Field", start]
            assert (field.value, field.units, field.severity, field.pv) == (2.85, "kG", 1, "S:field")
            assert field.stamped_at is not None
            assert found["Valve", start].value == "Open"
            gone = found["Gone", start]
            assert (gone.value, gone.fault, gone.severity, gone.pv) == (None, "disconnected", 3, "S:gone")
            nan = found["Nan", start]
            assert isinstance(nan.value, float)
            assert math.isnan(nan.value)
            assert "not a finite number" in nan.fault
            assert await it.get("Obs:Field") == "2.85"
            assert await it.severity("Obs:Field") == "MINOR"
            assert await it.severity("Obs:Gone") == "INVALID"
            assert await it.get_text("Obs:Valve") == "Open"

            await other.put("S:field", "1.5")
            await other.put("S:valve", "Shut")
            await it.ok("Run:Stop")
            found = await until_measured(dsn, number, ("Field", stop), ("Gone", stop), ("Valve", stop))
            assert (found["Field", stop].value, found["Field", stop].severity) == (1.5, 0)
            assert (found["Field", start].value, found["Valve", stop].value) == (2.85, "Shut")
            await untroubled(it)


async def test_a_hung_ioc_elsewhere_delays_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with (
        soft_ioc(tmp_path, RECORDS) as other,
        history_rig(tmp_path, monkeypatch, dsn, section=SHEET + SOURCES, cobos=1) as it,
    ):
        monkeypatch.setenv("EPICS_CA_ADDR_LIST", other.address)
        await it.take_to(State.READY)
        os.kill(other.pid, signal.SIGSTOP)
        try:
            taking = Stopwatch(programs=True)
            number = await run_once(it)
            assert taking.s < 3.0
            found = await until_measured(dsn, number, ("Field", Moment.START), ("Field", Moment.STOP))
            assert found["Field", Moment.STOP].fault == "disconnected"
        finally:
            os.kill(other.pid, signal.SIGCONT)


async def test_a_long_text_of_the_ioc_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    title = "Größe µ ☢ " * 10
    async with history_rig(tmp_path, monkeypatch, dsn, cobos=1) as it:
        async with reading(dsn) as store:
            sheet = Observable("Title", ValueKind.STRING, pv=f"{it.prefix}Run:Title")
            await store.put_observable(EXPERIMENT, sheet)
        # Its own PVs are found without anything in the environment that leads to them.
        monkeypatch.delenv("EPICS_CA_ADDR_LIST")
        monkeypatch.setenv("EPICS_CA_SERVER_PORT", str(free_port()))
        await it.put_text("Run:Title", title)
        await it.take_to(State.READY)
        # Observables that were added by command are known after the sheet was read again.
        await it.stop_ioc()
        await it.start_ioc()
        await it.until(lambda: it.run.checklist == (), 10.0, f"ready: {it.run.checklist}")
        await it.until(lambda: it.app.host.plugins["run_history"].plugin.service.sheet._known, 10.0)
        number = await run_once(it)
        found = await until_measured(dsn, number, ("Title", Moment.STOP))
        assert found["Title", Moment.STOP].value == title


async def test_settings_win_over_the_shell_for_what_they_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with reading(dsn) as store:
        await store.create_experiment(EXPERIMENT)
        await store.put_observable(EXPERIMENT, Observable("Gas", ValueKind.FLOAT, "l"))
        await store.put_observable(EXPERIMENT, Observable("By hand", ValueKind.STRING))
    async with history_rig(tmp_path, monkeypatch, dsn, section=SHEET, cobos=1), reading(dsn) as store:

        async def there() -> bool:
            return len(await store.observables(EXPERIMENT)) == 4

        await until(there, 10.0, "the sheet")
        found = {o.name: o for o in await store.observables(EXPERIMENT)}
    assert (found["Gas"].kind, found["Gas"].units) == (ValueKind.STRING, "")
    assert "By hand" in found


async def test_what_version_01_kept_of_the_sheet_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    folder = tmp_path / "state" / "plugins" / "run_history"
    folder.mkdir(parents=True)
    note = {
        "name": "Pressure",
        "entry": {"value": {"float": 7.5}, "time_s": 1.5e9, "who": {"user": "ann"}, "pending": True},
    }
    (folder / "sheet.json").write_text(json.dumps({"notes": [note]}))
    async with history_rig(tmp_path, monkeypatch, dsn, section=SHEET, cobos=1) as it:
        assert not (folder / "sheet.json").exists()
        assert (tmp_path / "state" / "before-0.2" / "run_history" / "sheet.json").exists()
        assert await it.get("Obs:Pressure") == "7.5"
        await it.stop_ioc()
        await it.start_ioc()
        assert await it.get("Obs:Pressure") == "7.5"
        await it.take_to(State.READY)
        await it.until(lambda: it.run.checklist == (), 10.0, f"ready: {it.run.checklist}")
        number = await run_once(it)
        found = await until_measured(dsn, number, ("Pressure", Moment.ENTERED))
        entered = found["Pressure", Moment.ENTERED]
        assert (entered.value, entered.entered_by) == (7.5, "ann@?")


@pytest.mark.parametrize(
    "content", ["{", '{"notes": 3}', '{"notes": [{"name": "Gas", "entry": {}}]}', "\x00", "[" * 100_000]
)
async def test_a_broken_sheet_of_version_01_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str, content: str
) -> None:
    folder = tmp_path / "state" / "plugins" / "run_history"
    folder.mkdir(parents=True)
    (folder / "sheet.json").write_text(content)
    async with history_rig(tmp_path, monkeypatch, dsn, section=SHEET, cobos=1, ready=False) as it:
        assert await it.get("Obs:Pressure") == "0"
        await it.ok("Obs:Pressure", "1.5")
    assert (tmp_path / "state" / "before-0.2" / "run_history" / "sheet.json").read_text() == content


async def test_a_value_that_cannot_be_kept_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn, section=SHEET, cobos=1) as it:
        make_unwritable(tmp_path / "state")
        ran = await it.put("Obs:Pressure", "9.5")
        assert ran.code == 1
        assert "cannot be kept" in await it.get_text("Refused_RBV")
        assert await it.get("Obs:Pressure") == "0"
        make_writable(tmp_path / "state")
        await it.until(lambda: not it.app.log.fault, what="the state database written again")
        await it.stop_ioc()
        await it.start_ioc()
        assert await it.get("Obs:Pressure") == "0"


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        ([{"name": "1st"}], "'1st' cannot be an observable's name, because it is part of a PV's name"),
        ([{"name": "a b"}], "'a b' cannot be an observable's name"),
        ([{"name": "a" * 41}], "1 to 40 characters"),
        ([{"name": "Gas"}, {"name": "gas"}], "differ in more than upper and lower case"),
        ([{"name": "Gas", "pv": "a b"}], "without spaces"),
        ([{"name": "Gas", "type": "text"}], "'integer', 'float' or 'string'"),
        ([{"name": "Gas", "unit": "x"}], "Extra inputs"),
    ],
)
def test_settings_of_the_sheet_are_checked(items: list[dict[str, str]], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        RunHistorySettings.model_validate({"observable": items})


def test_an_observable_of_one_experiment_only() -> None:
    item = ObservableSettings(name="Gas", experiment="e1")
    assert (item.of("e1"), item.of("e2")) == (True, False)
    assert ObservableSettings(name="Gas").of("e2")
