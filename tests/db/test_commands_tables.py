"""Tables at the shell: the facts are whole in a narrow window, and nothing is cut in a file."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from attpc_plugins.run_history.commands.support import tables
from attpc_plugins.run_history.store.model.history import (
    ConfigUse,
    Edit,
    Event,
    FramesCheck,
    Level,
    LogEntry,
    Measurement,
    Module,
    Moment,
    RouterFiles,
    Run,
    RunDetail,
    Stage,
)

WHEN = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
MESSAGE = "copied with a delay, because " + "the data host did not answer; " * 12 + "done at last"
WHERE = "/data/" + "a-long-name-of-a-folder/" * 6 + "run_0007"

DETAIL = RunDetail(
    run=Run("e20009", 7, Stage.ENDED, title="beam"),
    modules=(Module("cobo0", "cobo", "http://192.168.41.60:8083", "e20009", "e20009", "e20009", 2.31),),
    measurements=(Measurement("Pressure", Moment.START, WHEN, 600.5, "Torr", 0, "GAS:" + "Sub:" * 30, WHEN),),
    events=(Event(WHEN, "degraded", "cobo0", MESSAGE),),
    edits=(Edit("comment", MESSAGE, WHEN, "anna@somewhere", "before"),),
    files=(RouterFiles("router-cobo0", "complete", WHEN, ("cobo0",), 12, 51_123_000_000, WHERE, MESSAGE),),
    configs=(ConfigUse("cobo0", "describe", "e20009", WHEN, "file", "a" * 64),),
)

TITLES = ("Modules", "Measurements", "Files", "Configuration files", "Events", "Log", "Edits")
LOG = LogEntry(WHEN, Level.WARNING, MESSAGE, "attpc_plugins.data_routers.service", "e20009", 7)


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """What `history show` prints, as the lines of each part."""
    tables.show_run(DETAIL, [LOG])
    parts: dict[str, list[str]] = {}
    title = ""
    for line in capsys.readouterr().out.splitlines():
        if line.strip() in TITLES:
            title = line.strip()
        parts.setdefault(title, []).append(line)
    return parts


def squeezed(lines: list[str]) -> str:
    return "".join("".join(lines).split())


@pytest.mark.parametrize("columns", [60, 80, 132])
def test_the_facts_are_whole_in_a_narrow_window(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    parts = shown(capsys)
    row = parts["Files"][2]
    assert row.split()[:4] == ["router-cobo0", "complete", "12", "51.123"]
    assert all(len(line) <= max(columns, 70) for line in parts["Files"])
    for title, facts in (
        ("Modules", ["cobo0", "cobo", "2.31 s"]),
        ("Measurements", ["start", "Torr", "2026-11-22"]),
        ("Configuration files", ["cobo0", "file"]),
        ("Events", ["degraded", "cobo0"]),
        ("Log", ["2026-11-22", "warning"]),
        ("Edits", ["comment"]),
    ):
        assert all(fact in parts[title][2] for fact in facts), parts[title]
    assert not any("…" in line for lines in parts.values() for line in lines)
    # What gave way goes on below, to its end.
    assert "atlast" in squeezed(parts["Files"][-5:])
    assert "atlast" in squeezed(parts["Events"][-5:])


def test_nothing_is_cut_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    parts = shown(capsys)
    assert len(parts["Files"]) == 4  # title, header, one row, the empty line before the next part
    assert WHERE in parts["Files"][2]
    assert MESSAGE in parts["Files"][2]
    assert MESSAGE in parts["Events"][2]
    assert MESSAGE in parts["Edits"][2]


def test_what_frames_say_is_shown_and_what_is_not_known_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    unknown = Run("e1", 1, Stage.ENDED, files_state="Done")
    checked = replace(unknown, frames_check=FramesCheck.NO_FAULTS)
    good = replace(checked, event_count=100, missing_events=0, resets=0, damaged_frames=0, unequal_events=0)
    runs = {
        "Done": good,
        "Incomplete,reset": replace(good, files_state="Incomplete", resets=1),
        "reset": replace(good, resets=1),
        "damaged": replace(good, damaged_frames=3),
        "OutOfStep": replace(good, sync="OutOfStep"),
        "unequal": replace(good, unequal_events=7),
        "reset,damaged,Dead,unequal": replace(
            good, resets=1, damaged_frames=1, sync="Dead", unequal_events=7
        ),
    }
    tables.show_runs([unknown, *runs.values()], with_experiment=False)
    _, first, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert first == ["1", "Testing", "unknown", "unknown", "Done", "not", "run", "Unknown", "ended"]
    assert [[*row[2:4], "".join(row[4:-4]), *row[-4:-2]] for row in rows] == [
        ["100", "0", words, "no", "faults"] for words in runs
    ]
    tables.show_runs([replace(unknown, files_state="")], with_experiment=False)
    assert "unknown" not in capsys.readouterr().out
    tables.show_runs([replace(good, event_count=0, frames_check=FramesCheck.FAULTS)], with_experiment=False)
    assert "  0        0  no events  faults  " in capsys.readouterr().out
    tables.show_run(RunDetail(unknown))
    said = capsys.readouterr().out
    for title, text in (
        ("Files", "Done"),
        *((f"{title} events", "unknown") for title in ("Missing", "Unequal")),
        *((title, "unknown") for title in ("Events", "Resets", "Damaged frames")),
        ("Check of frames", "not run"),
    ):
        assert any(line.split() == f"{title} {text}".split() for line in said.splitlines()), said
    router = RouterFiles(
        "data0",
        "Done",
        WHEN,
        event_count=100,
        missing_events=7,
        resets=0,
        damaged_frames=0,
        first_event=3,
        last_event=102,
        frames_check=FramesCheck.FAULTS,
    )
    silent = replace(router, router="data2", event_count=0, first_event=None, last_event=None)
    reset = replace(silent, router="data3", event_count=None, resets=4)
    files = router, RouterFiles("data1", "Done", WHEN), silent, reset
    tables.show_run(RunDetail(runs["unequal"], files=files))
    said = capsys.readouterr().out
    assert "Unequal events   7\n" in said
    assert "Check of frames  no faults\n" in said
    assert "Frames not read  data1\n" in said
    frames = [row.split() for row in said.split("\nFrames\n")[1].splitlines()[1:5]]
    assert frames == [
        ["data0", "100", "3", "102", "7", "0", "0", "faults"],
        ["data1", *["unknown"] * 6, "not", "run"],
        ["data2", "0", "7", "0", "0", "faults"],
        ["data3", "unknown", "7", "4", "0", "faults"],
    ]


def test_a_list_has_the_whole_title_in_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    tables.show_runs([Run("e1", 1, Stage.ENDED, title=MESSAGE)], with_experiment=True)
    assert MESSAGE in capsys.readouterr().out
