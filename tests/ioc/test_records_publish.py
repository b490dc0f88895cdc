"""Publishing: what a change of the fleet posts, when, and what it leaves alone."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import MappingProxyType

import pytest

from attpc_ioc.ioc import publish
from attpc_ioc.ioc.ca.pv import DBE_VALUE
from attpc_ioc.ioc.publish import Publisher
from attpc_ioc.ioc.records import make_records
from attpc_ioc.ioc.stamps import StampClock
from attpc_ioc.model.command import (
    RUN,
    SYSTEM,
    Command,
    CommandName,
    ResultCode,
    ScopeKind,
    ScopeResult,
    ecc_scope,
)
from attpc_ioc.model.fleet import Fleet, FleetChange
from attpc_ioc.model.run import RunState, RunView
from attpc_ioc.model.states import Severity, State, Status
from attpc_ioc.pvs.row import Reading, Record, Row
from tests.support.fleets import make_fleet, make_settings, table_of, with_module
from tests.support.pace import Stopwatch


class Watch:
    """Stands where a client's subscription does, and keeps what it was told in one list."""

    def __init__(self, pv, desk):
        self.mask = DBE_VALUE
        self.pv, self.desk = pv, desk

    def deliver(self):
        self.desk.seen.append((self.pv.name.removeprefix("T:"), self.pv.value))
        self.desk.news.set()


class Desk:
    """A publisher with its PVs, as after the start of the IOC."""

    def __init__(self, cobos=2, state=State.IDLE, rows=(), plugins=()):
        self.settings = make_settings(cobos)
        self.table = table_of(self.settings, rows, plugins)
        self.pvs = make_records(self.table)
        self.publisher = Publisher(self.table, self.pvs, StampClock())
        self.fleet = make_fleet(self.settings, state)
        self.publisher.publish_all(self.fleet)
        self.seen = []
        self.news = asyncio.Event()

    def watch(self, *names):
        for name in names:
            pv = self.pvs[f"T:{name}"]
            pv.subscriptions[Watch(pv, self)] = None

    def change(self, fleet: Fleet, *modules: str, attempts=()):
        self.fleet = fleet
        self.publisher.on_change(FleetChange(fleet, frozenset(modules), attempts))

    def change_module(self, name, **changes):
        self.change(with_module(self.fleet, name, **changes), name)

    def value(self, name):
        return self.pvs[f"T:{name}"].value

    def alarm(self, name):
        pv = self.pvs[f"T:{name}"]
        return Severity(pv.severity), Status(pv.status)


async def passes(desk):
    """Let the loop run until what is waiting was posted: after a refresh that took its time, that rests."""
    async with asyncio.timeout(5):
        while desk.publisher._refresh is not None:  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0)


async def test_every_row_with_a_value_is_published_before_clients_come():
    desk = Desk(plugins=["history"])
    unset = [e.name for e in desk.table if e.row.value and desk.publisher.reading(e.name) is None]
    assert unset == []
    undefined = {name for name, pv in desk.pvs.items() if pv.status == Status.UDF}
    assert undefined == set()


async def test_every_state_that_a_module_passes_is_posted_at_once_and_in_order():
    desk = Desk()
    desk.watch("Ecc:cobo0:State_RBV", "CoBo0:State_RBV", "Ecc:cobo1:State_RBV")
    for state in (State.DESCRIBED, State.PREPARED, State.READY):
        desk.change_module("cobo0", state=state, last_state=state)
    assert desk.seen == [
        (name, state) for state in (2, 3, 4) for name in ("Ecc:cobo0:State_RBV", "CoBo0:State_RBV")
    ]


async def test_system_rows_are_posted_once_for_all_changes_of_one_pass():
    desk = Desk()
    desk.watch("State_RBV")
    for name in desk.fleet.modules:
        desk.change_module(name, state=State.DESCRIBED, last_state=State.DESCRIBED)
    assert desk.seen == []
    await passes(desk)
    assert desk.seen == [("State_RBV", State.DESCRIBED)]


