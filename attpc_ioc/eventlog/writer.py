"""The only writer of the state database: a thread that commits everything pending in one transaction."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from attpc_ioc.errors import StateDirError, system_reason
from attpc_ioc.log import get_logger

from .database import connect
from .rows import EventRow, Loggable, to_row

log = get_logger(__name__)

RETRY_S = 5.0
"""Longest time between a failure and the next attempt."""

PENDING_MOST = 20_000
"""Maximum events pending while the disk cannot be written; beyond it the oldest are dropped and reported."""

SLOW_S = 0.25
"""A longer transaction is reported, once until one is quick again."""


@dataclass(slots=True)
class Batch:
    """The contents of one transaction; None in `kept` removes the row."""

    events: list[tuple[int, Loggable]] = field(default_factory=list)
    kept: dict[tuple[str, str], str | None] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.events or self.kept or self.lost or self.cursors)

    def before(self, later: Batch) -> Batch:
        """Return both merged; for kept rows the newer one counts."""
        return Batch(
            self.events + later.events,
            self.kept | later.kept,
            self.lost | later.lost,
            self.cursors | later.cursors,
        )


class Writer:
    """Writes what is in `next` soon; `flush` waits until all of it is on disk.

    What is added in one turn of the event loop is on disk together, or not at all. `fault` says why
    writing fails now; empty if it works.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, position: int) -> None:
        """Use the open database, whose newest event has this position."""
        self.next = Batch()
        self.fault = ""
        self.position = position
        """The position of the newest event that is on disk."""
        self._moved = asyncio.Event()
        self._path = path
        self._connection = connection
        self._file = path.stat()
        self._wake = asyncio.Event()
        self._asked = 0
        self._written = 0
        self._waiters: list[tuple[int, asyncio.Future[bool]]] = []
        self._writing: asyncio.Future[None] | None = None
        self._under_way = Batch()
        """What is being written by `_writing`."""
        self._on_fault: list[Callable[[], None]] = []
        # Its own thread: work that hangs in the shared ones does not delay the state.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._slow = False
        self._dropped = 0

    def wake(self) -> None:
        """Write `next` soon."""
        self._asked += 1
        self._wake.set()

    def committed(self) -> asyncio.Future[bool]:
        """Return a future for everything so far: True once it is on disk, False if writing failed."""
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._written >= self._asked and not self.fault:
            waiter.set_result(True)
        else:
            self._waiters.append((self._asked, waiter))
            self._wake.set()
        return waiter

    async def flush(self, limit_s: float) -> None:
        """Wait until everything so far is on disk; raises `StateDirError` if that fails."""
        waiter = self.committed()
        try:
            async with asyncio.timeout(limit_s):
                well = await waiter
        except TimeoutError:
            raise StateDirError(
                f"state directory {self._path.parent}: not written within {limit_s:g} s"
            ) from None
        if not well:
            raise StateDirError(self.fault or f"state directory {self._path.parent} could not be written")

    async def wait_beyond(self, position: int) -> None:
        """Wait, without limit, until an event after this position is on disk."""
        while self.position <= position:
            await self._moved.wait()

    async def run(self) -> None:
        """Write until cancelled; after a failure try again every 5 s and at each `wake`."""
        while True:
            await self._wake_or_retry()
            self._wake.clear()
            upto = self._asked
            self._under_way, self.next = self.next, Batch()
            self._writing = self._in_thread(self._under_way)
            try:
                await asyncio.shield(self._writing)
            except (OSError, sqlite3.Error) as error:
                self._requeue()
                reason = system_reason(error)
                self._set_fault(f"state directory {self._path.parent} cannot be written: {reason}")
                self._finish(upto, well=False)
            else:
                self._written = upto
                if self._under_way.events:
                    self.position = self._under_way.events[-1][0]
                    self._moved.set()
                    self._moved = asyncio.Event()
                # Free what was written: it may have long texts.
                self._under_way = Batch()
                self._set_fault("")
                self._finish(upto, well=True)

    async def close(self, limit_s: float = 5.0) -> None:
        """Write what is left, within `limit_s` seconds, and close the database."""
        try:
            async with asyncio.timeout(limit_s):
                if self._writing is not None:
                    await asyncio.wait((self._writing,))
                    if not self._writing.cancelled() and self._writing.exception() is not None:
                        # `run` was cancelled before it noticed.
                        self._requeue()
                if self.next:
                    await asyncio.shield(self._in_thread(self.next))
        except (OSError, sqlite3.Error) as error:
            # `TimeoutError` is an `OSError` too.
            lost = sorted({topic for topic, _ in self.next.kept})
            log.error(
                "state not written at shutdown",
                folder=self._path.parent,
                kept=", ".join(lost),
                events=len(self.next.events),
                reason=system_reason(error) if str(error) else f"not done within {limit_s:g} s",
            )
            if isinstance(error, TimeoutError):
                # The thread may hang; closing would wait for it.
                return
        self._finish(self._asked, well=False)
        self._connection.close()
        self._thread.shutdown()

    def on_fault(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever `fault` changes."""
        self._on_fault.append(listener)

    def _requeue(self) -> None:
        """Put what could not be written in front of what came since."""
        self.next = self._under_way.before(self.next)
        self._under_way = Batch()
        surplus = len(self.next.events) - PENDING_MOST
        if surplus > 0:
            del self.next.events[:surplus]
            self._dropped += surplus
            log.error("events lost: the state directory cannot be written", events=self._dropped)

    async def _wake_or_retry(self) -> None:
        try:
            async with asyncio.timeout(RETRY_S if self.fault else None):
                await self._wake.wait()
        except TimeoutError:
            return

    def _finish(self, upto: int, *, well: bool) -> None:
        waiting, self._waiters = self._waiters, []
        for number, waiter in waiting:
            if number > upto:
                self._waiters.append((number, waiter))
            elif not waiter.done():
                waiter.set_result(well)

    def _set_fault(self, text: str) -> None:
        if text == self.fault:
            return
        self.fault = text
        if text:
            log.error("state not written", reason=text)
        else:
            log.info("state written again", folder=self._path.parent)
        for listener in self._on_fault:
            listener()

    def _in_thread(self, batch: Batch) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(self._thread, self._write, batch)

    # ------------------------------------------------------------------ in the thread

    def _write(self, batch: Batch) -> None:
        began = time.monotonic()
        there = self._path.stat()
        if not os.path.samestat(there, self._file):
            raise OSError(0, "its database was replaced by another file; stop the IOC and put it back")
        rows = _rows(batch)
        execute, many = self._connection.execute, self._connection.executemany
        execute("BEGIN IMMEDIATE")
        try:
            many(
                "INSERT OR IGNORE INTO long_text VALUES (?, ?)",
                [item for row in rows for item in row.texts.items()],
            )
            many(
                "INSERT INTO event VALUES (?, ?, ?, ?)",
                [(row.position, row.kind, row.time_s, row.body) for row in rows],
            )
            many(
                "INSERT INTO event_text VALUES (?, ?)",
                [(row.position, digest) for row in rows for digest in row.texts],
            )
            many(
                "INSERT INTO kept VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                [(*key, value) for key, value in batch.kept.items() if value is not None],
            )
            many(
                "DELETE FROM kept WHERE topic = ? AND key = ?",
                [key for key, value in batch.kept.items() if value is None],
            )
            many(
                "INSERT INTO lost VALUES (?, ?) ON CONFLICT DO UPDATE SET reason = excluded.reason",
                list(batch.lost.items()),
            )
            many(
                "INSERT INTO cursor VALUES (?, ?) ON CONFLICT DO UPDATE SET position = excluded.position",
                list(batch.cursors.items()),
            )
            if not batch:
                # A flush during a failure: find out whether writing works again.
                execute("UPDATE identity SET id = id")
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        self._check_duration(time.monotonic() - began)

    def _check_duration(self, took_s: float) -> None:
        if (took_s > SLOW_S) is not self._slow:
            self._slow = not self._slow
            report = log.warning if self._slow else log.info
            report(
                "state directory slow" if self._slow else "state directory quick again",
                folder=self._path.parent,
                took_s=round(took_s, 3),
            )


def _rows(batch: Batch) -> list[EventRow]:
    rows: list[EventRow] = []
    for position, event in batch.events:
        try:
            rows.append(to_row(position, event))
        except Exception:  # a plugin's event may have anything in its fields; the rest is recorded
            log.exception("event not recorded", kind=type(event).__name__)
    return rows


def prune(path: Path, before_s: float, readers: Iterable[str], most: int = 10_000) -> int:
    """Remove up to `most` events before a Unix time that all `readers` have seen; returns how many.

    The newest event stays, so that no position is used again. For a thread: it has its own connection and
    waits for the writer, which hardly waits for it.
    """
    with closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        gone = connection.execute(
            """
            DELETE FROM event WHERE position IN (
                SELECT position FROM event
                WHERE time_s < ?1
                  AND position < (SELECT max(position) FROM event)
                  AND position <= coalesce(
                    (SELECT min(position) FROM cursor WHERE reader IN (SELECT value FROM json_each(?3))),
                    9223372036854775807)
                ORDER BY position LIMIT ?2)
            """,
            (before_s, most, json.dumps(sorted(readers))),
        ).rowcount
        connection.execute("DELETE FROM long_text WHERE digest NOT IN (SELECT digest FROM event_text)")
        connection.execute("COMMIT")
    return gone
