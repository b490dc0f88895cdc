"""`attpc-ioc history export|import`."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from datetime import tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TextIO
from zoneinfo import ZoneInfo

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from attpc_ioc.files import writing
from attpc_ioc.model.names import experiment_fault
from attpc_ioc.shell import fail
from attpc_ioc.streams import exact, exact_output
from attpc_plugins.run_history.commands.support import filters
from attpc_plugins.run_history.commands.support.common import (
    DEFAULT_FILE,
    SettingsFile,
    check_experiment,
    counted,
    with_store,
)
from attpc_plugins.run_history.exchange import csv_file, json_file
from attpc_plugins.run_history.exchange.number_set import NumberSet
from attpc_plugins.run_history.exchange.source import Contents, Format, RunFile
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.model.history import Cursor, RunDetail, RunFilter

STDOUT = Path("-")
LISTED = 20
"""Maximum numbers that a message lists."""

PAGE = 5000

LINE_EVERY_S = 5.0
"""Period of progress lines if they go to a file."""


class ExportFormat(StrEnum):
    """How runs are exported."""

    CSV = "csv"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the commands to the group `history`."""
    app.command("export")(export)
    app.command("import")(import_)


def export(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write; '-': standard output.")
    ] = (STDOUT),
    kind: Annotated[ExportFormat, typer.Option("--format", help="csv, or json (one object a line).")] = (
        ExportFormat.CSV
    ),
    experiment: filters.Experiment = "",
    number: filters.Numbers = "",
    since: filters.Since = "",
    until: filters.Until = "",
    run_class: filters.RunClassOption = "",
    quality: filters.QualityOption = "",
    text: filters.Words = "",
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Write runs with everything recorded of them, the oldest first; `history import` reads both formats."""
    which = filters.run_filter(experiment, number, since, until, run_class, quality, text)
    if output != STDOUT and output.is_file() and not force:
        fail(f"{output}: exists already and is not replaced; give another --output, or --force")
    with _written(output) as stream:
        count = with_store(settings, lambda store: _export(store, which, kind, stream))
    typer.echo(f"{counted(count, 'run')} exported", err=True)


async def _export(store: Store, which: RunFilter, kind: ExportFormat, stream: TextIO) -> int:
    count = 0
    await check_experiment(store, which.experiment)
    total = await store.count_runs(which)
    if kind is ExportFormat.CSV:
        stream.write(csv_file.header_text())
    write = csv_file.run_text if kind is ExportFormat.CSV else json_file.run_line
    exported: set[str] = set()
    with progress("exporting", total) as count_up:
        async with aclosing(store.stream(which)) as runs:
            async for detail in runs:
                stream.write(write(await with_texts(store, detail, exported)))
                count += 1
                count_up(count)
    stream.flush()
    return count


async def with_texts(store: Store, detail: RunDetail, exported: set[str]) -> RunDetail:
    """Return the run with the texts of configuration files that are not in `exported`, each once."""
    new = {use.sha256 for use in detail.configs if use.sha256} - exported
    if not new:
        return detail
    texts = await store.config_texts(new)
    uses = []
    for use in detail.configs:
        uses.append(replace(use, text=texts.pop(use.sha256, None)))
    exported |= new
    return replace(detail, configs=tuple(uses))


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to read; '-': standard input.")],
    kind: Annotated[
        Format,
        typer.Option(
            "--format", help="auto recognises the file; daq and envoy are tables of the older systems."
        ),
    ] = Format.AUTO,
    experiment: Annotated[
        str, typer.Option("--experiment", "-e", metavar="NAME", help="Import all runs into this experiment.")
    ] = "",
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out runs whose number exists already.")
    ] = False,
    timezone: Annotated[
        str,
        typer.Option(metavar="ZONE", help="Time zone of an old table's times, such as America/Detroit."),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check the file and the numbers.")] = False,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Read runs from a file: all of them, or none if anything is wrong."""
    zone = _zone(timezone)
    if experiment and (fault := experiment_fault(experiment)):
        fail(fault)
    with _readable(file) as path:
        name = "standard input" if file == STDOUT else str(file)
        source = RunFile(path, kind, experiment=experiment, zone=zone, name=name)
        with progress("checking", None) as count_up:
            contents = source.check(count_up)
        for doubt in contents.doubts:
            typer.echo(f"warning: {doubt.at(name)}", err=True)
        if more := contents.doubtful - len(contents.doubts):
            typer.echo(f"warning: {name}: and {more} more such runs", err=True)
        done = with_store(settings, lambda store: _import(store, source, contents, skip_existing, dry_run))
    typer.echo(done, err=True)


