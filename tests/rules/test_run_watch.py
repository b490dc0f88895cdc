"""Rules 14 and 15, MaxDuration, the texts of a run, and rule 21 where it concerns a run."""

from __future__ import annotations

import datetime
import itertools
import time

import pytest

from attpc_ioc.model.command import IOC_ITSELF, RUN, Who
from attpc_ioc.model.events import RunDegraded
from attpc_ioc.model.run import RunClass, RunOutcome, RunState
from attpc_ioc.model.states import State
from tests.support.ca import camonitor
from tests.support.rig import EXPERIMENT, ecc, rig
from tests.support.runs import Recorder, boards_running, outside, ready, running, under_way

# ---------------------------------------------------------------------- rule 14


async def test_rule_14_a_lost_member_is_named_alarmed_and_recorded(tmp_path, monkeypatch):
    recorder = Recorder()
    async with rig(tmp_path, monkeypatch, cobos=3, plugins=[("rec", recorder)]) as it:
        number = await running(it)
        await outside(it, "Stop", "cobo1")
        await it.until(lambda: it.run.lost == ("cobo1",))
        assert await it.get("Run:State_RBV") == "Running"
        assert await it.severity("Run:State_RBV") == "MAJOR"
        assert await it.get_text("Run:Lost_RBV") == "cobo1"
        assert await it.get("Run:Modules_RBV") == "3"
        assert await it.get("Run:Expected_RBV") == "4"
        assert f"run {number} lost cobo1" in await it.get_text("AlarmText_RBV")
        await it.until(lambda: recorder.names[-1] == "RunDegraded")
        assert isinstance(recorder.last, RunDegraded)
        assert recorder.last.lost == ("cobo1",)
        # The default is to go on.
        assert it.fleet.log.sequence() == ["cobo1.Stop"]
        assert len(boards_running(it)) == 3
        # A second one.
        await outside(it, "Stop", "mutant")
        await it.until(lambda: it.run.lost == ("cobo1", "mutant"))
        assert await it.get_text("Run:Lost_RBV") == "cobo1, mutant"


async def test_rule_14_an_unreachable_member_is_lost_and_may_come_back(tmp_path, monkeypatch):
    recorder = Recorder()
    async with rig(tmp_path, monkeypatch, plugins=[("rec", recorder)]) as it:
        await running(it)
        it.fleet["cobo0"].faults.refuse()
        await it.until(lambda: it.run.lost == ("cobo0",))
        it.fleet["cobo0"].faults.clear()
        await it.until(lambda: it.run.lost == ())
        assert await it.get("Run:State_RBV") == "Running"
        assert await it.severity("Run:State_RBV") == "NO_ALARM"
        assert it.run.info is not None
        assert it.run.info.lost_ever == ("cobo0",)
        await it.until(lambda: recorder.names[-2:] == ["RunDegraded", "RunDegraded"])
        assert isinstance(recorder.last, RunDegraded)
        assert recorder.last.lost == ()
        assert it.fleet.log.sequence() == []


