"""What each row shows of a snapshot: values, severities and statuses, row by row of the contract."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

import pytest

from attpc_ioc.model.command import (
    COMMANDS,
    RUN,
    SYSTEM,
    Command,
    CommandName,
    ResultCode,
    Scope,
    ScopeKind,
    ScopeResult,
    ecc_scope,
)
from attpc_ioc.model.config import ConfigName, Loaded
from attpc_ioc.model.fleet import ActiveCommand, Fleet
from attpc_ioc.model.run import RunClass, RunInfo, RunState, RunTexts, RunView
from attpc_ioc.model.states import Operation, Severity, State, Status, Transition
from attpc_ioc.pvs.alarms import Alarm, alarm_text
from attpc_ioc.pvs.common import read
from attpc_ioc.pvs.row import Reading
from attpc_ioc.pvs.run import hours_text
from tests.support.fleets import make_fleet, make_settings, table_of, with_module

SETTINGS = make_settings(cobos=2)
TABLE = {entry.name: entry for entry in table_of(SETTINGS)}
DESCRIBE_ALL = ActiveCommand(Command(SYSTEM, CommandName.DESCRIBE), "CoBos", 10.0)
UNDO_COBO0 = ActiveCommand(Command(ecc_scope("cobo0"), CommandName.UNDO), "", 50.0)
COBO0, COBO1 = ecc_scope("cobo0"), ecc_scope("cobo1")

NO, MINOR, MAJOR, INVALID = Severity
FINE = (NO, Status.NO_ALARM)


def shown(fleet: Fleet, name: str) -> Reading:
    entry = TABLE[f"T:{name}"]
    return read(entry.row, fleet, entry.scope)


def alarm(fleet: Fleet, name: str) -> tuple[Severity, Status]:
    reading = shown(fleet, name)
    return reading.severity, reading.status


def offline(**more: object) -> dict[str, object]:
    return {"state": State.OFFLINE, "last_state": State.READY, **more}


A, B, C = ConfigName("d", "exp1", "exp1"), ConfigName("d", "exp2", "exp2"), ConfigName("d", "exp1", "exp2")


class TestModule:
    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            (State.OFF, (MAJOR, Status.STATE)),
            *((s, FINE) for s in State if State.IDLE <= s <= State.PAUSED),
        ],
    )
    def test_state(self, state, expected):
        fleet = make_fleet(SETTINGS, state)
        for name in ("Ecc:cobo0:State_RBV", "CoBo0:State_RBV"):
            assert shown(fleet, name).value == state
            assert alarm(fleet, name) == expected

    @pytest.mark.parametrize(
        ("changes", "status"),
        [
            ({"last_state": None}, Status.UDF),
            ({"last_state": None, "poll_errors": 1}, Status.COMM),
            ({"last_state": State.IDLE}, Status.COMM),
        ],
    )
    def test_offline(self, changes, status):
        fleet = with_module(make_fleet(SETTINGS), "cobo0", state=State.OFFLINE, **changes)
        for name in ("Ecc:cobo0:State_RBV", "CoBo0:State_RBV"):
            assert shown(fleet, name) == Reading(State.OFFLINE, INVALID, status)
        assert shown(fleet, "Ecc:cobo0:Online_RBV") == Reading(0, MAJOR, status)
        assert shown(fleet, "Ecc:cobo1:State_RBV") == Reading(State.IDLE)

    @pytest.mark.parametrize(
        ("part", "changes", "value"),
        [
            ("Transition_RBV", {"transition": Transition.CONFIGURE}, 3),
            ("Configs_RBV", {"offered": (A, B)}, ("d/exp1/exp1", "d/exp2/exp2")),
            ("ConfigList_RBV", {"offered": (A, B)}, "d/exp1/exp1\nd/exp2/exp2"),
            ("ConfigCount_RBV", {"offered": (A, B)}, 2),
            ("ErrorCode_RBV", {"error_code": 3}, 3),
            ("TransitionTime_RBV", {"transition_time_s": 1.5}, 1.5),
        ],
    )
    def test_what_came_from_the_server_keeps_its_value_and_turns_invalid(self, part, changes, value):
        name = f"Ecc:cobo0:{part}"
        online = with_module(make_fleet(SETTINGS), "cobo0", **changes)
        gone = with_module(online, "cobo0", **offline())
        assert shown(online, name) == Reading(value)
        assert shown(gone, name) == Reading(value, INVALID, Status.COMM)
        assert shown(with_module(gone, "cobo0", enabled=False), name) == Reading(value)

    @pytest.mark.parametrize(
        ("part", "changes", "value"),
        [
            ("Config", {"selected": A}, "d/exp1/exp1"),
            ("Config_RBV", {"selected": A}, "d/exp1/exp1"),
            ("Config_RBV", {"selected": None}, ""),
            ("ConfigIndex", {"selected": B, "offered": (A, B)}, 1),
            ("ConfigIndex", {"selected": C, "offered": (A, B)}, -1),
            ("ConfigIndex", {"selected": None, "offered": None}, -1),
            ("PollErrors_RBV", {"poll_errors": 7}, 7),
            ("PollTime_RBV", {"poll_time_ms": 1900.0}, 1900.0),
            ("Url_RBV", {}, "http://127.0.0.1:9000/"),
            ("Sources_RBV", {}, "CoBo[0]"),
        ],
    )
    def test_what_is_ours_is_valid_while_offline(self, part, changes, value):
        fleet = with_module(make_fleet(SETTINGS), "cobo0", **offline(**changes))
        assert shown(fleet, f"Ecc:cobo0:{part}") == Reading(value)

    def test_disabled_is_minor_on_enable_and_quiet_everywhere_else(self):
        fleet = with_module(
            make_fleet(SETTINGS),
            "cobo0",
            enabled=False,
            clock_stale=True,
            loaded=Loaded("x", "y", "z"),
            result=ScopeResult(ResultCode.FAILED, 3, "why"),
            **offline(),
        )
        for state in (State.OFF, State.OFFLINE):
            fleet = with_module(fleet, "cobo0", state=state)
            alarms = {
                entry.row.part: alarm(fleet, name.removeprefix("T:"))
                for name, entry in TABLE.items()
                if entry.row.value and (entry.scope == COBO0 or entry.scope.name == "CoBo0")
            }
            assert alarms.pop("Enable") == (MINOR, Status.STATE)
            assert set(alarms.values()) == {FINE}

    def test_enabled(self):
        assert shown(make_fleet(SETTINGS), "Ecc:cobo0:Enable") == Reading(1)

    @pytest.mark.parametrize(
        ("loaded", "state", "text", "expected"),
        [
            (Loaded("d", "exp1", "exp1"), State.READY, "d/exp1/exp1", FINE),
            (Loaded("d", "exp1", "exp2"), State.READY, "d/exp1/exp2", (MINOR, Status.STATE)),
            (Loaded("d", "exp1", "exp2"), State.PREPARED, "d/exp1/exp2", FINE),
            (Loaded("?", None, None), State.DESCRIBED, "?/-/-", (MINOR, Status.STATE)),
            (Loaded(), State.IDLE, "", FINE),
        ],
    )
    def test_loaded(self, loaded, state, text, expected):
        fleet = with_module(make_fleet(SETTINGS, state), "cobo0", loaded=loaded, selected=A)
        assert shown(fleet, "Ecc:cobo0:Loaded_RBV").value == text
        assert alarm(fleet, "Ecc:cobo0:Loaded_RBV") == expected

    @pytest.mark.parametrize("at_work", [{"working": "Configure"}, {"outstanding": Operation.CONFIGURE}])
    def test_loaded_is_no_alarm_while_a_command_of_ours_is_loading(self, at_work):
        fleet = with_module(make_fleet(SETTINGS, State.READY), "cobo0", selected=A, **at_work)
        assert alarm(fleet, "Ecc:cobo0:Loaded_RBV") == FINE

    def test_stale_clock_is_major_also_while_offline(self):
        fleet = with_module(make_fleet(SETTINGS), "cobo0", clock_stale=True)
        assert shown(fleet, "Ecc:cobo0:ClockStale_RBV") == Reading(1, MAJOR, Status.STATE)
        assert alarm(with_module(fleet, "cobo0", **offline()), "Ecc:cobo0:ClockStale_RBV")[0] is MAJOR
        assert shown(make_fleet(SETTINGS), "Ecc:cobo0:ClockStale_RBV") == Reading(0)

    def test_source(self):
        fleet = make_fleet(SETTINGS)
        assert shown(fleet, "MuTAnT:Ecc_RBV") == Reading("mutant")
        assert shown(fleet, "MuTAnT:Id_RBV") == Reading("Mutant[master]")


RESULT_ALARMS = {
    ResultCode.NONE: FINE,
    ResultCode.BUSY: FINE,
    ResultCode.DONE: FINE,
    ResultCode.REFUSED: (MINOR, Status.STATE),
    ResultCode.ABORTED: (MINOR, Status.STATE),
    ResultCode.FAILED: (MAJOR, Status.STATE),
    ResultCode.TIMED_OUT: (MAJOR, Status.STATE),
    ResultCode.INCOMPLETE: (MAJOR, Status.STATE),
}


@pytest.mark.parametrize("code", list(ResultCode))
@pytest.mark.parametrize("where", ["", "Run:", "Ecc:cobo1:"])
def test_results(code, where):
    result = ScopeResult(code, 4, "Prepare Failed: cobo1: no")
    fleet = {
        "": make_fleet(SETTINGS, system_result=result),
        "Run:": make_fleet(SETTINGS, run_result=result),
        "Ecc:cobo1:": with_module(make_fleet(SETTINGS), "cobo1", result=result),
    }[where]
    assert shown(fleet, f"{where}Result_RBV") == Reading(int(code), *RESULT_ALARMS[code])
    assert shown(fleet, f"{where}ResultCount_RBV") == Reading(4)
    assert shown(fleet, f"{where}Message_RBV") == Reading("Prepare Failed: cobo1: no")
    others = {"", "Run:", "Ecc:cobo1:", "Ecc:cobo0:"} - {where}
    assert all(shown(fleet, f"{other}Result_RBV").value == 0 for other in others)


@pytest.mark.parametrize("scope", [SYSTEM, RUN, COBO1])
def test_allowed_has_a_bit_for_each_command_in_order(scope: Scope):
    where = {SYSTEM: "", RUN: "Run:", COBO1: "Ecc:cobo1:"}[scope]
    for bit, command in enumerate(COMMANDS[scope.kind]):
        fleet = make_fleet(SETTINGS, allowed=MappingProxyType({scope: frozenset({command})}))
        assert shown(fleet, f"{where}Allowed_RBV").value == 1 << bit
    assert shown(make_fleet(SETTINGS), f"{where}Allowed_RBV").value == 0


def states(*values: State, **more: object) -> Fleet:
    fleet = make_fleet(SETTINGS, **more)
    for name, state in zip(fleet.modules, values, strict=True):
        seen = fleet.modules[name].last_state if state is State.OFFLINE else state
        fleet = with_module(fleet, name, state=state, last_state=seen)
    return fleet


IDL, DES, RDY, OFL, OFF = State.IDLE, State.DESCRIBED, State.READY, State.OFFLINE, State.OFF


class TestSystem:
    @pytest.mark.parametrize(
        ("fleet", "state", "expected"),
        [
            (states(RDY, RDY, RDY), State.READY, FINE),
            (states(OFF, OFF, OFF), State.OFF, (MAJOR, Status.STATE)),
            (states(OFL, OFL, OFL), State.OFFLINE, (INVALID, Status.COMM)),
            (make_fleet(SETTINGS, State.OFFLINE), State.OFFLINE, (INVALID, Status.UDF)),
            (Fleet(), State.OFFLINE, (INVALID, Status.STATE)),
            (states(IDL, DES, DES), State.MIXED, (MINOR, Status.STATE)),
            (states(IDL, OFL, IDL), State.MIXED, (MAJOR, Status.STATE)),
            (states(IDL, OFF, IDL), State.MIXED, (MAJOR, Status.STATE)),
            (states(IDL, DES, DES, active=(DESCRIBE_ALL,)), State.MIXED, FINE),
            (
                states(IDL, DES, OFL, active=(DESCRIBE_ALL,)),
                State.MIXED,
                (MAJOR, Status.STATE),
            ),
            (with_module(states(IDL, DES, DES), "cobo0", working="Describe"), State.MIXED, FINE),
            (with_module(states(IDL, DES, DES), "cobo0", outstanding=Operation.DESCRIBE), State.MIXED, FINE),
            (
                with_module(states(IDL, DES, DES), "cobo0", transition=Transition.DESCRIBE),
                State.MIXED,
                (MINOR, Status.STATE),
            ),
            (with_module(states(OFL, DES, DES), "cobo0", enabled=False), State.DESCRIBED, FINE),
        ],
    )
    def test_state(self, fleet, state, expected):
        assert shown(fleet, "State_RBV").value == state
        assert alarm(fleet, "State_RBV") == expected

    def test_none_enabled_is_offline(self):
        fleet = make_fleet(SETTINGS)
        for name in fleet.modules:
            fleet = with_module(fleet, name, enabled=False)
        assert shown(fleet, "State_RBV") == Reading(State.OFFLINE, INVALID, Status.STATE)

    def test_counts(self):
        fleet = with_module(states(OFL, IDL, IDL), "cobo1", enabled=False)
        assert [shown(fleet, f"{part}_RBV").value for part in ("Online", "Enabled", "Count")] == [2, 2, 3]

    def test_work(self):
        idle = make_fleet(SETTINGS)
        assert [shown(idle, f"{p}_RBV").value for p in ("Busy", "Operation", "Progress")] == [0, "", 0.0]
        busy = replace(idle, active=(DESCRIBE_ALL, UNDO_COBO0))
        assert [shown(busy, f"{p}_RBV").value for p in ("Busy", "Operation", "Progress")] == [
            1,
            "cobo0:Undo",
            50.0,
        ]

    @pytest.mark.parametrize(
        ("selected", "name"),
        [
            ((A, A, A), "exp1"),
            ((A, ConfigName("other", "exp1", "exp1"), A), "exp1"),
            ((A, B, A), "mixed"),
            ((C, C, C), "mixed"),
            ((A, None, A), "mixed"),
            ((None, None, None), ""),
        ],
    )
    def test_config(self, selected, name):
        fleet = make_fleet(SETTINGS)
        for module, config in zip(fleet.modules, selected, strict=True):
            fleet = with_module(fleet, module, selected=config)
        assert shown(fleet, "Config_RBV").value == name
        assert shown(fleet, "Config").value == ("" if name == "mixed" else name)

    @pytest.mark.parametrize(
        ("offered", "names", "index"),
        [
            (((B, A), (A, B), (A, B, C)), ("exp2", "exp1"), 1),
            (((A, B), (B,), (B,)), ("exp2",), -1),
            (((A,), None, (A,)), (), -1),
            (((A,), (B,), (A,)), (), -1),
            (((C,), (C,), (C,)), (), -1),
        ],
    )
    def test_names_that_all_offer(self, offered, names, index):
        fleet = make_fleet(SETTINGS)
        for module, configs in zip(fleet.modules, offered, strict=True):
            fleet = with_module(fleet, module, selected=A, offered=configs)
        assert shown(fleet, "ConfigNames_RBV").value == names
        assert shown(fleet, "ConfigIndex").value == index

    def test_a_disabled_server_has_no_say_in_the_names(self):
        fleet = make_fleet(SETTINGS)
        for module in fleet.modules:
            fleet = with_module(fleet, module, selected=A, offered=(A,))
        fleet = with_module(fleet, "cobo1", enabled=False, selected=B, offered=None)
        assert shown(fleet, "ConfigNames_RBV").value == ("exp1",)
        assert shown(fleet, "Config_RBV").value == "exp1"


def run(**changes: object) -> Fleet:
    return make_fleet(SETTINGS, run=RunView(**changes))  # type: ignore[arg-type]


class TestRun:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"state": RunState.STOPPED}, FINE),
            ({"state": RunState.STARTING}, FINE),
            ({"state": RunState.RUNNING}, FINE),
            ({"state": RunState.RUNNING, "lost": ("cobo0",)}, (MAJOR, Status.STATE)),
            ({"state": RunState.STOPPING}, FINE),
            ({"state": RunState.INTERRUPTED}, (MAJOR, Status.STATE)),
            ({"state": RunState.ORPHAN}, (MAJOR, Status.STATE)),
            ({"state": RunState.UNKNOWN}, (INVALID, Status.STATE)),
        ],
    )
    def test_state(self, changes, expected):
        assert shown(run(**changes), "Run:State_RBV").value == changes["state"]
        assert alarm(run(**changes), "Run:State_RBV") == expected

    def test_members(self):
        fleet = run(running=("a", "b"), expected=("a", "b", "c"), lost=("c", "d"))
        assert [shown(fleet, f"Run:{p}_RBV").value for p in ("Modules", "Expected", "Lost")] == [2, 3, "c, d"]

    def test_checklist(self):
        assert shown(run(), "Run:Ready_RBV").value == 1
        fleet = run(checklist=("cobo0: is Idle", "no experiment"))
        assert shown(fleet, "Run:Ready_RBV").value == 0
        assert shown(fleet, "Run:Checklist_RBV").value == "cobo0: is Idle\nno experiment"

    def test_texts_and_numbers(self):
        texts = RunTexts("Übung", "Ann", RunClass.BEAM)
        fleet = run(number=6, next_number=7, experiment="e1", texts=texts, max_duration_s=60.0)
        parts = ("Number_RBV", "NextNumber_RBV", "Experiment", "Experiment_RBV", "Title", "Operator", "Class")
        assert [shown(fleet, f"Run:{p}").value for p in parts] == [6, 7, "e1", "e1", "Übung", "Ann", 2]
        assert shown(fleet, "Run:MaxDuration").value == 60.0
        assert shown(run(), "Run:Number_RBV").value == -1

    def test_times_are_local_with_their_offset(self):
        info = RunInfo(1, "e", (), started_s=1767318245.7)
        fleet = run(info=info)
        text = shown(fleet, "Run:StartTime_RBV").value
        assert isinstance(text, str)
        assert datetime.fromisoformat(text).timestamp() == 1767318245
        assert datetime.fromisoformat(text).utcoffset() is not None
        assert len(text) == 25
        assert shown(fleet, "Run:StopTime_RBV").value == ""
        assert shown(run(), "Run:StartTime_RBV").value == ""

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0, "00:00:00"),
            (59.9, "00:00:59"),
            (3661, "01:01:01"),
            (86400 + 61, "24:01:01"),
            (360000, "100:00:00"),
        ],
    )
    def test_duration(self, seconds, text):
        assert hours_text(seconds) == text
        assert shown(run(duration_s=seconds), "Run:DurationText_RBV").value == text
        assert shown(run(duration_s=seconds), "Run:Duration_RBV").value == seconds


def test_every_kind_of_scope_is_tried_here():
    assert {e.scope.kind for e in TABLE.values() if e.row.value} == set(ScopeKind) - {
        ScopeKind.IOC,
        ScopeKind.PLUGIN,
    }
    assert CommandName.ADOPT in COMMANDS[ScopeKind.RUN]


def test_the_alarm_text_has_the_poll_time_that_is_in_alarm_and_not_a_later_one():
    """The PV is posted once a second, and polls are more frequent."""
    slow = with_module(make_fleet(SETTINGS), "cobo0", state=State.IDLE, poll_time_ms=700.0)
    alarm = Alarm(TABLE["T:Ecc:cobo0:PollTime_RBV"], shown(slow, "Ecc:cobo0:PollTime_RBV"))
    quick = with_module(slow, "cobo0", poll_time_ms=0.7)
    assert alarm_text([alarm], quick) == ("Minor: cobo0:PollTime_RBV: Round trip of the last poll: 700.00 ms")


def test_a_cause_is_listed_before_what_is_not_known_because_of_it():
    fleet = with_module(make_fleet(SETTINGS), "cobo0", state=State.IDLE)
    state, online, poll = (f"T:Ecc:cobo0:{part}" for part in ("State_RBV", "Online_RBV", "PollTime_RBV"))
    other = "T:Ecc:cobo1:Online_RBV"
    alarms = [
        Alarm(TABLE[other], Reading(0, Severity.MAJOR), "another"),
        Alarm(TABLE[online], Reading(0, Severity.MAJOR), "refused"),
        Alarm(TABLE[state], Reading(0, Severity.INVALID), "refused"),
        Alarm(TABLE[poll], Reading(0, Severity.INVALID), "refused"),
    ]
    assert alarm_text(alarms, fleet) == (
        "Major: cobo0:Online_RBV: refused\n"
        "Invalid: cobo0:State_RBV, PollTime_RBV: refused\n"
        "Major: cobo1:Online_RBV: another"
    )
