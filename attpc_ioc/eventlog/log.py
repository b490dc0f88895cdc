"""The event log of one IOC: what happened, in order, and what is kept across restarts."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from attpc_ioc.log import get_logger

from .database import NAME, Earlier, TakeOver, connect, open_database
from .kept import Kept
from .lock import StateLock
from .rows import Loggable, from_row, text_of
from .writer import Writer, prune

log = get_logger(__name__)

T = TypeVar("T")

RECORD_LIMIT_S = 0.05
"""How long a put, or a plugin's record, waits to be on disk (one group commit)."""

PRUNE_EVERY_S = 3600.0
_DAY_S = 86_400.0
_PRUNED_AT_ONCE = 2000


class EventLog:
    """The state database, owned by the core: opened once, written by one thread, in transactions.

    `append`, `keep` and the like return at once; `flush` and `committed` wait for the disk.
    """

    def __init__(
        self,
        folder: Path,
        prefix: str = "",
        *,
        take_over: TakeOver = lambda _folder: Earlier(),
    ) -> None:
        """Store the folder and the IOC's `prefix`, which others see in their error message."""
        self.folder = folder
        self.path = folder / NAME
        self.identity = ""
        """A random text that identifies the database."""
        self._lock = StateLock(folder, prefix)
        self._take_over = take_over
        self._last = 0
        self._writer: Writer | None = None
        self._rows: dict[str, dict[str, str]] = {}
        self._lost: dict[str, str] = {}

    def open(self) -> None:
        """Lock the folder and open its database; raises `StateDirError` if that fails."""
        self._lock.take()
        try:
            connection = open_database(self.folder, self._take_over)
            self._load(connection)
        except BaseException:
            self._lock.release()
            raise
        self._writer = Writer(self.path, connection, self._last)

    async def run(self) -> None:
        """Write until cancelled."""
        await self.writer.run()

    async def close(self) -> None:
        """Write what is left, and release the folder."""
        if self._writer is not None:
            await self._writer.close()
            self._writer = None
        self._lock.release()

    @property
    def writer(self) -> Writer:
        """The writer; the log must be open."""
        assert self._writer is not None, "the log is not open"
        return self._writer

    @property
    def fault(self) -> str:
        """Why writing fails now; empty if it works."""
        return self._writer.fault if self._writer is not None else ""

    # ------------------------------------------------------------------ events

    @property
    def position(self) -> int:
        """The position of the newest event; 0 if there is none."""
        return self._last

    def append(self, event: Loggable) -> int:
        """Record an event soon; returns its position."""
        self._last += 1
        writer = self.writer
        writer.next.events.append((self._last, event))
        writer.wake()
        return self._last

    def committed(self) -> asyncio.Future[bool]:
        """Return a future for everything so far: True once it is on disk, False if writing failed."""
        return self.writer.committed()

    async def flush(self, limit_s: float = 5.0) -> None:
        """Wait until everything so far is on disk; raises `StateDirError` if that fails."""
        await self.writer.flush(limit_s)

    async def events(self, after: int, most: int = 1000) -> list[tuple[int, Loggable | ValueError]]:
        """Return the next events after a position, each with its position; waits until one is on disk.

        An unreadable row is replaced by a `ValueError`. Raises `sqlite3.Error`.
        """
        await self.writer.wait_beyond(after)
        return await asyncio.to_thread(read_events, self.path, after, most)

    @property
    def recorded(self) -> int:
        """The position of the newest event that is on disk."""
        return self.writer.position

    def set_cursor(self, reader: str, position: int) -> None:
        """Record soon how far a reader has read: later events are not pruned."""
        writer = self.writer
        writer.next.cursors[reader] = position
        writer.wake()

    async def prune(self, days: float, readers: Collection[str]) -> int:
        """Remove events older than `days` that all `readers` have seen; returns how many."""
        gone = 0
        while True:
            before_s = time.time() - days * _DAY_S
            last = await asyncio.to_thread(prune, self.path, before_s, readers, _PRUNED_AT_ONCE)
            gone += last
            if last < _PRUNED_AT_ONCE:
                return gone

    async def prune_for_ever(self, days: float, readers: Collection[str]) -> None:
        """Prune now and every hour, until cancelled; a failure is logged and retried.

        A plugin that is switched off is not among the `readers`, so it does not hold events back.
        """
        while True:
            try:
                gone = await self.prune(days, readers)
            except (OSError, sqlite3.Error) as error:
                log.warning("event log not pruned", folder=self.folder, reason=error)
            else:
                if gone:
                    log.info("event log pruned", events=gone, days=days)
            await asyncio.sleep(PRUNE_EVERY_S)

    # ------------------------------------------------------------------ what is kept

    def kept(self, topic: str, adapter: TypeAdapter[T]) -> Kept[T]:
        """Return a topic as it was read at start-up; pydantic converts its values to JSON and back."""
        rows = self._rows.pop(topic, {})
        return Kept(self, topic, adapter, rows.items(), self._lost.get(topic, self._lost.get("", "")))

    def keep(self, topic: str, key: str, value: str | None) -> None:
        """Write a row of a topic soon, as JSON; None removes it."""
        writer = self.writer
        writer.next.kept[topic, key] = value
        writer.wake()

    def lose(self, topic: str, reason: str) -> None:
        """Record soon why a topic may be incomplete; '' acknowledges that."""
        writer = self.writer
        writer.next.lost[topic] = reason
        writer.wake()

    def on_fault(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever `fault` changes."""
        self.writer.on_fault(listener)

    def _load(self, connection: sqlite3.Connection) -> None:
        (self.identity,) = connection.execute("SELECT id FROM identity").fetchone()
        (self._last,) = connection.execute("SELECT coalesce(max(position), 0) FROM event").fetchone()
        for topic, key, value in connection.execute("SELECT topic, key, value FROM kept ORDER BY topic, key"):
            self._rows.setdefault(topic, {})[key] = value
        self._lost = dict(connection.execute("SELECT topic, reason FROM lost").fetchall())


def read_kept(folder: Path, topic: str) -> dict[str, Any]:
    """Return what a topic has on disk, as JSON values by key; for shell commands, even while an IOC runs.

    Empty if there is no database yet. Raises `sqlite3.Error` and `ValueError`.
    """
    if not (folder / NAME).exists():
        return {}
    with closing(connect(folder / NAME, read_only=True)) as connection:
        rows = connection.execute("SELECT key, value FROM kept WHERE topic = ?", (topic,)).fetchall()
    return {key: json.loads(value) for key, value in rows}


def read_events(path: Path, after: int, most: int) -> list[tuple[int, Loggable | ValueError]]:
    """Read events of a database; see `EventLog.events`."""
    found: list[tuple[int, Loggable | ValueError]] = []
    with closing(connect(path, read_only=True)) as connection:

        def text(digest: str) -> str:
            row = connection.execute("SELECT body FROM long_text WHERE digest = ?", (digest,)).fetchone()
            if row is None:
                raise ValueError(f"its text {digest} is missing")
            return text_of(row[0])

        rows = connection.execute(
            "SELECT position, kind, body FROM event WHERE position > ? ORDER BY position LIMIT ?",
            (after, most),
        )
        for position, kind, body in rows:
            try:
                found.append((position, from_row(kind, body, text)))
            except ValueError as error:
                found.append((position, error))
    return found
