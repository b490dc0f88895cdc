"""The group `attpc-ioc history`, and its commands `list|show|edit`."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from attpc_ioc.printable import json_text
from attpc_ioc.shell import fail
from attpc_ioc.streams import exact_output, exact_unless_shown
from attpc_plugins.run_history.commands.support import filters, tables
from attpc_plugins.run_history.commands.support.common import (
    DEFAULT_FILE,
    SettingsFile,
    check_experiment,
    me,
    runs_named,
    with_store,
)
from attpc_plugins.run_history.commands.support.output import FormatOption, Output, print_pages
from attpc_plugins.run_history.exchange import csv_file, json_file
from attpc_plugins.run_history.exchange.check import check_edited
from attpc_plugins.run_history.exchange.plain import to_plain
from attpc_plugins.run_history.sheets.reading import parse
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.errors import NotFound
from attpc_plugins.run_history.store.model.history import (
    LogEntry,
    Quality,
    Run,
    RunChanges,
    RunDetail,
    RunFilter,
    RunPage,
)
from attpc_plugins.run_history.store.model.values import Bad, Value, class_of, word_of

from . import configs, puts, transfer

PAGE = 500
"""Runs requested at a time."""

LOG = 100
"""Newest entries of a run's log that are shown."""


ExperimentName = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="The experiment's name.")]
RunWords = Annotated[
    list[str],
    typer.Argument(
        metavar="[EXPERIMENT] NUMBER", help="The run: its experiment, else the current one, and its number."
    ),
]
RunNumber = Annotated[int, typer.Argument(metavar="NUMBER", min=0, help="The run's number.")]

LIST_COLUMNS = tuple(
    column for column in csv_file.COLUMNS if column.name not in ("members", "lost", *csv_file.LISTS)
)
"""The columns of a list: those of an export, without those of a run's details."""


def make() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(help="The runs that were taken.", no_args_is_help=True, rich_markup_mode=None)
    app.command("list")(list_runs)
    app.command("show")(show)
    app.command("edit")(edit)
    app.command("diff")(configs.diff)
    app.command("puts")(puts.puts)
    transfer.register(app)
    return app


