"""The rows of one ECC server, `$(P)Ecc:<ecc>:`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from attpc_ioc.model.command import CommandName, Scope, ScopeKind
from attpc_ioc.model.fleet import LISTED_MOST, Fleet, ModuleView, offered_names
from attpc_ioc.model.states import Severity, State, Status

from .common import (
    MODULE_STATES,
    NO_YES,
    OFFLINE_ONLINE,
    STATE_SEVERITIES,
    TRANSITIONS,
    UNSEEN,
    command_row,
    finite,
    from_server,
    quiet,
    result_rows,
    unreachable_status,
)
from .row import AlarmUse, Archive, Limits, Reading, Record, Row, Value

KIND = ScopeKind.ECC

POLL_TIME = "PollTime_RBV"

Get = Callable[[ModuleView], Value | Reading]
Compute = Callable[[Fleet, Scope], Value | Reading]


def _of_module(get: Get) -> Compute:
    """Return the reader of a value that depends on the module alone."""
    return lambda fleet, scope: get(fleet.modules.get(scope.name, UNSEEN))


def _server(get: Callable[[ModuleView], Value]) -> Compute:
    """Return the reader of a value that the server reported."""
    return lambda fleet, scope: from_server(module := fleet.modules.get(scope.name, UNSEEN), get(module))


def module_state(module: ModuleView) -> Value | Reading:
    """Return the value of `State_RBV` of a module, and of the data sources that it drives."""
    return from_server(module, int(State.OFFLINE if module.state is State.MIXED else module.state))


def _online(module: ModuleView) -> Value | Reading:
    online = module.online
    if module.enabled and not online:
        return Reading(0, Severity.MAJOR, unreachable_status(module))
    return quiet(module, int(online))


def _offline_reason(fleet: Fleet, scope: Scope) -> str:
    module = fleet.modules.get(scope.name, UNSEEN)
    return f"not reachable: {module.offline_reason}" if module.offline_reason else "not reachable"


def _enable(module: ModuleView) -> Value | Reading:
    return 1 if module.enabled else Reading(0, Severity.MINOR, Status.STATE)


def _selected(module: ModuleView) -> str:
    return str(module.selected) if module.selected is not None else ""


def _config_index(module: ModuleView) -> int:
    offered = module.offered or ()
    return offered.index(module.selected) if module.selected in offered else -1


def _loaded(module: ModuleView) -> Value | Reading:
    text = str(module.loaded)
    # Between the arrival of the state and the reply that names what was loaded the two differ for a moment.
    busy = bool(module.working) or module.outstanding is not None
    if module.enabled and module.mismatch and not busy:
        return Reading(text, Severity.MINOR, Status.STATE)
    return Reading(text)


def _loaded_reason(fleet: Fleet, scope: Scope) -> str:
    module = fleet.modules.get(scope.name, UNSEEN)
    return f"loaded is {module.loaded or 'nothing'}, selected is {module.selected or 'nothing'}"


def _poll_time(module: ModuleView) -> Value | Reading:
    """Return the last measurement; `Online_RBV` has the alarm of a server that does not answer at all."""
    value = finite(module.poll_time_ms)
    return quiet(module, value) if module.online else Reading(value)


FLEET = "Fleet"
"""The table of the ECC servers."""

_IN_FLEET = frozenset(
    {"State_RBV", "Online_RBV", "Enable", "Transition_RBV", "Config_RBV", "Loaded_RBV", "ClockStale_RBV"}
    | {"Result_RBV", "Message_RBV", "ErrorCode_RBV", "TransitionTime_RBV", "Sources_RBV", "Url_RBV"}
)
"""Its columns: what changes with events, not with each poll."""


def rows(slow_poll_s: float) -> tuple[Row, ...]:
    """Return the rows with the limit of `PollTime_RBV`: MAJOR from `slow_poll_s`, MINOR from half of it."""
    slow = Limits(lopr=0.0, hihi=1e3 * slow_poll_s, high=500.0 * slow_poll_s)
    return tuple(replace(row, limits=slow) if row.part == POLL_TIME else row for row in ROWS)


_ROWS: tuple[Row, ...] = (
    command_row(KIND, CommandName.DESCRIBE, "Describe: Idle to Described"),
    command_row(KIND, CommandName.PREPARE, "Prepare: Described to Prepared"),
    command_row(KIND, CommandName.CONFIGURE, "Configure: Prepared to Ready"),
    command_row(KIND, CommandName.START, "Start: Ready to Running"),
    command_row(KIND, CommandName.STOP, "Stop: Running or Paused to Ready"),
    command_row(KIND, CommandName.BREAKUP, "Breakup: Ready or Running to Prepared"),
    command_row(KIND, CommandName.UNDO, "Undo: one step back below Ready"),
    command_row(KIND, CommandName.RESET, "One step back, down to Idle"),
    command_row(KIND, CommandName.GOTO, "Take this module to a state"),
    command_row(KIND, CommandName.REFRESH_CONFIGS, "Ask this server for its configs"),
    Row(
        "State_RBV",
        KIND,
        Record.MBBI,
        "State of the ECC server",
        _of_module(module_state),
        labels=MODULE_STATES,
        severities=STATE_SEVERITIES,
        archive=Archive.MONITOR,
        guidance="Off: restart the ECC server on its host, then GoTo. Offline: see Online_RBV.",
    ),
    Row(
        "Transition_RBV",
        KIND,
        Record.MBBI,
        "Transition that the server is in",
        _server(lambda m: int(m.transition)),
        labels=TRANSITIONS,
        archive=Archive.MONITOR,
    ),
    Row(
        "Online_RBV",
        KIND,
        Record.BI,
        "Whether the server answers",
        _of_module(_online),
        labels=OFFLINE_ONLINE,
        severities={0: Severity.MAJOR},
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("ECC server does not answer", delay_s=5),
        guidance="The ECC server does not answer. Is its host up, is getEccSoapServer running there, does "
        "the network work? Url_RBV has its address. The alarm clears when "
        "the server answers.",
        reason=_offline_reason,
    ),
    Row(
        "Enable",
        KIND,
        Record.BO,
        "Takes part in group commands and runs",
        _of_module(_enable),
        labels=NO_YES,
        severities={0: Severity.MINOR},
        setpoint="enable",
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("disabled", latching=False, annunciating=False),
        guidance="This module is left out of group commands and runs, and shows no other alarm. "
        "Enable it with Yes.",
        reason=lambda _fleet, _scope: "disabled: takes no part in group commands and runs",
    ),
    Row(
        "Config",
        KIND,
        Record.LONG_TEXT,
        "Selected describe/prepare/configure",
        _of_module(_selected),
        setpoint="config",
    ),
    Row(
        "Config_RBV",
        KIND,
        Record.LONG_TEXT,
        "Selected config as accepted",
        _of_module(_selected),
        archive=Archive.MONITOR,
    ),
    Row(
        "Configs_RBV",
        KIND,
        Record.STRINGS,
        "Configs offered, cut at 39 bytes",
        _server(offered_names),
        elements=LISTED_MOST,
    ),
    Row(
        "ConfigList_RBV",
        KIND,
        Record.LONG_TEXT,
        "Configs offered, one per line",
        _server(lambda m: "\n".join(offered_names(m))),
        elements=65536,
    ),
    Row(
        "ConfigCount_RBV",
        KIND,
        Record.LONGIN,
        "Number of configs offered",
        _server(lambda m: len(m.offered or ())),
    ),
    Row(
        "ConfigIndex",
        KIND,
        Record.LONGOUT,
        "Choose from Configs_RBV by index",
        _of_module(_config_index),
        setpoint="config_index",
        saved=False,
    ),
    Row(
        "Loaded_RBV",
        KIND,
        Record.LONG_TEXT,
        "Config loaded in the hardware",
        _of_module(_loaded),
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("loaded config is not the selected one", latching=False, delay_s=60),
        guidance="What is loaded in the hardware is not what is selected, or unknown (?). GoTo Ready takes "
        "the module back as far as needed and up again; or select what is loaded.",
        reason=_loaded_reason,
    ),
    Row(
        "ClockStale_RBV",
        KIND,
        Record.BI,
        "Prepared before the clock was reset",
        _of_module(lambda m: quiet(m, int(m.clock_stale))),
        labels=NO_YES,
        severities={1: Severity.MAJOR},
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("clock is stale"),
        guidance="The MuTAnT was taken below Prepared while this CoBo was above, so its clock is not the "
        "MuTAnT's. Take the CoBo down to Described and up again; GoTo does this.",
        reason=lambda _fleet, _scope: "its clock is stale: take it down to Described and up again",
    ),
    *result_rows(KIND),
    Row(
        "ErrorCode_RBV",
        KIND,
        Record.LONGIN,
        "Code of the server's last reply",
        _server(lambda m: m.error_code),
        archive=Archive.MONITOR,
    ),
    Row(
        "TransitionTime_RBV",
        KIND,
        Record.AI,
        "Duration of the last transition",
        _server(lambda m: finite(m.transition_time_s)),
        units="s",
        precision=3,
        archive=Archive.MONITOR,
    ),
    Row(
        POLL_TIME,
        KIND,
        Record.AI,
        "Round trip of the last poll",
        _of_module(_poll_time),
        units="ms",
        precision=2,
        alarm_tree=True,
        alarm=AlarmUse("ECC server answers slowly", latching=False, delay_s=5),
        guidance="The ECC server answers slowly. At the MAJOR limit (limits.freshness_s) only Stop is "
        "sent to it. Is its host or the network overloaded? The alarm clears automatically.",
        live=True,
    ),
    Row(
        "PollErrors_RBV",
        KIND,
        Record.LONGIN,
        "Failed polls since start",
        _of_module(lambda m: m.poll_errors),
        live=True,
    ),
    Row("Url_RBV", KIND, Record.LONG_TEXT, "Where the ECC server is", _of_module(lambda m: m.url)),
    Row(
        "Sources_RBV",
        KIND,
        Record.LONG_TEXT,
        "The boards that it drives",
        _of_module(lambda m: ", ".join(source.sender_id for source in m.sources)),
    ),
)

ROWS = tuple(replace(row, table=FLEET) if row.part in _IN_FLEET else row for row in _ROWS)
