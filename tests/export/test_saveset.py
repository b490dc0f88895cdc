"""The setpoints for save-and-restore, read as Phoebus reads its CSV files."""

from __future__ import annotations

from pathlib import Path

import pytest

from attpc_ioc.export.saveset import saveset_text
from attpc_ioc.pvs.table import PvEntry
from tests.export.bobfiles import OBSERVABLES, table_of
from tests.support.rig import rig


def read(text: str) -> list[dict[str, str]]:
    """Read a configuration as `CSVParser` does: cells by commas, comments and empty last cells left out."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    heads = lines[0].split(",")
    assert heads == ["PV", "READBACK", "READ_ONLY"]
    found = []
    for line in lines[1:]:
        assert '"' not in line
        cells = line.split(",")
        while cells and not cells[-1]:
            cells.pop()
        found.append(dict(zip(heads, cells, strict=True)))
    return found


@pytest.fixture
def rows(table: tuple[PvEntry, ...]) -> dict[str, PvEntry]:
    return {entry.name: entry for entry in table}


def test_only_setpoints_are_in_it_and_no_command(table, rows):
    found = read(saveset_text(table))
    names = [line["PV"] for line in found]
    assert len(names) == len(set(names))
    for name in names:
        assert rows[name].row.setpoint
        assert rows[name].row.command is None
        assert not name.endswith("_RBV")
    assert {line["READ_ONLY"] for line in found} == {"false"}


def test_every_setpoint_is_in_it_but_those_that_must_not_be_written_back(table):
    names = {line["PV"] for line in read(saveset_text(table))}
    left = {entry.row.part for entry in table if entry.row.setpoint and entry.name not in names}
    # Derived from another setpoint; an order; of one run only.
    assert left == {"ConfigIndex", "Config", "Override", "CloseAgain", "Comment", "Quality"}
    assert {name for name in names if name.endswith(":Config")} == {
        f"T:Ecc:{name}:Config" for name in ("cobo0", "cobo1", "cobo2", "mutant")
    }
    assert {"T:Run:Title", "T:Run:MaxDuration", "T:Ecc:cobo0:Enable", "T:Obs:pressure"} <= names


def test_readbacks_are_those_that_there_are(table, rows):
    for line in read(saveset_text(table)):
        expected = f"{line['PV']}_RBV"
        assert line["READBACK"] == (expected if expected in rows else "")


async def test_what_was_saved_is_restored(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, cobos=1) as it:
        await it.select()
        saved = [line["PV"].removeprefix(it.prefix) for line in read(saveset_text(it.app.table))]
        texts = {e.name.removeprefix(it.prefix) for e in it.app.table if e.row.record == "lsi"}
        await it.put_text("Run:Title", "The title, with a comma")
        await it.ok("Run:MaxDuration", "3600")
        await it.ok("Ecc:cobo0:Enable", "No")
        kept = {name: await it.get(name, *(["-S"] if name in texts else [])) for name in saved}
        assert kept["Run:Title"] == "The title, with a comma"
        await it.put_text("Run:Title", "Another")
        await it.ok("Run:MaxDuration", "0")
        await it.ok("Ecc:cobo0:Enable", "Yes")
        await it.put_text("Ecc:cobo0:Config", it.fleet.config("cobo0", it.fleet.experiments[1]))
        assert await it.get_text("Run:Title") == "Another"
        for name, value in kept.items():
            ran = await (it.put_text(name, value) if name in texts else it.put(name, value))
            assert ran.code == 0, f"{name}: {ran.both} {await it.message(name)}"
        assert {name: await it.get(name, *(["-S"] if name in texts else [])) for name in saved} == kept


def test_observables_are_in_it_as_the_settings_have_them(tmp_path: Path):
    one = read(saveset_text(table_of(tmp_path, extra=OBSERVABLES)))
    none = read(saveset_text(table_of(tmp_path)))
    assert {line["PV"] for line in one} - {line["PV"] for line in none} == {
        "T:Obs:pressure",
        "T:Obs:gas",
        "T:Obs:triggers",
    }
