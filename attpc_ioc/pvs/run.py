"""The rows of run control, `$(P)Run:`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from attpc_ioc.model.command import CommandName, Scope, ScopeKind
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.run import RunClass, RunInfo, RunState
from attpc_ioc.model.states import Severity, Status

from .common import command_row, finite, result_rows
from .row import AlarmUse, Archive, Limits, Reading, Record, Row, Value

KIND = ScopeKind.RUN

MAX_DURATION_S = 31_536_000.0
"""A year: nobody needs a longer limit, and screens and databases can handle this one."""

STATE_SEVERITIES = {
    int(RunState.INTERRUPTED): Severity.MAJOR,
    int(RunState.ORPHAN): Severity.MAJOR,
    int(RunState.UNKNOWN): Severity.INVALID,
}


def _state(fleet: Fleet, _scope: Scope) -> Value | Reading:
    run = fleet.run
    if run.state is RunState.RUNNING and run.lost:
        return Reading(int(run.state), Severity.MAJOR, Status.STATE)
    return int(run.state)


def _state_reason(fleet: Fleet, _scope: Scope) -> str:
    run = fleet.run
    match run.state:
        case RunState.RUNNING:
            return f"run {run.number} lost {', '.join(run.lost)}"
        case RunState.INTERRUPTED:
            return f"run {run.number} was interrupted"
        case RunState.ORPHAN:
            return f"running with no run on: {', '.join(run.running)}"
    return "not every member of the open run was seen yet"


def local_time(time_s: float | None) -> str:
    """Return a Unix time as ISO 8601 with the offset of the local time zone; empty for None.

    A time that the calendar does not have is shown as empty too.
    """
    if time_s is None:
        return ""
    try:
        return datetime.fromtimestamp(time_s, UTC).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError, OSError):
        return ""


def hours_text(duration_s: float) -> str:
    """Return a duration as `HH:MM:SS`; the hours count past 24."""
    whole = max(0, int(finite(duration_s)))
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _time(get: Callable[[RunInfo], float | None]) -> Callable[[Fleet, Scope], Value]:
    return lambda fleet, _scope: local_time(get(fleet.run.info)) if fleet.run.info else ""


ROWS: tuple[Row, ...] = (
    command_row(KIND, CommandName.START, "Start a run: the whole sequence"),
    command_row(KIND, CommandName.STOP, "Stop the run"),
    command_row(KIND, CommandName.ADOPT, "Make modules that run a run"),
    Row(
        "State_RBV",
        KIND,
        Record.MBBI,
        "State of run control",
        _state,
        labels=tuple(state.label for state in RunState),
        severities=STATE_SEVERITIES,
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("a member is lost, or it was interrupted, or is not known"),
        guidance="Running: a member is lost (Lost_RBV names it); stop the run when its data matter. "
        "Interrupted: the run ended unseen; Stop acknowledges it. Orphan: modules run with no run on; "
        "Stop stops them, Adopt makes them a run. Unknown: wait until every member of the run was "
        "seen, or Stop.",
        reason=_state_reason,
    ),
    *result_rows(KIND),
    Row(
        "Ready_RBV",
        KIND,
        Record.BI,
        "Whether a start would be accepted now",
        lambda fleet, _: int(not fleet.run.checklist),
        labels=("NotReady", "Ready"),
        archive=Archive.MONITOR,
    ),
    Row(
        "Checklist_RBV",
        KIND,
        Record.LONG_TEXT,
        "Every reason why a start is refused",
        lambda fleet, _: "\n".join(fleet.run.checklist),
        elements=8192,
    ),
    Row(
        "Modules_RBV",
        KIND,
        Record.LONGIN,
        "Members seen Running",
        lambda fleet, _: len(fleet.run.running),
        archive=Archive.MONITOR,
    ),
    Row(
        "Expected_RBV",
        KIND,
        Record.LONGIN,
        "Members of the run",
        lambda fleet, _: len(fleet.run.expected),
        archive=Archive.MONITOR,
    ),
    Row(
        "Lost_RBV",
        KIND,
        Record.LONG_TEXT,
        "Members lost now",
        lambda fleet, _: ", ".join(fleet.run.lost),
        elements=4096,
        archive=Archive.MONITOR,
    ),
    Row(
        "Number_RBV",
        KIND,
        Record.LONGIN,
        "Current or last run, -1: none yet",
        lambda fleet, _: fleet.run.number,
        archive=Archive.MONITOR,
    ),
    Row(
        "NextNumber_RBV",
        KIND,
        Record.LONGIN,
        "Number of the next run",
        lambda fleet, _: fleet.run.next_number,
    ),
    Row(
        "Experiment",
        KIND,
        Record.LONG_TEXT,
        "Experiment, fixed but when all are Idle",
        lambda fleet, _: fleet.run.experiment,
        setpoint="experiment",
        max_chars=200,
    ),
    Row(
        "Experiment_RBV",
        KIND,
        Record.LONG_TEXT,
        "Experiment as accepted",
        lambda fleet, _: fleet.run.experiment,
        archive=Archive.MONITOR,
    ),
    Row(
        "Title",
        KIND,
        Record.LONG_TEXT,
        "Title of the run",
        lambda fleet, _: fleet.run.texts.title,
        setpoint="title",
        max_chars=200,
        archive=Archive.MONITOR,
    ),
    Row(
        "Operator",
        KIND,
        Record.LONG_TEXT,
        "Who is on shift",
        lambda fleet, _: fleet.run.texts.operator,
        setpoint="operator",
        max_chars=200,
        archive=Archive.MONITOR,
    ),
    Row(
        "Class",
        KIND,
        Record.MBBO,
        "What kind of run",
        lambda fleet, _: int(fleet.run.texts.run_class),
        labels=tuple(c.label for c in RunClass),
        setpoint="run_class",
        archive=Archive.MONITOR,
    ),
    Row(
        "StartTime_RBV",
        KIND,
        Record.STRINGIN,
        "When the run was seen Running",
        _time(lambda info: info.started_s),
        archive=Archive.MONITOR,
    ),
    Row(
        "StopTime_RBV",
        KIND,
        Record.STRINGIN,
        "When the run was over",
        _time(lambda info: info.stopped_s),
        archive=Archive.MONITOR,
    ),
    Row(
        "Duration_RBV",
        KIND,
        Record.AI,
        "How long the run has been on",
        lambda fleet, _: max(0.0, finite(fleet.run.duration_s)),
        units="s",
        precision=0,
        live=True,
    ),
    Row(
        "DurationText_RBV",
        KIND,
        Record.STRINGIN,
        "The same as HH:MM:SS",
        lambda fleet, _: hours_text(fleet.run.duration_s),
        live=True,
    ),
    Row(
        "MaxDuration",
        KIND,
        Record.AO,
        "Stop the run after this, 0: no limit",
        lambda fleet, _: max(0.0, finite(fleet.run.max_duration_s)),
        units="s",
        precision=0,
        limits=Limits(lopr=0.0, drvl=0.0, drvh=MAX_DURATION_S),
        setpoint="max_duration",
        archive=Archive.MONITOR,
    ),
)
