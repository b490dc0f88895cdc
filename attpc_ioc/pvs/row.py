"""A row of the PV table: everything about one PV, as pure data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from attpc_ioc.model.command import CommandName, Scope, ScopeKind
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.states import Severity, Status


class Record(StrEnum):
    """The EPICS record types of rows."""

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
    """Only for names that are calc records in devIocStats; read-only DOUBLE."""
    CALCOUT = "calcout"
    """Like CALC."""


Value = int | float | str | tuple[str, ...] | tuple[float, ...]
"""Enum rows have the number of a label; lists are tuples."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A value with its alarm, which replaces that of the row's severities and limits."""

    value: Value
    severity: Severity = Severity.NO_ALARM
    status: Status = Status.NO_ALARM


@dataclass(frozen=True, slots=True)
class Shown(Reading):
    """What a PV shows: value and alarm, and since when, in seconds since 1970."""

    time_s: float = 0.0


class Archive(StrEnum):
    """How the archiver samples a PV."""

    NONE = "none"
    MONITOR = "monitor"
    SCAN = "scan"


class AccessGroup(StrEnum):
    """Who a row is for, if the IOC has an access security file; the settings name the group (ASG) of each."""

    OBSERVER = "observer"
    """Read-only rows: for everybody."""
    OPERATOR = "operator"
    """What a shift sets and commands."""
    EXPERT = "expert"
    """What bypasses the safe order of the fleet, or a check."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Display, alarm and warning limits of an analogue row; None: no limit."""

    hopr: float | None = None
    lopr: float | None = None
    hihi: float | None = None
    high: float | None = None
    low: float | None = None
    lolo: float | None = None
    drvh: float | None = None
    """Largest value of a put."""
    drvl: float | None = None
    """Smallest value of a put."""


@dataclass(frozen=True, slots=True)
class AlarmUse:
    """How an alarm server treats a row of the alarm tree; the words are those of the Phoebus alarm server.

    - `says`: what it shows and speaks, after the name of the module if there is one; empty: the DESC.
    - `latching`: the alarm stays until it is acknowledged, also when its cause is gone.
    - `annunciating`: it is spoken where an annunciator runs.
    - `delay_s`: how long the row must be in alarm before the alarm server reports it, in whole seconds.
    """

    says: str = ""
    latching: bool = True
    annunciating: bool = True
    delay_s: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One PV (or one for each ECC server, source or plugin).

    - `part`: the last part of the name, such as `State_RBV`; a full name is prefix + scope + part.
    - `desc`: the record's DESC, at most 40 bytes; Channel Access shows 39 of them.
    - `labels`: of bi, bo, mbbi and mbbo, by number.
    - `severities`: by the number of a label, with the status STATE.
    - `value(fleet, scope)`: the value from a snapshot, or a `Reading` with its own alarm; it must not raise
      for any fleet. None for a row that its owner publishes itself.
    - `command`: the command that writing 1 (or a target) gives.
    - `setpoint`: the name of the setpoint that a put sets; see `control`.
    - `max_chars`: length of a writable long text in characters; `elements`: length of a waveform.
    - `archive_period_s`: the scan period, or for a monitor the shortest time between changes in a burst,
      which sizes the archiver's buffer.
    - `alarm_tree`: whether an alarm server watches the row, and `alarm`: how.
    - `guidance`: what an operator does about an alarm.
    - `saved`: whether a save-and-restore program may store a setpoint and write it back later; not for what
      is derived from another setpoint, belongs to one run, or is an order.
    - `reason(fleet, scope)`: why the row is in alarm, for `AlarmText_RBV`; None: its label or value.
    - `reason_row`: the part of a text row of the same scope that has the reason instead, unless it is empty.
    - `access`: who the row is for; None: operators if it is writable, else observers.
    - `used_in`: for a row of each ECC server or source, the names of those that use it; None: all. The others
      have the PV too, but no alarm server, archiver or screen has it. For any other row an empty set means
      that none of these has it.
    - `live`: follows time, not events; read at most once a second.
    - `table`: the table of PVAccess in which the row is a column, such as `Fleet`: with a row for each ECC
      server or source, or of arrays, with a row for each element; see `tables.py`.
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
    reason_row: str = ""
    used_in: frozenset[str] | None = None
    live: bool = False
    saved: bool = True
    access: AccessGroup | None = None
    table: str = ""
    plugin: str = ""
    """The plugin that owns the row; empty for rows of the core."""

    @property
    def writable(self) -> bool:
        """Whether clients can write the row."""
        return self.command is not None or self.setpoint is not None

    @property
    def access_group(self) -> AccessGroup:
        """Who the row is for."""
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
