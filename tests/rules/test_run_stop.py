"""Rules 17, 18 and 20: the stop of a run, stopping with no run on, and modules that run without one."""

from __future__ import annotations

import asyncio
import time

from attpc_ioc.model.command import RUN, SYSTEM, ResultCode, Who
from attpc_ioc.model.run import RunOutcome, RunState
from attpc_ioc.model.states import State
from attpc_ioc.plugin import hookimpl
from attpc_ioc.settings.sections import LimitSettings
from tests.support.pace import Stopwatch
from tests.support.patience import HANGS_S
from tests.support.rig import BRISK_POLL, ecc, rig
from tests.support.runs import Recorder, boards_running, call_of, outside, ready, running, under_way

STOP_MUTANT_S = 0.3
HUNG_STOP = f"""\
stop_s = {HANGS_S}
stop_mutant_s = {STOP_MUTANT_S}
arrival_grace_s = 0.1"""


# ---------------------------------------------------------------------- rule 17: the order


async def test_rule_17_mutant_first_then_the_cobos_when_it_was_seen_stopped(tmp_path, monkeypatch):
    recorder = Recorder()
    async with rig(tmp_path, monkeypatch, plugins=[("rec", recorder)]) as it:
        await running(it)
        before = time.time()
        await it.ok("Run:Stop")
        log = it.fleet.log
        assert log.sequence()[0] == "mutant.Stop"
        assert sorted(log.sequence()[1:]) == ["cobo0.Stop", "cobo1.Stop"]
        mutant = log.of("mutant", "Stop")[0]
        assert mutant.end_s is not None
        assert all(mutant.end_s < log.of(c, "Stop")[0].begin_s for c in ("cobo0", "cobo1"))
        assert boards_running(it) == []
        info = it.run.info
        assert info is not None
        assert info.outcome is RunOutcome.STOPPED
        assert info.stopped_s is not None
        assert before <= info.stopped_s <= time.time()
        await it.until(lambda: recorder.names == ["RunStarting", "RunStarted", "RunStopping", "RunStopped"])


async def test_rule_17_cobos_after_the_limit_of_a_hung_mutant(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=HUNG_STOP) as it:
        number = await running(it)
        it.fleet["mutant"].faults.hang("Stop")
        began_s = time.monotonic()
        message = await it.refused("Run:Stop", because="mutant: was not seen out of Running")
        log = it.fleet.log
        assert message.startswith("Run:Stop Incomplete: stop again to go on with the rest")
        assert "cobo" not in message
        assert sorted(log.sequence()) == ["cobo0.Stop", "cobo1.Stop", "mutant.Stop"]
        assert log.of("cobo0", "Stop")[0].begin_s - began_s >= STOP_MUTANT_S
        assert boards_running(it) == ["Mutant[master]"]
        # Incomplete: the run is still on, and a start is vetoed.
        assert await it.get("Run:Result_RBV") == "Incomplete"
        assert await it.severity("Run:Result_RBV") == "MAJOR"
        assert await it.get("Run:State_RBV") == "Stopping"
        assert await it.get("Run:Number_RBV") == str(number)
        await it.refused("Run:Start", because=f"the stop of run {number} is not complete")
        # Another Run:Stop goes on with the rest, and never sends a second call on top of an unanswered one.
        assert (await it.submit("Stop", RUN)).code is ResultCode.INCOMPLETE
        assert len(log.of("mutant", "Stop")) == 1
        again = under_way(it, "Stop")
        await it.until(lambda: it.run.stopping)
        it.fleet["mutant"].faults.clear()
        assert (await again).ok
        await it.until_run(RunState.STOPPED)
        assert boards_running(it) == []
        assert (await it.submit("Start", RUN)).ok
        assert it.run.number == number + 1


async def test_rule_17_cobos_stop_within_a_second_of_the_limit_of_10_s(tmp_path, monkeypatch):
    """The wait is tried with a limit of 1 s: it is the same whatever the limit."""
    assert LimitSettings().stop_mutant_s == 10.0
    async with rig(tmp_path, monkeypatch, limits="stop_mutant_s = 1.0", poll="") as it:
        await running(it)
        it.fleet["mutant"].faults.hang("Stop")
        taking = Stopwatch()
        stop = under_way(it, "Stop")
        await it.until(lambda: boards_running(it) == ["Mutant[master]"], what="the CoBos stopped")
        assert taking.wall_s >= 0.9
        assert taking.s < 2.0
        it.fleet["mutant"].faults.clear()
        assert (await stop).ok


