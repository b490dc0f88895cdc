"""Reads a state database from outside, even while an IOC writes it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from attpc_ioc.errors import StateDirError
from attpc_ioc.files import private, reaching

from .database import connect, fault_of
from .log import read_events


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A stored event: `body` is JSON, in which a digest stands for a long text."""

    position: int
    kind: str
    time_s: float
    body: str


@dataclass(frozen=True, slots=True)
class Contents:
    """Contents of a state database: kept rows by topic and key (JSON), losses, cursors, newest events."""

    kept: dict[str, dict[str, str]]
    lost: dict[str, str]
    cursors: dict[str, int]
    count: int
    events: tuple[StoredEvent, ...]


def contents(path: Path, newest: int) -> Contents:
    """Return the contents of a database with its `newest` events; raises `StateDirError`."""
    with _reading(path) as connection:
        kept: dict[str, dict[str, str]] = {}
        for topic, key, value in connection.execute("SELECT topic, key, value FROM kept ORDER BY topic, key"):
            kept.setdefault(topic, {})[key] = value
        rows = connection.execute(
            "SELECT position, kind, time_s, body FROM event ORDER BY position DESC LIMIT ?", (newest,)
        ).fetchall()
        return Contents(
            kept,
            dict(connection.execute("SELECT topic, reason FROM lost WHERE reason <> ''").fetchall()),
            dict(connection.execute("SELECT reader, position FROM cursor ORDER BY reader").fetchall()),
            connection.execute("SELECT count(*) FROM event").fetchone()[0],
            tuple(StoredEvent(*row) for row in reversed(rows)),
        )


def check(path: Path) -> list[str]:
    """Return what is wrong with a database: its pages, and each event that cannot be read.

    Raises `StateDirError` if it cannot be opened.
    """
    with _reading(path) as connection:
        if fault := fault_of(path):
            return [fault]
        missing = connection.execute("PRAGMA foreign_key_check").fetchall()
    faults = [f"a row of {table} refers to a missing one of {parent}" for table, _, parent, _ in missing]
    last = 0
    while batch := read_events(path, last, 1000):
        faults += [f"event {position}: {error}" for position, error in batch if isinstance(error, ValueError)]
        last = batch[-1][0]
    return faults


def backup(path: Path, to: Path) -> int:
    """Copy a consistent state of a database into a new file; returns its size in bytes.

    Raises `StateDirError` if it cannot be opened, and `OSError` if the file exists or cannot be made.
    """
    # As root in another account's folder, with its rights: SQLite opens the file by name.
    with _reading(path) as connection, reaching(to):
        os.close(private(str(to), os.O_RDWR | os.O_CREAT | os.O_EXCL))
        try:
            with closing(sqlite3.connect(to)) as copy:
                connection.backup(copy)
        except BaseException:
            to.unlink()
            raise
    return to.stat().st_size


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    if not path.exists():
        raise StateDirError(f"{path} does not exist: no IOC has used this state directory yet")
    try:
        with closing(connect(path, read_only=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise StateDirError(f"{path} cannot be read: {error}") from error
