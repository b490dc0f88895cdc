"""The commands `init`, `check` and `schema`: write, check and describe a settings file."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attpc_ioc.cli.options import STDOUT, naming_file
from attpc_ioc.errors import SettingsError, system_reason
from attpc_ioc.printable import one_line
from attpc_ioc.settings import Settings, load_settings
from attpc_ioc.settings.schema import settings_schema
from attpc_ioc.settings.template import FleetRequest, fleet_text, request_faults, site_text
from attpc_ioc.streams import exact, exact_output

if TYPE_CHECKING:
    from attpc_ioc.plugin.host import PluginHost

FAILED = 1
"""Exit code for wrong settings or a server with a fault; a usage error gives 2."""

_PASSWORD = re.compile(r"://[^/?#]*:[^/?#]+@|[?&]password=[^&]|(?:^|\s)password\s*=\s*\S")
"""A password in a URL, or in a PostgreSQL connection string."""


def init(
    cobos: Annotated[int, typer.Option(help="Number of CoBos.")],
    first_cobo: Annotated[
        str, typer.Option(metavar="ADDRESS", help="IPv4 address of CoBo 0; the others follow it.")
    ] = "",
    mutant: Annotated[
        str, typer.Option(metavar="ADDRESS", help="IPv4 address of the MuTAnT; none without it.")
    ] = "",
    single: Annotated[
        str,
        typer.Option(
            metavar="HOST",
            help="One ECC server on this host drives all boards; the addresses are then the data routers'.",
        ),
    ] = "",
    prefix: Annotated[str, typer.Option(help="Prefix of every PV name.")] = "ATTPC:",
    output: Annotated[
        Path, typer.Option(help="The file to write, '-' for standard output; it must not exist.")
    ] = Path("attpc-ioc.toml"),
    all_keys: Annotated[
        bool, typer.Option("--all", help="Write every key with its meaning, not only what a site changes.")
    ] = False,
) -> None:
    """Write a settings file with comments for a fleet of CoBos and a MuTAnT.

    Data links go over TCP to port 46005 of each CoBo's own host, and over FDT for the MuTAnT.
    """
    from attpc_ioc.files import reaching

    request = FleetRequest(cobos, first_cobo, mutant, single, prefix)
    faults = request_faults(request)
    if faults:
        for option, text in faults.items():
            typer.echo(f"--{option.replace('_', '-')} {text}", err=True)
        raise typer.Exit(2)
    text = fleet_text(request) if all_keys else site_text(request)
    if output == STDOUT:
        exact_output()
        typer.echo(text, nl=False)
        return
    try:
        with reaching(output):  # as root, in another account's folder: with its rights
            stream = output.open("x", encoding="utf-8")
        with stream:
            stream.write(text)
    except FileExistsError:
        typer.echo(f"{output}: exists already and is left as it is; give another --output", err=True)
        raise typer.Exit(FAILED) from None
    except (OSError, ValueError) as err:
        typer.echo(f"{output}: cannot be written: {system_reason(err)}", err=True)
        raise typer.Exit(FAILED) from None
    typer.echo(f"{output}: written; review it, then: attpc-ioc check {output} --online")


def check(
    file: Annotated[Path, typer.Argument(help="The settings file.")],
    online: Annotated[
        bool,
        typer.Option(
            "--online",
            help="Ask every ECC server for its state and configurations, and every host of a plugin; "
            "look for a recceiver of ChannelFinder if it is on; check this shell's EPICS variables.",
        ),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            max=600,
            help="Time limit of each ECC server with --online, in seconds; a plugin's hosts have the "
            "limits of its settings.",
        ),
    ] = 10.0,
) -> None:
    """Check a settings file; the exit code is 0 if everything is right and 1 if something is wrong."""
    try:
        settings = load_settings(file)
        access, plugins = _check_plugins_and_access(file, settings)
    except SettingsError as err:
        typer.echo(str(err), err=True)
        count = len(err.faults)
        typer.echo(f"{count} fault{'s' if count > 1 else ''}", err=True)
        raise typer.Exit(FAILED) from None
    typer.echo(_summary(file, settings, access))
    if warning := _open_password(file, settings):
        typer.echo(warning, err=True)
    if online and (wrong := _ask_and_show(settings, plugins, timeout)):
        typer.echo(f"not right: {', '.join(wrong)}", err=True)
        raise typer.Exit(FAILED)


def schema() -> None:
    """Print the JSON schema of the settings file, for editors."""
    exact_output()
    typer.echo(json.dumps(settings_schema(), indent=2, ensure_ascii=False))


def _check_plugins_and_access(file: Path, settings: Settings) -> tuple[str, PluginHost]:
    """Check the sections of the installed plugins and the access security file.

    Returns a summary of the latter, and the plugins; raises `SettingsError`.
    """
    # Imported here, because the whole program takes long to import and every command imports this module.
    from attpc_ioc.access import access_summary
    from attpc_ioc.app import load_plugins, make_table

    with naming_file(file):
        plugins = load_plugins(settings)
        table = make_table(settings, plugins)
    return access_summary(settings, table), plugins


def _open_password(file: Path, settings: Settings) -> str:
    """Return a warning if the file has a password that every account can read; otherwise an empty text."""
    if not file.stat().st_mode & stat.S_IROTH:
        return ""
    # Sections of plugins are as in the file: lists and tables of any depth.
    todo: list[Any] = [settings.plugins]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo.extend(value.values())
        elif isinstance(value, list):
            todo.extend(value)
        elif isinstance(value, str) and _PASSWORD.search(value):
            return (
                f"warning: {file} has a password in a URL that every account of this computer can read. "
                "Put the password into the file named by PGPASSFILE (or ~/.pgpass, mode 600) and leave it "
                f"out here, or close the file: chmod 640 {file}"
            )
    return ""


def _summary(file: Path, settings: Settings, access: str) -> str:
    sources = [source for ecc in settings.ecc for source in ecc.source]
    links = sum(len(source.link) for source in sources)
    off = [name for name, section in settings.plugins.items() if section.get("enabled") is False]
    lines = [
        f"{file}: all right",
        f"  prefix           {settings.ioc.prefix}",
        f"  ECC servers      {len(settings.ecc)}: {', '.join(ecc.name for ecc in settings.ecc)}",
        f"  data sources     {len(sources)}, with {links} data links",
        f"  state directory  {settings.state_directory()}",
    ]
    if settings.plugins:
        names = [f"{name} (off)" if name in off else name for name in settings.plugins]
        lines.append(f"  plugins          {', '.join(names)}")
    lines.append(f"  access           {access}")
    return "\n".join(lines)


def _ask_and_show(settings: Settings, plugins: PluginHost, timeout_s: float) -> list[str]:
    """Print the answers of servers and plugins; return the names of those that are wrong."""
    # Imported here, because the SOAP client and rich take long to import.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from attpc_ioc.cli.online import ask_all
    from attpc_ioc.ioc.ca.address import from_environment
    from attpc_ioc.ioc.pva_conf import pva_conf

    reports, answers = asyncio.run(ask_all(settings, plugins, timeout_s))
    table = Table(box=None, pad_edge=False)
    for column in ("ECC server", "URL", "state", "configs"):
        table.add_column(column, no_wrap=column != "configs", overflow="fold")
    for report in reports:
        # Text, not markup: a name or an error may have square brackets.
        table.add_row(
            *(Text(one_line(cell)) for cell in (report.name, report.url, report.state, report.configs))
        )
    Console(file=exact(sys.stdout)).print(table)
    for answer in answers:
        # Lines, not a table: an answer may be a command to copy.
        where = f" at {answer.where}" if answer.where else ""
        typer.echo(f"{answer.what}{where}: {answer.text}")
    # Interfaces and port of the settings take precedence over this shell's variables.
    interfaces = list(map(str, settings.ioc.interfaces or ()))
    environment = from_environment(interfaces=interfaces, port=settings.ioc.server_port)
    faults = list(environment.faults)
    if settings.pva.enabled:
        faults += pva_conf(settings.pva, settings.ioc.interfaces).faults
    for fault in faults:
        typer.echo(f"environment: {fault}")
    wrong = [report.name for report in reports if not report.ok] + [a.what for a in answers if not a.ok]
    return [*wrong, "environment"] if faults else wrong
