"""The commands `state show`, `state check` and `state backup`: inspect the state database."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attpc_ioc.cli.options import SettingsFile, naming_file
from attpc_ioc.printable import one_line
from attpc_ioc.streams import exact_output

if TYPE_CHECKING:
    from attpc_ioc.eventlog.inspect import Contents

state = typer.Typer(help="Inspect the state database: what is kept across restarts, and the event log.")

Database = Annotated[
    Path | None, typer.Option(help="Another database, such as a backup or a damaged one set aside.")
]


@state.command()
def show(
    file: SettingsFile,
    events: Annotated[int, typer.Option(min=0, help="Number of newest events.")] = 20,
    json_: Annotated[bool, typer.Option("--json", help="As JSON, with all details.")] = False,
    database: Database = None,
) -> None:
    """Print what is kept across restarts, by topic, and the newest events. The IOC may be running."""
    from attpc_ioc.eventlog.inspect import contents

    found = contents(_path(file, database), events)
    if json_:
        exact_output()
        typer.echo(json.dumps(_as_json(found), ensure_ascii=False, indent=1))
        return
    _print(found)


@state.command()
def check(file: SettingsFile, database: Database = None) -> None:
    """Check the database's pages and read every event; faults are printed, and the exit code is 1."""
    from attpc_ioc.eventlog.inspect import check as faults_of

    path = _path(file, database)
    faults = faults_of(path)
    for fault in faults:
        typer.echo(f"{path}: {one_line(fault)}", err=True)
    if faults:
        raise typer.Exit(1)
    typer.echo(f"{path}: good")


@state.command()
def backup(
    file: SettingsFile,
    to: Annotated[Path, typer.Argument(metavar="TO", help="The new file.")],
) -> None:
    """Copy a consistent state of the database; the IOC may be running.

    To go back to a backup, stop the IOC and put the copy into the state directory as `state.db`; a
    `state.db-wal` beside it must be removed. Run numbers given since the backup are then given again: set the
    next with `attpc-ioc next-number`.
    """
    from attpc_ioc.eventlog.inspect import backup as copy

    size = copy(_path(file, None), to)
    typer.echo(f"{to}: {size} bytes")


def _path(file: Path, database: Path | None) -> Path:
    from attpc_ioc.eventlog.database import NAME
    from attpc_ioc.settings import load_settings

    with naming_file(file):
        return database or load_settings(file).state_directory() / NAME


def _as_json(found: Contents) -> dict[str, object]:
    return {
        "kept": {t: {k: json.loads(v) for k, v in rows.items()} for t, rows in found.kept.items()},
        "lost": found.lost,
        "cursors": found.cursors,
        "events": [
            {"position": e.position, "kind": e.kind, "time_s": e.time_s, "event": json.loads(e.body)}
            for e in found.events
        ],
    }


def _print(found: Contents) -> None:
    """Print one line for each row and event, for `grep` and `less -S`."""
    lines = [
        f"{topic} {key}: {value}" if key else f"{topic}: {value}"
        for topic, rows in found.kept.items()
        for key, value in rows.items()
    ]
    lines += [f"lost: {topic or 'everything before'}: {reason}" for topic, reason in found.lost.items()]
    lines += [f"{reader} has read up to event {position}" for reader, position in found.cursors.items()]
    lines.append(f"{found.count} events, the last {len(found.events)}:")
    lines += [
        f"{e.position} {datetime.fromtimestamp(e.time_s).isoformat(' ', 'milliseconds')} {e.kind} {e.body}"
        for e in found.events
    ]
    for line in lines:
        typer.echo(one_line(line))
