"""Tables for people: aligned, fitted to the window, times in this computer's zone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attpc_ioc.printable import one_line
from attpc_ioc.pvs.run import hours_text
from attpc_ioc.streams import exact
from attpc_plugins.run_history.store.model.history import (
    ConfigUse,
    Edit,
    Event,
    Experiment,
    LogEntry,
    Measurement,
    Module,
    Observable,
    RouterFiles,
    Run,
    RunDetail,
)
from attpc_plugins.run_history.store.model.puts import PutEntry

UNLIMITED = 1_000_000
"""Columns if the output is not a terminal: a file or another program gets one line per row."""

GIVE_MIN = 12
"""Minimum columns of a text that makes room for others."""

GAP = 2
"""Columns between two columns of a table."""

FIELDS = {"run_class": "class"}
"""Fields that are shown under another name."""

SEVERITIES = ("", "MINOR", "MAJOR", "INVALID")


def console(least: int = 0) -> Console:
    """Return the console for standard output, at least `least` columns wide even if the window is narrower.

    It controls the terminal for titles: every text must go through `line`.
    """
    out = Console(file=exact(sys.stdout), highlight=False, soft_wrap=False)
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    out.width = max(out.width, least) if known else UNLIMITED
    return out


def _print(out: Console, table: Table) -> None:
    """Print a table without trailing blanks: one long cell would wrap every line."""
    with out.capture() as capture:
        out.print(table)
    lines = capture.get().splitlines()
    out.file.write("".join(f"{text.rstrip()}\n" for text in lines))
    out.file.flush()


def line(text: object) -> Text:
    """Return a text in one line, without control characters."""
    return Text(one_line(str(text)))


def local(when: datetime | None) -> str:
    """Return a time for people, in this computer's zone."""
    return "" if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(seconds: float | None) -> str:
    """Return a duration as the PVs show it: `HH:MM:SS` in complete seconds, even beyond a day."""
    return "" if seconds is None else hours_text(seconds)


def known(count: int | None, *, told: object = True) -> str:
    """Return a count, or that it is not known; empty if nothing was `told` yet."""
    return ("unknown" if told else "") if count is None else str(count)


def files_words(run: Run) -> str:
    """Return all that is wrong with a run's files and in them; their state where nothing is."""
    found = {
        run.files_state: run.files_state not in ("", "Done"),
        "reset": run.resets or run.sync == "Reset",
        "damaged": run.damaged_frames or run.sync == "Torn",
        run.sync: run.sync not in ("", "Reset", "Torn"),
        "no events": run.event_count == 0,
        "unequal": run.unequal_events,
    }
    return ", ".join(word for word, holds in found.items() if holds) or run.files_state


def show(
    titles: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    give: Sequence[str] = (),
    cut: bool = False,
) -> None:
    """Print a table; columns in `right` are numbers, those in `give` make room if the window is narrow.

    All others are complete in any window. Texts in `give` are wrapped; with `cut` a terminal shows
    only their beginning, so that a row stays one line.
    """
    cells = [[line(cell) for cell in row] for row in rows]
    cut = cut and sys.stdout.isatty()
    table = Table(box=None, pad_edge=False, header_style="bold")
    needed = GAP * (len(titles) - 1)
    for index, title in enumerate(titles):
        widest = max([cell_len(title), *(row[index].cell_len for row in cells)])
        gives = title in give
        least = min(widest, max(GIVE_MIN, cell_len(title))) if gives else widest
        needed += least
        table.add_column(
            title,
            justify="right" if title in right else "left",
            overflow="ellipsis" if cut else "fold",
            no_wrap=cut or not gives,
            min_width=least,
        )
    for row in cells:
        table.add_row(*row)
    _print(console(needed), table)


def show_runs(runs: Iterable[Run], *, with_experiment: bool) -> None:
    """Print a list of runs."""
    titles = [
        "run",
        "class",
        "started",
        "duration",
        "events",
        "missing",
        "files",
        "check",
        "quality",
        "outcome",
    ]
    rows = (
        [
            *([run.experiment] if with_experiment else []),
            run.number,
            run.run_class.label,
            local(run.started_at or run.start_commanded_at),
            duration(run.duration_s),
            known(run.event_count, told=run.files_state),
            known(run.missing_events, told=run.files_state),
            files_words(run),
            run.frames_check.value if run.files_state else "",
            run.quality.value,
            run.outcome.value if run.outcome else run.stage.value,
            run.title,
        ]
        for run in runs
    )
    named = [*(["experiment"] if with_experiment else []), *titles, "title"]
    show(named, rows, right=("run", "duration", "events", "missing"), give=("title",), cut=True)


