"""Old tables with local times where clocks were put back or forward: what is taken, and what is said."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from attpc_plugins.run_history.exchange.faults import BrokenFile
from attpc_plugins.run_history.exchange.source import RunFile

from tests.support.history_shell import Shell

ZONE = ZoneInfo("America/Detroit")
"""Its clocks were put back on 2017-11-05 at 06:00 UTC, and forward on 2017-03-12 at 02:00."""

HEADER = "run_number,run_class,title,start_datetime,stop_datetime,config_name\n"

BACK = "2017-11-05"


def table(folder: Path, *times: tuple[str, str]) -> Path:
    file = folder / "old.csv"
    rows = [f"{number},PROD,t,{start},{stop},c\n" for number, (start, stop) in enumerate(times)]
    file.write_text(HEADER + "".join(rows))
    return file


def read(folder: Path, start: str, stop: str, zone: ZoneInfo | None = ZONE) -> tuple[str, str, list[str]]:
    """Return start and stop in UTC, hours and minutes, and what is said of them."""
    source = RunFile(table(folder, (start, stop)), experiment="e1", zone=zone)
    doubts = [fault.text for fault in source.check().doubts]
    (detail,) = source.runs()
    begun, ended = detail.run.started_at, detail.run.stopped_at
    return (
        "" if begun is None else f"{begun.astimezone(UTC):%H:%M}",
        "" if ended is None else f"{ended.astimezone(UTC):%H:%M}",
        doubts,
    )


def test_a_run_over_the_change_is_not_over_before_it_began(tmp_path: Path) -> None:
    begun, ended, (doubt,) = read(tmp_path, f"{BACK} 01:50:00", f"{BACK} 01:10:00")
    assert (begun, ended) == ("05:50", "06:10")
    for time_, taken in (("01:50:00", "05:50"), ("01:10:00", "06:10")):
        assert f"'{BACK} {time_}' was twice on that clock, which was set back then: {BACK}T{taken}" in doubt
    assert doubt.count("the other would end the run before its start") == 2


@pytest.mark.parametrize(
    ("start", "stop", "moments", "doubtful"),
    [
        # Both in the hour that was twice: either can be meant, and the first is taken.
        ("01:10:00", "01:50:00", ("05:10", "05:50"), {"start", "stop"}),
        ("00:30:00", "01:10:00", ("04:30", "05:10"), {"stop"}),
        ("01:10:00", "02:10:00", ("05:10", "07:10"), {"start"}),
        ("01:10:00", "None", ("05:10", ""), {"start"}),
        ("None", "01:10:00", ("", "05:10"), {"stop"}),
        ("00:30:00", "02:30:00", ("04:30", "07:30"), set()),
    ],
)
def test_what_either_reading_fits_is_named(
    tmp_path: Path, start: str, stop: str, moments: tuple[str, str], doubtful: set[str]
) -> None:
    texts = [text if text == "None" else f"{BACK} {text}" for text in (start, stop)]
    begun, ended, doubts = read(tmp_path, *texts)
    assert (begun, ended) == moments
    said = "; ".join(doubts)
    for what, text in zip(("start", "stop"), texts, strict=True):
        assert (f"the {what} '{text}' was twice" in said) == (what in doubtful)
    assert said.count("as well") == len(doubtful)


def test_one_with_an_offset_settles_the_other(tmp_path: Path) -> None:
    begun, ended, (doubt,) = read(tmp_path, f"{BACK} 01:30:00-05:00", f"{BACK} 01:40:00")
    assert (begun, ended) == ("06:30", "06:40")
    assert "the stop" in doubt
    assert "the start" not in doubt


def test_an_hour_that_never_was_is_named(tmp_path: Path) -> None:
    begun, ended, (doubt,) = read(tmp_path, "2017-03-12 01:50:00", "2017-03-12 02:30:00")
    assert (begun, ended) == ("06:50", "07:30")
    assert "the stop '2017-03-12 02:30:00' was never on that clock, which was set forward" in doubt


def test_no_reading_makes_a_run_that_ends_before_its_start_right(tmp_path: Path) -> None:
    file = table(tmp_path, (f"{BACK} 03:00:00", f"{BACK} 01:30:00"))
    with pytest.raises(BrokenFile, match="is before the start"):
        RunFile(file, experiment="e1", zone=ZONE).check()


@pytest.fixture
def detroit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this computer's clock be Detroit's."""
    monkeypatch.setenv("TZ", "America/Detroit")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("detroit")
def test_the_clock_of_this_computer_counts_the_same(tmp_path: Path) -> None:
    assert read(tmp_path, f"{BACK} 01:50:00", f"{BACK} 01:10:00", None)[:2] == ("05:50", "06:10")
    assert "was never" in read(tmp_path, "2017-03-12 01:50:00", "2017-03-12 02:30:00", None)[2][0]
    assert read(tmp_path, "2017-06-01 01:50:00", "2017-06-01 02:30:00", None)[2] == []


def test_the_command_says_them(shell: Shell, tmp_path: Path) -> None:
    file = table(tmp_path, (f"{BACK} 01:50:00", f"{BACK} 01:10:00"), ("2017-11-06 01:00:00", "None"))
    result = shell.call("history", "import", file, "-e", "e1", "--timezone", "America/Detroit")
    assert result.exit_code == 0, result.output
    (warning,) = result.stderr.splitlines()[:1]
    assert warning.startswith(f"warning: {file}: line 2: the start '{BACK} 01:50:00' was twice")
    text = shell.run("history", "show", "e1", "0", "--format", "json")
    assert datetime(2017, 11, 5, 6, 10, tzinfo=UTC).isoformat() in text
