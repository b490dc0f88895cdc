"""Events of the core, each with the core's stamp so that replaying them is harmless."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .command import Reason, Who
from .config import ConfigName
from .fleet import SourceView
from .run import RunInfo, RunRef
from .stamp import Stamp
from .states import Kind, Operation, State, Transition


class Origin(StrEnum):
    """Who caused a change of state."""

    OURS = "ours"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event has: its stamp and the Unix time in seconds when it was seen."""

    stamp: Stamp
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged(Event):
    """An ECC server changed its state or its reachability; `run` is the run that it was in."""

    module: str
    old: State
    new: State
    transition: Transition
    origin: Origin
    reason: str = ""
    run: RunRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationStarting(Event):
    """A SOAP transition is about to be sent."""

    module: str
    operation: Operation
    config: ConfigName | None
    who: Who


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEnded(Event):
    """A SOAP transition arrived, failed or was given up waiting for.

    `config` is what was sent, `text` the reply's; that of a Configure has every configuration file, 370 kB.
    `run` is the run that the module was in.
    """

    module: str
    operation: Operation
    ok: bool
    reason: str = ""
    code: int = 0
    duration_s: float = 0.0
    who: Who = Who()
    config: ConfigName | None = None
    text: str = ""
    run: RunRef | None = None


@dataclass(frozen=True, slots=True)
class RunMember:
    """A member of a run as it was at an event: `transition_s` is how long its last transition took.

    One that the settings do not have any more is of unknown kind.
    """

    name: str
    url: str = ""
    kind: Kind | None = None
    transition_s: float = 0.0
    sources: tuple[SourceView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent(Event):
    """Something in the life of a run; `members` are those of the run, as they were then."""

    run: RunInfo
    members: tuple[RunMember, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarting(RunEvent):
    """The number is reserved; nothing was sent yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(RunEvent):
    """Every member was seen Running; or the run was adopted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDegraded(RunEvent):
    """A member was lost or came back: `lost` are those lost now."""

    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStopping(RunEvent):
    """A stop of the run begins; `reason` is empty where a person wanted it."""

    who: Who = Who()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStopped(RunEvent):
    """The run is over: stopped, stopped outside, or interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed(RunEvent):
    """The start failed; `number_released` tells whether its number may be used again."""

    reasons: tuple[Reason, ...] = field(default=())
    number_released: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles(Event):
    """What became of one data router's files of a run; told again when it changes.

    `state` is a word such as `Done` or `Incomplete`, `location` where the files are, `manifest` the JSON text
    of names, sizes, times and checksums, empty while there is none. The run may be over for long.

    What the frames in the files say, None where it is not known:

    - `event_count`: the events that all senders have that have any. `first_event`, `last_event`: the first
      and the last event number of any sender; None also without a frame. `all_from`: the first event that
      all senders have; None also if one has none.
    - `missing_events`: event numbers left out between a sender's first and last; `resets`: how often event
      numbers began anew; `damaged_frames`: those that are torn or out of order: sums over the senders.
    - `sync`: the worst state of the boards' events in the run, such as `OutOfStep`; `Dead` where frames are
      not read and no data came any more when the run was stopped, while other boards had some or because
      the data router was gone. Empty if there was none of these.
    - `checked`: whether a check of all frames found them good, and as those of the other boards; None before
      a check.
    """

    experiment: str
    number: int
    router: str
    sources: tuple[str, ...]
    state: str
    files: int
    data_bytes: int
    location: str = ""
    message: str = ""
    manifest: str = ""
    event_count: int | None = None
    missing_events: int | None = None
    resets: int | None = None
    damaged_frames: int | None = None
    sync: str = ""
    checked: bool | None = None
    first_event: int | None = None
    last_event: int | None = None
    all_from: int | None = None


@dataclass(frozen=True, slots=True)
class RunConfigText:
    """One configuration file that a run used, with its text, or the reason why it could not be had.

    `part` is `describe`, `prepare` or `configure`; `source` tells where the text is from: `file`, or `reply`
    for the text in the reply to Configure; empty with a `fault`.
    """

    module: str
    part: str
    name: str
    text: str = ""
    source: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfigs(Event):
    """The configuration files that a run used."""

    experiment: str
    number: int
    configs: tuple[RunConfigText, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginRecord(Event):
    """What a plugin has recorded of its own: `kind` and `value`, JSON, are for that plugin alone."""

    plugin: str
    kind: str
    value: dict[str, Any]
