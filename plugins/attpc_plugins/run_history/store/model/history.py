"""What the store takes and gives: frozen dataclasses; times are aware datetimes in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunClass, RunOutcome

from .values import ClassLabel, Time, TypedValue, ValueKind

NOBODY = Who()
"""An unknown person."""


class Stage(StrEnum):
    """How far a run has come, in the order of its life."""

    RESERVED = "reserved"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"


class Quality(StrEnum):
    """The values of `Run:Quality`, in the order of their enum numbers."""

    UNKNOWN = "Unknown"
    GOOD = "Good"
    BAD = "Bad"
    PARTIAL = "Partial"


class FramesCheck(StrEnum):
    """What `attpc-ioc files check` has found in all frames of a run, or of a data router's files."""

    NOT_RUN = "not run"
    INCOMPLETE = "incomplete"
    """No faults, but the frames of some data routers were not looked at: of a run only."""
    NO_FAULTS = "no faults"
    FAULTS = "faults"
    """Frames are torn or out of order, numbers began anew, or a board is not as the others."""


class Moment(StrEnum):
    """When a value was taken: read at start or stop, or entered by a person."""

    START = "start"
    STOP = "stop"
    ENTERED = "entered"


class Level(StrEnum):
    """The level of a log entry."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment; `next_number` is -1 if it has no run yet (a setting has the first)."""

    name: str
    is_current: bool = False
    comment: str = ""
    created_at: Time | None = None
    runs: int = 0
    """The number of its runs; -1 if not counted."""
    next_number: int = -1