async def test_what_is_new_of_the_run_is_posted_although_the_modules_of_the_change_show_nothing_new():
    desk = Desk()
    desk.watch("Run:Checklist_RBV")
    run = replace(desk.fleet.run, checklist=("the door is open",))
    allowed = {ecc_scope("cobo0"): frozenset((CommandName.DESCRIBE,))}
    desk.change(replace(desk.fleet, run=run, allowed=allowed), "cobo0")
    await passes(desk)
    assert desk.seen == [("Run:Checklist_RBV", "the door is open")]


async def test_what_did_not_change_keeps_its_stamp():
    desk = Desk()
    before = {name: pv.stamp_ns for name, pv in desk.pvs.items()}
    desk.change_module("cobo0", state=State.DESCRIBED, last_state=State.DESCRIBED)
    await passes(desk)
    changed = {name for name, pv in desk.pvs.items() if pv.stamp_ns != before[name]}
    assert changed == {
        "T:Ecc:cobo0:State_RBV",
        "T:CoBo0:State_RBV",
        "T:State_RBV",
        "T:AlarmText_RBV",
        "T:Alarm_RBV",
        # A module that is taken to Described without our doing has unknown things loaded.
        *(["T:Ecc:cobo0:Loaded_RBV"] if desk.fleet.modules["cobo0"].mismatch else []),
    }
    assert all(desk.pvs[name].stamp_ns > before[name] for name in changed)


async def test_a_poll_posts_its_diagnostics_only_when_the_second_is_over(monkeypatch):
    monkeypatch.setattr(publish, "LIVE_PERIOD_S", 0.02)
    desk = Desk()
    desk.watch("Ecc:cobo0:PollTime_RBV")
    for i in range(50):
        desk.change_module("cobo0", poll_time_ms=float(i), seen_at_s=float(i))
    assert desk.seen == []
    live = asyncio.create_task(desk.publisher.run())
    async with asyncio.timeout(5):
        await desk.news.wait()
    live.cancel()
    await asyncio.gather(live, return_exceptions=True)
    assert desk.seen == [("Ecc:cobo0:PollTime_RBV", 49.0)]


@pytest.mark.parametrize("where", ["", "Ecc:cobo1:", "Run:"])
async def test_an_attempt_posts_its_three_rows_even_when_equal_and_the_count_last(where):
    desk = Desk()
    kind = {"": SYSTEM, "Ecc:cobo1:": ecc_scope("cobo1"), "Run:": RUN}[where]
    result = ScopeResult(ResultCode.REFUSED, 1, "no")
    if kind.kind is ScopeKind.ECC:
        fleet, modules = with_module(desk.fleet, "cobo1", result=result), ("cobo1",)
    else:
        key = "run_result" if kind.kind is ScopeKind.RUN else "system_result"
        fleet, modules = replace(desk.fleet, **{key: result}), ()
    desk.watch(f"{where}ResultCount_RBV", f"{where}Result_RBV", f"{where}Message_RBV")
    told = [(f"{where}Message_RBV", "no"), (f"{where}Result_RBV", 3), (f"{where}ResultCount_RBV", 1)]
    desk.change(fleet, *modules, attempts=(kind,))
    assert desk.seen == told
    desk.change(fleet, *modules, attempts=(kind,))
    assert desk.seen == told * 2
    await passes(desk)
    assert desk.seen == told * 2


async def test_the_end_of_an_attempt_posts_what_follows_time_too():
    desk = Desk()
    run = replace(desk.fleet.run, duration_s=61.5)
    desk.change(replace(desk.fleet, run=run, run_result=ScopeResult(ResultCode.DONE, 1, "")), attempts=(RUN,))
    assert (desk.value("Run:Duration_RBV"), desk.value("Run:DurationText_RBV")) == (61.5, "00:01:01")


