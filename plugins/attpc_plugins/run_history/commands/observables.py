"""`attpc-ioc observables list|add|edit|rename|remove|order`: the run sheet of an experiment."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Annotated

import typer

from attpc_plugins.run_history.exchange import csv_file
from attpc_plugins.run_history.exchange.plain import to_plain
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.model import Observable, ValueKind

from . import tables
from .common import DEFAULT_FILE, SettingsFile, experiment_or_current, fail, with_store
from .history import FormatOption, Output

Sheet = Annotated[
    str,
    typer.Option("--experiment", "-e", metavar="NAME", help="Of this experiment; default: the current one."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The observable's name.")]
TypeOption = Annotated[ValueKind | None, typer.Option("--type", help="What its values are.")]
UnitsOption = Annotated[str | None, typer.Option(help="Its units, such as mbar.")]
CommentOption = Annotated[str | None, typer.Option(help="What it is, for people.")]
PvOption = Annotated[
    str | None, typer.Option(help="A PV that is read at start and stop; '': people enter the value.")
]

AFTERWARDS = "an IOC that runs records it from its next run on"


def make() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(help="The run sheet: what is measured or noted for each run.", no_args_is_help=True)
    for name, command in (
        ("list", list_),
        ("add", add),
        ("edit", edit),
        ("rename", rename),
        ("remove", remove),
        ("order", order),
    ):
        app.command(name)(command)
    return app


def list_(
    experiment: Sheet = "",
    removed: Annotated[bool, typer.Option("--removed", help="Those taken off the sheet too.")] = False,
    output: FormatOption = Output.TABLE,
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """List the observables in the order of the sheet."""

    async def work(store: Store) -> tuple[Observable, ...]:
        return await store.observables(await experiment_or_current(store, experiment), removed=removed)

    found = with_store(settings, work)
    if output is Output.TABLE:
        tables.show_observables(found)
    elif output is Output.JSON:
        for observable in found:
            sys.stdout.write(json.dumps(to_plain(observable), ensure_ascii=False) + "\n")
    else:
        sys.stdout.write(csv_file.row_text(("name", "type", "units", "comment", "pv", "removed")))
        for o in found:
            fields = (o.name, o.kind.value, o.units, o.comment, o.pv, "yes" if o.removed else "no")
            sys.stdout.write(csv_file.row_text(fields))


def add(
    name: Name,
    kind: TypeOption = None,
    units: UnitsOption = None,
    comment: CommentOption = None,
    pv: PvOption = None,
    experiment: Sheet = "",
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Add an observable at the end of the sheet; its type is float where none is given.

    Observables of the settings file are put on the sheet by the IOC itself, and only those are PVs
    (`Obs:NAME`).
    """
    new = Observable(name, kind or ValueKind.FLOAT, units or "", comment or "", _pv(pv or ""))

    async def work(store: Store) -> str:
        sheet = await experiment_or_current(store, experiment)
        await store.put_observable(sheet, new, new=True)
        return sheet

    sheet = with_store(settings, work)
    typer.echo(f"{name} is on the sheet of {sheet}; {AFTERWARDS}")


def edit(
    name: Name,
    kind: TypeOption = None,
    units: UnitsOption = None,
    comment: CommentOption = None,
    pv: PvOption = None,
    experiment: Sheet = "",
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Change an observable; values that runs have stay as they are.

    One that is in the settings file too is changed there: the IOC takes it from there.
    """
    given = {"kind": kind, "units": units, "comment": comment, "pv": None if pv is None else _pv(pv)}
    changes = {key: value for key, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("nothing is to be changed: give an option such as --units")

    async def work(store: Store) -> None:
        sheet = await experiment_or_current(store, experiment)
        found = {o.name: o for o in await store.observables(sheet)}
        if name not in found:
            fail(f"experiment {sheet} has no observable {name}; it has: {', '.join(found) or 'none'}")
        await store.put_observable(sheet, replace(found[name], **changes))

    with_store(settings, work)
    typer.echo(f"{name} changed; {AFTERWARDS}")


def rename(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Its name now.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    experiment: Sheet = "",
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Give an observable another name; its values stay with it."""

    async def work(store: Store) -> None:
        await store.rename_observable(await experiment_or_current(store, experiment), old, new)

    with_store(settings, work)
    typer.echo(f"{old} is called {new} now")


def remove(name: Name, experiment: Sheet = "", settings: SettingsFile = DEFAULT_FILE) -> None:
    """Take an observable off the sheet; values that runs have of it stay."""

    async def work(store: Store) -> None:
        await store.remove_observable(await experiment_or_current(store, experiment), name)

    with_store(settings, work)
    typer.echo(f"{name} is off the sheet")


def order(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names in their new order.")],
    experiment: Sheet = "",
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Put the sheet into an order; those not named follow in the order that they had."""

    async def work(store: Store) -> tuple[Observable, ...]:
        sheet = await experiment_or_current(store, experiment)
        await store.order_observables(sheet, names)
        return await store.observables(sheet)

    typer.echo(", ".join(o.name for o in with_store(settings, work)))


def _pv(text: str) -> str:
    if any(c.isspace() or not c.isprintable() for c in text):
        raise typer.BadParameter(f"{text!r} is no name of a PV", param_hint="--pv")
    return text


app = make()
"""The group of commands."""