async def test_rule_14_a_lost_module_is_never_started_again_inside_the_run(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        number = await running(it)
        await outside(it, "Stop", "cobo0")
        await it.until(lambda: it.run.lost == ("cobo0",))
        it.fleet.log.clear()
        await it.refused("Ecc:cobo0:Start", because=f"run {number} is on: a module is never started inside")
        await it.refused("Run:Start", because=f"run {number} is on")
        # Anything else is possible with it, so that it can be repaired.
        await it.ok("Ecc:cobo0:Breakup")
        await it.ok("Ecc:cobo0:Configure")
        await it.refused("Ecc:cobo0:Start", because="never started inside")
        assert it.fleet.log.sequence() == ["cobo0.Breakup", "cobo0.Configure"]
        # And nothing is possible with those that run.
        await it.refused("Ecc:cobo1:Stop", because="use Run:Stop")
        await it.refused("Ecc:cobo1:Breakup", because="use Run:Stop")
        assert it.run.state is RunState.RUNNING


async def test_rule_14_by_setting_the_run_is_stopped(tmp_path, monkeypatch):
    recorder = Recorder()
    async with rig(tmp_path, monkeypatch, run="stop_on_lost = true", plugins=[("rec", recorder)]) as it:
        await running(it)
        await outside(it, "Stop", "cobo1")
        await it.until_run(RunState.STOPPED)
        assert boards_running(it) == []
        assert it.fleet.log.sequence() == ["cobo1.Stop", "mutant.Stop", "cobo0.Stop"]
        assert it.run.info is not None
        assert it.run.info.outcome is RunOutcome.STOPPED
        assert it.run.info.lost_ever == ("cobo1",)
        # The reason is not in the place of the host: that would read as if a person had wanted it.
        assert it.run.info.stopped_by == IOC_ITSELF
        assert it.run.info.reason == "lost cobo1"
        await it.until(lambda: recorder.names[-3:] == ["RunDegraded", "RunStopping", "RunStopped"])


async def test_rule_14_lost_in_the_moment_of_the_start(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        it.fleet["mutant"].faults.slow("Start", extra_s=0.2)
        start = under_way(it, "Start")
        await it.fleet.log.wait_for(lambda c: c.server == "mutant" and c.operation == "Start")
        await outside(it, "Stop", "cobo0")
        assert (await start).ok
        await it.until(lambda: it.run.lost == ("cobo0",))


# ---------------------------------------------------------------------- rule 15


async def test_rule_15_all_members_left_running_without_our_doing(tmp_path, monkeypatch):
    recorder = Recorder()
    async with rig(tmp_path, monkeypatch, plugins=[("rec", recorder)]) as it:
        number = await running(it)
        await outside(it, "Stop", "mutant", "cobo0")
        assert it.run.state is RunState.RUNNING
        before = time.time()
        await outside(it, "Stop", "cobo1")
        await it.until_run(RunState.STOPPED)
        info = it.run.info
        assert info is not None
        assert (info.number, info.outcome) == (number, RunOutcome.STOPPED_OUTSIDE)
        assert info.stopped_s is not None
        assert before <= info.stopped_s <= time.time()
        shown = datetime.datetime.fromisoformat(await it.get("Run:StopTime_RBV"))
        assert abs(shown.timestamp() - info.stopped_s) <= 1.0
        await it.until(lambda: recorder.names[-1] == "RunStopped")
        assert await it.get("Run:State_RBV") == "Stopped"
        assert await it.get_text("Run:Lost_RBV") == ""
        assert (await it.submit("Start", RUN)).ok
        assert it.run.number == number + 1


async def test_rule_15_unreachable_is_not_stopped(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        for server in it.fleet:
            server.faults.refuse()
        await it.until(lambda: len(it.run.lost) == 3)
        assert it.run.state is RunState.RUNNING
        for server in it.fleet:
            server.faults.clear()
        await it.until(lambda: it.run.lost == ())


async def test_rule_15_servers_that_restart_in_idle(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        for server in it.fleet:
            server.faults.die()
        await it.until(lambda: len(it.run.lost) == 3)
        for server in it.fleet:
            server.faults.clear()
        await it.until_run(RunState.STOPPED)
        assert it.run.info is not None
        assert it.run.info.outcome is RunOutcome.STOPPED_OUTSIDE


async def test_rule_16_a_board_that_was_switched_off_still_says_running(tmp_path, monkeypatch):
    """What `GetState` cannot tell is not invented: the run goes on, and Stop "succeeds"."""
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        it.fleet["cobo0"].faults.board_dead()
        polls = it.fleet["cobo0"].polls
        await it.until(lambda: it.fleet["cobo0"].polls > polls + 3)
        assert it.run.lost == ()
        assert (await it.submit("Stop", RUN)).ok


# ---------------------------------------------------------------------- the length of a run


async def test_max_duration_stops_the_run_by_itself(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        await it.ok("Run:MaxDuration", "0.5")
        await it.until_run(RunState.STOPPED)
        assert boards_running(it) == []
        assert it.fleet.log.sequence()[0] == "mutant.Stop"
        info = it.run.info
        assert info is not None
        assert info.stopped_by == IOC_ITSELF
        assert info.reason == "the run has lasted 0.5 s"
        assert info.outcome is RunOutcome.STOPPED
        assert 0.5 <= it.run.duration_s < 3.0
        assert "Done" in await it.message("Run:Stop")


@pytest.mark.parametrize("value", ["-1", "nan", "inf"])
async def test_max_duration_takes_durations_only(tmp_path, monkeypatch, value):
    async with rig(tmp_path, monkeypatch) as it:
        ran = await it.put("Run:MaxDuration", value)
        assert ran.code == 1
        assert it.run.max_duration_s == 0.0


async def test_rule_21_durations_are_monotonic_whatever_the_wall_clock_does(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        real = time.time
        try:
            # The clock is set back by an hour in the run.
            monkeypatch.setattr(time, "time", lambda: real() - 3600.0)
            durations = []
            for _ in range(3):
                durations.append(it.app.controller.run_control.record.duration_s)
                before = it.run.duration_s
                await it.until(lambda before=before: it.run.duration_s > before, what="a longer duration")
            assert all(a < b for a, b in itertools.pairwise(durations))
            assert (await it.submit("Stop", RUN)).ok
            await it.until_run(RunState.STOPPED)
            assert durations[-1] <= it.run.duration_s < 10.0
            assert float(await it.get("Run:Duration_RBV")) < 10.0
        finally:
            monkeypatch.setattr(time, "time", real)


async def test_rule_21_stamps_of_a_record_increase(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        pv = it.prefix + "Run:State_RBV"
        async with camonitor(it.place, pv) as monitor:
            await monitor.until(1)
            for _ in range(3):
                assert (await it.submit("Start", RUN)).ok
                assert (await it.submit("Stop", RUN)).ok
            await monitor.until(13)
            stamps = [" ".join(line.split()[1:3]) for line in monitor.lines if line.startswith(pv)]
        assert all(a < b for a, b in itertools.pairwise(stamps)), stamps


async def test_duration_and_times_are_shown(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        assert await it.get("Run:StartTime_RBV") == ""
        assert await it.get("Run:Duration_RBV") == "0"
        await running(it)
        started = await it.get("Run:StartTime_RBV")
        assert datetime.datetime.fromisoformat(started).utcoffset() is not None
        assert await it.get("Run:StopTime_RBV") == ""
        await it.until(lambda: it.run.duration_s > 1.0)
        assert (await it.submit("Stop", RUN)).ok
        assert await it.get("Run:DurationText_RBV") in ("00:00:01", "00:00:02", "00:00:03")
        assert await it.get("Run:StartTime_RBV") == started


# ---------------------------------------------------------------------- what may change in a run


async def test_title_operator_and_class_may_change_in_a_run(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.put_text("Run:Title", "before the run")
        await running(it)
        assert it.run.info is not None
        assert it.run.info.texts.title == "before the run"
        title = "Ünïcode 40Ar(p,p) " + "x" * 180
        assert (await it.put_text("Run:Title", title)).code == 0
        assert (await it.put_text("Run:Operator", "Ada, Bob")).code == 0
        await it.ok("Run:Class", "Production")
        assert (await it.put_text("Run:Title", "x" * 201)).code == 1
        assert await it.get_text("Run:Title") == title
        assert (await it.submit("Stop", RUN)).ok
        info = it.run.info
        assert info is not None
        assert (info.texts.title, info.texts.operator, info.texts.run_class) == (
            title,
            "Ada, Bob",
            RunClass.PRODUCTION,
        )
        # After the run they are the next run's.
        assert (await it.put_text("Run:Title", "the next")).code == 0
        assert it.run.info is not None
        assert it.run.info.texts.title == title


async def test_enable_config_and_experiment_are_refused_in_a_run(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        number = await running(it)
        on = f"run {number} is on"
        await it.refused("Ecc:cobo0:Enable", "No", because=on)
        assert (await it.put_text("Config", EXPERIMENT)).code == 1
        assert on in await it.message("Config")
        assert (await it.put_text("Run:Experiment", "other")).code == 1
        assert on in await it.message("Run:Experiment")
        await it.refused("Describe", because=on)
        await it.refused("GoTo", "Idle", because=on)
        await it.refused("Reset", because=on)
        assert it.fleet.log.sequence() == []
        assert it.states() == dict.fromkeys(it.snapshot.modules, "Running")


async def test_each_experiment_has_its_own_numbers(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        who = Who("tester")
        it.app.controller.set("experiment", RUN, "e20009", who)
        for expected in (0, 1):
            await it.start_run()
            assert it.run.number == expected
            assert (await it.submit("Stop", RUN)).ok
        for _ in range(3):
            await it.submit("Reset")
        await it.until_all(State.IDLE)
        it.app.controller.set("experiment", RUN, "e30000", who)
        await it.until(lambda: it.run.next_number == 0)
        await it.start_run()
        assert it.run.info is not None
        assert (it.run.number, it.run.info.experiment) == (0, "e30000")
        assert (await it.submit("Stop", RUN)).ok
        assert (await it.submit("GoTo", target=State.IDLE)).ok
        it.app.controller.set("experiment", RUN, "e20009", who)
        await it.until(lambda: it.run.next_number == 2)


async def test_the_experiment_changes_only_while_all_are_idle(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(State.DESCRIBED)
        assert (await it.put_text("Run:Experiment", "e1")).code == 1
        assert "only while all modules are Idle" in await it.message("Run:Experiment")
        for name in it.snapshot.modules:
            it.app.controller.set("enable", ecc(name), 0, Who("tester"))
        assert (await it.put_text("Run:Experiment", "e1")).code == 0
