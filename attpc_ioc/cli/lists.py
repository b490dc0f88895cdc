"""The commands that list things: `plugins`, `pvs`, and `clients` of a running IOC."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from attpc_ioc.cli.options import naming_file, settings_file, whole_table
from attpc_ioc.printable import one_line
from attpc_ioc.settings.demo_place import VARIABLE
from attpc_ioc.streams import exact, exact_output

COLUMNS = ("id", "user", "host", "address", "up", "channels", "subscriptions", "queued", "dropped", "puts")
"""The columns of the list of clients."""


def plugins(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A settings file.")] = None,
) -> None:
    """List the plugins: name, status, origin, and the hooks that each implements."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from attpc_ioc.app import load_plugins
    from attpc_ioc.settings import load_settings

    with naming_file(file):
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


def pvs(
    file: Annotated[Path, typer.Argument(help="The settings file.")],
    json_: Annotated[bool, typer.Option("--json", help="As JSON, with all details.")] = False,
    csv_: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
) -> None:
    """List every PV with type, access, units and description."""
    if json_ and csv_:
        typer.echo("--json and --csv cannot be given together", err=True)
        raise typer.Exit(2)
    from attpc_ioc.access.groups import groups_of
    from attpc_ioc.export.pvs_list import as_csv, as_json, as_text, pv_line
    from attpc_ioc.settings import load_settings

    with naming_file(file):
        settings = load_settings(file)
        table = whole_table(settings)
    groups = groups_of(table, settings.access, settings.ioc.prefix)
    lines = [pv_line(entry, groups[entry.name]) for entry in table]
    if json_ or csv_:
        exact_output()
    typer.echo((as_json if json_ else as_csv if csv_ else as_text)(lines))


def clients(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help=f"The settings file of the running IOC; else {VARIABLE}."),
    ] = None,
    pvs: Annotated[bool, typer.Option("--pvs", help="With the PVs that each is connected to.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="As JSON, with all details.")] = False,
) -> None:
    """List the clients of the IOC that runs on this host with these settings.

    Of clients over PVAccess only the address is known, and the user once it has put something.
    """
    from attpc_ioc.asking import ask
    from attpc_ioc.settings import load_settings

    settings = load_settings(settings_file(file, "FILE"))
    answer = ask(settings.state_directory(), {"ask": "clients", "pvs": pvs or json_})
    typer.echo(json.dumps(answer, indent=2) if json_ else _all_text(answer, pvs))


def _all_text(answer: dict[str, Any], pvs: bool) -> str:
    over_pva = [f"{_shown(one['user'])}  {one['address']}" for one in answer["pvaccess"]]
    if not over_pva:
        return clients_text(answer["clients"], pvs)
    by_ca = [clients_text(answer["clients"], pvs), ""] if answer["clients"] else []
    return "\n".join([*by_ca, "over PVAccess, where a client's PVs are not known:", *over_pva])


def clients_text(found: list[dict[str, Any]], pvs: bool) -> str:
    """Return the clients in columns, each with `pvs` followed by its PVs."""
    if not found:
        return "no client is connected"
    rows = [COLUMNS, *(_cells(one) for one in found)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    text = [lines[0]]
    for one, line in zip(found, lines[1:], strict=True):
        text.append(line)
        text += [f"    {name}" for name in one["pvs"]]
        if pvs and len(one["pvs"]) < one["channels"]:
            text.append(f"    and {one['channels'] - len(one['pvs'])} more")
    return "\n".join(text)


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    minutes, seconds = divmod(int(one["connected_s"]), 60)
    keys = ("channels", "subscriptions", "queued", "dropped", "puts_at_work")
    return (
        str(one["id"]),
        _shown(one["user"]),
        _shown(one["host"]),
        one["address"],
        f"{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}",
        *(str(one[key]) for key in keys),
    )


def _shown(name: str) -> str:
    """Return a name from a client, escaped and cut for a terminal."""
    return one_line(name)[:40] or "-"
