"""The commands `attpc-ioc db ...`: the database of the run history, its schema, its backups."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from attpc_ioc.log import set_up_logging
from attpc_ioc.shell import open_state
from attpc_plugins.run_history.backups import backup as backups
from attpc_plugins.run_history.commands.support.common import (
    DEFAULT_FILE,
    PLUGIN,
    SettingsFile,
    setup_of,
)
from attpc_plugins.run_history.connection.database import Database, Source
from attpc_plugins.run_history.errors import DatabaseError
from attpc_plugins.run_history.numbers.known import raise_floors
from attpc_plugins.run_history.schema.migrate import MigrationStatus, migrate, status
from attpc_plugins.run_history.schema.upkeep import facts, has_schema, leases

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]
Force = Annotated[bool, typer.Option("--force", help="Do it even if something exists already.")]

FORGOTTEN_S = 86400.0
"""A fleet whose lease expired longer ago is not listed."""

MEGABYTE = 1e6

PURPOSE = "attpc-ioc db"

T = TypeVar("T")


@app.command("migrate")
def migrate_command(settings: SettingsFile = DEFAULT_FILE) -> None:
    """Bring the database's schema to this program's version."""

    async def work() -> list[str]:
        async with _attached(settings) as database:
            connection = await database.connect()
            try:
                return await migrate(connection)
            finally:
                await connection.close()

    done = _do(work)
    typer.echo("\n".join(f"applied {name}" for name in done) or "nothing to do: the schema is up to date")


@app.command("status")
def status_command(settings: SettingsFile = DEFAULT_FILE) -> None:
    """Show where the database is, its version, schema, size and runs, and which IOC commands which fleet."""

    async def work() -> list[str]:
        async with _attached(settings) as database:
            return await _status(database)

    typer.echo("\n".join(_do(work)))


@app.command("url")
def url_command(settings: SettingsFile = DEFAULT_FILE) -> None:
    """Print the database's URL for psql, without a password.

    The embedded server accepts connections while the IOC runs; its socket is open to the account that runs
    it and to root.
    """
    database = setup_of(settings).database(PURPOSE)
    if database.server is None:
        typer.echo(database.public_url)
        return
    socket = database.server.found_socket()
    if socket is None:
        raise DatabaseError(f"{database.where} is not running: start the IOC, or use the other db commands")
    typer.echo(Database(database.source, server=database.server, socket=socket).public_url)


@app.command("backup")
def backup_command(file: BackupFile, settings: SettingsFile = DEFAULT_FILE, force: Force = False) -> None:
    """Write the run history to a file, even while the IOC runs."""

    async def work() -> int:
        async with _attached(settings) as database:
            return await backups.backup(database, file, force=force)

    size = _do(work)
    typer.echo(f"{file}: written, {size / MEGABYTE:.1f} MB")


@app.command("restore")
def restore_command(file: BackupFile, settings: SettingsFile = DEFAULT_FILE, force: Force = False) -> None:
    """Replace the run history by a backup; the IOC must not be running.

    The old history stays in the database in a schema of another name. No run number is given again that the
    database or the state directory knows.
    """
    known: dict[str, int] = {}

    async def work() -> backups.Restored:
        setup = setup_of(settings)
        async with open_state(setup.all, PLUGIN) as state, setup.database(PURPOSE).attached() as database:
            await _refuse_beside_an_ioc(database)

            async def keep(before: dict[str, int]) -> None:
                known.update(await raise_floors(state, before))

            return await backups.restore(database, file, keep, force=force)

    done = _do(work)
    typer.echo(f"{file}: restored")
    for name in done.migrations:
        typer.echo(f"applied {name}")
    for experiment in sorted({*known, *done.largest}):
        number = max(known.get(experiment, -1), done.largest.get(experiment, -1)) + 1
        typer.echo(f"the next run of {experiment} gets number {number}")
    if done.aside:
        typer.echo(f"the earlier history is in the schema {done.aside}")


def _do(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    set_up_logging(level="WARNING")
    return asyncio.run(work())


def _attached(file: Path) -> contextlib.AbstractAsyncContextManager[Database]:
    return setup_of(file).database(PURPOSE).attached()


async def _status(database: Database) -> list[str]:
    connection = await database.connect()
    try:
        schema = await status(connection)
        known = await facts(connection, has_schema=schema.version > 0)
    finally:
        await connection.close()
    said = {
        Source.SETTINGS: "plugins.run_history.dsn",
        Source.ENVIRONMENT: database.key,
        Source.EMBEDDED: "neither plugins.run_history.dsn nor PG* variables are set",
    }[database.source]
    last = f", the last on {known.last_run:%Y-%m-%d %H:%M} UTC" if known.last_run else ""
    lines = [
        f"database:    {database.where} ({said})",
        *([f"note:        {database.note}"] if database.note else []),
        f"server:      PostgreSQL {known.server}",
        f"schema:      version {schema.version} of {schema.known}, {_schema_text(schema)}",
        f"size:        {known.size / MEGABYTE:.1f} MB",
        f"experiments: {known.experiments}",
        f"runs:        {known.runs}{last}",
    ]
    for lease in known.leases:
        if lease.remaining_s < -FORGOTTEN_S:
            continue
        left = f"for {lease.remaining_s:.0f} s more" if lease.remaining_s > 0 else "expired"
        lines.append(f"fleet:       {lease.fleet} is commanded by {lease.ioc} on {lease.host}, {left}")
    return lines


def _schema_text(schema: MigrationStatus) -> str:
    if schema.too_new:
        return "of a newer attpc-ioc: use that one"
    if schema.changed:
        return f"changed after it was applied: {', '.join(schema.changed)}"
    return f"to be applied: {', '.join(schema.pending)}" if schema.pending else "up to date"


async def _refuse_beside_an_ioc(database: Database) -> None:
    """Refuse while an IOC elsewhere commands a fleet with this database."""
    connection = await database.connect()
    try:
        held = await leases(connection) if await has_schema(connection) else ()
    finally:
        await connection.close()
    # Our IOC is stopped; a lease that it did not release may still hold for some seconds.
    if live := [lease for lease in held if lease.remaining_s > 0]:
        first = live[0]
        raise DatabaseError(
            f"{first.ioc} on {first.host} uses this database; stop it, or wait {first.remaining_s:.0f} s "
            "if it was killed"
        )
