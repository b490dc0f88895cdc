"""Rules 11 to 13: what a start needs, its stages, and what becomes of one that fails."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import pytest

from attpc_ioc.model.command import RUN, SYSTEM, ResultCode, Who
from attpc_ioc.model.events import RunFailed
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from attpc_ioc.plugin import hookimpl
from tests.support.rig import ecc, rig
from tests.support.runs import Recorder, boards_running, call_of, outside, ready, running, under_way

RE_ZERO = ["mutant.Breakup", "mutant.Configure"]


# ---------------------------------------------------------------------- rule 11: refused unless


@pytest.mark.parametrize("state", [State.IDLE, State.DESCRIBED, State.PREPARED])
async def test_rule_11_start_is_refused_unless_every_module_is_ready(tmp_path, monkeypatch, state):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(state)
        it.fleet.log.clear()
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.REFUSED
        for module in ("cobo0", "cobo1"):
            assert f"is in {state.label}, not Ready" in outcome.message
            assert module in outcome.message
        assert it.fleet.log.sequence() == []
        assert it.run.next_number == 0


async def test_rule_11_one_module_that_is_elsewhere_is_named(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        await it.submit("Breakup", ecc("cobo1"))
        it.fleet.log.clear()
        message = await it.refused("Run:Start", because="cobo1: is in Prepared, not Ready")
        assert "cobo0" not in message
        assert it.fleet.log.sequence() == []
        assert await it.get("Run:Ready_RBV") == "NotReady"
        assert "cobo1: is in Prepared, not Ready" in await it.get_text("Run:Checklist_RBV")
        assert await it.get("Run:Result_RBV") == "Refused"


async def test_rule_11_an_offline_module_and_no_module_at_all(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        it.fleet["cobo1"].faults.die()
        await it.until(lambda: not it.module("cobo1").online)
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.REFUSED
        assert "cobo1: is Offline" in outcome.message
        for name in it.snapshot.modules:
            it.app.controller.set("enable", ecc(name), 0, Who("tester"))
        outcome = await it.submit("Start", RUN)
        assert outcome.message == "Run:Start Refused: no ECC server is enabled"
        assert it.fleet.log.sequence() == []


async def test_rule_11_what_a_failed_re_zero_leaves_is_accepted(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        number = await ready(it)
        it.fleet["mutant"].faults.fail("Configure", message="Exception: no lock.")
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.FAILED
        assert "mutant: Configure failed (code 3: Exception: no lock.)" in outcome.message
        assert it.fleet.log.sequence() == RE_ZERO
        assert it.states() == {"cobo0": "Ready", "cobo1": "Ready", "mutant": "Prepared"}
        assert it.run.next_number == number
        it.fleet.log.clear()
        # The Breakup is skipped, because it has happened.
        await it.ok("Run:Start")
        assert it.fleet.log.sequence()[0] == "mutant.Configure"
        assert it.run.number == number
        assert it.run.info is not None
        assert it.run.info.loaded["mutant"] == "e20009/e20009/e20009"


async def test_rule_11_selected_must_be_loaded(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        it.app.controller.set("config", ecc("cobo0"), "cobo0/pulser/pulser", Who("tester"))
        message = await it.refused("Run:Start", because="cobo0/e20009/e20009 is loaded")
        assert "cobo0/pulser/pulser is selected" in message
        assert it.fleet.log.sequence() == []


async def test_rule_11_no_stale_clock(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        await outside(it, "Breakup", "mutant")
        await outside(it, "Undo", "mutant")
        await it.until(lambda: it.module("cobo0").clock_stale)
        for operation in ("Prepare", "Configure"):
            await outside(it, operation, "mutant")
        await it.until_all(State.READY)
        it.fleet.log.clear()
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.REFUSED
        assert "cobo0, cobo1: its clock is stale" in outcome.message
        assert it.fleet.log.sequence() == []


async def test_rule_11_a_veto_is_heard(tmp_path, monkeypatch):
    class Veto:
        text = "the gas is off"

        @hookimpl
        def attpc_veto(self, plan):
            return self.text if plan.command.scope == RUN else None

    veto = Veto()
    async with rig(tmp_path, monkeypatch, plugins=[("gas", veto)]) as it:
        await ready(it)
        assert (await it.submit("Start", RUN)).message == "Run:Start Refused: the gas is off"
        assert it.fleet.log.sequence() == []
        veto.text = ""
        assert "the gas" not in (await it.submit("Start", RUN)).message


# ---------------------------------------------------------------------- rule 11: the number


class Owner:
    """An owner of run numbers that does what a test says."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.answer: object = 41
        self.released: list[int] = []
        self.asked = 0
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    @hookimpl
    async def attpc_run_number(self, experiment):
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.meanwhile is not None:
            await self.meanwhile()
        return self.answer

    @hookimpl
    async def attpc_release_number(self, experiment, number):
        self.released.append(number)

    @hookimpl
    def attpc_next_number(self, experiment):
        return 41