async def test_an_attempt_posts_the_system_rows_at_once():
    desk = Desk()
    desk.watch("State_RBV")
    for name in desk.fleet.modules:
        desk.change_module(name, state=State.DESCRIBED, last_state=State.DESCRIBED)
    desk.change(replace(desk.fleet, system_result=ScopeResult(ResultCode.DONE, 1, "")), attempts=(SYSTEM,))
    assert desk.seen == [("State_RBV", State.DESCRIBED)]


async def test_allowed_of_every_server_follows_without_a_change_of_its_module():
    desk = Desk()
    desk.watch("Ecc:cobo0:Allowed_RBV", "Ecc:cobo1:Allowed_RBV")
    allowed = MappingProxyType({ecc_scope("cobo1"): frozenset({CommandName.DESCRIBE})})
    desk.change(replace(desk.fleet, allowed=allowed))
    await passes(desk)
    assert desk.seen == [("Ecc:cobo1:Allowed_RBV", 1)]
    desk.change(replace(desk.fleet, allowed=MappingProxyType({})))
    await passes(desk)
    assert desk.seen == [("Ecc:cobo1:Allowed_RBV", 1), ("Ecc:cobo1:Allowed_RBV", 0)]


class TestAlarms:
    async def test_none(self):
        desk = Desk()
        assert (desk.value("Alarm_RBV"), desk.value("AlarmText_RBV")) == (0, "")
        assert desk.alarm("Alarm_RBV") == (Severity.NO_ALARM, Status.NO_ALARM)

    async def test_an_unreachable_server_is_named_once_with_its_reason_and_goes_again(self):
        desk = Desk()
        desk.change_module("cobo0", state=State.OFFLINE, poll_errors=2, offline_reason="connection refused")
        await passes(desk)
        lines = desk.value("AlarmText_RBV").splitlines()
        assert lines == [
            "Major: State_RBV: ECC servers are Idle: cobo1, mutant; Offline: cobo0",
            "Major: cobo0:Online_RBV: not reachable: connection refused",
        ]
        assert desk.value("Alarm_RBV") == Severity.MAJOR
        assert desk.alarm("Alarm_RBV") == (Severity.MAJOR, Status.STATE)
        desk.change_module("cobo0", state=State.IDLE)
        await passes(desk)
        assert (desk.value("Alarm_RBV"), desk.value("AlarmText_RBV")) == (0, "")

    async def test_a_new_reason_is_shown_though_the_alarm_is_the_same(self):
        desk = Desk()
        for reason in ("timed out", "connection refused"):
            desk.change_module("cobo0", state=State.OFFLINE, offline_reason=reason)
            await passes(desk)
            assert reason in desk.value("AlarmText_RBV")

    async def test_the_worst_counts_and_comes_first(self):
        desk = Desk()
        desk.change_module("cobo1", enabled=False)
        await passes(desk)
        assert desk.value("Alarm_RBV") == Severity.MINOR
        desk.change(replace(desk.fleet, run=RunView(RunState.INTERRUPTED, number=4)))
        await passes(desk)
        assert desk.value("Alarm_RBV") == Severity.MAJOR
        assert desk.value("AlarmText_RBV").splitlines() == [
            "Major: Run:State_RBV: run 4 was interrupted",
            "Minor: cobo1:Enable: disabled: takes no part in group commands and runs",
        ]
        desk.change(replace(desk.fleet, run=RunView(RunState.UNKNOWN)))
        await passes(desk)
        assert desk.value("Alarm_RBV") == Severity.INVALID

    async def test_a_failed_command_is_an_alarm_until_one_succeeds(self):
        desk = Desk()
        for code, level in ((ResultCode.FAILED, 2), (ResultCode.DONE, 0)):
            result = ScopeResult(code, 1, f"Describe {code.label}")
            desk.change(replace(desk.fleet, system_result=result), attempts=(SYSTEM,))
            assert desk.value("Alarm_RBV") == level
        assert desk.value("AlarmText_RBV") == ""

    async def test_a_plugin_that_fails_is_an_alarm(self):
        desk = Desk(plugins=["history"])
        desk.publisher.publish("T:Plugin:history:Status_RBV", 3)
        await passes(desk)
        assert desk.alarm("Plugin:history:Status_RBV") == (Severity.MAJOR, Status.STATE)
        assert desk.value("AlarmText_RBV") == "Major: Plugin:history:Status_RBV: Status of the plugin: Failed"
        desk.publisher.publish("T:Plugin:history:Status_RBV", 1)
        await passes(desk)
        assert desk.value("Alarm_RBV") == 0