async def test_rule_17_a_refused_stop_is_sent_again_by_the_next(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=HUNG_STOP) as it:
        await running(it)
        it.fleet["cobo1"].faults.fail("Stop", message="Exception: not now.")
        outcome = await it.submit("Stop", RUN)
        assert outcome.code is ResultCode.INCOMPLETE
        assert "cobo1: Stop failed (code 5: Exception: not now.)" in outcome.message
        assert boards_running(it) == ["CoBo[1]"]
        it.fleet.log.clear()
        assert (await it.submit("Stop", RUN)).ok
        assert it.fleet.log.sequence() == ["cobo1.Stop"]


async def test_rule_17_a_late_end_closes_the_run(tmp_path, monkeypatch):
    recorder = Recorder()
    async with rig(tmp_path, monkeypatch, limits=HUNG_STOP, plugins=[("rec", recorder)]) as it:
        await running(it)
        it.fleet["mutant"].faults.hang("Stop")
        assert (await it.submit("Stop", RUN)).code is ResultCode.INCOMPLETE
        it.fleet["mutant"].faults.clear()
        await it.until_run(RunState.STOPPED)
        assert it.run.info is not None
        assert it.run.info.outcome is RunOutcome.STOPPED
        await it.until(lambda: recorder.names[-1] == "RunStopped")
        await it.until_all(State.READY)
        assert (await it.submit("Start", RUN)).ok


async def test_rule_17_disabling_a_module_that_is_gone_is_the_way_out(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=HUNG_STOP) as it:
        number = await running(it)
        it.fleet["cobo1"].faults.die()
        await it.until(lambda: not it.module("cobo1").online)
        await it.refused("Ecc:cobo1:Enable", "No", because=f"run {number} is on")
        message = await it.refused("Run:Stop", because="cobo1: was not seen out of Running")
        assert "does not answer" in message
        # A module that is seen Running cannot be taken out like this; there is none here but the lost one.
        await it.ok("Ecc:cobo1:Enable", "No")
        await it.until_run(RunState.STOPPED)
        await it.ok("Run:Start")
        assert it.run.number == number + 1
        assert it.run.expected == ("cobo0", "mutant")


async def test_rule_17_a_module_seen_running_cannot_be_taken_out(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=HUNG_STOP) as it:
        await running(it)
        it.fleet["cobo1"].faults.fail("Stop", times=None)
        assert (await it.submit("Stop", RUN)).code is ResultCode.INCOMPLETE
        await it.refused("Ecc:cobo1:Enable", "No", because="is on")
        it.fleet["cobo1"].faults.clear()
        assert (await it.submit("Stop", RUN)).ok


