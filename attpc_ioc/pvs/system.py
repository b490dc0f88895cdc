"""The rows of the whole system, `$(P)`."""

from __future__ import annotations

from attpc_ioc.model.command import CommandName, Scope, ScopeKind
from attpc_ioc.model.fleet import LISTED_MOST, Fleet, common_names
from attpc_ioc.model.states import Severity, State, Status

from .common import STATE_SEVERITIES, SYSTEM_STATES, command_row, finite, result_rows, unreachable_status
from .row import AlarmUse, Archive, Limits, Reading, Record, Row, Value

KIND = ScopeKind.SYSTEM
MIXED = "mixed"
"""`Config_RBV` where the enabled modules differ."""

ALARM, ALARM_TEXT = "Alarm_RBV", "AlarmText_RBV"
"""Shown by `attpc_ioc.ioc.publish`."""

REFUSED = "Refused_RBV"
"""Published by `attpc_ioc.ioc.puts`: programs such as Phoebus show nothing about a failed put."""

ALARM_LEVELS = ("Ok", "Minor", "Major", "Invalid")
ALARM_SEVERITIES = {1: Severity.MINOR, 2: Severity.MAJOR, 3: Severity.INVALID}


def _moving(fleet: Fleet) -> bool:
    if any(a.command.scope.kind in (ScopeKind.SYSTEM, ScopeKind.RUN) for a in fleet.active):
        return True
    return any(m.working or m.outstanding is not None for m in fleet.enabled)


def _state(fleet: Fleet, _scope: Scope) -> Value | Reading:
    state = fleet.state
    if state is State.OFFLINE:
        statuses = {unreachable_status(m) for m in fleet.enabled}
        # Without enabled modules nothing can be reached: the state itself is invalid.
        status = Status.STATE if not statuses else max(statuses, key=lambda s: s is Status.COMM)
        return Reading(int(state), Severity.INVALID, status)
    if state is not State.MIXED:
        return int(state)
    if any(m.state in (State.OFFLINE, State.OFF) for m in fleet.enabled):
        return Reading(int(state), Severity.MAJOR, Status.STATE)
    if _moving(fleet):
        return Reading(int(state))
    return Reading(int(state), Severity.MINOR, Status.STATE)


def _state_reason(fleet: Fleet, _scope: Scope) -> str:
    if not fleet.enabled:
        return "no ECC server is enabled"
    by_state: dict[State, list[str]] = {}
    for module in fleet.enabled:
        by_state.setdefault(module.state, []).append(module.name)
    return "ECC servers are " + "; ".join(
        f"{state.label}: {_some(by_state[state])}" for state in sorted(by_state)
    )


def _some(names: list[str], most: int = 12) -> str:
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _operation(fleet: Fleet, _scope: Scope) -> str:
    return fleet.active[-1].text if fleet.active else ""


def _progress(fleet: Fleet, _scope: Scope) -> float:
    return finite(fleet.active[-1].progress_percent) if fleet.active else 0.0


def _config(fleet: Fleet, _scope: Scope) -> str:
    return MIXED if fleet.selected is None else fleet.selected


def _config_setpoint(fleet: Fleet, _scope: Scope) -> str:
    return fleet.selected or ""


def _config_names(fleet: Fleet, _scope: Scope) -> tuple[str, ...]:
    return common_names(fleet)


def _config_index(fleet: Fleet, _scope: Scope) -> int:
    names = common_names(fleet)
    return names.index(fleet.selected) if fleet.selected in names else -1


ROWS: tuple[Row, ...] = (
    command_row(KIND, CommandName.DESCRIBE, "Describe all enabled modules"),
    command_row(KIND, CommandName.PREPARE, "Prepare all enabled modules"),
    command_row(KIND, CommandName.CONFIGURE, "Configure all enabled modules"),
    command_row(KIND, CommandName.RESET, "One step back for all, down to Idle"),
    command_row(KIND, CommandName.ABORT, "Send nothing further"),
    command_row(KIND, CommandName.GOTO, "Take all enabled modules to a state"),
    command_row(KIND, CommandName.REFRESH_CONFIGS, "Ask every server for its configs"),
    Row(
        "State_RBV",
        KIND,
        Record.MBBI,
        "State of the enabled modules",
        _state,
        labels=SYSTEM_STATES,
        severities={**STATE_SEVERITIES, int(State.MIXED): Severity.MINOR},
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("ECC servers are not all in one state", latching=False, delay_s=10),
        guidance="Look for the ECC server that is not where the others are. Off: restart the ECC server on "
        "its host, then GoTo. Offline: see its Online_RBV. Otherwise GoTo takes all modules to one state.",
        reason=_state_reason,
    ),
    Row(
        ALARM,
        KIND,
        Record.MBBI,
        "Worst alarm of all",
        labels=ALARM_LEVELS,
        severities=ALARM_SEVERITIES,
        initial=0,
        archive=Archive.MONITOR,
        guidance="AlarmText_RBV has every alarm with its reason.",
    ),
    Row(
        ALARM_TEXT,
        KIND,
        Record.LONG_TEXT,
        "Every alarm with its reason, one a line",
        initial="",
        elements=16384,
    ),
    Row(
        REFUSED,
        KIND,
        Record.LONG_TEXT,
        "The last refused entry, and why",
        initial="",
        guidance="Of setpoints, with time and who; what became of commands is in Message_RBV. Empty again "
        "when an entry into the same PV was taken. What access security refuses does not show here.",
    ),
    Row(
        "Busy_RBV",
        KIND,
        Record.BI,
        "Any command runs",
        lambda f, _: int(f.busy),
        labels=("Idle", "Busy"),
    ),
    Row("Operation_RBV", KIND, Record.STRINGIN, "The running command", _operation, archive=Archive.MONITOR),
    Row(
        "Progress_RBV",
        KIND,
        Record.AI,
        "Progress of the running command",
        _progress,
        units="%",
        limits=Limits(hopr=100.0, lopr=0.0),
    ),
    *result_rows(KIND),
    Row(
        "Online_RBV",
        KIND,
        Record.LONGIN,
        "ECC servers reachable",
        lambda fleet, _: sum(m.online for m in fleet.modules.values()),
        archive=Archive.MONITOR,
    ),
    Row(
        "Enabled_RBV",
        KIND,
        Record.LONGIN,
        "ECC servers enabled",
        lambda fleet, _: sum(m.enabled for m in fleet.modules.values()),
        archive=Archive.MONITOR,
    ),
    Row("Count_RBV", KIND, Record.LONGIN, "ECC servers configured", lambda fleet, _: len(fleet.modules)),
    Row(
        "Config",
        KIND,
        Record.LONG_TEXT,
        "Experiment-wide config name",
        _config_setpoint,
        setpoint="config",
        saved=False,
        guidance="Prepare and configure of every enabled server; describe follows each server's own rule.",
    ),
    Row(
        "Config_RBV",
        KIND,
        Record.LONG_TEXT,
        "Config of all, or mixed",
        _config,
        archive=Archive.MONITOR,
    ),
    Row(
        "ConfigNames_RBV",
        KIND,
        Record.STRINGS,
        "Names that all enabled servers offer",
        _config_names,
        elements=LISTED_MOST,
    ),
    Row(
        "ConfigIndex",
        KIND,
        Record.LONGOUT,
        "Choose of ConfigNames_RBV by index",
        _config_index,
        setpoint="config_index",
        saved=False,
    ),
)
