"""The shell commands that list, show and edit runs, as people and programs use them."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import asyncpg
import pytest

from tests.support.history_shell import Shell, numbers


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], [("e2", 1), ("e1", 3), ("e1", 2), ("e1", 1)]),
        (["--experiment", "e1"], [("e1", 3), ("e1", 2), ("e1", 1)]),
        (["-e", "e1", "-n", "2-"], [("e1", 3), ("e1", 2)]),
        (["-e", "e1", "-n", "-2"], [("e1", 2), ("e1", 1)]),
        (["-e", "e1", "-n", "2-2"], [("e1", 2)]),
        (["-n", "1"], [("e2", 1), ("e1", 1)]),
        (["--since", "2026-03-03T00:00:00Z"], [("e2", 1), ("e1", 3)]),
        (["--until", "2026-03-02T10:00:00+00:00"], [("e1", 1)]),
        (["--class", "production"], [("e1", 3), ("e1", 2)]),
        (["--quality", "Good"], [("e2", 1), ("e1", 2)]),
        (["--text", "nice"], [("e1", 2)]),
        (["--text", "größe"], [("e2", 1)]),
        (["--text", "anna", "--class", "beam"], [("e2", 1)]),
        (["--limit", "2"], [("e2", 1), ("e1", 3)]),
        (["-e", "e1", "-n", "5-9"], []),
    ],
)
def test_filters(full: Shell, options: list[str], found: list[tuple[str, int]]) -> None:
    assert numbers(full.run("history", "list", "--format", "csv", *options)) == found
    lines = full.run("history", "list", "--format", "json", *options).splitlines()
    assert [(run["experiment"], run["number"]) for run in map(json.loads, lines)] == found
    assert len(full.run("history", "list", *options).splitlines()) == len(found) + 1
    if "--limit" not in options:
        exported = numbers(full.run("history", "export", *options))
        assert sorted(exported) == sorted(found)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--number", "x"], "neither a number nor a range"),
        (["--since", "soon"], "'soon' is not a time"),
        (["--class", "fun"], "'fun' is not a class; they are Testing"),
        (["--quality", "fine"], "'fine' is not one of Unknown, Good, Bad, Partial"),
        (["--experiment", "nope"], "there is no experiment 'nope'"),
        (["--number", "20-10"], "'20-10' goes down; a range is such as 10-20"),
        (["--since", "2026-03-03", "--until", "2026-03-02"], "2026-03-03 is not before --until 2026-03-02"),
        (["--since", "2026-03-03", "--until", "2026-03-03"], "2026-03-03 is not before --until 2026-03-03"),
    ],
)
def test_bad_filters(full: Shell, options: list[str], said: str) -> None:
    assert said in full.fails("history", "list", *options)
    assert said in full.fails("history", "export", *options)


def test_one_is_reported_in_the_singular(full: Shell, tmp_path: Path) -> None:
    result = full.call("history", "list", "-e", "e1", "--limit", 1)
    assert "this is the newest; there are more" in result.stderr
    file = tmp_path / "one.csv"
    result = full.call("history", "export", "-e", "e2", "-o", file)
    assert result.stderr == "1 run exported\n"
    result = full.call("history", "import", file, "-e", "e3")
    assert result.stderr == "1 run imported\n"
    result = full.call("history", "import", file, "--skip-existing")
    assert result.stderr == "0 runs imported, 1 left out because the number exists\n"


def test_list_show_edit(full: Shell) -> None:
    text = full.run("history", "list", "-e", "e1")
    assert re.search(r"2 +Production +2026-03-02 10:00:00 +25:00:00 +Good +stopped +beam on target", text)
    full.run("observables", "add", "Pressure", "-e", "e1", "--units", "mbar")
    options = ["--title", "Neu\tµ", "--quality", "partial", "--class", "junk", "--comment", "two\nlines"]
    full.run("history", "edit", "e1", 2, *options, "--operator", "", "--set", "Pressure=512.5")
    text = full.run("history", "show", "e1", 2)
    for pattern in (
        r"Title +Neu µ",
        r"Quality +Partial",
        r"Comment +two *\n +lines",
        r"Pressure +entered +512\.5 +mbar",
        r"Edits\n",
        r"quality +Good +Partial +\S+@",
        r"class +Production +Junk",
        r"title +beam on target +Neu µ",
        r"Pressure +512\.5 +\S+@",
    ):
        assert re.search(pattern, text), (pattern, text)
    run = json.loads(full.run("history", "show", "e1", 2, "--format", "json"))
    assert run["run"]["title"] == "Neu\tµ"
    assert run["measurements"][0]["value"] == {"float": 512.5}
    assert len(run["edits"]) == 6
    full.run("history", "edit", "e1", 2, "--set", "Pressure=1e3")
    edit = json.loads(full.run("history", "show", "e1", 2, "--format", "json"))["edits"][-1]
    assert (edit["field"], edit["observable"], edit["old"], edit["value"]) == (
        "value",
        "Pressure",
        "512.5",
        "1000.0",
    )
    assert edit["edited_at"]
    assert edit["edited_by"]
    for command in (("show", "e2", 2), ("edit", "e2", 2, "--title", "x"), ("show", "nope", 2)):
        said = f"there is no run 2 of experiment '{command[1]}'; there is one of: e1"
        assert full.fails("history", *command) == said
    assert full.fails("history", "show", "e1", 99) == "there is no run 99 of experiment 'e1'"
    assert full.fails("history", "edit", "e1", 99, "--title", "x") == "there is no run 99 of experiment 'e1'"
    assert "'much' is not of type float" in full.fails("history", "edit", "e1", 2, "--set", "Pressure=much")
    assert "it has: Pressure" in full.fails("history", "edit", "e1", 2, "--set", "Nope=1", "--title", "y")
    assert json.loads(full.run("history", "show", "e1", 2, "--format", "json"))["run"]["title"] == "Neu\tµ"
    assert "201 characters" in full.fails("history", "edit", "e1", 2, "--title", "x" * 201)
    assert "nothing to change" in full.fails("history", "edit", "e1", 2)
    assert "NAME=VALUE" in full.fails("history", "edit", "e1", 2, "--set", "x")


async def test_the_log_of_a_run_is_shown(full: Shell, dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "INSERT INTO attpc.log_entries (logged_at, level, ioc, source, text, run_id) "
            "SELECT r.started_at + n * interval '1 s', 'warning', 'DAQ:', 'here', 'trouble ' || n, r.id "
            "FROM attpc.runs r, generate_series(1, 3) AS n WHERE r.number = 2"
        )
        shown = await asyncio.to_thread(full.call, "history", "show", "e1", 2)
        assert re.findall(r"03-02 10:00:0(\d) +warning +here +trouble (\d)", shown.stdout) == [
            (str(n), str(n)) for n in (1, 2, 3)
        ]
        assert shown.stderr == ""
        assert "trouble" not in (await asyncio.to_thread(full.call, "history", "show", "e1", 1)).stdout
        await connection.execute(
            "INSERT INTO attpc.log_entries (logged_at, level, ioc, source, text, run_id) "
            "SELECT r.stopped_at, 'error', 'DAQ:', 'here', 'later ' || n, r.id "
            "FROM attpc.runs r, generate_series(1, 100) AS n WHERE r.number = 2"
        )
    finally:
        await connection.close()
    shown = await asyncio.to_thread(full.call, "history", "show", "e1", 2)
    assert "trouble" not in shown.stdout
    assert re.findall(r"later (\d+)", shown.stdout) == [str(n) for n in range(1, 101)]
    assert "there are more" in shown.stderr


def test_an_edit_that_changes_nothing_is_none(full: Shell) -> None:
    full.run("observables", "add", "Pressure", "-e", "e1", "--units", "mbar")
    words = ("history", "edit", "e1", 2, "--title", "new", "--class", "beam", "--set", "Pressure=600.5")
    assert full.run(*words) == "run 2 of e1 changed\n"
    before = full.run("history", "show", "e1", 2, "--format", "json")
    assert len(json.loads(before)["edits"]) == 3
    assert full.run(*words) == "run 2 of e1 has these values already\n"
    assert full.run("history", "show", "e1", 2, "--format", "json") == before
    assert full.run(*words[:-1], "Pressure=601") == "run 2 of e1 changed\n"
    edits = json.loads(full.run("history", "show", "e1", 2, "--format", "json"))["edits"]
    assert [(edit.get("old"), edit["value"]) for edit in edits[3:]] == [("600.5", "601.0")]
