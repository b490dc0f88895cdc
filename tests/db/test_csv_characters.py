"""Characters in exports: none steers who looks at the file, and the import reads what was there."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from attpc_plugins.run_history.exchange import csv_file, json_file
from attpc_plugins.run_history.exchange.source import Format, RunFile
from attpc_plugins.run_history.store.model.history import Edit, Run, RunDetail, Stage
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from attpc_ioc.model.run import RunOutcome
from tests.support.histories import times
from tests.support.history_shell import Shell

ANY = st.text(st.characters(), max_size=30)
"""Any text, with halves of surrogate pairs and NUL."""

TRICKY = st.text("\\u01bfdceU5\x1b\x9b\u202e\r\n\t'=", max_size=16)
"""Texts that look like an escape of the file."""


def cell_of(text: str) -> str:
    ((cell,),) = csv.reader(io.StringIO(csv_file.row_text([text]) if text else '""\n', newline=""))
    return cell


@given(ANY | TRICKY)
@example("\x1b]0;owned\x07")
@example("two\nlines\r\nof\tit\r")
@example("\\u001b is no escape, \x1b is")
@example("\\\\u001b \\u005cu001b \\")
@example("\\U000e0001\U000e0001")
@example("=\x1b")
@example("'\x00")
@settings(deadline=None)
def test_a_cell_is_harmless_and_reads_back_the_same(text: str) -> None:
    cell = cell_of(text)
    assert all(c in "\n\t" or c.isprintable() for c in cell.replace("\r\n", ""))
    assert csv_file.plain_text(cell) == text


@pytest.mark.parametrize("text", [r"C:\x86\users", r"\upsilon \n \t", r"\u0041 \ud7g0 \U00110000", "\\"])
def test_backslashes_of_people_stay_as_they_are(text: str) -> None:
    """Also those of a table that somebody made by hand: only what is not printable is ever escaped."""
    assert csv_file.plain_text(text) == text
    assert csv_file.plain_text(cell_of(text)) == text


def test_what_people_write_is_not_escaped() -> None:
    for text in (r"C:\data\run_0001", "Größe µ ☢, beam\non target", r"\alpha \to \beta"):
        assert cell_of(text) == text


@pytest.mark.parametrize("kind", [Format.CSV, Format.JSON])
@given(texts=st.lists(ANY | TRICKY, min_size=5, max_size=5), when=times)
@example(texts=["", "\ud800", "", "", "\udfff"], when=datetime(2000, 1, 1, tzinfo=UTC))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_is_harmless_and_reads_back_the_same(
    tmp_path: Path, kind: Format, texts: list[str], when
) -> None:
    # JSON, which a table has in its cells, has no half surrogate pairs; the database has none either.
    whole = [text.encode("utf-8", "replace").decode() for text in texts]
    title, operator, comment = texts[:3] if kind is Format.CSV else whole[:3]
    old, new = whole[3:]
    run = Run(
        "e1", 1, Stage.ENDED, title=title, operator=operator, comment=comment, outcome=RunOutcome.STOPPED
    )
    detail = RunDetail(run, edits=(Edit("comment", new, when, "ann", old),))
    text = csv_file.header_text() + csv_file.run_text(detail)
    if kind is Format.JSON:
        text = json_file.run_line(detail)
    assert all(c in "\n\t" or c.isprintable() for c in text.replace("\r\n", ""))
    file = tmp_path / "runs"
    file.write_text(text, encoding="utf-8", newline="")
    assert list(RunFile(file, kind).runs()) == [detail]
    if kind is Format.CSV:
        # Other programs read the lists with JSON's escapes alone.
        (row,) = csv.DictReader(io.StringIO(text, newline=""))
        assert [edit["value"] for edit in json.loads(row["edits"])] == [new]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_what_postgresql_cannot_keep_is_imported_as_a_sign(full: Shell, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"odd.{kind}"
    title = "a\x00b\udcffc"
    detail = RunDetail(Run("odd", 1, Stage.ENDED, title=title, comment=title, outcome=RunOutcome.STOPPED))
    text = json_file.run_line(detail)
    if kind == "csv":
        text = csv_file.header_text() + csv_file.run_text(detail)
    file.write_text(text, encoding="utf-8", newline="")
    full.run("history", "import", file)
    shown = json.loads(full.run("history", "show", "odd", "1", "--format", "json"))["run"]
    assert (shown["title"], shown["comment"]) == ("a␀b?c", "a␀b?c")
