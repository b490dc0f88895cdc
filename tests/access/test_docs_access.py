"""What the how-to says is so: its file, its settings, the check's words, and what is in which group."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attpc_ioc.access import parse_rules
from attpc_ioc.access.groups import groups_of
from attpc_ioc.access.rules import Right
from attpc_ioc.cli.program import app
from attpc_ioc.ioc.put_log import LINES_ALL, LINES_EACH, WINDOW_S
from attpc_ioc.settings import AccessSettings
from attpc_ioc.settings.template import FleetRequest, fleet_text
from tests.access import aslib
from tests.support.fleets import make_settings, table_of

PAGE = (Path(__file__).parents[2] / "docs/how-to/access.md").read_text(encoding="utf-8")
FILE = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
SETTINGS = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_file_of_the_page_does_what_the_page_says():
    assert aslib.takes(FILE)
    rules = parse_rules(FILE, "access.acf")
    assert [
        (who, [rules.right(group, 0, who, host) for group in ("OBSERVER", "OPERATOR", "EXPERT", "other")])
        for who, host in (("alice", "home"), ("bob", "Console1"), ("bob", "home"), ("carol", "console1"))
    ] == [
        ("alice", [Right.READ, Right.WRITE, Right.WRITE, Right.READ]),
        ("bob", [Right.READ, Right.WRITE, Right.READ, Right.READ]),
        ("bob", [Right.READ, Right.READ, Right.READ, Right.READ]),
        ("carol", [Right.READ, Right.READ, Right.READ, Right.READ]),
    ]


def test_what_is_in_which_group():
    table = table_of(make_settings(1, prefix="T:"))
    groups = groups_of(table, AccessSettings(), "T:")
    experts = {name for name, group in groups.items() if group == "EXPERT"}
    single = ("Describe", "Prepare", "Configure", "Start", "Stop", "Breakup", "Undo", "Reset", "GoTo")
    assert experts == {f"T:Ecc:{ecc}:{c}" for ecc in ("cobo0", "mutant") for c in single} | {"T:Run:Adopt"}
    for entry in table:
        assert (groups[entry.name] == "OBSERVER") == (not entry.row.writable), entry.name


def test_the_settings_of_the_page():
    first, second = (AccessSettings(**tomllib.loads(text)["access"]) for text in SETTINGS)
    assert first == AccessSettings(file="access.acf")
    groups = groups_of(table_of(make_settings(1, prefix="T:")), second, "T:")
    assert groups["T:Ecc:mutant:State_RBV"] == "TRIGGER"
    assert groups["T:Ecc:cobo0:Start"] == "ATTPC_EXPERT"
    assert groups["T:Ecc:cobo0:State_RBV"] == "OBSERVER"


def test_the_limits_of_the_put_log():
    assert f"{LINES_EACH} lines in {WINDOW_S:g} s are logged, and {LINES_ALL} from all" in " ".join(
        PAGE.split()
    )


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file = tmp_path / "attpc-ioc.toml"
    file.write_text(fleet_text(FleetRequest(1, "10.0.0.1", "10.0.0.9", "", "T:")), encoding="utf-8")
    return file


def test_check_says_that_there_is_no_file(settings_file: Path):
    result = CliRunner().invoke(app, ["check", str(settings_file)])
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if line.strip().startswith("access ")]
    assert line.strip() in PAGE


def test_check_reports_the_file(settings_file: Path, tmp_path: Path):
    text = settings_file.read_text(encoding="utf-8")
    lines = 'file = "access.acf"\nexpert = "XPERT"\nrows = { "Run:Titel" = "OPERATOR" }'
    settings_file.write_text(text.replace("[access]\n", f"[access]\n{lines}\n"))
    (tmp_path / "access.acf").write_text(FILE)
    result = CliRunner().invoke(app, ["check", str(settings_file)])
    assert result.exit_code == 0, result.output
    assert f"{tmp_path}/access.acf: DEFAULT, EXPERT, OBSERVER, OPERATOR" in result.stdout
    assert "XPERT is not in it: 19 PVs have the rules of DEFAULT" in result.stdout
    assert "access.rows: no PV fits 'Run:Titel'" in result.stdout
    (tmp_path / "access.acf").write_text("ASG(OBSERVER) { RULE(1, READ) } ASG(XPERT) ASG(A)")
    result = CliRunner().invoke(app, ["check", str(settings_file)])
    assert result.exit_code == 1
    (told,) = re.findall(
        r"/access.acf: (there is no OPERATOR and no DEFAULT .* nobody .* read) \d+ PVs\n1 fault",
        result.stderr,
    )
    assert told in " ".join(PAGE.split())
    (tmp_path / "access.acf").write_text("ASG(DEFAULT) { RULE(1, READ) } ASG(XPERT) { RULE(1, NONE) }")
    result = CliRunner().invoke(app, ["check", str(settings_file)])
    assert result.exit_code == 0, result.output
    assert "XPERT lets nobody read: 19 PVs" in result.stdout
    (tmp_path / "access.acf").write_text("ASG(A)\nASG(B) { RULE(1, WRITE) { CALC(x) } }")
    result = CliRunner().invoke(app, ["check", str(settings_file)])
    assert result.exit_code == 1
    assert f"{tmp_path}/access.acf: line 2, column 27: CALC is not supported" in result.stderr
