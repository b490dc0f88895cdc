"""What was wrong with the data routers, and when: log lines, and remarks for the run history."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from attpc_ioc.log import get_logger
from attpc_ioc.model.run import RunRef

log = get_logger(__name__)

Remark = Callable[[RunRef, str, str], None]
"""Adds a remark on a run's data of one router: the run, the router's label, the text."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """A fault of a router: its text, and since when it lasts (Unix time in seconds)."""

    what: str
    since_s: float
    kind: str = ""
    """Distinguishes reasons: while the fault lasts, the log gets a line for each new kind."""
    logged: bool = True
    """Whether its beginning is logged; False where a worse fault implies it."""
    of_run: bool = False
    """Whether it is of the data of a run, so that the next run does not have it."""
    ends: bool = True
    """Whether it can end; False for what has happened once, such as a reset."""


@dataclass(slots=True)
class _Incident:
    what: str
    began_s: float
    of_run: bool
    ends: bool
    said: set[str] = field(default_factory=set)
    """The kinds of reasons that were logged: a reason that comes and goes is logged once."""
    remarked: bool = False
    """Whether the current run already has a remark on it."""


class Incidents:
    """Follows the faults of all routers. Times are Unix times in seconds.

    `remark` is called once for each fault in a run: at the end of the fault or of the run.
    """

    def __init__(self, remark: Remark) -> None:
        self._remark = remark
        self._on: dict[tuple[str, str], _Incident] = {}

    def see(
        self, label: str, wrong: Mapping[str, Wrong], why: Callable[[str], str], run: RunRef | None
    ) -> None:
        """Take the present faults of a router, by cause.

        `why(cause)` returns the details for the log; `run` is the current run, if there is one.
        """
        now_s = time.time()
        self.add(label, wrong, why, run)
        for key in [key for key in self._on if key[0] == label and key[1] not in wrong]:
            incident = self._on.pop(key)
            text = f"{incident.what} {_span(incident.began_s, now_s)}"
            log.info("fault of data taking cleared", router=label, **_number(run), reason=text)
            if run is not None and not incident.remarked:
                self._remark(run, label, text)

    def add(
        self, label: str, wrong: Mapping[str, Wrong], why: Callable[[str], str], run: RunRef | None
    ) -> None:
        """Take some of the present faults of a router, as `see` does; the others stay."""
        for cause, found in wrong.items():
            made = _Incident(found.what, found.since_s, found.of_run, found.ends)
            incident = self._on.setdefault((label, cause), made)
            if found.logged and found.kind not in incident.said:
                incident.said.add(found.kind)
                reason = why(cause) or found.what
                log.warning("fault of data taking", router=label, **_number(run), reason=reason)

    def run_begins(self) -> None:
        """Begin a run: faults that last from before get a remark in this run, too, but not those of a run."""
        self._on = {key: incident for key, incident in self._on.items() if not incident.of_run}
        for incident in self._on.values():
            incident.remarked = False

    def run_ends(self, run: RunRef) -> None:
        """Remark on the faults that last when a run is being stopped, or at its end: on each once."""
        for (label, _), incident in self._on.items():
            if not incident.remarked:
                incident.remarked = True
                at = clock(incident.began_s)
                when = f"since {at} until the run's end" if incident.ends else f"(seen at {at})"
                self._remark(run, label, f"{incident.what} {when}")


def _number(run: RunRef | None) -> dict[str, int]:
    return {} if run is None else {"run": run.number}


def _span(began_s: float, ended_s: float) -> str:
    return f"from {clock(began_s)} to {clock(ended_s)}"


def clock(time_s: float) -> str:
    """Return a time as local time, with the date unless it is today."""
    moment, today = datetime.fromtimestamp(time_s).astimezone(), datetime.now().astimezone().date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M:%S")