async def test_rule_17_a_member_that_is_not_running_is_not_sent_a_stop(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        await outside(it, "Stop", "cobo0")
        await it.until(lambda: it.run.lost == ("cobo0",))
        it.fleet.log.clear()
        assert (await it.submit("Stop", RUN)).ok
        assert it.fleet.log.sequence() == ["mutant.Stop", "cobo1.Stop"]


async def test_rule_17_whatever_enabled_module_runs_is_stopped_too(tmp_path, monkeypatch):
    """A module that was added to the settings during a run is no member, and is stopped all the same."""
    async with rig(tmp_path, monkeypatch, cobos=2) as it:
        await ready(it)
        whole = it.settings
        it.settings = whole.model_copy(update={"ecc": [e for e in whole.ecc if e.name != "cobo1"]})
        await it.stop_ioc()
        await it.start_ioc()
        await it.until_all(State.READY)
        await it.until(lambda: it.run.state is RunState.STOPPED and not it.run.checklist)
        assert (await it.submit("Start", RUN)).ok
        await it.stop_ioc()
        it.settings = whole
        await it.start_ioc()
        await it.until_run(RunState.RUNNING)
        assert it.run.expected == ("cobo0", "mutant")
        await outside(it, "Start", "cobo1")
        await it.until(lambda: it.module("cobo1").state is State.RUNNING)
        assert (await it.submit("Stop", RUN)).ok
        assert boards_running(it) == []


async def test_a_paused_member_is_stopped(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        await outside(it, "Pause", "cobo0")
        await it.until(lambda: it.run.lost == ("cobo0",))
        assert (await it.submit("Stop", RUN)).ok
        await it.until_all(State.READY)


# ---------------------------------------------------------------------- joining, Abort, who


async def test_a_second_stop_joins_and_completes_with_the_first(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        it.fleet["mutant"].faults.hang("Stop")
        first = asyncio.create_task(it.put("Run:Stop"))
        await call_of(it, "mutant", "Stop")
        second = asyncio.create_task(it.put("Run:Stop"))
        await it.until(lambda: len(it.snapshot.active) == 2, what="two stops running")
        assert await it.get("Run:Stop") == "Busy"
        assert not first.done()
        assert not second.done()
        it.fleet["mutant"].faults.clear()
        assert [(await first).code, (await second).code] == [0, 0]
        assert sorted(it.fleet.log.sequence()) == ["cobo0.Stop", "cobo1.Stop", "mutant.Stop"]
        assert await it.get("Run:Stop") == "Done"
        assert await it.get("Run:Result_RBV") == "Done"


async def test_abort_ends_the_waiting_and_not_the_stop(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        it.fleet["mutant"].faults.hang("Stop")
        stops = [under_way(it, "Stop"), under_way(it, "Stop")]
        await call_of(it, "mutant", "Stop")
        taking = Stopwatch()
        assert (await it.submit("Abort", SYSTEM)).ok
        for stop in stops:
            outcome = await stop
            assert outcome.code is ResultCode.ABORTED
            assert "mutant" in outcome.message
        assert taking.s < 0.4
        assert it.run.state is RunState.STOPPING
        assert it.run.info is not None
        assert it.run.info.stopped_s is None
        # The CoBos get their Stop all the same, when the MuTAnT's time is up; nobody waits for it.
        await call_of(it, "cobo0", "Stop")
        await call_of(it, "cobo1", "Stop")
        # A Run:Stop meanwhile joins what goes on.
        third = under_way(it, "Stop")
        it.fleet["mutant"].faults.clear()
        assert (await third).ok
        await it.until_run(RunState.STOPPED)
        assert sorted(it.fleet.log.sequence()) == ["cobo0.Stop", "cobo1.Stop", "mutant.Stop"]


async def test_who_stopped_the_run_is_kept(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        assert (await it.submit("Stop", RUN)).ok
        info = it.run.info
        assert info is not None
        assert (info.who, info.stopped_by) == (Who("tester", "here", "127.0.0.1"),) * 2


# ---------------------------------------------------------------------- rule 18


async def test_rule_18_with_no_run_success_and_nothing_sent(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        await it.ok("Run:Stop")
        assert await it.message("Run:Stop") == "Run:Stop Done: no run is on"
        assert it.fleet.log.sequence() == []
        assert await it.get("Run:Result_RBV") == "Done"
        assert it.run.state is RunState.STOPPED


async def test_rule_18_stop_is_never_asked_of_vetoes(tmp_path, monkeypatch):
    class Veto:
        on = False

        @hookimpl
        def attpc_veto(self, plan):
            assert plan.command.name not in ("Stop", "Abort")
            return "everything is vetoed" if self.on else None

    veto = Veto()
    async with rig(tmp_path, monkeypatch, plugins=[("veto", veto)]) as it:
        await running(it)
        veto.on = True
        await it.ok("Run:Stop")
        assert boards_running(it) == []


async def test_rules_18_and_20_orphans_are_shown_and_stopped(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        number = await ready(it)
        await outside(it, "Start", "cobo1", "mutant")
        # The two are seen one after the other, by polls of their own.
        await it.until(lambda: it.run.state is RunState.ORPHAN and len(it.run.running) == 2)
        assert await it.get("Run:State_RBV") == "Orphan"
        assert await it.severity("Run:State_RBV") == "MAJOR"
        assert await it.get("Run:Modules_RBV") == "2"
        it.fleet.log.clear()
        await it.ok("Run:Stop")
        assert it.fleet.log.sequence() == ["mutant.Stop", "cobo1.Stop"]
        assert "stopped" in await it.message("Run:Stop")
        await it.until_run(RunState.STOPPED)
        assert await it.severity("Run:State_RBV") == "NO_ALARM"
        assert (it.run.number, it.run.next_number) == (-1, number)


async def test_rule_20_a_disabled_module_is_no_orphan(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        it.app.controller.set("enable", ecc("cobo1"), 0, Who("tester"))
        await outside(it, "Start", "cobo1")
        await it.until(lambda: it.module("cobo1").state is State.RUNNING)
        assert it.run.state is RunState.STOPPED
        it.app.controller.set("enable", ecc("cobo1"), 1, Who("tester"))
        await it.until_run(RunState.ORPHAN)


async def test_rule_20_adopt_makes_orphans_a_run(tmp_path, monkeypatch):
    recorder = Recorder()
    async with rig(tmp_path, monkeypatch, plugins=[("rec", recorder)]) as it:
        number = await ready(it)
        await it.refused("Run:Adopt", because="no module runs without a run")
        await outside(it, "Start", "cobo0", "cobo1", "mutant")
        await it.until_all(State.RUNNING)
        await it.until_run(RunState.ORPHAN)
        it.fleet.log.clear()
        await it.ok("Run:Adopt")
        assert await it.get("Run:State_RBV") == "Running"
        assert await it.get("Run:Number_RBV") == str(number)
        assert it.run.next_number == number + 1
        assert it.fleet.log.sequence() == []
        assert it.run.info is not None
        assert it.run.info.adopted
        await it.until(lambda: recorder.names == ["RunStarted"])
        await it.refused("Run:Adopt", because="is on")
        await it.ok("Run:Stop")
        assert boards_running(it) == []
        assert it.run.next_number == number + 1


async def test_rule_20_adopt_with_some_modules_only_names_the_lost(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        await outside(it, "Start", "cobo0")
        await it.until_run(RunState.ORPHAN)
        assert (await it.submit("Adopt", RUN)).ok
        await it.until(lambda: it.run.lost == ("cobo1", "mutant"))
        assert await it.severity("Run:State_RBV") == "MAJOR"


async def test_run_stop_is_accepted_while_orphans_are_being_adopted(tmp_path, monkeypatch):
    class Slow:
        def __init__(self) -> None:
            self.asked = asyncio.Event()
            self.released: list[int] = []

        @hookimpl
        def attpc_run_numbers(self):
            return self

        def next(self, experiment):
            return 7

        async def open_run(self):
            return None

        async def reserve(self, experiment):
            self.asked.set()
            await asyncio.sleep(0.3)
            return 7

        async def release(self, experiment, number):
            self.released.append(number)

    slow = Slow()
    async with rig(tmp_path, monkeypatch, plugins=[("slow", slow)]) as it:
        await ready(it)
        await outside(it, "Start", "cobo0")
        await it.until_run(RunState.ORPHAN)
        adopt = under_way(it, "Adopt")
        await slow.asked.wait()
        assert (await it.submit("Stop", RUN)).ok
        assert boards_running(it) == []
        assert (await adopt).code is ResultCode.REFUSED
        assert slow.released == [7]
        assert it.run.state is RunState.STOPPED
        assert it.run.number == -1


async def test_a_stop_where_the_mutant_is_gone_stops_the_cobos(tmp_path, monkeypatch):
    poll = BRISK_POLL.replace("timeout_s = 0.4", "timeout_s = 0.2")
    async with rig(tmp_path, monkeypatch, limits=HUNG_STOP, poll=poll) as it:
        await running(it)
        it.fleet["mutant"].faults.stall()
        outcome = await it.submit("Stop", RUN)
        assert outcome.code is ResultCode.INCOMPLETE
        assert boards_running(it) == ["Mutant[master]"]
        it.fleet["mutant"].faults.clear()
        await it.until(lambda: it.module("mutant").online)
        await it.until(lambda: not it.module("mutant").moving)
        assert (await it.submit("Stop", RUN)).ok
        assert boards_running(it) == []
