"""A run: its state, its class and its record."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from .command import Who
from .names import Labelled

UNNAMED = "unnamed"
"""The experiment of a system without one: every run and its folder belong to an experiment."""


class RunState(Labelled):
    """The values of `Run:State_RBV`."""

    STOPPED = 0
    STARTING = 1
    RUNNING = 2
    STOPPING = 3
    INTERRUPTED = 4
    ORPHAN = 5
    UNKNOWN = 6


class RunClass(Labelled):
    """The values of `Run:Class`."""

    TESTING = 0
    PRODUCTION = 1
    BEAM = 2
    JUNK = 3
    PULSER = 4


class RunOutcome(StrEnum):
    """How a run ended."""

    STOPPED = "stopped"
    STOPPED_OUTSIDE = "stopped outside"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class RunQuery:
    """Which runs of a record: all given conditions hold.

    `since` and both numbers are included, `until` is not; times are aware. `text` has words that occur in
    title, operator or comment, the last may be the beginning of one; `bad`: runs whose data somebody should
    look at; `run_class` and `quality` are labels. The record refuses what it does not know.
    """

    experiment: str = ""
    text: str = ""
    run_class: str = ""
    quality: str = ""
    number_from: int | None = None
    number_to: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    bad: bool = False


@dataclass(frozen=True, slots=True)
class RunTexts:
    """The operator's texts of a run; they may change during the run."""

    title: str = ""
    operator: str = ""
    run_class: RunClass = RunClass.TESTING


@dataclass(frozen=True, slots=True, order=True)
class RunRef:
    """The experiment and number of a run; each experiment has a folder of its name."""

    experiment: str
    number: int

    @property
    def folder(self) -> str:
        """The run's folder below its experiment's, such as `run_0042`."""
        return f"run_{self.number:04d}"

    def __str__(self) -> str:
        return f"{self.experiment}/{self.folder}"


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run. Times are Unix times in seconds, None where unknown.

    `loaded` and `urls` are by module: the config names in the hardware and the ECC server's address when the
    run was started. `began_s` is when the first module was commanded.
    """

    number: int
    experiment: str
    members: tuple[str, ...]
    texts: RunTexts = RunTexts()
    began_s: float = 0.0
    started_s: float | None = None
    stopped_s: float | None = None
    last_seen_running_s: float | None = None
    who: Who = Who()
    stopped_by: Who = Who()
    loaded: dict[str, str] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    lost_ever: tuple[str, ...] = ()
    adopted: bool = False
    outcome: RunOutcome | None = None
    reason: str = ""

    @property
    def ref(self) -> RunRef:
        """The run's name."""
        return RunRef(self.experiment, self.number)


@dataclass(frozen=True, slots=True)
class RunView:
    """Run control as PVs and plugins see it."""

    state: RunState = RunState.UNKNOWN
    info: RunInfo | None = None
    """The open run, or the last one."""
    on: bool = False
    """A run is open: starting, running, stopping, or not yet found again after a restart."""
    stopping: bool = False
    """A stop is under way, of this run, of a start that failed, or of modules that run without one."""
    incomplete: bool = False
    """The last stop left modules that were not seen out of Running."""
    interrupted: bool = False
    """The last run was interrupted, and nobody has acknowledged that."""
    fault: str = ""
    """Why the record of runs is not what it was, which vetoes a start; empty when nothing is wrong."""
    lost: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()
    running: tuple[str, ...] = ()
    """Modules seen Running now: members in a run, enabled modules otherwise."""
    number: int = -1
    next_number: int = 0
    experiment: str = ""
    texts: RunTexts = RunTexts()
    max_duration_s: float = 0.0
    checklist: tuple[str, ...] = ()
    """Every reason why a start would be refused now; empty when it would be accepted."""
    duration_s: float = 0.0

    def of(self, module: str) -> RunRef | None:
        """Return the run that is on and has this module as a member; None where there is none."""
        return self.info.ref if self.on and self.info is not None and module in self.info.members else None
