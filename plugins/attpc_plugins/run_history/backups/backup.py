"""Backup and restore of the run history.

A backup is in pg_dump's custom format, with only the schema `attpc`. A restore is one transaction: the
existing schema is renamed, the migrations make a new one, and the backup's rows are inserted into its tables.
So the database has the one or the other, and the old schema is kept. Only rows are taken from the backup, see
`backup_rows`: no command in it is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import asyncpg

from attpc_ioc.files import make_ours, reaching
from attpc_ioc.log import get_logger
from attpc_plugins.run_history.connection.database import Database
from attpc_plugins.run_history.connection.poolers import SESSION, is_shared, shares_sessions
from attpc_plugins.run_history.embedded.binaries import OLDEST, folders
from attpc_plugins.run_history.errors import DatabaseError, DatabaseUnreachable
from attpc_plugins.run_history.schema.migrate import compare, migrate, migrations
from attpc_plugins.run_history.schema.upkeep import (
    SCHEMA,
    forget_leases,
    has_schema,
    impossible_times,
    largest_numbers,
    put_aside,
    referring,
    set_position,
)
from attpc_plugins.run_history.store.errors import translate

from .rows import LINE_BYTES, Contents, Position, Rows, contents, rows

log = get_logger(__name__)

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")

APPLIED = "schema_migrations"
"""The table of applied migrations."""

NOT_ALONE = (
    "a backup with such entries is not restored. If they are your own, move them to another schema than "
    f"{SCHEMA}, and make the backup again"
)


@dataclass(frozen=True, slots=True)
class Restored:
    """The result of a restore: largest number of each experiment, migrations applied, old schema's name."""

    largest: dict[str, int]
    migrations: list[str]
    aside: str | None


async def backup(database: Database, file: Path, *, force: bool = False) -> int:
    """Write a backup and return its size in bytes; raises `DatabaseError` with the reason.

    The file is written under another name and renamed; an existing one stays unless `force` is given. An
    existing pipe or device is never replaced.
    """
    way = file
    with reaching(way):
        file = _target(file, force=force)
    connection = await database.connect()
    try:
        if not await has_schema(connection):
            raise DatabaseError(f"{database.where}: it contains no run history")
        await _refuse_shared(database, connection)
        major = connection.get_server_version().major
    finally:
        await connection.close()
    dump = await asyncio.to_thread(_program, database, "pg_dump", major)
    words = ("--format=custom", f"--schema={SCHEMA}", "--no-owner", "--no-privileges", "--encoding=UTF8")
    command = (dump, *words, f"--dbname={database.public_url}")
    new = file.with_name(f"{file.name}.new-{os.urandom(4).hex()}")
    try:
        size = await asyncio.to_thread(_write, database, command, way, new)
        held = await contents(dump.with_name("pg_restore"), new, database.client_environment())
        if held.foreign:
            log.warning(
                "the schema contains more than the run history; a restore will refuse this backup",
                file=file,
                entries=", ".join(held.foreign[:3]),
                advice=NOT_ALONE,
            )
        with reaching(way):
            new.replace(file)
    except PermissionError as error:
        raise DatabaseError(f"{way} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(PermissionError), reaching(way):
            new.unlink(missing_ok=True)
    return size


async def restore(
    database: Database, file: Path, keep: Callable[[dict[str, int]], Awaitable[None]], *, force: bool = False
) -> Restored:
    """Replace the run history by a backup; raises `DatabaseError`, and then nothing is changed.

    If there are runs already, `force` is needed; they stay in a schema of another name. `keep` is called
    with the largest run number of each experiment of the database, before anything is changed.
    """
    connection = await database.connect()
    try:
        present = await has_schema(connection)
        before = await largest_numbers(connection) if present else {}
    finally:
        await connection.close()
    if before and not force:
        raise DatabaseError(
            f"{database.where} has runs already ({', '.join(sorted(before))}); with --force they are set "
            "aside, in a schema of another name"
        )
    program = await asyncio.to_thread(_newest, "pg_restore")
    env = database.client_environment()
    held = await contents(program, file, env)
    if "runs" not in held.tables or APPLIED not in held.tables:
        raise DatabaseError(f"{file} is a backup of something else: it contains no run history")
    version = await _version(program, file, env, held)
    if held.foreign:
        raise DatabaseError(
            f"{file} holds more than the run history ({', '.join(held.foreign[:3])}); {NOT_ALONE}"
        )
    await keep(before)
    aside = f"{SCHEMA}_before_{datetime.now(UTC):%Y%m%d%H%M%S%f}" if present else None
    connection = await database.connect()
    try:
        async with connection.transaction():
            if aside:
                await put_aside(connection, aside)
            await migrate(connection, migrations()[:version])
            await _fill(connection, program, file, env, held)
            if wrong := await impossible_times(connection):
                raise DatabaseError(
                    f"{file} has impossible times ({', '.join(wrong)}); nothing of it is restored"
                )
            done = await migrate(connection)
            await forget_leases(connection)
            after = await largest_numbers(connection)
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"{file}: {translate(error)}; nothing of it is restored") from error
    finally:
        await connection.close()
    return Restored(after, done, aside)


