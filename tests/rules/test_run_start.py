"""Rules 11 and 12: what refuses the start of a run, and its stages."""

from __future__ import annotations

import itertools
import time

import pytest

from attpc_ioc.model.command import RUN, ResultCode, Who
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from attpc_ioc.plugin import hookimpl
from tests.support.rig import ecc, rig
from tests.support.runs import boards_running, call_of, outside, ready, under_way

RE_ZERO = ["mutant.Breakup", "mutant.Configure"]


# ---------------------------------------------------------------------- rule 11: refused unless


@pytest.mark.parametrize("state", [State.IDLE, State.DESCRIBED, State.PREPARED])
async def test_rule_11_start_is_refused_unless_every_module_is_ready(tmp_path, monkeypatch, state):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(state)
        it.fleet.log.clear()
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.REFUSED
        # A Prepared MuTAnT is what a failed re-zero leaves: it would do.
        named = "cobo0, cobo1" if state is State.PREPARED else "cobo0, cobo1, mutant"
        assert outcome.message == f"Run:Start Refused: {named}: are in {state.label}, not Ready"
        assert await it.get_text("Run:Checklist_RBV") == f"{named}: are in {state.label}, not Ready"
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
        assert "cobo0, cobo1: their clocks are stale" in outcome.message
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


# ---------------------------------------------------------------------- rule 12: the stages


async def test_rule_12_each_stage_is_seen_before_the_next(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, cobos=3) as it:
        await ready(it)
        before, log = time.time(), it.fleet.log
        # All at once: each CoBo has its Start while none has ended it.
        names = [f"cobo{i}" for i in range(3)]
        for name in names:
            it.fleet[name].faults.hang("Start")
        start = under_way(it, "Start")
        for name in names:
            await call_of(it, name, "Start")
        for name in names:
            it.fleet[name].faults.clear()
        assert (await start).ok
        assert log.sequence()[:2] == RE_ZERO
        assert sorted(log.sequence()[2:5]) == ["cobo0.Start", "cobo1.Start", "cobo2.Start"]
        assert log.sequence()[5:] == ["mutant.Start"]
        cobos = [log.of(name, "Start")[0] for name in names]
        stages = [
            log.of("mutant", "Breakup"),
            log.of("mutant", "Configure"),
            cobos,
            log.of("mutant", "Start"),
        ]
        for first, second in itertools.pairwise(stages):
            assert max(c.end_s or 1e9 for c in first) < min(c.begin_s for c in second)
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
