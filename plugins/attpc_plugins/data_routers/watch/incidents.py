"""What was wrong with the data routers, and when: log lines, and remarks for the record of the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from attpc_ioc.log import get_logger
from attpc_plugins.data_routers.model import RunKey

log = get_logger(__name__)

Remark = Callable[[RunKey, str, str], None]
"""Takes what is to be said of a run's data of one router: the run, the router's label, the text."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something that is wrong with a router now, in words, and since when (Unix time in seconds)."""

    what: str
    since_s: float
    kind: str = ""
    """Tells reasons from each other: the log has a line for each new one while the trouble lasts."""
    logged: bool = True
    """Whether its beginning is a line of the log; not where something worse says as much."""


@dataclass(slots=True)
class _Incident:
    what: str
    began_s: float
    said: set[str] = field(default_factory=set)
    """The kinds of reasons that the log has. A reason that comes and goes fills no log."""
    remarked: bool = False
    """Whether the record of the run that is on has it already."""


class Incidents:
    """Follows the alarms of all routers. Times are Unix times in seconds.

    `remark` is told once of everything that was wrong in a run: when it is over, or when the run is.
    """

    def __init__(self, remark: Remark) -> None:
        self._remark = remark
        self._on: dict[tuple[str, str], _Incident] = {}

    def see(
        self, label: str, wrong: Mapping[str, Wrong], why: Callable[[str], str], run: RunKey | None
    ) -> None:
        """Take what is wrong with a router now, by cause; none where all is well.

        `why(cause)` says more of it for the log; `run` is the one that is on, if any.
        """
        now_s = time.time()
        shown = "none" if run is None else str(run.number)
        for cause, found in wrong.items():
            incident = self._on.setdefault((label, cause), _Incident(found.what, found.since_s))
            if found.logged and found.kind not in incident.said:
                incident.said.add(found.kind)
                reason = why(cause) or found.what
                log.warning("data router in trouble", router=label, run=shown, reason=reason)
        for key in [key for key in self._on if key[0] == label and key[1] not in wrong]:
            incident = self._on.pop(key)
            text = f"{incident.what} {_span(incident.began_s, now_s)}"
            log.info("data router out of trouble", router=label, run=shown, reason=text)
            if run is not None and not incident.remarked:
                self._remark(run, label, text)

    def run_begins(self) -> None:
        """Begin a run's record anew: what is wrong still is wrong in this run, too."""
        for incident in self._on.values():
            incident.remarked = False

    def run_ends(self, run: RunKey) -> None:
        """Have in the run's record what is wrong at its end."""
        for (label, _), incident in self._on.items():
            if not incident.remarked:
                incident.remarked = True
                self._remark(
                    run, label, f"{incident.what} since {clock(incident.began_s)} until the run's end"
                )


def _span(began_s: float, ended_s: float) -> str:
    return f"from {clock(began_s)} to {clock(ended_s)}"


def clock(time_s: float) -> str:
    """Return a moment in the local time, with the date where it is not of today."""
    moment, today = datetime.fromtimestamp(time_s).astimezone(), datetime.now().astimezone().date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M:%S")
