"""The commands `export ...`: files for other programs of a control room, made from the PV table."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attpc_ioc.cli.options import STDOUT, settings_file, whole_table
from attpc_ioc.errors import system_reason
from attpc_ioc.settings.demo_place import VARIABLE
from attpc_ioc.streams import exact_output

if TYPE_CHECKING:
    from attpc_ioc.export.alarms import Component
    from attpc_ioc.pvs.table import PvEntry

export = typer.Typer(
    help="Write files for screens and other programs of a control room.", no_args_is_help=True
)


def _folder(text: str) -> Path:
    """Return a folder; an empty text, as from an unset variable, does not mean the working directory."""
    if not text:
        raise typer.BadParameter("is empty; give '.' for the working directory")
    return Path(text)


def _file(text: str | Path) -> Path:
    """Return the path of a file to write."""
    if not str(text):
        raise typer.BadParameter("is empty; give the name of a file")
    return Path(text)


FolderArgument = Annotated[
    Path, typer.Argument(metavar="DIR", parser=_folder, help="Where the files go; made if needed.")
]
SettingsOption = Annotated[
    Path | None, typer.Option("--settings", metavar="FILE", help=f"The IOC's settings; else {VARIABLE}.")
]

OutputOption = Annotated[
    Path,
    typer.Option(
        "--output", metavar="FILE", parser=_file, help="The file to write, '-' for standard output."
    ),
]
ScreensOption = Annotated[
    str,
    typer.Option(
        "--screens",
        metavar="WHERE",
        help="Where alarm clients find the screens: an absolute folder, a URL, or a client's macro.",
    ),
]
PvaOption = Annotated[bool, typer.Option("--pva", help="Name the PVs by PVAccess, with pva:// before each.")]


@dataclass(frozen=True)
class Served:
    """What an IOC serves: the PV table as it is to be named, and whether PVAccess serves tables."""

    table: tuple[PvEntry, ...]
    tables: bool


def served(settings: Path | None, *, pva: bool) -> Served:
    """Return the PV table, with plugins' rows, of this settings file or of the one in the variable.

    Raises `AttpcError` where names by PVAccess are wanted and it is switched off.
    """
    from attpc_ioc.errors import AttpcError
    from attpc_ioc.export.protocol import over_pva
    from attpc_ioc.settings import load_settings

    file = settings_file(settings, "--settings FILE")
    loaded = load_settings(file)
    if pva and not loaded.pva.enabled:
        raise AttpcError(f"{file}: pva.enabled is false: nothing answers to names with pva://")
    table = whole_table(loaded)
    return Served(over_pva(table) if pva else table, loaded.pva.enabled)


@export.command("screens")
def screens(
    folder: FolderArgument,
    settings: SettingsOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also replace files that this command did not make.")
    ] = False,
    pva: PvaOption = False,
) -> None:
    """Write the screens for CS-Studio/Phoebus; open main.bob."""
    from attpc_ioc.export.screens import screens as make_screens
    from attpc_ioc.export.screens import write_screens

    it = served(settings, pva=pva)
    files = make_screens(it.table, tables=it.tables)
    gone = write_screens(folder, files, force=force)
    typer.echo(f"{folder}: {len(files)} files written{_deleted(gone)}; open {folder / 'main.bob'}")


@export.command("alarms")
def alarms(
    settings: SettingsOption = None,
    output: OutputOption = STDOUT,
    config: Annotated[
        str, typer.Option(help="The name of the alarm configuration, made from the prefix without it.")
    ] = "",
    fragment: Annotated[
        bool, typer.Option("--fragment", help="A component to include in another configuration.")
    ] = False,
    screens: ScreensOption = "",
    pva: PvaOption = False,
) -> None:
    """Write the alarm tree for the Phoebus alarm server.

    An import into the alarm server first deletes all that is below the configuration of that name.
    """
    from attpc_ioc.export.alarms import (
        alarm_tree,
        config_fault,
        default_config,
        fragment_text,
        prefix_of,
        screens_fault,
        whole_text,
    )

    if config and (fault := config_fault(config)):
        raise typer.BadParameter(fault, param_hint="--config")
    if fault := screens_fault(screens):
        raise typer.BadParameter(fault, param_hint="--screens")
    table = served(settings, pva=pva).table
    tree = alarm_tree(table, screens)
    name = config or default_config(prefix_of(table))
    text = fragment_text(tree, name) if fragment else whole_text(tree, name)
    _write(output, text, f"{_alarm_count(tree)} alarms")


@export.command("archiver")
def archiver(settings: SettingsOption = None, output: OutputOption = STDOUT, pva: PvaOption = False) -> None:
    """Write the JSON that archivePV of the EPICS Archiver Appliance takes."""
    from attpc_ioc.export.archiver import archive_requests, archiver_text

    table = served(settings, pva=pva).table
    _write(output, archiver_text(table), f"{len(archive_requests(table))} PVs")


@export.command("saveset")
def saveset(settings: SettingsOption = None, output: OutputOption = STDOUT, pva: PvaOption = False) -> None:
    """Write the setpoints as CSV for Phoebus's save-and-restore."""
    from attpc_ioc.export.saveset import saved_setpoints, saveset_text

    table = served(settings, pva=pva).table
    _write(output, saveset_text(table), f"{len(saved_setpoints(table))} setpoints")