def show_puts(puts: Iterable[PutEntry]) -> None:
    """Print a list of puts; the result is `ok` or the reason of a failure."""
    titles = ("time", "PV", "old", "new", "by", "from", "protocol", "outcome")
    rows = (
        (
            local(put.put_at),
            put.pv,
            put.old,
            put.new,
            str(put.who),
            put.who.address,
            put.protocol,
            "ok" if put.ok else f"failed: {put.reason}" if put.reason else "failed",
        )
        for put in puts
    )
    show(titles, rows, give=("old", "new", "outcome"))


def show_run(detail: RunDetail, log: Iterable[LogEntry] = ()) -> None:
    """Print one run with all details, and its log, oldest first."""
    run = detail.run
    out = console()
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in _facts(run, detail):
        if text:
            # A comment may have several lines.
            table.add_row(title, Text("\n").join(line(part) for part in text.splitlines()))
    _print(out, table)
    _part("Modules", _MODULE, map(_module, detail.modules), give=_MODULE[2:5] + _MODULE[7:])
    measured = map(_measurement, detail.measurements)
    _part("Measurements", _MEASUREMENT, measured, give=("observable", "value", "PV", "remark"))
    _part("Files", _FILES, map(_files, detail.files), right=("files", "GB"), give=("where", "message"))
    frames = map(_frames, detail.files if any(map(_is_known, detail.files)) else ())
    _part("Frames", _FRAMES, frames, right=_FRAMES[1:7])
    _part("Configuration files", _CONFIG, map(_config, detail.configs), give=("file", "sha256"))
    _part("Events", ("time", "what", "module", "text"), map(_event, detail.events), give=("text",))
    _part("Log", ("time", "level", "from", "text"), map(_entry, log), give=("from", "text"))
    # An entry written again with the same value is recorded, because others may come in between, but is not
    # shown.
    changes = (e for e in detail.edits if e.old != e.value)
    edits = ((local(e.edited_at), *_edit(e), e.edited_by) for e in changes)
    _part("Edits", ("time", "what", "old", "new", "by"), edits, give=("old", "new", "by"))


def show_experiments(experiments: Iterable[Experiment], *, counted: bool) -> None:
    """Print the experiments."""
    titles = ("", "experiment", *(["runs"] if counted else []), "next run", "made", "comment")
    rows = (
        (
            "*" if e.is_current else "",
            e.name,
            *([e.runs] if counted else []),
            "" if e.next_number < 0 else e.next_number,
            local(e.created_at),
            e.comment,
        )
        for e in experiments
    )
    show(titles, rows, right=("runs", "next run"), give=("comment",), cut=True)


def show_observables(observables: Iterable[Observable]) -> None:
    """Print a run sheet."""
    rows = (
        (o.name, o.kind.value, o.units, o.pv, "removed" if o.removed else "", o.comment) for o in observables
    )
    titles = ("observable", "type", "units", "PV", "", "comment")
    show(titles, rows, give=("PV", "comment"))


def _facts(run: Run, detail: RunDetail) -> Iterable[tuple[str, str]]:
    yield "Run", f"{run.number} of {run.experiment}"
    yield "Title", run.title
    yield "Class", run.run_class.label
    yield "Operator", run.operator
    yield "Quality", run.quality.value
    yield "Comment", run.comment
    state = run.outcome.value if run.outcome else run.stage.value
    yield "State", f"{state} (adopted)" if run.adopted else state
    yield "Reason", run.reason
    yield "Start commanded", _by(run.start_commanded_at, run.started_by)
    yield "Started", local(run.started_at)
    yield "Last seen running", local(run.last_running_at) if run.stopped_at is None else ""
    yield "Stop commanded", _by(run.stop_commanded_at, run.stopped_by)
    yield "Stopped", local(run.stopped_at)
    yield "Duration", duration(run.duration_s)
    yield "Members", ", ".join(detail.members)
    yield "Lost", ", ".join(detail.lost)
    yield "Config", run.config_name
    yield "Files", run.files_state
    for title, count in (
        ("Events", run.event_count),
        ("Unequal events", run.unequal_events),
        ("Missing events", run.missing_events),
        ("Resets", run.resets),
        ("Damaged frames", run.damaged_frames),
    ):
        yield title, known(count, told=run.files_state)
    yield "Frames not read", ", ".join(files.router for files in detail.files if not _is_known(files))
    yield "Sync", run.sync
    yield "Check of frames", run.frames_check.value if run.files_state else ""
    yield "IOC", run.ioc
    yield "Fleet", run.fleet


