"""A row of the PV table: everything that is to be said of one PV, as pure data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from attpc_ioc.model.command import CommandName, Scope, ScopeKind
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.states import Severity, Status


class Record(StrEnum):
    """EPICS record types that a row can be."""

    BI = "bi"
    BO = "bo"
    MBBI = "mbbi"
    MBBO = "mbbo"
    LONGIN = "longin"
    LONGOUT = "longout"
    AI = "ai"
    AO = "ao"
    STRINGIN = "stringin"
    LONG_TEXT = "lsi"
    """CHAR waveform, UTF-8."""
    STRINGS = "strings"
    """STRING waveform."""
    NUMBERS = "numbers"
    """DOUBLE waveform."""
    CALC = "calc"
    """Only for the devIocStats names that are calc records there; read-only DOUBLE."""
    CALCOUT = "calcout"
    """As CALC."""


Value = int | float | str | tuple[str, ...] | tuple[float, ...]
"""Enum rows have the number of the label; lists are tuples."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A value with its alarm: the row's own severities and limits are not looked at any more."""

    value: Value
    severity: Severity = Severity.NO_ALARM
    status: Status = Status.NO_ALARM


class Archive(StrEnum):
    """How the archiver takes a PV."""

    NONE = "none"
    MONITOR = "monitor"
    SCAN = "scan"


class AccessGroup(StrEnum):
    """Who a row is for, where the IOC has an access security file; the settings name the group of each."""

    OBSERVER = "observer"
    """Read-only rows: for everybody."""
    OPERATOR = "operator"
    """What a shift sets and commands."""
    EXPERT = "expert"
    """What goes past the safe order of the whole, or past a check."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Display, alarm and warning limits of an analogue row; None where there is none."""

    hopr: float | None = None
    lopr: float | None = None
    hihi: float | None = None
    high: float | None = None
    low: float | None = None
    lolo: float | None = None
    drvh: float | None = None
    """Largest value that a put may have."""
    drvl: float | None = None
    """Smallest value that a put may have."""


@dataclass(frozen=True, slots=True)
class AlarmUse:
    """How an alarm server treats a row of the alarm tree; the words are those of the Phoebus alarm server.

    - `says`: what it shows and speaks, after the name of the module where there is one; empty: the DESC.
    - `latching`: the alarm stays until it is acknowledged, also when its cause is gone.
    - `annunciating`: it is spoken where an annunciator runs.
    - `delay_s`: for so long the row must be in alarm before it is one, in whole seconds.
    """

    says: str = ""
    latching: bool = True
    annunciating: bool = True
    delay_s: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One PV (or one for each ECC server, source or plugin).

    - `part`: the last part of the name, such as `State_RBV`; a full name is prefix + scope + part.
    - `desc`: the record's DESC, at most 40 characters.
    - `labels`: of bi, bo, mbbi and mbbo, by number.
    - `severities`: of a label's number; with `status` STATE.
    - `value(fleet, scope)`: the value from a snapshot, or a `Reading` with its own alarm. None for a row
      that its owner publishes itself. It never raises for any fleet.
    - `command`: the command that writing 1 (or a target) gives.
    - `setpoint`: the name of the setpoint that a write sets; see `control`.
    - `max_chars`: of a long text that can be written, in characters; `elements`: of a waveform.
    - `archive_period_s`: scanned, how often; monitored, the shortest time between changes that come one
      upon another, which sizes the archiver's buffer.
    - `alarm_tree`: whether an alarm server watches it, and `alarm`: how.
    - `guidance`: what an operator does about an alarm.
    - `saved`: of a setpoint, whether a save-and-restore program may keep it and write it back later; not what
      is derived from another setpoint, belongs to one run, or is an order.
    - `reason(fleet, scope)`: why the row is in alarm, for `AlarmText_RBV`; None: its label or value.
    - `told_by`: the part of a text row of the same scope that says why instead, as far as it is not empty.
    - `access`: who it is for; None: operators where it can be written, else observers.
    - `used_in`: of a row for each ECC server or source, the names of those for which it is of use; None: all.
      The PV is there for the others too, but no alarm server watches it, no archiver takes it and no screen
      shows it. Of any other row an empty set says that nobody does.
    - `live`: follows time, not events; read again at most once a second.
    """

    part: str
    scope: ScopeKind
    record: Record
    desc: str
    value: Callable[[Fleet, Scope], Value | Reading] | None = None
    labels: tuple[str, ...] = ()
    severities: Mapping[int, Severity] = field(default_factory=dict)
    units: str = ""
    precision: int = 0
    limits: Limits = Limits()
    adel: float = 0.0
    mdel: float = 0.0
    command: CommandName | None = None
    setpoint: str | None = None
    max_chars: int = 1023
    elements: int = 1024
    initial: Value | None = None
    archive: Archive = Archive.NONE
    archive_period_s: float = 0.1
    alarm_tree: bool = False
    alarm: AlarmUse = AlarmUse()
    guidance: str = ""
    reason: Callable[[Fleet, Scope], str] | None = None
    told_by: str = ""
    used_in: frozenset[str] | None = None
    live: bool = False
    saved: bool = True
    access: AccessGroup | None = None
    plugin: str = ""
    """The plugin that owns the row; empty for the core's."""

    @property
    def writable(self) -> bool:
        """Whether clients may write it at all."""
        return self.command is not None or self.setpoint is not None

    @property
    def access_group(self) -> AccessGroup:
        """Who it is for."""
        if self.access is not None:
            return self.access
        return AccessGroup.OPERATOR if self.writable else AccessGroup.OBSERVER


def full_name(prefix: str, scope: Scope, part: str) -> str:
    """Return the PV name of `part` in `scope`."""
    middle = {
        ScopeKind.SYSTEM: "",
        ScopeKind.ECC: f"Ecc:{scope.name}:",
        ScopeKind.SOURCE: f"{scope.name}:",
        ScopeKind.RUN: "Run:",
        ScopeKind.IOC: "IOC:",
        ScopeKind.PLUGIN: f"Plugin:{scope.name}:",
    }[scope.kind]
    return f"{prefix}{middle}{part}"
