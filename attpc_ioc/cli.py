"""The shell command `attpc-ioc`."""

from __future__ import annotations

import asyncio
import contextlib
import reprlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attpc_ioc.errors import AttpcError, SettingsError
from attpc_ioc.printable import one_line
from attpc_ioc.standard_streams import exact, set_up_streams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attpc_ioc.pvs.table import PvEntry
    from attpc_ioc.settings import Settings

app = typer.Typer(
    name="attpc-ioc",
    help="Run control for the AT-TPC: an EPICS IOC for a fleet of GET ECC servers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

SettingsFile = Annotated[Path, typer.Argument(metavar="FILE", help="The settings file (TOML).")]
LogLevel = Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")]
LogJson = Annotated[bool, typer.Option("--log-json", help="Write logs as JSON, one object a line.")]

TRY_NEXT = """\
The demo is running: {cobos} CoBos and a MuTAnT, prefix {prefix}, loopback only. In another terminal, try

  {setting}
  caput -S {prefix}Config e20009
  caput -c -w 60 {prefix}GoTo Ready
  caput -c -w 60 {prefix}Run:Start 1
  caget {prefix}State_RBV {prefix}Run:State_RBV {prefix}Run:Number_RBV && caput -c -w 60 {prefix}Run:Stop 1
{data}
Ctrl-C here ends it."""

TRY_DATA = """
While the run is on, its data are shown by

  caget {prefix}CoBo0:Router:Rate_RBV {prefix}Run:Written_RBV

and some seconds after it has stopped they are in {folder}/cobo0/data/unnamed/ and so on.
"""

TRY_FAULTS = """
What goes wrong in the simulated fleet is switched by

  attpc-ioc fault cobo1 die{where}
  attpc-ioc fault all clear{where}

and shown by `attpc-ioc fault{where}`; docs/simulator.md lists the faults.
"""


@app.command()
def run(
    file: SettingsFile,
    log_level: LogLevel = "INFO",
    log_json: LogJson = False,
) -> None:
    """Run the IOC until SIGINT or SIGTERM. The hardware is moved neither by its start nor by its end."""
    from attpc_ioc.app import serve
    from attpc_ioc.settings import load_settings

    _set_up_logging(log_level, log_json)
    with _faults_of(file):
        asyncio.run(serve(load_settings(file)))


@app.command()
def demo(
    prefix: Annotated[str, typer.Option(help="What every PV name begins with.")] = "DEMO:",
    cobos: Annotated[int, typer.Option(min=1, max=100, help="How many CoBos.")] = 10,
    log_level: LogLevel = "WARNING",
    log_json: LogJson = False,
) -> None:
    """Serve a complete system on loopback: the IOC with a simulated fleet, until Ctrl-C."""
    _set_up_logging(log_level, log_json)
    asyncio.run(_demo(prefix, cobos))


async def _demo(prefix: str, cobos: int) -> None:
    import os

    from attpc_ioc.app import serve
    from attpc_ioc.demo_settings import demo_data, demo_text
    from attpc_ioc.files import make_private
    from attpc_ioc.settings import demo_directory, demo_file, load_settings
    from attpc_ioc.simulator.admin import taking_orders
    from attpc_ioc.simulator.commands import ADMIN_PORT
    from attpc_ioc.simulator.fleet import SimulatedFleet

    # Loopback only, unless the person at the shell says otherwise.
    for name, also in (
        ("EPICS_CAS_INTF_ADDR_LIST", ()),
        ("EPICS_CAS_BEACON_ADDR_LIST", ("EPICS_CA_ADDR_LIST", "EPICS_CAS_AUTO_BEACON_ADDR_LIST")),
    ):
        if not any(os.environ.get(n) for n in (name, *also)):
            os.environ[name] = "127.0.0.1"
    state_dir, file = demo_directory(), demo_file()
    data = demo_data(state_dir)
    async with SimulatedFleet(cobos, data=data) as fleet, taking_orders(fleet, ADMIN_PORT) as admin:
        # Kept, because shell commands such as `attpc-ioc history` ask it where the database is.
        make_private(state_dir)
        text = demo_text(fleet, prefix, state_dir)
        file.write_text(text, encoding="utf-8")
        shown = TRY_DATA.format(prefix=prefix, folder=data.folder) if data else ""
        shown += TRY_FAULTS.format(where="" if admin.port == ADMIN_PORT else f" --admin {admin.url}")
        greeting = TRY_NEXT.format(prefix=prefix, cobos=cobos, setting=_setting(file), data=shown)
        await serve(load_settings(file), greeting)


def _setting(file: Path) -> str:
    """Return the shell line that finds the installed programs, this IOC, and its settings."""
    import os
    import shlex

    from attpc_ioc.ioc.ca.address import server_port

    words = [f'PATH="{Path(sys.executable).parent}:$PATH"']
    words += ["EPICS_CA_ADDR_LIST=127.0.0.1", "EPICS_CA_AUTO_ADDR_LIST=NO"]
    if os.environ.get("EPICS_CAS_SERVER_PORT") or os.environ.get("EPICS_CA_SERVER_PORT"):
        words.append(f"EPICS_CA_SERVER_PORT={server_port(os.environ)}")
    words.append(f"ATTPC_IOC_SETTINGS={shlex.quote(str(file))}")
    return f"export {' '.join(words)}"


@app.command()
def plugins(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A settings file.")] = None,
) -> None:
    """List the plugins: name, whether it is on, where it comes from, the hooks that it implements."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from attpc_ioc.app import load_plugins
    from attpc_ioc.settings import load_settings

    with _faults_of(file):
        host = load_plugins(load_settings(file) if file else None)
    table = Table(box=None, pad_edge=False)
    for title in ("plugin", "status", "origin", "hooks"):
        table.add_column(title, overflow="fold")
    for plugin in host.plugins.values():
        status = plugin.status.name.capitalize() + (f": {plugin.message}" if plugin.message else "")
        cells = (plugin.name, status, plugin.origin, ", ".join(host.hooks_of(plugin.name)))
        # Text, not markup: a message may have square brackets.
        table.add_row(*(Text(one_line(cell)) for cell in cells))
    Console(file=exact(sys.stdout)).print(table)


@contextlib.contextmanager
def _faults_of(file: Path | None) -> Iterator[None]:
    """Name the file in faults of the settings that only the plugins or the PV table found."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(str(file or error.file), error.faults) from None


@app.command("next-number")
def next_number(
    file: SettingsFile,
    experiment: Annotated[str, typer.Argument(help="The experiment's name; '' for 'unnamed'.")],
    number: Annotated[int, typer.Argument(min=0, help="The number that its next run gets.")],
) -> None:
    """Set the next run number in the state directory; the IOC must not be running."""
    from attpc_ioc.control.numbers import set_next_number
    from attpc_ioc.model.names import experiment_fault
    from attpc_ioc.model.run import UNNAMED
    from attpc_ioc.settings import load_settings

    _set_up_logging("WARNING", as_json=False)
    folder = load_settings(file).state_directory()
    experiment = experiment or UNNAMED
    if fault := experiment_fault(experiment):
        raise typer.BadParameter(fault, param_hint="EXPERIMENT")
    old = asyncio.run(set_next_number(folder, experiment, number))
    typer.echo(f"the next run of {experiment} gets number {number} (was {old})")


def _set_up_logging(level: str, as_json: bool) -> None:
    from attpc_ioc.log import set_up_logging

    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    if level.upper() not in levels:
        raise typer.BadParameter(f"{level} is no level; it is one of {', '.join(levels)}")
    set_up_logging(level=level.upper(), as_json=as_json)


def _whole_table(settings: Settings) -> tuple[PvEntry, ...]:
    from attpc_ioc.app import load_plugins, make_table

    return make_table(settings, load_plugins(settings))


def _register_others() -> None:
    from attpc_ioc.clients_command import register as register_clients
    from attpc_ioc.export.pvs_list import register as register_pvs
    from attpc_ioc.export_commands import register as register_exports
    from attpc_ioc.settings_commands import register as register_settings
    from attpc_ioc.simulator.commands import register as register_simulator

    register_settings(app)
    register_pvs(app, _whole_table)
    register_clients(app)
    register_exports(app)
    register_simulator(app)


_register_others()


def _add_plugins_commands() -> None:
    """Let plugins add their sub-commands; one that cannot is named, and the rest of the program goes on."""
    from importlib.metadata import entry_points

    from attpc_ioc.plugin.spec import PROJECT

    if not entry_points(group=PROJECT):
        return
    from attpc_ioc.plugin.host import PluginHost

    host = PluginHost()
    try:
        host.load_entry_points()
    except AttpcError as error:
        typer.echo(str(error), err=True)
    for failure in host.add_commands(app):
        typer.echo(failure, err=True)


def main() -> None:
    """Run the shell command; an error that an operator can cause is one clear text and exit code 1."""
    set_up_streams()
    try:
        _add_plugins_commands()
        app()
    except AttpcError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(1) from None
    except UnicodeEncodeError as error:
        # A name that is to reach the system, or one that came from it and is no text.
        text = reprlib.repr(error.object)
        typer.echo(f"{text} cannot be encoded ({error.encoding}); set the locale: LANG=C.UTF-8", err=True)
        raise SystemExit(1) from None
    except OSError as error:
        typer.echo(f"{error.filename or 'attpc-ioc'}: {error.strerror or error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
