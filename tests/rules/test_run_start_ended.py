"""Rule 13: a start that fails, comes late or is aborted is taken back."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from attpc_ioc.model.command import RUN, SYSTEM, ResultCode
from attpc_ioc.model.events import RunFailed, RunStarted
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from attpc_ioc.plugin import hookimpl
from tests.support.patience import HANGS_S
from tests.support.rig import rig
from tests.support.runs import Recorder, boards_running, call_of, outside, ready, under_way

RE_ZERO = ["mutant.Breakup", "mutant.Configure"]


HUNG_START = f"""\
start_s = {HANGS_S}
stop_mutant_s = 0.2
arrival_grace_s = 0.1"""


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
    async with rig(tmp_path, monkeypatch, limits=HUNG_START) as it:
        number = await ready(it)
        it.fleet["cobo1"].faults.hang("Start")
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.TIMED_OUT
        assert f"cobo1: Start has not arrived after {HANGS_S:g} s" in outcome.message
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
    async with rig(tmp_path, monkeypatch, limits=HUNG_START) as it:
        await ready(it)
        it.fleet["cobo1"].faults.hang("Start")
        await it.submit("Start", RUN)
        it.fleet["cobo1"].faults.fail("Start")
        it.fleet["cobo1"].faults.clear("hang")
        await it.until_all(State.READY)
        assert it.fleet.log.of("cobo1", "Stop") == []
        assert (await it.submit("Start", RUN)).ok


async def test_rule_13_lost_in_start_and_back_in_running_is_stopped(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=HUNG_START) as it:
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
        if stage == "cobo0.Start":
            await call_of(it, "cobo1", operation)
        sent = len(it.fleet.log)
        outcome = await it.submit(command, RUN if command == "Stop" else SYSTEM)
        started = await start
        assert started.code is ResultCode.ABORTED
        # Nothing further is sent but the Stops of what had started.
        later = it.fleet.log.sequence()[sent:]
        cobos = ["cobo0", "cobo1"] if operation == "Start" else []
        expected = [f"{c}.Stop" for c in cobos] + (["mutant.Stop"] if stage == "mutant.Start" else [])
        assert sorted(later) == expected
        await it.until(lambda: not any(m.moving for m in it.snapshot.modules.values()))
        assert boards_running(it) == []
        assert outcome.ok, outcome.message
        assert it.run.state is RunState.STOPPED
        assert it.run.next_number == (number + 1 if operation == "Start" else number)


async def test_run_stop_in_the_moment_in_which_the_start_completes(tmp_path, monkeypatch):
    class Busy:
        """Keeps the state database busy from the moment in which the run has started."""

        def __init__(self) -> None:
            self.started = asyncio.Event()
            self.reader: sqlite3.Connection | None = None

        @hookimpl
        def attpc_event(self, event):
            if isinstance(event, RunStarted):
                self.reader = sqlite3.connect(tmp_path / "state" / "state.db", isolation_level=None)
                self.reader.execute("BEGIN IMMEDIATE")
                self.started.set()

    busy = Busy()
    async with rig(tmp_path, monkeypatch, plugins=[("busy", busy)]) as it:
        await ready(it)
        start = under_way(it, "Start")
        await busy.started.wait()
        stop = await it.submit("Stop", RUN)
        assert busy.reader is not None
        busy.reader.execute("ROLLBACK")
        busy.reader.close()
        assert stop.ok, stop.message
        assert (await start).ok
        assert boards_running(it) == []
        await it.until_run(RunState.STOPPED)


async def test_run_stop_of_a_start_with_a_hung_module_says_incomplete(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=f"{HUNG_START}\nstop_s = {HANGS_S}") as it:
        await ready(it)
        it.fleet["cobo1"].faults.hang("Start")
        start = under_way(it, "Start")
        await it.until(lambda: it.module("cobo0").state is State.RUNNING)
        await call_of(it, "cobo1", "Start")
        stop = await it.submit("Stop", RUN)
        assert stop.code is ResultCode.INCOMPLETE
        assert "cobo1: was not seen out of Running" in stop.message
        assert (await start).code is ResultCode.ABORTED
        assert boards_running(it) == []
        it.fleet["cobo1"].faults.clear()
        await call_of(it, "cobo1", "Stop")
        await it.until_all(State.READY)
