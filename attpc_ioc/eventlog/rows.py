"""Converts events to rows of the log and back: JSON made by pydantic from the events' own classes."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from attpc_ioc.model import events
from attpc_ioc.model.command import Put

Loggable = events.Event | Put

KINDS: dict[str, type[Loggable]] = {
    "state": events.StateChanged,
    "operation.starting": events.OperationStarting,
    "operation.ended": events.OperationEnded,
    "run.starting": events.RunStarting,
    "run.started": events.RunStarted,
    "run.degraded": events.RunDegraded,
    "run.stopping": events.RunStopping,
    "run.stopped": events.RunStopped,
    "run.failed": events.RunFailed,
    "run.files": events.RunFiles,
    "run.configs": events.RunConfigs,
    "plugin": events.PluginRecord,
    "put": Put,
}
"""The name of each kind of event in the log; never change one, since older logs have them."""

KIND_OF = {kind: name for name, kind in KINDS.items()}

LONG_CHARS = 2000
"""Texts longer than this are stored once, by their digest."""

_LONG = "$text"


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event as written: `body` is JSON, `texts` are its long texts by digest, compressed."""

    position: int
    kind: str
    time_s: float
    body: str
    texts: dict[str, bytes]


def to_row(position: int, event: Loggable) -> EventRow:
    """Return the row of an event; invalid Unicode in a text is preserved."""
    texts: dict[str, bytes] = {}
    plain = _adapter(type(event)).dump_python(event, mode="json")
    body = json.dumps(plain)
    if len(body) > LONG_CHARS:
        body = json.dumps(_shortened(plain, texts))
    return EventRow(position, KIND_OF[type(event)], event.time_s, body, texts)


def from_row(kind: str, body: str, text_of: Callable[[str], str]) -> Loggable:
    """Return the event of a row; `text_of` returns a long text by its digest.

    Raises `ValueError` with what is wrong in a row that is damaged or from a newer version.
    """
    known = KINDS.get(kind)
    if known is None:
        raise ValueError(f"{kind} is not a kind of event that this version knows")
    try:
        return _adapter(known).validate_python(_whole(json.loads(body), text_of))
    except ValidationError as error:
        raise ValueError(faults_in(error)) from error


def text_of(stored: bytes) -> str:
    """Return a long text from its bytes in the database; raises `ValueError` if they are damaged."""
    try:
        return zlib.decompress(stored).decode("utf-8", "surrogatepass")
    except zlib.error as error:
        raise ValueError(f"one of its texts is damaged: {error}") from error


def faults_in(error: ValidationError) -> str:
    """Return the first faults that pydantic found, in one line."""
    found = [(".".join(str(part) for part in fault["loc"]), fault["msg"]) for fault in error.errors()[:3]]
    return "; ".join(f"{place}: {what}" if place else what for place, what in found)


@cache
def _adapter(kind: type[Loggable]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _shortened(value: Any, texts: dict[str, bytes]) -> Any:
    """Return JSON values with each long text replaced by its digest."""
    if isinstance(value, str) and len(value) > LONG_CHARS:
        stored = value.encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(stored).hexdigest()
        texts[digest] = zlib.compress(stored, 1)
        return {_LONG: digest}
    if isinstance(value, list):
        return [_shortened(item, texts) for item in value]
    if isinstance(value, dict):
        return {key: _shortened(item, texts) for key, item in value.items()}
    return value


def _whole(value: Any, text_of: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [_whole(item, text_of) for item in value]
    if isinstance(value, dict):
        if value.keys() == {_LONG}:
            return text_of(value[_LONG])
        return {key: _whole(item, text_of) for key, item in value.items()}
    return value