async def _import(
    store: Store, source: RunFile, contents: Contents, skip_existing: bool, dry_run: bool
) -> str:
    there = {name: await _existing(store, name, numbers) for name, numbers in contents.numbers.items()}
    count = sum(len(numbers) for numbers in there.values())
    if count and not skip_existing:
        lines = [
            f"experiment {name} has {'run' if len(n) == 1 else 'runs'} {_listed(n)} already"
            for name, n in there.items()
            if n
        ]
        fail("\n".join([*lines, "nothing was imported; --skip-existing imports the others"]))
    left = contents.count - count
    skipped = f", {count} left out because the number exists" if count else ""
    if dry_run:
        return f"{counted(left, 'run')} would be imported{skipped}; nothing was changed"
    with progress("importing", left) as count_up:
        await store.import_runs(_chosen(source, there, count_up))
    return f"{counted(left, 'run')} imported{skipped}"


def _chosen(source: RunFile, there: dict[str, NumberSet], count_up: ProgressCount) -> Iterator[RunDetail]:
    count = 0
    for detail in source.runs():
        found = there.get(detail.run.experiment)
        if found is None or detail.run.number not in found:
            count += 1
            count_up(count)
            yield detail


async def _existing(store: Store, experiment: str, numbers: NumberSet) -> NumberSet:
    """Return those of the numbers that the experiment has already."""
    found = NumberSet()
    ranges = list(numbers.ranges())
    which = RunFilter(experiment=experiment, number_from=ranges[0][0], number_to=ranges[-1][1])
    after: Cursor | None = None
    while True:
        page = await store.runs(which, limit=PAGE, after=after)
        for run in page.runs:
            if run.number in numbers:
                found.add(run.number)
        if (after := page.next) is None:
            return found


def _listed(numbers: NumberSet) -> str:
    """Return numbers for people: ranges, and how many more there are."""
    ranges = list(numbers.ranges())
    parts = [f"{first}" if first == last else f"{first}-{last}" for first, last in ranges[:LISTED]]
    more = sum(last - first + 1 for first, last in ranges[LISTED:])
    return ", ".join(parts) + (f" and {more} more" if more else "")


def _zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (ValueError, OSError, KeyError):
        raise typer.BadParameter(
            f"{name!r} is not a time zone; America/Detroit and UTC are", param_hint="--timezone"
        ) from None


@contextlib.contextmanager
def _readable(file: Path) -> Iterator[Path]:
    """Yield a file that can be read twice."""
    if file != STDOUT:
        yield file
        return
    with tempfile.NamedTemporaryFile(prefix="attpc-ioc-import-") as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.flush()
        yield Path(copy.name)


@contextlib.contextmanager
def _written(output: Path) -> Iterator[TextIO]:
    """Yield the stream to write to; a file appears only when complete."""
    if output == STDOUT:
        exact_output()
        yield sys.stdout
        return
    # Private: it has names of people and their computers.
    with writing(output, newline="", mode=0o600) as stream:
        yield stream


class ProgressCount:
    """Shows progress on standard error: a bar on a terminal, else a line every few seconds."""

    def __init__(self, bar: Progress, title: str, total: int | None) -> None:
        self._bar = bar
        self._title = title
        self._of = "" if total is None else f" of {total}"
        self._task = bar.add_task(title, total=total)
        self._next_s = time.monotonic() + LINE_EVERY_S

    def __call__(self, count: int) -> None:
        """Show how many are done."""
        if not self._bar.disable:
            self._bar.update(self._task, completed=count)
        elif time.monotonic() > self._next_s:
            self._next_s = time.monotonic() + LINE_EVERY_S
            typer.echo(f"{self._title}: {count}{self._of}", err=True)


@contextlib.contextmanager
def progress(title: str, total: int | None) -> Iterator[ProgressCount]:
    """Show progress on standard error while the block runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(file=exact(sys.stderr))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield ProgressCount(bar, title, total)
