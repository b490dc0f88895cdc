"""Shared by rows of several scopes: labels, result rows, readings of a row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from attpc_ioc.model.command import (
    COMMANDS,
    GOTO_TARGETS,
    CommandName,
    ResultCode,
    Scope,
    ScopeKind,
    ScopeResult,
)
from attpc_ioc.model.fleet import Fleet, ModuleView
from attpc_ioc.model.states import Kind, Severity, State, Status, Transition

from .row import AccessGroup, AlarmUse, Archive, Limits, Reading, Record, Row, Value

MESSAGE, RESULT, RESULT_COUNT, ALLOWED = "Message_RBV", "Result_RBV", "ResultCount_RBV", "Allowed_RBV"
"""Parts of the names of the rows in `result_rows`."""

MODULE_STATES = tuple(s.label for s in State if s is not State.MIXED)
"""Labels of a module's `State_RBV`."""
SYSTEM_STATES = tuple(s.label for s in State)
"""Labels of the system's `State_RBV`."""
TRANSITIONS = tuple(t.label for t in Transition)
RESULTS = tuple(r.label for r in ResultCode)
TARGETS = tuple("None" if target is None else target.label for target in GOTO_TARGETS)
DONE_BUSY = ("Done", "Busy")
NO_YES = ("No", "Yes")
OFFLINE_ONLINE = ("Offline", "Online")

STATE_SEVERITIES = {int(State.OFF): Severity.MAJOR, int(State.OFFLINE): Severity.INVALID}
"""Severities of a module's state."""

RESULT_SEVERITIES = {
    int(ResultCode.REFUSED): Severity.MINOR,
    int(ResultCode.ABORTED): Severity.MINOR,
    int(ResultCode.FAILED): Severity.MAJOR,
    int(ResultCode.TIMED_OUT): Severity.MAJOR,
    int(ResultCode.INCOMPLETE): Severity.MAJOR,
}

MESSAGE_ELEMENTS = 4096
"""Bytes of `Message_RBV` and its like: a reason for each of some dozen modules."""


def read(row: Row, fleet: Fleet, scope: Scope) -> Reading:
    """Return the value and the alarm of a row that has a `value` function."""
    assert row.value is not None
    return with_alarm(row, row.value(fleet, scope))


def with_alarm(row: Row, value: Value | Reading) -> Reading:
    """Give a plain value the alarm of the row's severities and limits; leave a reading as it is."""
    if isinstance(value, Reading):
        return value
    if row.severities and isinstance(value, int):
        severity = row.severities.get(value, Severity.NO_ALARM)
        return Reading(value, severity, Status.STATE if severity else Status.NO_ALARM)
    if isinstance(value, (int, float)):
        return Reading(value, *_limit_alarm(row.limits, value))
    return Reading(value)


def _limit_alarm(limits: Limits, value: float) -> tuple[Severity, Status]:
    if math.isnan(value):
        return Severity.INVALID, Status.UDF
    if limits.hihi is not None and value >= limits.hihi:
        return Severity.MAJOR, Status.HIHI
    if limits.lolo is not None and value <= limits.lolo:
        return Severity.MAJOR, Status.LOLO
    if limits.high is not None and value >= limits.high:
        return Severity.MINOR, Status.HIGH
    if limits.low is not None and value <= limits.low:
        return Severity.MINOR, Status.LOW
    return Severity.NO_ALARM, Status.NO_ALARM


UNSEEN = ModuleView("", Kind.OTHER, url="", host="")
"""Stands for a module that the snapshot does not have."""


def quiet(module: ModuleView, value: Value) -> Value | Reading:
    """Return a value of the IOC's own, which does not depend on the server: no alarm while disabled."""
    return value if module.enabled else Reading(value)


def from_server(module: ModuleView, value: Value) -> Value | Reading:
    """Return a value that the server reported: kept, but INVALID/COMM, while the server is unreachable."""
    if not module.enabled:
        return Reading(value)
    if module.state is State.OFFLINE:
        return Reading(value, Severity.INVALID, unreachable_status(module))
    return value