@pytest.mark.parametrize(
    ("answer", "because"),
    [
        (RuntimeError("database gone"), "RuntimeError: database gone"),
        ("12", "gave no run number"),
        (-1, "gave no run number"),
        (True, "gave no run number"),
        (None, "gave no run number"),
    ],
)
async def test_rule_11_an_owner_that_fails_refuses_the_start(tmp_path, monkeypatch, answer, because):
    owner = Owner()
    owner.answer = answer
    async with rig(tmp_path, monkeypatch, plugins=[("history", owner)]) as it:
        await ready(it)
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.REFUSED
        assert because in outcome.message
        assert "history" in outcome.message
        # Never a fallback to another source, and nothing was sent.
        assert not (tmp_path / "state" / "numbers.json").exists()
        assert it.fleet.log.sequence() == []
        assert it.run.state is RunState.STOPPED
        owner.answer = 41
        assert (await it.submit("Start", RUN)).ok
        assert it.run.number == 41


async def test_rule_11_an_owner_that_is_slow_refuses_the_start(tmp_path, monkeypatch):
    owner = Owner()
    owner.delay_s = 30.0
    async with rig(tmp_path, monkeypatch, plugins=[("history", owner)]) as it:
        await ready(it)
        began = time.monotonic()
        message = await it.refused("Run:Start", because="history gave no run number: it took more than 0.5 s")
        assert time.monotonic() - began < 2.0
        assert message.startswith("Run:Start Refused")
        assert it.fleet.log.sequence() == []


async def test_rule_11_the_checks_run_once_more_after_the_number(tmp_path, monkeypatch):
    owner = Owner()
    async with rig(tmp_path, monkeypatch, plugins=[("history", owner)]) as it:
        await ready(it)

        # The state changes while the owner works: the answer waits until the IOC has seen it.
        async def breakup() -> None:
            await outside(it, "Breakup", "cobo1")
            await it.until(lambda: it.module("cobo1").state is State.PREPARED)

        owner.meanwhile = breakup
        outcome = await it.submit("Start", RUN)
        assert owner.asked == 1
        assert outcome.code is ResultCode.REFUSED
        assert "cobo1: is in Prepared, not Ready" in outcome.message
        assert owner.released == [41]
        assert it.fleet.log.sequence() == ["cobo1.Breakup"]


async def test_run_stop_while_the_number_is_reserved_sends_nothing(tmp_path, monkeypatch):
    owner = Owner()
    owner.delay_s = 0.2
    async with rig(tmp_path, monkeypatch, plugins=[("history", owner)]) as it:
        await ready(it)
        start = under_way(it, "Start")
        await it.until(lambda: owner.asked)
        stop = await it.submit("Stop", RUN)
        assert stop.ok, stop.message
        assert (await start).code is ResultCode.ABORTED
        assert owner.released == [41]
        assert it.fleet.log.sequence() == []


async def test_texts_that_come_while_the_number_is_reserved_are_the_new_runs(tmp_path, monkeypatch):
    owner = Owner()
    async with rig(tmp_path, monkeypatch, plugins=[("history", owner)]) as it:
        await running(it)
        assert (await it.submit("Stop", RUN)).ok
        first = it.run.info

        async def retitle() -> None:
            it.app.controller.set("title", RUN, "the next one", Who("tester"))
            assert it.app.controller.run_control.record.info == first

        owner.answer, owner.meanwhile = 42, retitle
        assert (await it.submit("Start", RUN)).ok
        assert it.run.info is not None
        assert (it.run.info.number, it.run.info.texts.title) == (42, "the next one")