def _by(when: datetime | None, who: object) -> str:
    by = "" if str(who) == "?@?" else f" by {who}"
    return f"{local(when)}{by}".strip()


def _part(
    title: str,
    titles: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Sequence[str] = (),
    give: Sequence[str] = (),
) -> None:
    listed = list(rows)
    if listed:
        console().print(Text(f"\n{title}", style="bold"))
        show(titles, listed, right=right, give=give)


_MODULE = ("module", "kind", "describe", "prepare", "configure", "took", "", "ECC server", "data links")
_CONFIG = ("module", "file", "from", "sha256")
_FILES = ("router", "state", "files", "GB", "where", "message")
_FRAMES = ("router", "events", "first", "last", "missing", "resets", "damaged", "check", "sync")
_MEASUREMENT = ("observable", "when", "value", "units", "severity", "time stamp", "PV", "remark")


def _module(module: Module) -> Sequence[object]:
    links = ", ".join(f"{k.source} to {k.address}:{k.port} {k.type}" for k in module.links)
    took = "" if module.transition_s is None else f"{module.transition_s:.2f} s"
    names = (module.describe, module.prepare, module.configure)
    return (
        module.name,
        module.kind,
        *("-" if name is None else name for name in names),
        took,
        "lost" if module.lost else "",
        module.url,
        links,
    )


def _measurement(m: Measurement) -> Sequence[object]:
    remarks = [
        m.fault,
        "same as the run before" if m.carried else "",
        f"by {m.entered_by}" if m.entered_by else "",
    ]
    return (
        m.observable,
        m.moment.value,
        "" if m.value is None else m.value,
        m.units,
        SEVERITIES[m.severity],
        local(m.stamped_at),
        m.pv,
        ", ".join(r for r in remarks if r),
    )


def _files(files: RouterFiles) -> Sequence[object]:
    size = f"{files.data_bytes / 1e9:.3f}"
    # Where they are has a column of its own.
    message = files.message.replace(f" in {files.location}", "", 1) if files.location else files.message
    return files.router, files.state, files.files, size, files.location, message


def _is_known(files: RouterFiles) -> bool:
    return files.event_count is not None or files.resets is not None or bool(files.sync)


def _frames(files: RouterFiles) -> Sequence[object]:
    # Without a frame there are none, and after a reset the message has those of each numbering.
    unknown = files.event_count is None and not files.resets
    ends = (known(event, told=unknown) for event in (files.first_event, files.last_event))
    sums = map(known, (files.missing_events, files.resets, files.damaged_frames))
    return files.router, known(files.event_count), *ends, *sums, files.frames_check.value, files.sync


def _config(use: ConfigUse) -> Sequence[object]:
    state = use.fault or use.sha256[:16]
    return use.module, f"{use.part}-{use.name}.xcfg", use.source, state


def _entry(entry: LogEntry) -> Sequence[object]:
    return local(entry.logged_at), entry.level.value, entry.source, entry.text


def _edit(edit: Edit) -> tuple[str, str, str]:
    """Return the edited field, its old and its new value."""
    return edit.observable or FIELDS.get(edit.field, edit.field), edit.old or "", edit.value


def _event(event: Event) -> Sequence[object]:
    text = event.text if event.ok else f"FAILED: {event.text}"
    if event.external:
        text += " (not ours)"
    if event.duration_s:
        text += f" ({event.duration_s:.2f} s)"
    return local(event.happened_at), event.kind, event.module, text
