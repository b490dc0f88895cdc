"""The commands `export ...`: what a control room connects to the IOC, made from the PV table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from attpc_ioc.pvs.table import PvEntry

SETTINGS = "ATTPC_IOC_SETTINGS"

export = typer.Typer(help="Files for screens and other programs of a control room.", no_args_is_help=True)

SettingsOption = Annotated[
    Path | None, typer.Option("--settings", metavar="FILE", help=f"The IOC's settings; else {SETTINGS}.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(export, name="export")


def table_of(settings: Path | None) -> tuple[PvEntry, ...]:
    """Return the PV table of a settings file, plugins' rows included; without one of that of the variable."""
    from attpc_ioc.app import load_plugins, make_table
    from attpc_ioc.errors import AttpcError
    from attpc_ioc.settings import load_settings

    file = settings or (Path(os.environ[SETTINGS]) if os.environ.get(SETTINGS) else None)
    if file is None:
        raise AttpcError(f"no settings file: give --settings FILE or set {SETTINGS}")
    loaded = load_settings(file)
    return make_table(loaded, load_plugins(loaded))


@export.command("screens")
def screens(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the files go; made if need be.")],
    settings: SettingsOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that this command did not make, too.")
    ] = False,
) -> None:
    """Write the screens for CS-Studio/Phoebus; open main.bob."""
    from attpc_ioc.export.screens import screens as make_screens
    from attpc_ioc.export.screens import write_screens

    files = make_screens(table_of(settings))
    write_screens(folder, files, force=force)
    typer.echo(f"{folder}: {len(files)} files written; open {folder / 'main.bob'}")
