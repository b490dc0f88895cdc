"""Warnings and errors of the IOC: the last ones for a screen, all of them for the history."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from attpc_ioc.model.run import RunRef
from attpc_ioc.ratelimit import Counted, RateLimit
from attpc_plugins.run_history.store.model.history import Level
from attpc_plugins.run_history.store.model.records import UNSTAMPED, LogRecord

from .rows import LOG_LINES

ROOTS = ("attpc_ioc", "attpc_plugins")

OWN_DISK = "attpc_ioc.eventlog"
"""Messages of the event log about its own disk are shown, but not written to that disk."""

RECORDS_PER_S = 50
"""Beyond this number entries are counted and shown, but not recorded: a storm would fill the disk."""

HOUR_S = 3600.0
RECORDS_PER_HOUR = 500
"""Beyond this number entries of one source are only counted, and the count is recorded."""

TEXT_CHARS = 2000

REASONS = ("message", "reason")
"""Keys of an entry whose value is a text of its own."""


class LogFeed(logging.Handler):
    """Passes log entries of all threads to the event loop: `on_entry` to record one, `on_change` for all.

    `run_now()` returns the current run; it is called in the logging thread. `count` counts
    since `attach`; `lines` are the newest, newest first.
    """

    def __init__(
        self,
        on_entry: Callable[[LogRecord], None],
        on_change: Callable[[], None],
        run_now: Callable[[], RunRef | None],
    ) -> None:
        super().__init__(logging.WARNING)
        self._run_now = run_now
        self._on_entry = on_entry
        self._on_change = on_change
        self._loop: asyncio.AbstractEventLoop | None = None
        self._newest: deque[LogRecord] = deque(maxlen=LOG_LINES)
        self._second = 0
        self._in_second = 0
        self._recorded = RateLimit(self._record_left_out, window_s=HOUR_S, each=RECORDS_PER_HOUR)
        self.count = 0

    def attach(self) -> None:
        """Start listening, in this event loop."""
        self._loop = asyncio.get_running_loop()
        for root in ROOTS:
            logging.getLogger(root).addHandler(self)

    def detach(self) -> None:
        """Stop listening, and record how many lines were left out so far."""
        for root in ROOTS:
            logging.getLogger(root).removeHandler(self)
        self._recorded.end()
        self._loop = None

    @property
    def lines(self) -> tuple[str, ...]:
        """The newest entries as text, newest first."""
        return tuple(_line(entry) for entry in reversed(self._newest))

    def emit(self, record: logging.LogRecord) -> None:
        """Handle one log record, in the logging thread."""
        loop = self._loop
        if loop is None:
            return
        level = Level.ERROR if record.levelno >= logging.ERROR else Level.WARNING
        # Read now: until the loop handles the entry, the run may have ended or another may have begun.
        entry = LogRecord(UNSTAMPED, record.created, level, _text(record), record.name, self._run_now())
        # The loop may just have ended in another thread.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._take, entry)

    def _take(self, entry: LogRecord) -> None:
        if self._loop is None:
            return
        self.count += 1
        self._newest.append(entry)
        second = int(time.monotonic())
        self._in_second = self._in_second + 1 if second == self._second else 1
        self._second = second
        few = self._in_second <= RECORDS_PER_S and not entry.source.startswith(OWN_DISK)
        if few and self._recorded.passes(entry.source, entry):
            self._on_entry(entry)
        self._on_change()

    def _record_left_out(self, sources: list[Counted[LogRecord]]) -> None:
        for source in sources:
            text = f"{source.number} lines are in the log of the IOC only: too many within an hour"
            self._on_entry(replace(source.last, level=Level.WARNING, text=text))


def _line(entry: LogRecord) -> str:
    """Return an entry as a screen shows it."""
    at = datetime.fromtimestamp(entry.time_s).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return f"{at} {entry.level.value.upper():7} {entry.text}"


def _text(record: logging.LogRecord) -> str:
    """Return an entry in words: `fault of data taking (router CoBo1, run 7): no answer`."""
    keys = getattr(record, "keys", None)
    given = dict(keys) if isinstance(keys, dict) else {}
    why = [str(given.pop(key)) for key in REASONS if key in given]
    if record.exc_info and record.exc_info[1] is not None:
        why.append(repr(record.exc_info[1]))
    about = ", ".join(_words(key, value) for key, value in given.items())
    text = f"{record.getMessage()} ({about})" if about else record.getMessage()
    return ": ".join((text, *filter(None, why))).replace("\n", " ")[:TEXT_CHARS]


def _words(key: str, value: object) -> str:
    seconds = key.endswith("_s")
    return f"{key.removesuffix('_s').replace('_', ' ')} {value}{' s' if seconds else ''}"