async def _refuse_shared(database: Database, connection: Any) -> None:
    """Refuse a pooler that gives each transaction another server connection.

    pg_dump's session settings would then apply to other clients instead of itself.
    """
    if not is_shared(connection):
        return
    try:
        other = await database.connect()
    except DatabaseUnreachable:
        return  # the pooler has only one server connection, and our first connection keeps it
    try:
        shared = await shares_sessions(connection, other)
    finally:
        await other.close()
    if shared:
        raise DatabaseError(
            f"{database.where}: a pooler gives each transaction another server connection, and pg_dump "
            f"needs one of its own: {SESSION} ({database.key})"
        )


async def _version(program: Path, file: Path, env: Mapping[str, str], held: Contents) -> int:
    """Return a backup's newest migration; raises `SchemaError` if this program lacks one of them."""
    keys: tuple[str, ...] = ()
    text = b""
    async with rows(program, file, env, (held.tables[APPLIED],)) as parts:
        async for part in parts:
            if isinstance(part, Rows):
                keys = part.columns
                async for piece in part.pieces:
                    text += piece
                    if len(text) > LINE_BYTES:
                        raise DatabaseError(f"{file} is damaged: it has too many migrations")
    try:
        lines = (dict(zip(keys, line.split("\t"), strict=True)) for line in text.decode().splitlines())
        applied = sorted(
            ({**line, "version": int(line["version"])} for line in lines), key=lambda row: row["version"]
        )
        found = compare(applied)
    except (ValueError, KeyError) as error:
        raise DatabaseError(f"{file} is damaged: its migrations cannot be read ({error})") from error
    found.check()
    if found.version != len(found.applied) or not found.version:
        raise DatabaseError(f"{file} is damaged: some of its migrations are missing")
    return found.version


async def _fill(
    connection: asyncpg.Connection, program: Path, file: Path, env: Mapping[str, str], held: Contents
) -> None:
    """Copy the rows of a backup into the tables of a new schema, referenced tables first."""
    refers = await referring(connection)
    order = [name for name in TopologicalSorter(refers).static_order() if name != APPLIED]
    if wrong := {*order} ^ ({*held.tables} - {APPLIED}):
        raise DatabaseError(f"{file} does not have the tables of a run history: {', '.join(sorted(wrong))}")
    filled = []
    entries = [*(held.tables[name] for name in order), *held.sequences.values()]
    async with rows(program, file, env, entries) as parts:
        async for part in parts:
            if isinstance(part, Position):
                await set_position(connection, part.sequence, part.value, part.called)
                continue
            filled.append(part.table)
            await connection.copy_to_table(
                part.table, schema_name=SCHEMA, columns=part.columns, source=part.pieces, format="text"
            )
    if filled != order:
        raise DatabaseError(f"{file} has other tables than it lists; nothing of it is restored")


def _newest(name: str) -> Path:
    """Return the newest version of a program, because it reads the backups of all others."""
    there = [path for folder in folders() if os.access(path := folder / name, os.X_OK)]
    if not there:
        raise DatabaseError(f"no {name} was found; install PostgreSQL's client programs")
    return max(there, key=_major)


def _program(database: Database, name: str, major: int) -> Path:
    """Return a program that is not older than the server; raises `DatabaseError` if there is none."""
    if database.server is not None:
        found = database.server.binaries().program(name)
        if os.access(found, os.X_OK):
            return found
    tried = []
    # The system's first: unlike the wheel's they support TLS.
    for folder in (*folders("system"), *folders("wheel")):
        path = folder / name
        if not os.access(path, os.X_OK):
            continue
        version = _major(path)
        if version >= major:
            return path
        tried.append(f"{path} is version {version}")
    found = f" ({'; '.join(tried)})" if tried else ""
    raise DatabaseError(
        f"no {name} of PostgreSQL {major or OLDEST} or newer was found{found}; install PostgreSQL's client "
        "programs, or use `attpc-ioc history export`"
    )


def _major(path: Path) -> int:
    ran = subprocess.run(
        [path, "--version"], capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=False
    )
    match = _VERSION.search(ran.stdout)
    return int(match[1]) if match else 0


def _write(database: Database, command: tuple[str | Path, ...], way: Path, new: Path) -> int:
    """Write a program's output to a new file that only this account may read; returns its size."""
    with reaching(way):
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as stream:
        make_ours(handle)
        ran = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.PIPE,
            check=False,
            env=dict(database.client_environment()),
        )
        if ran.returncode:
            text = " ".join(ran.stderr.decode(errors="replace").split())[-600:]
            raise DatabaseError(f"{database.where}: {Path(command[0]).name} failed: {text}")
        os.fsync(stream.fileno())
        return os.fstat(stream.fileno()).st_size


def _target(file: Path, *, force: bool) -> Path:
    """Return the file to write, with links resolved."""
    if file.exists() and not file.is_file():
        raise DatabaseError(f"{file} exists and is not a file; give another name")
    if file.exists() and not force:
        raise DatabaseError(f"{file} exists already; give another name, or --force")
    target = Path(os.path.realpath(file))
    if not target.parent.is_dir():
        raise DatabaseError(f"{target.parent} is not a folder")
    return target
