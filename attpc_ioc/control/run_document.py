"""The run's part of the state directory: what is written of a run, and how it is read back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from attpc_ioc.model.run import UNNAMED, RunInfo, RunTexts

DOCUMENT = "run"


@dataclass(slots=True)
class RunDocument:
    """What of the run control is there after a restart.

    `open` tells that `info` is a run whose end was not seen yet. `duration_s` is how long it has lasted
    or did last, by the monotonic clock. `stop_asked_s` is when its stop was last commanded, in Unix time;
    0: it was not. `fault` says that an earlier document could not be read; it stays until it is acknowledged.
    """

    info: RunInfo | None = None
    open: bool = False
    interrupted: bool = False
    experiment: str = UNNAMED
    texts: RunTexts = field(default_factory=RunTexts)
    max_duration_s: float = 0.0
    duration_s: float = 0.0
    stop_asked_s: float = 0.0
    fault: str = ""


_ADAPTER = TypeAdapter(RunDocument)


def dump(document: RunDocument) -> dict[str, Any]:
    """Return the document as JSON-ready values."""
    return _ADAPTER.dump_python(document, mode="json")


def parse(raw: dict[str, Any]) -> RunDocument:
    """Read a document back; raises `ValueError` that says what is wrong with it."""
    try:
        document = _ADAPTER.validate_python(raw)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()[:3])
        raise ValueError(faults) from error
    if document.open and document.info is None:
        raise ValueError("a run is open, and nothing is said of it")
    document.experiment = document.experiment or UNNAMED
    return document
