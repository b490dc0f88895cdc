"""`attpc-ioc observables list|add|edit|rename|remove|order`: the run sheet of an experiment."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from attpc_ioc.errors import StateDirError
from attpc_ioc.printable import json_text
from attpc_ioc.shell import fail, open_state
from attpc_plugins.run_history.commands.support import tables
from attpc_plugins.run_history.commands.support.common import (
    DEFAULT_FILE,
    PLUGIN,
    SettingsFile,
    Setup,
    experiment_or_current,
    setup_of,
    with_store,
)
from attpc_plugins.run_history.commands.support.output import FormatOption, Output
from attpc_plugins.run_history.exchange import csv_file
from attpc_plugins.run_history.exchange.plain import to_plain
from attpc_plugins.run_history.sheets.kept import KEPT_SHEET, TOPIC, KeptSheet, load_kept
from attpc_plugins.run_history.sheets.names import PREFIX, observable_fault
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.model.history import Observable
from attpc_plugins.run_history.store.model.values import ValueKind

Sheet = Annotated[
    str,
    typer.Option("--experiment", "-e", metavar="NAME", help="Of this experiment; default: the current one."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The observable's name.")]
TypeOption = Annotated[ValueKind | None, typer.Option("--type", help="The type of its values.")]
UnitsOption = Annotated[str | None, typer.Option(help="Its units, such as mbar.")]
CommentOption = Annotated[str | None, typer.Option(help="A description.")]
PvOption = Annotated[
    str | None, typer.Option(help="A PV that is read at start and stop; '': people enter the value.")
]

AFTERWARDS = "a running IOC records it from its next run on"


def make() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(
        help="The run sheet: quantities measured or noted for each run.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
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
    removed: Annotated[bool, typer.Option("--removed", help="Also those removed from the sheet.")] = False,
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
            sys.stdout.write(json_text(to_plain(observable)) + "\n")
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
    """Add an observable at the end of the sheet; its default type is float.

    Runs have it at once. Its PV, `Obs:NAME`, exists after the next start of the IOC: PVs are fixed while an
    IOC runs. The IOC itself adds the observables of the settings file to the sheet.
    """
    new = Observable(name, kind or ValueKind.FLOAT, units or "", comment or "", _pv(pv or ""))
    setup = _setup_for(settings, name)

    async def work(store: Store) -> str:
        sheet = await experiment_or_current(store, experiment)
        await _refuse_twin(store, sheet, name)
        await store.put_observable(sheet, new, new=True)
        await _keep_for_start(store, setup)
        return sheet

    sheet = with_store(settings, work)
    typer.echo(f"{name} is on the sheet of {sheet}; {AFTERWARDS}; {_afterwards(setup, name)}")


def edit(
    name: Name,
    kind: TypeOption = None,
    units: UnitsOption = None,
    comment: CommentOption = None,
    pv: PvOption = None,
    experiment: Sheet = "",
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Change an observable; values of existing runs stay as they are.

    Change one of the settings file there: the IOC reads it from there.
    """
    given = {"kind": kind, "units": units, "comment": comment, "pv": None if pv is None else _pv(pv)}
    changes = {key: value for key, value in given.items() if value is not None}
    if not changes:
        raise typer.BadParameter("nothing to change: give an option such as --units")

    async def work(store: Store) -> None:
        sheet = await experiment_or_current(store, experiment)
        found = {o.name: o for o in await store.observables(sheet)}
        if name not in found:
            fail(f"experiment {sheet} has no observable {name}; it has: {', '.join(found) or 'none'}")
        await store.put_observable(sheet, replace(found[name], **changes))
        await _keep_for_start(store, setup)

    setup = setup_of(settings)
    with_store(settings, work)
    shown = f"; {_afterwards(setup, name)}" if kind or units is not None else ""
    typer.echo(f"{name} changed; {AFTERWARDS}{shown}")


def rename(
    old: Annotated[str, typer.Argument(metavar="OLD", help="Its present name.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    experiment: Sheet = "",
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Give an observable another name; its values stay with it."""
    setup = _setup_for(settings, new)

    async def work(store: Store) -> None:
        sheet = await experiment_or_current(store, experiment)
        if old.lower() != new.lower():
            await _refuse_twin(store, sheet, new)
        await store.rename_observable(sheet, old, new)
        await _keep_for_start(store, setup)

    with_store(settings, work)
    typer.echo(f"{old} is now called {new}; {_afterwards(setup, new)}")


def remove(name: Name, experiment: Sheet = "", settings: SettingsFile = DEFAULT_FILE) -> None:
    """Remove an observable from the sheet; its values in existing runs stay."""

    async def work(store: Store) -> None:
        await store.remove_observable(await experiment_or_current(store, experiment), name)
        await _keep_for_start(store, setup)

    setup = setup_of(settings)
    with_store(settings, work)
    typer.echo(f"{name} is off the sheet")


def order(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names in their new order.")],
    experiment: Sheet = "",
    settings: SettingsFile = DEFAULT_FILE,
) -> None:
    """Reorder the sheet; observables not named follow in their old order."""

    async def work(store: Store) -> tuple[Observable, ...]:
        sheet = await experiment_or_current(store, experiment)
        await store.order_observables(sheet, names)
        return await store.observables(sheet)

    typer.echo(", ".join(o.name for o in with_store(settings, work)))


def _afterwards(setup: Setup, name: str) -> str:
    """Return the note on an observable's PV."""
    return f"its PV {setup.all.ioc.prefix}{PREFIX}{name} follows when the IOC is restarted"


def _setup_for(file: Path, name: str) -> Setup:
    """Read a settings file; ends the command for a name that cannot be a PV's."""
    setup = setup_of(file)
    if fault := observable_fault(name, setup.all.ioc.prefix):
        fail(fault)
    return setup


async def _refuse_twin(store: Store, experiment: str, name: str) -> None:
    """End the command for a name that is too similar to another."""
    for other in await store.observables(experiment):
        if other.name != name and other.name.lower() == name.lower():
            fail(f"observables must differ in more than upper and lower case: {name}, {other.name}")


async def _keep_for_start(store: Store, setup: Setup) -> None:
    """Keep the sheet for the PVs of the IOC's next start; a running IOC does that itself."""
    kept = load_kept(setup.folder)
    experiment = kept.experiment
    if not experiment:
        current = await store.current_experiment()
        experiment = current.name if current is not None else ""
    # An IOC of another user keeps it itself, once it runs with the database.
    if not experiment or not setup.folder.is_dir() or setup.folder.stat().st_uid != os.geteuid():
        return
    new = KeptSheet(experiment, await store.observables(experiment))
    if new != kept:
        with contextlib.suppress(StateDirError):
            async with open_state(setup.all, PLUGIN) as state:
                state.kept(TOPIC, KEPT_SHEET).keep("", new)
                await state.flush()


def _pv(text: str) -> str:
    if any(c.isspace() or not c.isprintable() for c in text):
        raise typer.BadParameter(f"{text!r} is not a PV name", param_hint="--pv")
    return text


app = make()
"""The group of commands."""
