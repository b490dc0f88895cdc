"""What is made from the PV table for people and other programs: the list and the reference page."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attpc_ioc.cli import lists
from attpc_ioc.cli.program import app
from attpc_ioc.errors import SettingsError
from attpc_ioc.export import pvs_list
from attpc_ioc.model.command import ScopeKind
from attpc_ioc.pvs.row import Record, Row
from attpc_ioc.pvs.table import CORE_ROWS
from attpc_ioc.settings import Settings
from tests.docs.pvs_page import pvs_page
from tests.support.fleets import make_settings, table_of
from tests.support.one_ecc import ONE_ECC

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "pvs.md"

SETTINGS = f'[ioc]\nprefix = "T:"\n{ONE_ECC}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "s.toml"
    path.write_text(SETTINGS)
    return path


def call(*args: str):
    return CliRunner().invoke(app, ["pvs", *args])


def test_the_reference_page_is_up_to_date():
    assert PAGE.read_text() == pvs_page(), "make docs"


def test_the_reference_page_has_every_row():
    page = pvs_page()
    assert all(f"| `{row.part}` |" in page for rows in CORE_ROWS.values() for row in rows)


def test_the_text_has_a_line_for_each_pv(file):
    result = call(str(file))
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert lines["T:Ecc:cobo0:Enable"].split(maxsplit=3)[1:] == [
        "bo",
        "read-write",
        "Takes part in group commands and runs [No, Yes]",
    ]
    assert lines["T:Run:Title"].split()[1:4] == ["long", "text", "read-write"]
    assert len(lines) == len(result.stdout.splitlines())


def test_the_json_form_has_all_that_is_known(file):
    pvs = {pv["name"]: pv for pv in json.loads(call(str(file), "--json").stdout)}
    state = pvs["T:Ecc:cobo0:State_RBV"]
    assert (state["type"], state["access"], state["labels"][7]) == ("mbbi", "read-only", "Offline")
    assert state["severities"] == {"Off": "MAJOR", "Offline": "INVALID"}
    assert pvs["T:Run:MaxDuration"]["limits"] == {"lopr": 0.0, "drvl": 0.0, "drvh": 31_536_000.0}
    assert pvs["T:Run:MaxDuration"]["units"] == "s"


def test_the_access_group_is_that_of_the_access_security_file(file):
    """By the settings as they are, whether there is a file or not: what `ASG(...)` of it has to be called."""
    group = {pv["name"]: pv["access_group"] for pv in json.loads(call(str(file), "--json").stdout)}
    wanted = ("T:State_RBV", "T:Run:Title", "T:Ecc:cobo0:Start", "T:Run:Class")
    assert [group[name] for name in wanted] == ["OBSERVER", "OPERATOR", "EXPERT", "OPERATOR"]
    file.write_text(
        SETTINGS + '[access]\nexpert = "ATTPC_EXPERT"\nrows = { "*:Class" = "CHIEF", "State_RBV" = "ALL" }\n'
    )
    group = {pv["name"]: pv["access_group"] for pv in json.loads(call(str(file), "--json").stdout)}
    assert [group[name] for name in wanted] == ["ALL", "OPERATOR", "ATTPC_EXPERT", "CHIEF"]


def test_the_csv_form_can_be_read_back(file):
    rows = list(csv.DictReader(io.StringIO(call(str(file), "--csv").stdout)))
    by_name = {row["name"]: row for row in rows}
    assert by_name["T:Run:Class"]["labels"] == "Testing Production Beam Junk Pulser"
    assert by_name["T:Ecc:cobo0:Online_RBV"]["alarm_tree"] == "yes"
    assert set(by_name) == {pv["name"] for pv in json.loads(call(str(file), "--json").stdout)}


def test_rows_of_plugins_are_listed(file, monkeypatch):
    def table_with_gas(settings: Settings):
        row = Row("Gas_RBV", ScopeKind.SYSTEM, Record.AI, "Pressure of the gas", units="mbar", plugin="gas")
        return table_of(settings, [row])

    monkeypatch.setattr(lists, "whole_table", table_with_gas)
    line = next(n for n in call(str(file)).stdout.splitlines() if "Gas_RBV" in n)
    assert line.split() == ["T:Gas_RBV", "ai", "read-only", "mbar", "Pressure", "of", "the", "gas"]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [("[nonsense]\n", 1, "nonsense"), (SETTINGS.replace("T:", "x" * 70 + ":"), 1, "60")],
)
def test_wrong_settings_are_reported(tmp_path, text, code, says):
    path = tmp_path / "s.toml"
    path.write_text(text)
    result = call(str(path))
    assert result.exit_code == code
    assert isinstance(result.exception, SettingsError)
    assert result.exception.file == str(path)
    assert says in str(result.exception)
    assert result.stdout == ""


def test_two_forms_at_once_are_refused(file):
    result = call(str(file), "--json", "--csv")
    assert result.exit_code == 2
    assert "cannot be given together" in result.stderr


def test_the_columns_of_the_text_line_up():
    entries = table_of(make_settings())
    lines = pvs_list.as_text([pvs_list.pv_line(entry, "ANY") for entry in entries]).splitlines()
    starts = {
        line.index(access) for line in lines for access in ("read-write", "read-only") if access in line
    }
    assert len(starts) == 1