def list_runs(
    experiment: filters.Experiment = "",
    number: filters.Numbers = "",
    since: filters.Since = "",
    until: filters.Until = "",
    run_class: filters.RunClassOption = "",
    quality: filters.QualityOption = "",
    text: filters.Words = "",
    bad: filters.BadOption = False,
    limit: Annotated[int, typer.Option(min=0, help="Maximum number of runs; 0 lists all.")] = 50,
    output: FormatOption = Output.TABLE,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """List runs, the newest first."""
    which = filters.run_filter(experiment, number, since, until, run_class, quality, text, bad=bad)
    with_store(settings, lambda store: _list(store, which, limit, output))


async def _list(store: Store, which: RunFilter, limit: int, output: Output) -> None:
    await check_experiment(store, which.experiment)
    if output is Output.CSV:
        sys.stdout.write(csv_file.row_text(column.name for column in LIST_COLUMNS))

    def write(page: RunPage) -> int:
        if output is Output.TABLE:
            tables.show_runs(page.runs, with_experiment=which.experiment is None)
        for run in page.runs:
            if output is not Output.TABLE:
                sys.stdout.write(_run_text(run, output))
        return len(page.runs)

    await print_pages(
        lambda left, after: store.runs(which, limit=min(PAGE, left), after=after), write, limit, output
    )


def _run_text(run: Run, output: Output) -> str:
    if output is Output.CSV:
        return csv_file.row_text(column.write(RunDetail(run)) for column in LIST_COLUMNS)
    return json_text(to_plain(run)) + "\n"


class ShowOutput(StrEnum):
    """How one run is printed."""

    TABLE = "table"
    JSON = "json"


def show(
    run: RunWords,
    output: Annotated[ShowOutput, typer.Option("--format", help="table, or json for programs.")] = (
        ShowOutput.TABLE
    ),
    with_configs: Annotated[
        bool, typer.Option("--configs", help="Print its configuration files instead.")
    ] = False,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Show one run: conditions, members, measurements, files, events, log, edits; or its configurations."""
    named = runs_named(run, 1)

    async def find(store: Store) -> tuple[RunDetail, tuple[LogEntry, ...]]:
        experiment = await named.experiment_in(store)
        detail = await _run(store, experiment, named.numbers[0], texts=with_configs)
        return detail, await store.log_entries(
            limit=LOG + 1, alarming=False, run=(experiment, detail.run.number)
        )

    detail, entries = with_store(settings, find)
    if with_configs and output is ShowOutput.TABLE:
        if not detail.configs:
            known = detail.run
            fail(f"no configuration files are on record for run {known.number} of {known.experiment}")
        texts = {use.sha256: use.text for use in detail.configs if use.text is not None}
        lines = configs.config_lines(detail, texts)
        # A file gets them unchanged.
        exact_unless_shown()
        sys.stdout.writelines(map(configs.harmless, lines) if sys.stdout.isatty() else lines)
    elif output is ShowOutput.JSON:
        exact_output()
        sys.stdout.write(json_file.run_line(detail))
    else:
        tables.show_run(detail, entries[LOG - 1 :: -1])
        if len(entries) > LOG:
            typer.echo(f"these are the newest {LOG} entries of its log; there are more", err=True)


def edit(
    experiment: ExperimentName,
    number: RunNumber,
    title: Annotated[str | None, typer.Option(help="Its title.")] = None,
    operator: Annotated[str | None, typer.Option(help="Who took it.")] = None,
    run_class: Annotated[str | None, typer.Option("--class", metavar="CLASS", help="Its class.")] = None,
    comment: Annotated[str | None, typer.Option(help="Its comment.")] = None,
    quality: Annotated[str | None, typer.Option(help="Unknown, Good, Bad or Partial.")] = None,
    value: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="The value of an observable; may be repeated."),
    ] = None,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Change the entries of a run; each change is recorded with its author."""
    try:
        check_edited({"title": title, "operator": operator, "comment": comment})
        changes = RunChanges(
            title,
            operator,
            None if run_class is None else class_of(run_class),
            comment,
            None if quality is None else word_of(Quality, quality),
        )
    except Bad as bad:
        raise typer.BadParameter(str(bad), param_hint=f"--{bad.column}" if bad.column else None) from None
    values = [_assignment(item) for item in value or ()]
    if changes == RunChanges() and not values:
        raise typer.BadParameter("nothing to change: give an option such as --title")
    changed = with_store(settings, lambda store: _edit(store, experiment, number, changes, values))
    typer.echo(f"run {number} of {experiment} {'changed' if changed else 'has these values already'}")


async def _edit(
    store: Store, experiment: str, number: int, changes: RunChanges, values: list[tuple[str, str]]
) -> bool:
    """Edit a run and return whether that changed anything."""
    before = await _run(store, experiment, number)
    sheet = {o.name: o for o in await store.observables(experiment, removed=True)}
    typed: dict[str, Value] = {}
    for name, text in values:
        if name not in sheet:
            fail(f"experiment {experiment} has no observable {name}; it has: {', '.join(sheet) or 'none'}")
        value, fault = parse(text, sheet[name].kind)
        if value is None:
            fail(f"{name}: {fault}")
        typed[name] = value
    await store.edit(experiment, number, changes, values=typed, who=me())
    return await store.run(experiment, number) != before


async def _run(store: Store, experiment: str, number: int, *, texts: bool = False) -> RunDetail:
    """Return a run, with `texts` also those of its configurations; if it is missing, name others."""
    try:
        detail = await store.run(experiment, number)
    except NotFound as error:
        if others := await store.experiments_with(number):
            raise NotFound(f"{error}; there is one of: {', '.join(others)}") from None
        raise
    return await transfer.with_texts(store, detail, set()) if texts else detail


def _assignment(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
    return name.strip(), value


app = make()
"""The group of commands."""
