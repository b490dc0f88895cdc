"""Logs: one line per event, key=value on stderr, or JSON by option.

Use `log = get_logger(__name__)` and `log.info("operation ended", module="cobo0", duration_s=0.03)`.
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any

from attpc_ioc.printable import json_text

OWN = ("attpc_ioc", "attpc_plugins")
"""The loggers of this program: its code itself limits lines that a peer can cause."""

OTHERS_LINES = 30
OTHERS_S = 60.0
"""Lines written of each other library's logger in this time; further ones are counted."""


class EventLogger:
    """A thin wrapper of a standard logger that takes the event's keys as keyword arguments."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def debug(self, event: str, **keys: Any) -> None:
        """Log what only a developer wants to see."""
        self._log(logging.DEBUG, event, keys)

    def info(self, event: str, **keys: Any) -> None:
        """Log a normal event."""
        self._log(logging.INFO, event, keys)

    def warning(self, event: str, **keys: Any) -> None:
        """Log what an operator should know."""
        self._log(logging.WARNING, event, keys)

    def error(self, event: str, **keys: Any) -> None:
        """Log a failure."""
        self._log(logging.ERROR, event, keys)

    def exception(self, event: str, **keys: Any) -> None:
        """Log a fault of the program itself, with its traceback."""
        self._log(logging.ERROR, event, keys, exc_info=True)

    def _log(self, level: int, event: str, keys: dict[str, Any], exc_info: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"keys": keys}, exc_info=exc_info)


def get_logger(name: str) -> EventLogger:
    """Return the logger of a module; pass `__name__`."""
    return EventLogger(name)


def _value(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if text and text.isprintable() and not any(c in text for c in ' "='):
        return text
    return json_text(text)


class KeyValueFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678+00:00 level=info logger=... event="..." key=value`, always one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`."""
        return " ".join(f"{k}={_value(v)}" for k, v in _fields(record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`."""
        return json_text(_fields(record))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": record.getMessage(),
    }
    keys = getattr(record, "keys", None)
    if isinstance(keys, dict):
        fields.update(keys)
    if record.exc_info and record.exc_info[0] is not None:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return fields


class OthersLimit(logging.Filter):
    """Limits the lines of other libraries: asyncio logs each write to a broken connection."""

    def __init__(self) -> None:
        super().__init__()
        self._written: dict[str, int] = {}
        self._since_s = time.monotonic()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to write a line; the first of a period says how many were left out before."""
        if record.name.partition(".")[0] in OWN:
            return True
        now = time.monotonic()
        if now - self._since_s >= OTHERS_S:
            left_out = sum(max(0, lines - OTHERS_LINES) for lines in self._written.values())
            if left_out:
                record.keys = {"left_out_before": left_out}
            self._since_s, self._written = now, {}
        self._written[record.name] = self._written.get(record.name, 0) + 1
        return self._written[record.name] <= OTHERS_LINES


def set_up_logging(*, level: str = "INFO", as_json: bool = False) -> None:
    """Send all logs to stderr, one line per event; those of other libraries only from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if as_json else KeyValueFormatter())
    handler.addFilter(OthersLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in OWN:
        logging.getLogger(name).setLevel(level)