@dataclass(frozen=True, slots=True)
class Run:
    """One run, without its modules, events and measurements. Times are None if unknown.

    `config_name` combines the names of its members (see `config_name_of`). The last fields are of all data
    routers together, see `RouterFiles`; None where that is not known of each. `files_state` is the worst
    state of their files, empty if there is none. `event_count` are the events that all boards have that
    have any; other counts are sums. `unequal_events`: how many events at the beginning and at the end of the
    run not all boards have.
    """

    experiment: str
    number: int
    stage: Stage
    run_class: ClassLabel = RunClass.TESTING
    title: str = ""
    operator: str = ""
    comment: str = ""
    quality: Quality = Quality.UNKNOWN
    fleet: str = ""
    ioc: str = ""
    reserved_at: Time | None = None
    start_commanded_at: Time | None = None
    started_at: Time | None = None
    last_running_at: Time | None = None
    stop_commanded_at: Time | None = None
    stopped_at: Time | None = None
    started_by: Who = Who()
    stopped_by: Who = Who()
    outcome: RunOutcome | None = None
    reason: str = ""
    adopted: bool = False
    config_name: str = ""
    files_state: str = ""
    event_count: int | None = None
    missing_events: int | None = None
    resets: int | None = None
    damaged_frames: int | None = None
    sync: str = ""
    unequal_events: int | None = None
    frames_check: FramesCheck = FramesCheck.NOT_RUN

    @property
    def duration_s(self) -> float | None:
        """How long it ran, in seconds; None if it is not over or never ran."""
        if self.started_at is None or self.stopped_at is None:
            return None
        return max(0.0, (self.stopped_at - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Link:
    """A data link of a member's data source in a run: the data router that got its data."""

    source: str
    name: str
    address: str = ""
    port: int = 0
    type: str = ""


@dataclass(frozen=True, slots=True)
class Module:
    """A member of a run: its ECC server and what it had loaded (None: not loaded, `?`: unknown)."""

    name: str
    kind: str = "other"
    url: str = ""
    describe: str | None = None
    prepare: str | None = None
    configure: str | None = None
    transition_s: float | None = None
    """How long its last transition took, in seconds."""
    lost: bool = False
    """Whether it was lost at any time in the run (rule 14)."""
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """An event; `kind` is a phase of the run, `state` or `operation`."""

    happened_at: Time
    kind: str
    module: str = ""
    text: str = ""
    ok: bool = True
    external: bool = False
    code: int = 0
    duration_s: float | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of one of a run's texts, its class or its quality, or of a measured value.

    For a measured value `field` is `value`, of this `observable`. `old` is the replaced value, None if that
    is unknown or there was none.
    """

    field: str
    value: str
    edited_at: Time
    edited_by: str = ""
    old: str | None = None
    observable: str = ""


@dataclass(frozen=True, slots=True)
class Observable:
    """A quantity of the run sheet; `pv` is a full PV name, or empty if people enter the value."""

    name: str
    kind: ValueKind
    units: str = ""
    comment: str = ""
    pv: str = ""
    removed: bool = False
    """Removed from the sheet; kept because runs have values of it."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """A value of an observable in a run. No value: `fault` says why, such as `disconnected`.

    `stamped_at` is the PV's own time stamp; `carried` values were taken over from the previous run.
    """

    observable: str
    moment: Moment
    measured_at: Time
    value: TypedValue | None = None
    units: str = ""
    severity: int = 0
    pv: str = ""
    stamped_at: Time | None = None
    carried: bool = False
    fault: str = ""
    entered_by: str = ""


@dataclass(frozen=True, slots=True)
class RouterFiles:
    """The last report of one data router's files of a run; fields as in `RunFiles`.

    `frames_check` is its `checked` in words.
    """

    router: str
    state: str
    told_at: Time
    sources: tuple[str, ...] = ()
    files: int = 0
    data_bytes: int = 0
    location: str = ""
    message: str = ""
    manifest: str = ""
    event_count: int | None = None
    missing_events: int | None = None
    resets: int | None = None
    damaged_frames: int | None = None
    sync: str = ""
    first_event: int | None = None
    last_event: int | None = None
    all_from: int | None = None
    frames_check: FramesCheck = FramesCheck.NOT_RUN


@dataclass(frozen=True, slots=True)
class ConfigUse:
    """A configuration file that a member of a run used.

    `sha256` is that of its text in UTF-8, in hexadecimal; `text` is there on request, and in an export where
    it appears first. `source` is `file` or `reply` (of Configure). Without a text `fault` says why.
    """

    module: str
    part: str
    name: str
    told_at: Time
    source: str = ""
    sha256: str = ""
    text: str | None = None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class RunDetail:
    """A run with all its details."""

    run: Run
    modules: tuple[Module, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    events: tuple[Event, ...] = ()
    edits: tuple[Edit, ...] = ()
    files: tuple[RouterFiles, ...] = ()
    configs: tuple[ConfigUse, ...] = ()

    @property
    def members(self) -> tuple[str, ...]:
        """The names of its members, in the order of the settings."""
        return tuple(module.name for module in self.modules)

    @property
    def lost(self) -> tuple[str, ...]:
        """The names of the members that were lost at any time."""
        return tuple(module.name for module in self.modules if module.lost)


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs: all given conditions must hold. `since` and both numbers are included, `until` is not.

    `text` has words that must all occur in title, operator or comment, in upper or lower case; the last may
    be the beginning of a word. `bad`: runs to look at, by the rule of the column `runs.bad`. Numbers that are
    only reserved are never listed.
    """

    experiment: str | None = None
    number_from: int | None = None
    number_to: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    run_class: RunClass | None = None
    quality: Quality | None = None
    text: str = ""
    bad: bool = False


ALL_RUNS = RunFilter()


@dataclass(frozen=True, slots=True)
class Cursor:
    """The end of a page of a list; opaque to callers."""

    at: datetime
    id: int
    number: int = -1


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of runs; `next` requests the next page and is None on the last."""

    runs: tuple[Run, ...]
    next: Cursor | None = None


@dataclass(frozen=True, slots=True)
class RunChanges:
    """What an edit changes; None leaves a field as it is."""

    title: str | None = None
    operator: str | None = None
    run_class: RunClass | None = None
    comment: str | None = None
    quality: Quality | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """A reserved number without a recorded start."""

    experiment: str
    number: int
    attempt: str
    reserved_at: Time


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One log entry; `number` is its run, None outside runs."""

    logged_at: Time
    level: Level
    text: str
    source: str = ""
    experiment: str | None = None
    number: int | None = None