# ---------------------------------------------------------------------- rule 12: the stages


async def test_rule_12_each_stage_is_seen_before_the_next(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, cobos=3) as it:
        await ready(it)
        before = time.time()
        await it.ok("Run:Start")
        log = it.fleet.log
        assert log.sequence()[:2] == RE_ZERO
        assert sorted(log.sequence()[2:5]) == ["cobo0.Start", "cobo1.Start", "cobo2.Start"]
        assert log.sequence()[5:] == ["mutant.Start"]
        cobos = [log.of(f"cobo{i}", "Start")[0] for i in range(3)]
        stages = [
            log.of("mutant", "Breakup"),
            log.of("mutant", "Configure"),
            cobos,
            log.of("mutant", "Start"),
        ]
        for first, second in itertools.pairwise(stages):
            assert max(c.end_s or 1e9 for c in first) < min(c.begin_s for c in second)
        # All at once: each CoBo's began before any had ended.
        assert max(c.begin_s for c in cobos) < min(c.end_s or 0 for c in cobos)
        # The start time is when the last was seen Running, not when the first was commanded.
        info = it.run.info
        assert info is not None
        assert info.started_s is not None
        ended = time.time() - (time.monotonic() - (log.of("mutant", "Start")[0].end_s or 0))
        assert ended - 0.01 <= info.started_s <= time.time()
        assert before <= info.began_s < info.started_s
        assert not it.fleet.log.of("mutant", "Start")[0].stale
        assert all(not board.stale_starts for board in it.fleet.boards.values())


