"""Assembles and runs the commands, including those of plugins."""

from __future__ import annotations

import functools
import reprlib

import typer

from attpc_ioc.cli import demo, export, lists, run, settings, simulate, state
from attpc_ioc.errors import AttpcError, system_reason
from attpc_ioc.streams import set_up_streams

app = typer.Typer(
    name="attpc-ioc",
    help="Run control for the AT-TPC: an EPICS IOC for a fleet of GET ECC servers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# In the order shown by `attpc-ioc --help`.
app.command()(run.run)
app.command()(demo.demo)
app.command()(lists.plugins)
app.command()(run.next_number)
app.command()(settings.init)
app.command()(settings.check)
app.command()(settings.schema)
app.command()(lists.pvs)
app.command()(lists.clients)
app.add_typer(export.export, name="export")
app.add_typer(state.state, name="state")
app.command()(simulate.simulate)
app.command()(simulate.fault)


@functools.cache
def add_plugins_commands() -> None:
    """Let plugins add their sub-commands, once per process; failures are reported, the others are added."""
    from attpc_ioc.plugin.host import PluginHost

    host = PluginHost()
    try:
        host.load_entry_points()
    except AttpcError as error:
        typer.echo(str(error), err=True)
    for failure in host.add_commands(app):
        typer.echo(failure, err=True)


def run_program() -> None:
    """Run the shell command; an error that an operator can cause gives one clear text and exit code 1."""
    set_up_streams()
    try:
        add_plugins_commands()
        app()
    except AttpcError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(1) from None
    except UnicodeEncodeError as error:
        # A name from or for the operating system is not valid text.
        text = reprlib.repr(error.object)
        typer.echo(f"{text} cannot be encoded ({error.encoding}); set the locale: LANG=C.UTF-8", err=True)
        raise SystemExit(1) from None
    except OSError as error:
        typer.echo(f"{error.filename or 'attpc-ioc'}: {system_reason(error)}", err=True)
        raise SystemExit(1) from None