def unreachable_status(module: ModuleView) -> Status:
    """Return UDF before the first poll has ended, COMM afterwards."""
    return Status.COMM if module.seen or module.poll_errors else Status.UDF


def finite(value: float) -> float:
    """Return the number, or 0 if it is not finite."""
    return float(value) if math.isfinite(value) else 0.0


def allowed_bits(fleet: Fleet, scope: Scope) -> int:
    """Return a bit for each command of the scope that would be accepted now, in the order of `COMMANDS`."""
    allowed = fleet.allowed.get(scope, frozenset())
    return sum(1 << bit for bit, name in enumerate(COMMANDS.get(scope.kind, ())) if name in allowed)


_RESULT_OF: dict[ScopeKind, Callable[[Fleet, Scope], ScopeResult]] = {
    ScopeKind.SYSTEM: lambda fleet, _scope: fleet.system_result,
    ScopeKind.RUN: lambda fleet, _scope: fleet.run_result,
    ScopeKind.ECC: lambda fleet, scope: fleet.modules.get(scope.name, UNSEEN).result,
}
"""The last result of a scope, by its kind."""


def result_rows(kind: ScopeKind) -> tuple[Row, ...]:
    """Return the rows for the result of a scope's last command, and for the commands accepted now."""
    bits = ", ".join(f"{bit} {name}" for bit, name in enumerate(COMMANDS[kind]))
    result_of = _RESULT_OF[kind]

    def code(fleet: Fleet, scope: Scope) -> Value | Reading:
        """Return how the last attempt ended; an unresolved failure keeps its alarm (rule 22)."""
        result = result_of(fleet, scope)
        if kind is ScopeKind.ECC and not fleet.modules.get(scope.name, UNSEEN).enabled:
            return Reading(int(result.code))
        return (
            Reading(int(result.code), Severity.MAJOR, Status.STATE) if result.unresolved else int(result.code)
        )

    return (
        Row(
            RESULT,
            kind,
            Record.MBBI,
            "Result of the last command here",
            code,
            labels=RESULTS,
            severities=RESULT_SEVERITIES,
            archive=Archive.MONITOR,
            alarm_tree=True,
            alarm=AlarmUse("last command did not succeed", latching=False),
            guidance="Read Message_RBV beside it: it names the command and the reason for each module. "
            "The alarm of a failure stays, whatever is refused meanwhile, until the next command here "
            "succeeds or other commands have taken its modules to their targets.",
            reason=lambda fleet, scope: result_of(fleet, scope).text,
        ),
        Row(
            RESULT_COUNT,
            kind,
            Record.LONGIN,
            "Attempts here, including refused ones",
            lambda fleet, scope: result_of(fleet, scope).count,
        ),
        Row(
            MESSAGE,
            kind,
            Record.LONG_TEXT,
            "Last command and reasons by module",
            lambda fleet, scope: result_of(fleet, scope).text,
            elements=MESSAGE_ELEMENTS,
            archive=Archive.MONITOR,
        ),
        Row(
            ALLOWED,
            kind,
            Record.LONGIN,
            "Commands accepted now, a bit each",
            allowed_bits,
            guidance=f"Bits: {bits}.",
        ),
    )


def command_row(kind: ScopeKind, name: CommandName, desc: str, guidance: str = "") -> Row:
    """Return the row of a command PV (`GoTo`: of its targets)."""
    goto = name is CommandName.GOTO
    row = Row(
        str(name),
        kind,
        Record.BO,
        desc,
        labels=DONE_BUSY,
        command=name,
        initial=0,
        guidance=guidance,
        access=_access_of(kind, name),
    )
    return replace(row, record=Record.MBBO, labels=TARGETS) if goto else row


def _access_of(kind: ScopeKind, name: CommandName) -> AccessGroup | None:
    """Return who a command is for; None leaves it to the row.

    A command to one module bypasses the safe order of the fleet, and `Adopt` makes a run of what somebody
    else has started.
    """
    if kind is ScopeKind.ECC and name is not CommandName.REFRESH_CONFIGS:
        return AccessGroup.EXPERT
    return AccessGroup.EXPERT if name is CommandName.ADOPT else None
