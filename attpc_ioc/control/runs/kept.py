"""What of the run control is there after a restart."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import TypeAdapter

from attpc_ioc.model.run import UNNAMED, RunInfo, RunTexts

TOPIC = "run"


@dataclass(slots=True)
class KeptRun:
    """The row of the run in the state database; raises `ValueError` where a run is open without its record.

    `open` says that the end of the run in `info` was not seen yet. `duration_s` is how long it has lasted,
    by the monotonic clock. `stop_asked_s` is when its stop was last commanded, in Unix time; 0: it was not.
    `fault` says that an earlier row could not be read; it stays until it is acknowledged.
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

    def __post_init__(self) -> None:
        self.experiment = self.experiment or UNNAMED
        if self.open and self.info is None:
            raise ValueError("a run is open, and its record is missing")


KEPT_RUN = TypeAdapter(KeptRun)