@export.command("service")
def service(
    settings: SettingsOption = None,
    output: OutputOption = STDOUT,
    user: Annotated[str, typer.Option(metavar="NAME", help="The account that the IOC runs as.")] = "attpc",
) -> None:
    """Write a systemd unit that runs this installation of the IOC with these settings."""
    import sys

    from attpc_ioc.export.service import Service, service_unit
    from attpc_ioc.settings import load_settings

    file = settings_file(settings, "--settings FILE").absolute()
    loaded = load_settings(file)
    state_dir = loaded.state_directory() if loaded.ioc.state_dir is not None else None
    program = Path(sys.executable).with_name("attpc-ioc")
    unit = service_unit(Service(loaded.ioc.prefix, program, file, state_dir, user))
    _write(output, unit, "a systemd unit")


@export.command("facility")
def facility(
    folder: FolderArgument,
    settings: SettingsOption = None,
    demo: Annotated[bool, typer.Option("--demo", help="For the demo's configuration.")] = False,
    screens: ScreensOption = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also replace files that this command did not make.")
    ] = False,
    pva: PvaOption = False,
) -> None:
    """Write all exports: screens, alarms, archiver and saveset.

    Without --screens the alarms point to the screens where they are written.
    """
    from attpc_ioc.export.alarms import screens_fault
    from attpc_ioc.export.facility import SCREENS, facility_files, write_facility

    if fault := screens_fault(screens):
        raise typer.BadParameter(fault, param_hint="--screens")
    if demo and settings is not None:
        raise typer.BadParameter("give either --settings or --demo", param_hint="--demo")
    it = asyncio.run(_of_demo(pva=pva)) if demo else served(settings, pva=pva)
    where = screens or str((folder / SCREENS).absolute())
    files = facility_files(it.table, where, tables=it.tables)
    gone = write_facility(folder, files, force=force)
    names = ", ".join([f"{SCREENS} ({len(files.screens)} files)", *files.others])
    typer.echo(f"{folder}: {names} written{_deleted(gone)}")


async def _of_demo(*, pva: bool) -> Served:
    """Return what the demo serves; its fleet is started for a moment, to know its ports."""
    from attpc_ioc.cli.demo import COBOS, PREFIX, demo_data, demo_text
    from attpc_ioc.simulator.fleet import SimulatedFleet

    with tempfile.TemporaryDirectory(prefix="attpc-demo-") as name:
        folder = Path(name)
        async with SimulatedFleet(COBOS, data=demo_data(folder)) as fleet:
            file = folder / "demo.toml"
            file.write_text(demo_text(fleet, PREFIX, folder), encoding="utf-8")
            return served(file, pva=pva)


def _deleted(names: tuple[str, ...]) -> str:
    return f", {', '.join(names)} deleted (no longer made)" if names else ""


def _alarm_count(tree: tuple[Component, ...]) -> int:
    return sum(len(component.pvs) + _alarm_count(component.children) for component in tree)


def _write(output: Path, text: str, what: str) -> None:
    from attpc_ioc.errors import AttpcError
    from attpc_ioc.files import write_text

    if output == STDOUT:
        exact_output()
        typer.echo(text, nl=False)
        return
    try:
        write_text(output, text)
    except OSError as error:
        raise AttpcError(f"{output}: cannot be written: {system_reason(error)}") from None
    typer.echo(f"{output}: {what} written")
