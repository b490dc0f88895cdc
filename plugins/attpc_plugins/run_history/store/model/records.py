"""The records that the store applies: the history's own, and the core's events.

Every record has a unique stamp (the IOC, the boot, the number in that boot). Times are Unix
times in seconds, None if unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, get_args

from attpc_ioc.model.command import Put, Who
from attpc_ioc.model.events import OperationEnded, RunConfigs, RunFiles, Stamp, StateChanged
from attpc_ioc.model.run import RunRef

from .history import Level, Link, Module, Moment, Run, RunChanges, Stage
from .values import TypedValue

__all__ = [
    "EVENTS",
    "KINDS",
    "UNSTAMPED",
    "EditRecord",
    "ExperimentRecord",
    "Link",
    "LogRecord",
    "MeasurementRecord",
    "Module",
    "Phase",
    "Record",
    "RunRecord",
    "RunRef",
]


UNSTAMPED = Stamp("", "", 0)
"""A placeholder for the stamp that a record of the history gets with its event."""


class Phase(StrEnum):
    """An event in the life of a run."""

    STARTING = "starting"
    STARTED = "started"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def stage(self) -> Stage:
        """The stage of the run after this event."""
        return _STAGES[self]


_STAGES = {
    Phase.STARTING: Stage.STARTING,
    Phase.STARTED: Stage.RUNNING,
    Phase.DEGRADED: Stage.RUNNING,
    Phase.STOPPING: Stage.STOPPING,
    Phase.STOPPED: Stage.ENDED,
    Phase.FAILED: Stage.ENDED,
}


@dataclass(frozen=True, slots=True)
class RunRecord:
    """An event in the life of a run, with all its facts: each record alone can recreate the run's row.

    `attempt` is the token with which the number was reserved, empty if unknown. `modules` are the
    members, `lost` the currently lost ones (degraded). `number_released` (failed): no module can have run,
    and the number may be used again.
    """

    KIND: ClassVar[str] = "run"
    stamp: Stamp
    time_s: float
    phase: Phase
    run: Run
    attempt: str = ""
    modules: tuple[Module, ...] = ()
    lost: tuple[str, ...] = ()
    text: str = ""
    number_released: bool = False


@dataclass(frozen=True, slots=True)
class EditRecord:
    """Someone changed a run's title, operator, class, comment or quality."""

    KIND: ClassVar[str] = "edit"
    stamp: Stamp
    time_s: float
    run: RunRef
    changes: RunChanges
    who: Who = Who()


@dataclass(frozen=True, slots=True)
class ExperimentRecord:
    """An experiment became the current one."""

    KIND: ClassVar[str] = "experiment"
    stamp: Stamp
    time_s: float
    experiment: str


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A log entry, by the IOC or a person."""

    KIND: ClassVar[str] = "log"
    stamp: Stamp
    time_s: float
    level: Level
    text: str
    source: str = ""
    run: RunRef | None = None


@dataclass(frozen=True, slots=True)
class MeasurementRecord:
    """A value of an observable in a run, at `time_s`. No value: `fault` says why.

    `same_as_previous` takes the value of the last earlier run that has one.
    """

    KIND: ClassVar[str] = "measurement"
    stamp: Stamp
    time_s: float
    run: RunRef
    observable: str
    moment: Moment
    value: TypedValue | None = None
    units: str = ""
    severity: int = 0
    pv: str = ""
    stamped_s: float | None = None
    fault: str = ""
    same_as_previous: bool = False
    who: Who = Who()


OwnRecord = RunRecord | EditRecord | ExperimentRecord | LogRecord | MeasurementRecord
Record = OwnRecord | Put | StateChanged | OperationEnded | RunFiles | RunConfigs
"""Everything that the store can apply."""

KINDS: dict[str, type[OwnRecord]] = {kind.KIND: kind for kind in get_args(OwnRecord)}
"""The history's own records by the name of their kind; names never change, because event logs have them."""

EVENTS: dict[str, type[Record]] = {
    "put": Put,
    "state": StateChanged,
    "operation": OperationEnded,
    "files": RunFiles,
    "configs": RunConfigs,
}
"""The core's events that are applied unchanged, by their words in old journals."""


def kind_word(record: Record) -> str:
    """Return the word for a record's kind."""
    return next(word for word, kind in {**KINDS, **EVENTS}.items() if type(record) is kind)


def stamp_of(record: Record) -> Stamp:
    """Return a record's stamp; the core stamps a put before any plugin sees it."""
    assert record.stamp is not None
    return record.stamp
