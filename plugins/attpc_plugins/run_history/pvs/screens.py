"""The last runs as arrays of equal length and as a table of text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from attpc_ioc.model.run import RunOutcome
from attpc_ioc.printable import one_line
from attpc_ioc.pvs.row import Value
from attpc_ioc.pvs.run import hours_text, local_time
from attpc_plugins.run_history.store.model.history import Run, Stage

from .rows import HISTORY_CHARS, RUNS

HEAD = ("Experiment", "Run", "Class", "Start", "Duration", "Quality", "End", "Title")

TITLE_COLUMNS = 60


def history(runs: Sequence[Run]) -> Iterator[tuple[str, Value]]:
    """Yield the value of each `History:` row for these runs, newest first."""
    shown = runs[:RUNS]
    yield "History:Number_RBV", tuple(float(run.number) for run in shown)
    yield "History:Title_RBV", tuple(_one_line(run.title) for run in shown)
    yield "History:Class_RBV", tuple(run.run_class.label for run in shown)
    yield "History:Start_RBV", tuple(_start(run) for run in shown)
    yield "History:Duration_RBV", tuple(float(int(run.duration_s or 0.0)) for run in shown)
    yield "History:Quality_RBV", tuple(run.quality.value for run in shown)
    yield "History:Text_RBV", table(shown)


def table(runs: Sequence[Run]) -> str:
    """Return the runs as lines of text in columns, for a screen with a fixed-width font."""
    if not runs:
        return "no runs yet"
    cells = [HEAD, *(_cells(run) for run in runs)]
    widths = [max(width(row[column]) for row in cells) for column in range(len(HEAD) - 1)]
    lines: list[str] = []
    room = HISTORY_CHARS - 1
    for row in cells:
        padded = [text + " " * (w - width(text)) for text, w in zip(row[:-1], widths, strict=True)]
        line = "  ".join([*padded, row[-1]]).rstrip()
        room -= len(line.encode()) + 1
        if room < 0:
            break
        lines.append(line)
    return "\n".join(lines)


def width(text: str) -> int:
    """Return the number of columns of a text: wide characters count two, combining ones none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _cells(run: Run) -> tuple[str, ...]:
    ended = run.stage is Stage.ENDED
    duration = hours_text(run.duration_s) if run.duration_s is not None else ""
    outcome = str(run.outcome or RunOutcome.STOPPED) if ended else str(run.stage)
    start = _start(run).replace("T", " ")[:19]
    title = _one_line(run.title)
    while width(title) > TITLE_COLUMNS:
        title = title[:-1]
    return (
        run.experiment,
        str(run.number),
        run.run_class.label,
        start,
        duration,
        run.quality.value,
        outcome,
        title,
    )


def _start(run: Run) -> str:
    at = run.started_at or run.start_commanded_at or run.reserved_at
    return "" if at is None else local_time(at.timestamp())


def _one_line(text: str) -> str:
    return one_line(text).strip()