async def test_rule_12_a_slow_module_holds_the_stage(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        it.fleet["cobo1"].faults.hang("Start")
        start = under_way(it, "Start")
        await it.until(lambda: it.module("cobo0").state is State.RUNNING)
        assert it.fleet.log.of("mutant", "Start") == []
        assert it.run.state is RunState.STARTING
        assert await it.get("Run:State_RBV") == "Starting"
        assert it.run.info is not None
        assert it.run.info.started_s is None
        it.fleet["cobo1"].faults.clear()
        assert (await start).ok
        assert it.fleet.log.sequence()[-1] == "mutant.Start"


async def test_rule_12_without_a_mutant(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, mutant=False) as it:
        await ready(it)
        await it.ok("Run:Start")
        assert sorted(it.fleet.log.sequence()) == ["cobo0.Start", "cobo1.Start"]
        await it.ok("Run:Stop")
        assert boards_running(it) == []


async def test_rule_12_a_disabled_module_is_no_member(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        await it.ok("Ecc:cobo1:Enable", "No")
        await it.ok("Run:Start")
        assert it.fleet.log.of("cobo1") == []
        assert it.run.expected == ("cobo0", "mutant")
        assert await it.get("Run:Expected_RBV") == "2"
        assert await it.get("Run:Modules_RBV") == "2"
        await it.ok("Run:Stop")
        assert it.fleet.log.of("cobo1") == []


# ---------------------------------------------------------------------- rule 13: a stage that fails


async def test_rule_13_the_number_is_released_when_nothing_ran(tmp_path, monkeypatch):
    recorder = Recorder()
    async with rig(tmp_path, monkeypatch, plugins=[("rec", recorder)]) as it:
        number = await ready(it)
        it.fleet["mutant"].faults.fail("Breakup")
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.FAILED
        assert f"run number {number} was released" in outcome.message
        assert it.fleet.log.sequence() == ["mutant.Breakup"]
        assert it.run.next_number == number
        assert it.run.number == -1
        await it.until(lambda: recorder.names == ["RunStarting", "RunFailed"])
        assert isinstance(recorder.last, RunFailed)
        assert recorder.last.number_released
        assert it.run.state is RunState.STOPPED


async def test_rule_13_those_that_started_are_stopped_and_the_number_is_used_up(tmp_path, monkeypatch):
    recorder = Recorder()
    async with rig(tmp_path, monkeypatch, cobos=3, plugins=[("rec", recorder)]) as it:
        number = await ready(it)
        it.fleet["cobo1"].faults.fail("Start", message="Could not start run")
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.FAILED
        assert "cobo1: Start failed (code 4: Could not start run)" in outcome.message
        assert f"run number {number} is used up" in outcome.message
        assert sorted(it.fleet.log.sequence()[5:]) == ["cobo0.Stop", "cobo2.Stop"]
        assert boards_running(it) == []
        assert it.run.next_number == number + 1
        assert it.run.state is RunState.STOPPED
        await it.until(lambda: "RunFailed" in recorder.names)
        assert isinstance(recorder.last, RunFailed)
        assert not recorder.last.number_released
        await it.ok("Run:Start")
        assert it.run.number == number + 1


async def test_rule_13_no_cobo_ran_the_number_is_released(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        number = await ready(it)
        for cobo in ("cobo0", "cobo1"):
            it.fleet[cobo].faults.fail("Start")
        outcome = await it.submit("Start", RUN)
        assert f"run number {number} was released" in outcome.message
        assert [c for c in it.fleet.log.sequence() if c.endswith("Stop")] == []
        assert it.run.next_number == number


async def test_rule_13_the_last_stage_fails(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        number = await ready(it)
        it.fleet["mutant"].faults.fail("Start")
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.FAILED
        assert sorted(it.fleet.log.sequence()[-2:]) == ["cobo0.Stop", "cobo1.Stop"]
        assert it.run.next_number == number + 1


async def test_rule_13_a_start_that_comes_late_is_stopped_when_it_comes(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=QUICK_START) as it:
        number = await ready(it)
        it.fleet["cobo1"].faults.hang("Start")
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.TIMED_OUT
        assert "cobo1: Start has not arrived after 0.3 s" in outcome.message
        assert it.run.state is RunState.STOPPED
        assert it.run.next_number == number + 1
        # The one that had started is stopped; nothing is sent to the one that is still busy.
        assert it.fleet.log.sequence()[4:] == ["cobo0.Stop"]
        # Nothing can start meanwhile.
        assert "cobo1: has not answered our Start yet" in (await it.submit("Start", RUN)).message
        it.fleet["cobo1"].faults.clear()
        await call_of(it, "cobo1", "Stop")
        await it.until_all(State.READY)
        assert boards_running(it) == []
        assert it.fleet.log.sequence()[4:] == ["cobo0.Stop", "cobo1.Stop"]
        await it.until(lambda: it.run.state is RunState.STOPPED)
        assert (await it.submit("Start", RUN)).ok


async def test_rule_13_a_late_start_that_ends_in_ready_is_left_alone(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=QUICK_START) as it:
        await ready(it)
        it.fleet["cobo1"].faults.hang("Start")
        await it.submit("Start", RUN)
        it.fleet["cobo1"].faults.fail("Start")
        it.fleet["cobo1"].faults.clear("hang")
        await it.until_all(State.READY)
        assert it.fleet.log.of("cobo1", "Stop") == []
        assert (await it.submit("Start", RUN)).ok


async def test_rule_13_lost_in_start_and_back_in_running_is_stopped(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=QUICK_START) as it:
        number = await ready(it)
        server = it.fleet["cobo1"]
        server.faults.hang("Start")
        server.faults.lose_reply("Start")
        start = under_way(it, "Start")
        await call_of(it, "cobo1", "Start")
        # The network goes: what runs goes on, its reply is lost, and nobody can look.
        server.faults.refuse()
        await it.until(lambda: not it.module("cobo1").online)
        server.faults.clear("hang")
        outcome = await start
        assert outcome.code in (ResultCode.FAILED, ResultCode.TIMED_OUT)
        assert it.run.next_number == number + 1
        assert boards_running(it) == ["CoBo[1]"]
        server.faults.clear()
        await call_of(it, "cobo1", "Stop")
        await it.until_all(State.READY)
        assert boards_running(it) == []


async def test_rule_13_a_module_that_another_client_started_keeps_the_number(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        number = await ready(it)
        it.fleet["mutant"].faults.hang("Configure")
        start = under_way(it, "Start")
        await call_of(it, "mutant", "Configure")
        await outside(it, "Start", "cobo0")
        await it.until(lambda: it.module("cobo0").state is State.RUNNING)
        it.fleet["mutant"].faults.clear("hang")
        it.fleet["mutant"].faults.fail("Configure")
        it.fleet["mutant"].faults.clear("hang")
        outcome = await start
        assert not outcome.ok
        assert f"run number {number} is used up" in outcome.message
        await it.until_run(RunState.ORPHAN)


async def test_rule_13_a_lost_reply_counts_as_may_have_run(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, cobos=1) as it:
        number = await ready(it)
        it.fleet["cobo0"].faults.lie("Start")
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.FAILED
        assert f"run number {number} is used up" in outcome.message


# ---------------------------------------------------------------------- Run:Stop and Abort during a start


@pytest.mark.parametrize("command", ["Stop", "Abort"])
@pytest.mark.parametrize("stage", ["mutant.Breakup", "mutant.Configure", "cobo0.Start", "mutant.Start"])
async def test_run_stop_and_abort_during_a_start_mean_the_same(tmp_path, monkeypatch, stage, command):
    async with rig(tmp_path, monkeypatch) as it:
        number = await ready(it)
        server, operation = stage.split(".")
        it.fleet[server].faults.slow(operation, extra_s=0.1)
        start = under_way(it, "Start")
        await call_of(it, server, operation)
        sent = len(it.fleet.log)
        outcome = await it.submit(command, RUN if command == "Stop" else SYSTEM)
        started = await start
        assert started.code is ResultCode.ABORTED
        # Nothing further is sent but the Stops of what had started.
        later = it.fleet.log.sequence()[sent:]
        cobos = ["cobo0", "cobo1"] if operation == "Start" else []
        expected = [f"{c}.Stop" for c in cobos] + (["mutant.Stop"] if stage == "mutant.Start" else [])
        assert sorted(later) == [c for c in expected if c != "cobo1.Start"]
        await it.until(lambda: not any(m.moving for m in it.snapshot.modules.values()))
        assert boards_running(it) == []
        assert outcome.ok, outcome.message
        assert it.run.state is RunState.STOPPED
        assert it.run.next_number == (number + 1 if operation == "Start" else number)


async def test_run_stop_in_the_moment_in_which_the_start_completes(tmp_path, monkeypatch):
    class Durable:
        attpc_durable = True

        def __init__(self) -> None:
            self.started = asyncio.Event()

        @hookimpl
        async def attpc_run_started(self, event):
            self.started.set()
            await asyncio.sleep(0.04)

    durable = Durable()
    async with rig(tmp_path, monkeypatch, plugins=[("disk", durable)]) as it:
        await ready(it)
        start = under_way(it, "Start")
        await durable.started.wait()
        stop = await it.submit("Stop", RUN)
        assert stop.ok, stop.message
        assert (await start).ok
        assert boards_running(it) == []
        await it.until_run(RunState.STOPPED)


async def test_run_stop_of_a_start_with_a_hung_module_says_incomplete(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=f"{QUICK_START}\nstop_s = 0.5") as it:
        await ready(it)
        it.fleet["cobo1"].faults.hang("Start")
        start = under_way(it, "Start")
        await it.until(lambda: it.module("cobo0").state is State.RUNNING)
        stop = await it.submit("Stop", RUN)
        assert stop.code is ResultCode.INCOMPLETE
        assert "cobo1: was not seen out of Running" in stop.message
        assert (await start).code is ResultCode.ABORTED
        assert boards_running(it) == []
        it.fleet["cobo1"].faults.clear()
        await call_of(it, "cobo1", "Stop")
        await it.until_all(State.READY)


QUICK_START = """\
start_s = 0.3
stop_mutant_s = 0.2
recovery_s = 2.0
arrival_grace_s = 0.1
run_number_s = 0.5"""
