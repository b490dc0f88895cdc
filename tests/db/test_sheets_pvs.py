"""The run sheet's own PVs: of the settings and of the database, and never of another experiment."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from attpc_plugins.run_history.sheets.kept import KeptSheet, declared, load_kept
from attpc_plugins.run_history.sheets.rows import observable_rows
from attpc_plugins.run_history.sheets.settings import ObservableSettings
from attpc_plugins.run_history.store.model.history import Observable, RunChanges
from attpc_plugins.run_history.store.model.values import ValueKind

from attpc_ioc.model.command import SYSTEM
from attpc_ioc.model.states import State
from tests.db.test_sheets import SHEET, run_once
from tests.support.history import EXPERIMENT, connected, drained, history_rig, reading, until
from tests.support.state_dir import put_row


async def test_an_experiment_never_shows_or_gets_values_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    section = SHEET + '[[plugins.run_history.observable]]\nname = "Other"\nexperiment = "e99999"\n'
    async with history_rig(tmp_path, monkeypatch, dsn, section=section, cobos=1) as it:

        async def shows(pv: str, value: str, severity: str) -> None:
            async def so() -> bool:
                return (await it.get(pv), await it.severity(pv)) == (value, severity)

            await until(so, 5.0, f"{pv} {value} {severity}")

        await shows("Obs:Pressure", "0", "INVALID")  # it has no value yet
        ran = await it.put("Obs:Other", "4.5")
        assert ran.code == 1
        assert "e20009 has no observable Other" in await it.get_text("Plugin:run_history:Message_RBV")
        await it.ok("Obs:Pressure", "500.5")
        await shows("Obs:Pressure", "500.5", "NO_ALARM")

        await it.ok("Run:Experiment", "e99999")
        await shows("Obs:Pressure", "0", "INVALID")
        await it.ok("Obs:Other", "4.5")
        await shows("Obs:Other", "4.5", "NO_ALARM")
        await it.take_to(State.READY)
        number = await run_once(it)
        await drained(it)
        async with reading(dsn) as store:
            found = {m.observable: m.value for m in (await store.run("e99999", number)).measurements}
        assert found["Other"] == 4.5
        assert found.get("Pressure") is None

        await it.submit("GoTo", SYSTEM, State.IDLE)
        await it.ok("Run:Experiment", EXPERIMENT)
        await shows("Obs:Other", "0", "INVALID")
        await shows("Obs:Pressure", "500.5", "NO_ALARM")


async def test_observables_added_by_command_are_pvs_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    added = Observable("Flow", ValueKind.FLOAT, "sccm", "Gas flow")
    odd = Observable("Beam energy (MeV)", ValueKind.FLOAT)  # such as an imported table has
    async with history_rig(tmp_path, monkeypatch, dsn, section=SHEET, cobos=1) as it:
        folder = tmp_path / "state" / "plugins" / "run_history"
        async with reading(dsn) as store:
            await store.put_observable(EXPERIMENT, added)
            await store.put_observable(EXPERIMENT, odd)

        async def kept() -> bool:
            return {added.name, odd.name} <= {o.name for o in load_kept(folder).observables}

        await until(kept, 10.0, "the sheet kept")
        assert "Obs:Flow" not in [e.row.part for e in it.app.table]
        await it.take_to(State.READY)
        first = await run_once(it)
        await drained(it)
        async with reading(dsn) as store:  # before it is a PV, its values are entered by command
            await store.edit(EXPERIMENT, first, RunChanges(), values={"Flow": 12.5})
        await it.stop_ioc()
        await it.start_ioc()
        assert [e.row.part for e in it.app.table if "Beam" in e.name] == []
        assert await it.get("Obs:Flow.EGU") == "sccm"
        assert await it.get("Obs:Flow.DESC") == "Gas flow"

        async def recalled() -> bool:
            return (await it.get("Obs:Flow"), await it.severity("Obs:Flow")) == ("12.5", "NO_ALARM")

        await until(recalled, 10.0, "the value of the last run")
        await connected(it)
        await it.ok("Run:Start")
        number = it.run.number
        await it.ok("Obs:Flow", "13")
        await it.ok("Obs:Flow", "14")
        await it.ok("Run:Stop")
        await drained(it)
        async with reading(dsn) as store:
            detail = await store.run(EXPERIMENT, number)
        assert [m.value for m in detail.measurements if m.observable == "Flow"] == [14.0]
        last = detail.edits[-1]
        assert (last.field, last.observable, last.old, last.value) == ("value", "Flow", "13.0", "14.0")
        assert "@" in last.edited_by

        # The type of a PV is fixed: with another one in the database it is neither shown nor taken.
        async with reading(dsn) as store:
            await store.put_observable(EXPERIMENT, replace(added, kind=ValueKind.STRING))

        async def invalid() -> bool:
            return await it.severity("Obs:Flow") == "INVALID"

        await until(invalid, 10.0, "another type")
        assert (await it.put("Obs:Flow", "15")).code == 1
        assert "is of type string now" in await it.get_text("Plugin:run_history:Message_RBV")
        await it.stop_ioc()

        for content in ("{", "[]", '{"observables": 3}', "[" * 100_000, '{"experiment": "e20009"}'):
            put_row(tmp_path / "state", "run_history/observables", "", content)
            await it.start_ioc()
            assert await it.get("Obs:Pressure.EGU") == "mbar"
            await it.stop_ioc()


def test_what_is_kept_never_hinders_a_start() -> None:
    kept = KeptSheet(
        "e1",
        (
            Observable("Gas", ValueKind.STRING),
            Observable("a b", ValueKind.FLOAT),
            Observable("x" * 41, ValueKind.FLOAT),
            Observable("Fits", ValueKind.FLOAT, "units that are long", "c" * 2000, "no name"),
            Observable("y" * 40, ValueKind.FLOAT),
            Observable("Gone", ValueKind.FLOAT, removed=True),
        ),
    )
    own = (ObservableSettings(name="Gas"),)
    assert [item.name for item in declared(own, kept, "LONG:PREFIX:OF:THE:IOC:")] == ["Gas", "Fits"]
    assert [item.name for item in declared(own, kept, "P:")] == ["Gas", "Fits", "y" * 40]
    assert declared(own, kept, "P:")[0].type is ValueKind.FLOAT  # the settings win
    assert len(observable_rows(declared(own, kept, "P:"))[1].desc) == 40


async def test_the_sheet_of_version_01_gives_the_pvs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dsn = f"postgresql://nobody@/nothing?host={tmp_path}/nowhere"
    folder = tmp_path / "state" / "plugins" / "run_history"
    folder.mkdir(parents=True)
    kept = {"experiment": EXPERIMENT, "observables": [{"name": "Flow", "kind": "float", "units": "sccm"}]}
    (folder / "observables.json").write_text(json.dumps(kept))
    async with history_rig(tmp_path, monkeypatch, dsn, cobos=1, ready=False) as it:
        assert await it.get("Obs:Flow.EGU") == "sccm"
        assert not (folder / "observables.json").exists()
        await it.stop_ioc()
        await it.start_ioc()
        assert await it.get("Obs:Flow.EGU") == "sccm"