async def test_an_owner_publishes_its_own_row_with_an_alarm_of_its_own():
    row = Row("Gas_RBV", ScopeKind.SYSTEM, Record.AI, "Pressure of the gas", initial=0.0, plugin="gas")
    desk = Desk(rows=[row])
    desk.publisher.publish("T:Gas_RBV", Reading(3.5, Severity.MAJOR, Status.HIHI))
    assert desk.value("Gas_RBV") == 3.5
    assert desk.alarm("Gas_RBV") == (Severity.MAJOR, Status.HIHI)
    with pytest.raises(KeyError):
        desk.publisher.publish("T:NoSuch_RBV", 1)


async def test_a_command_is_busy_while_it_runs():
    desk = Desk()
    desk.watch("Describe", "GoTo")
    describe = Command(SYSTEM, CommandName.DESCRIBE)
    ready, idle = (Command(SYSTEM, CommandName.GOTO, state) for state in (State.READY, State.IDLE))
    for command, working in ((describe, True), (ready, True), (idle, True), (idle, False), (ready, False)):
        desk.publisher.command_busy(command, working)
    desk.publisher.command_busy(describe, False)
    assert desk.seen == [("Describe", 1), ("GoTo", 4), ("GoTo", 0), ("Describe", 0)]


async def test_a_change_of_one_module_costs_that_module_only():
    reads = []
    row = Row(
        "Cost_RBV",
        ScopeKind.ECC,
        Record.LONGIN,
        "Counts its readings",
        lambda _fleet, scope: reads.append(scope.name) or 0,
        plugin="cost",
    )
    desk = Desk(cobos=300, rows=[row])
    reads.clear()
    desk.change_module("cobo7", state=State.DESCRIBED, last_state=State.DESCRIBED)
    await passes(desk)
    assert reads == ["cobo7"]


async def test_a_thousand_modules_that_change_pass_by_pass_do_not_hold_the_loop():
    desk = Desk(cobos=1000)
    taking = Stopwatch()
    for i in range(300):
        desk.change_module(f"cobo{i}", state=State.DESCRIBED, last_state=State.DESCRIBED)
        await asyncio.sleep(0)
    took = taking.s
    desk.publisher.flush()
    assert desk.value("State_RBV") == State.MIXED
    # Refreshing the system rows at each change would take some ten times as long.
    assert took < 2.0


async def test_a_plugins_row_that_raises_is_invalid_and_hurts_nobody():
    def value(fleet, _scope):
        return 1 // fleet.modules["cobo0"].error_code

    def reason(_fleet, _scope):
        raise RuntimeError("no idea")

    row = Row(
        "Bad_RBV", ScopeKind.ECC, Record.LONGIN, "Breaks", value, plugin="bad", alarm_tree=True, reason=reason
    )
    desk = Desk(rows=[row])
    assert desk.alarm("Ecc:cobo0:Bad_RBV") == (Severity.INVALID, Status.UDF)
    assert "Invalid: cobo0:Bad_RBV: its reason is unknown" in desk.value("AlarmText_RBV")
    desk.change_module("cobo0", error_code=1, state=State.DESCRIBED, last_state=State.DESCRIBED)
    assert desk.value("Ecc:cobo0:State_RBV") == State.DESCRIBED
    assert (desk.value("Ecc:cobo0:Bad_RBV"), *desk.alarm("Ecc:cobo0:Bad_RBV")) == (1, 0, 0)
