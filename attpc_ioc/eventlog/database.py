"""Makes, checks and opens the file `state.db`; a damaged or foreign one is set aside and reported."""

from __future__ import annotations

import os
import re
import sqlite3
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from attpc_ioc.errors import StateDirError
from attpc_ioc.files import private
from attpc_ioc.log import get_logger

log = get_logger(__name__)

NAME = "state.db"
APPLICATION_ID = 0x41545043
"""In the header of the file ("ATPC"), to recognise other programs' databases."""

BUSY_S = 5.0
"""How long a writer waits for a reader, such as a shell command."""

_PART = "state.db.part"
_SET_ASIDE = "state.db.damaged-"
_SCHEMA_FILE = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")
_NETWORK = re.compile(r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|glusterfs|lustre|fuse\.sshfs|fuse\.glusterfs")
"""File systems on which processes cannot share the memory that SQLite's write-ahead log needs."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier version kept in files, to be imported into a new database."""

    kept: Sequence[tuple[str, str, str]] = ()
    """Topic, key, and value in JSON."""
    lost: Mapping[str, str] = field(default_factory=dict)
    """Why a topic could not be read."""


TakeOver = Callable[[Path], Earlier]
"""Reads what an earlier version kept in the folder, without changing it."""


def open_database(folder: Path, take_over: TakeOver) -> sqlite3.Connection:
    """Return a connection to the folder's database, in its newest schema.

    A new one gets what `take_over` returns. Raises `StateDirError` if it cannot be opened, or was written
    by a newer version.
    """
    path = folder / NAME
    if (system := _network_file_system(folder)) is not None:
        raise StateDirError(
            f"state directory {folder} is on {system}: its database needs a disk of this machine; "
            "set ioc.state_dir to a folder on one"
        )
    try:
        if path.exists() or path.is_symlink():
            fault = _fault_of(path)
            if fault:
                _set_aside(path, fault)
        if not path.exists():
            _make(folder, take_over)
        connection = connect(path)
        _upgrade(connection)
    except (OSError, sqlite3.Error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StateDirError(
            f"{path} cannot be opened: {reason}; make it writable, or set ioc.state_dir"
        ) from error
    return connection


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Return a connection for use from one thread at a time; transactions are begun explicitly."""
    mode = "ro" if read_only else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    return connection


def fault_of(path: Path) -> str:
    """Return what is wrong with a state database, by SQLite's own check; empty if nothing is."""
    with closing(connect(path, read_only=True)) as connection:
        try:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION_ID:
                return "it is not a state database of attpc-ioc"
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                # It cannot be read now, which says nothing about its contents.
                raise
            return str(error)
    return "" if found == "ok" else " ".join(str(found).split())


def _fault_of(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        raise StateDirError(f"{path} is not a regular file; remove it, or set ioc.state_dir")
    if not path.stat().st_size:
        return "it is empty"
    # An older umask may have left it open to others.
    os.close(private(str(path), os.O_RDWR))
    return fault_of(path)


def _set_aside(path: Path, fault: str) -> None:
    """Keep a damaged database, with its write-ahead log, under another name."""
    aside = f"{_SET_ASIDE}{int(time.time())}"
    for end in ("", "-wal", "-shm"):
        part = path.with_name(path.name + end)
        if part.exists():
            part.rename(path.with_name(aside + end))
    log.error("state database damaged", file=path, reason=fault, kept_as=aside)


def _make(folder: Path, take_over: TakeOver) -> None:
    """Make a new database, complete before it gets its name: a kill leaves none or a complete one."""
    part = folder / _PART
    for end in ("", "-journal"):
        part.with_name(part.name + end).unlink(missing_ok=True)
    os.close(private(str(part), os.O_RDWR | os.O_CREAT | os.O_EXCL))
    aside = sorted(p.name for p in folder.glob(f"{_SET_ASIDE}*[0-9]"))
    if aside:
        earlier = Earlier(lost={"": f"{folder / NAME} is damaged; it is kept as {aside[-1]}"})
    else:
        earlier = take_over(folder)
    with closing(sqlite3.connect(part, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _apply_schema(connection, 0)
        connection.execute("INSERT INTO identity VALUES (?)", (uuid.uuid4().hex,))
        connection.executemany("INSERT INTO kept VALUES (?, ?, ?)", earlier.kept)
        connection.executemany("INSERT INTO lost VALUES (?, ?)", earlier.lost.items())
        connection.execute("COMMIT")
    part.rename(folder / NAME)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _upgrade(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    newest = max(_schema_files())
    if version > newest:
        connection.close()
        raise StateDirError(
            f"the state database was written by a newer version of attpc-ioc (its schema is {version}, this "
            f"program knows {newest}); run that version, or set ioc.state_dir to another folder"
        )
    if version < newest:
        connection.execute("BEGIN IMMEDIATE")
        _apply_schema(connection, version)
        connection.execute("COMMIT")


def _apply_schema(connection: sqlite3.Connection, version: int) -> None:
    """Apply the files after `version`, inside the transaction that is open."""
    for number, sql in sorted(_schema_files().items()):
        if number > version:
            for statement in _statements(sql):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")


def _statements(sql: str) -> list[str]:
    """Return the statements of a file; `executescript` would commit the open transaction."""
    statements, so_far = [], ""
    for line in sql.splitlines(keepends=True):
        so_far += line
        if sqlite3.complete_statement(so_far):
            statements.append(so_far)
            so_far = ""
    return statements


def _schema_files() -> dict[int, str]:
    """Return the SQL files of `db/state/`, which are in the package, by number."""
    folder = resources.files("attpc_ioc.eventlog") / "schema"
    return {
        int(match[1]): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if (match := _SCHEMA_FILE.fullmatch(file.name))
    }


def _network_file_system(folder: Path) -> str | None:
    """Return the type of network file system that a folder is on; None for a local disk."""
    try:
        device = folder.stat().st_dev
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == number and _NETWORK.fullmatch(kind := after.split()[0]):
            return kind
    return None
