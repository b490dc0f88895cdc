"""`attpc-ioc experiments list|create|select|rename|comment`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from attpc_ioc.model.names import experiment_fault
from attpc_ioc.printable import json_text
from attpc_ioc.shell import fail
from attpc_plugins.run_history.commands.support import tables
from attpc_plugins.run_history.commands.support.common import (
    DEFAULT_FILE,
    SettingsFile,
    setup_of,
    with_store,
)
from attpc_plugins.run_history.commands.support.output import FormatOption, Output
from attpc_plugins.run_history.errors import DatabaseError
from attpc_plugins.run_history.exchange import csv_file
from attpc_plugins.run_history.exchange.plain import to_plain
from attpc_plugins.run_history.numbers.known import largest_known
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.model.history import Experiment
from attpc_plugins.run_history.store.model.values import time_text

Name = Annotated[str, typer.Argument(metavar="NAME", help="The experiment's name.")]


def make() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(
        help="The experiments that runs belong to.", no_args_is_help=True, rich_markup_mode=None
    )
    app.command("list")(list_)
    app.command("create")(create)
    app.command("select")(select)
    app.command("rename")(rename)
    app.command("comment")(comment)
    return app


def list_(
    count: Annotated[bool, typer.Option("--count", help="Count the runs of each.")] = False,
    output: FormatOption = Output.TABLE,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """List the experiments; the current one is marked."""
    found = with_store(settings, lambda store: store.experiments(counted=count))
    experiments = _with_floors(found, settings)
    if output is Output.TABLE:
        tables.show_experiments(experiments, counted=count)
    elif output is Output.JSON:
        for experiment in experiments:
            sys.stdout.write(json_text(to_plain(experiment)) + "\n")
    else:
        titles = ("name", "current", "runs", "next_number", "created_at", "comment")
        sys.stdout.write(csv_file.row_text(titles))
        for e in experiments:
            fields = (
                e.name,
                "yes" if e.is_current else "no",
                "" if e.runs < 0 else str(e.runs),
                "" if e.next_number < 0 else str(e.next_number),
                time_text(e.created_at) if e.created_at else "",
                e.comment,
            )
            sys.stdout.write(csv_file.row_text(fields))


def _with_floors(experiments: Iterable[Experiment], settings: Path) -> list[Experiment]:
    """Set each next number as the IOC does: also above numbers that a restored database does not have."""
    setup = setup_of(settings)
    try:
        floors = largest_known(setup.folder)
    except (OSError, DatabaseError) as error:
        typer.echo(f"the next numbers are those of the database alone: {error}", err=True)
        return list(experiments)
    made = []
    for experiment in experiments:
        number = max(experiment.next_number, floors.get(experiment.name, -1) + 1)
        # An experiment that has no run yet, in either place, shows none.
        number = max(number, setup.own.first_number) if number > 0 else experiment.next_number
        made.append(replace(experiment, next_number=number))
    return made


def create(
    name: Name,
    comment: Annotated[str, typer.Option(help="A description.")] = "",
    select: Annotated[bool, typer.Option("--select", help="Make it the current one.")] = False,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Make an experiment."""
    _check(name)
    with_store(settings, lambda store: store.create_experiment(name, comment, select=select))
    typer.echo(f"experiment {name} made{' and selected' if select else ''}")


def select(name: Name, settings: SettingsFile = DEFAULT_FILE) -> None:
    """Make an experiment the current one in the database, used by commands without --experiment.

    A running IOC keeps its own, which is chosen by a put to Run:Experiment.
    """
    _check(name)
    with_store(settings, lambda store: store.select_experiment(name))
    typer.echo(f"experiment {name} selected")


def rename(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Its present name.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    force: Annotated[bool, typer.Option("--force", help="Even if it is the current one.")] = False,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Give an experiment another name; its runs stay with it."""
    _check(new)
    with_store(settings, lambda store: _rename(store, old, new, force))
    typer.echo(f"experiment {old} is called {new} now")


async def _rename(store: Store, old: str, new: str, force: bool) -> None:
    if not force and (await store.experiment(old)).is_current:
        fail(
            f"{old} is the current experiment: a running IOC would go on under the old name. "
            "Choose another one in the IOC first, or stop it and use --force"
        )
    await store.rename_experiment(old, new)


def comment(
    name: Name,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The description.")],
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Set the description of an experiment."""
    with_store(settings, lambda store: store.comment_experiment(name, text))
    typer.echo(f"comment of {name} changed")


def _check(name: str) -> None:
    """End the command for a name that the IOC would refuse."""
    if fault := experiment_fault(name):
        fail(fault)


app = make()
"""The group of commands."""
