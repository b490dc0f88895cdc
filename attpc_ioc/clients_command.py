"""The command `clients`: who is connected to a running IOC, and to what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from attpc_ioc.printable import one_line

COLUMNS = ("id", "user", "host", "address", "up", "channels", "subscriptions", "queued", "dropped", "puts")


def register(app: typer.Typer) -> None:
    """Add the command `clients` to the command line."""
    app.command()(clients)


def clients(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The settings file of the running IOC.")],
    pvs: Annotated[bool, typer.Option("--pvs", help="With the PVs that each is connected to.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="As JSON, with all that is known.")] = False,
) -> None:
    """List the Channel Access clients of the IOC that runs on this host with these settings."""
    from attpc_ioc.ioc.ask import ask
    from attpc_ioc.settings import load_settings

    answer = ask(load_settings(file).state_directory(), {"ask": "clients", "pvs": pvs or json_})
    typer.echo(json.dumps(answer, indent=2) if json_ else as_text(answer["clients"], pvs))


def as_text(told: list[dict[str, Any]], pvs: bool) -> str:
    """Return the clients in columns, each with `pvs` followed by its PVs."""
    if not told:
        return "no client is connected"
    rows = [COLUMNS, *(_cells(one) for one in told)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    text = [lines[0]]
    for one, line in zip(told, lines[1:], strict=True):
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
    """Return what a client says of itself without what would play tricks on a terminal."""
    return one_line(name)[:40] or "-"
