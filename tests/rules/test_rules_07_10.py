"""Rules 7 to 10: the MuTAnT's clock, group commands, GoTo and Abort."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from attpc_ioc.model.command import RUN, SYSTEM, ResultCode
from attpc_ioc.model.states import State, Transition
from attpc_ioc.simulator.durations import INSTANT
from tests.support.rig import EXPERIMENT, Rig, ecc, rig
from tests.support.simfleet import take_up
from tests.support.thorough import THOROUGH
from tests.support.trouble import assert_nothing_forbidden, shown

IDLE, DESCRIBED, PREPARED, READY = State.IDLE, State.DESCRIBED, State.PREPARED, State.READY
WALKABLE = (IDLE, DESCRIBED, PREPARED, READY)


def order(it: Rig) -> list[str]:
    """The operations in their order, CoBos in short."""
    short = [call.replace("cobo0", "cobo").replace("cobo1", "cobo") for call in it.fleet.log.sequence()]
    return [call for call, _ in itertools.groupby(short)]


# ---------------------------------------------------------------------- rule 7: the clock


async def take_mutant_below_prepared(it: Rig) -> None:
    """As a foreign client would, behind the back of the IOC."""
    await it.fleet.call("mutant", "Breakup")
    await it.fleet.call("mutant", "Undo")
    await it.until(lambda: it.module("cobo0").clock_stale and it.module("cobo1").clock_stale)


async def test_rule_07_a_stale_clock_vetoes_the_start(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(READY)
        await take_mutant_below_prepared(it)
        for name in ("cobo0", "cobo1"):
            assert await it.get(f"Ecc:{name}:ClockStale_RBV") == "Yes"
            assert await it.severity(f"Ecc:{name}:ClockStale_RBV") == "MAJOR"
        # The MuTAnT alone is prepared and configured again: the CoBos still have the old clock.
        await take_up_mutant(it)
        it.fleet.log.clear()
        message = await it.refused("Run:Start", because="cobo0, cobo1: their clocks are stale")
        assert "GoTo takes them down and up again" in message
        await it.refused("Ecc:cobo0:Start", because="cobo0: its clock is stale")
        assert it.fleet.log.sequence() == []
        await it.ok("GoTo", "Ready")
        assert await it.get("Ecc:cobo0:ClockStale_RBV") == "No"
        assert [call for call in order(it) if "cobo" in call][:2] == ["cobo.Breakup", "cobo.Undo"]
        await it.ok("GoTo", "Idle")
        await it.ok("GoTo", "Ready")
        await it.ok("Run:Start")
        assert_nothing_forbidden(it)


async def take_up_mutant(it: Rig) -> None:
    for operation in ("Prepare", "Configure"):
        await it.fleet.call("mutant", operation)
    await it.until_all(READY, "mutant")


async def test_rule_07_a_stale_clock_is_kept_over_a_restart(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(READY)
        await take_mutant_below_prepared(it)
        await it.stop_ioc()
        for operation in ("Prepare", "Configure"):
            await it.fleet.call("mutant", operation)
        await it.start_ioc()
        await it.until_all(READY)
        # Nothing that can be seen tells it any more.
        assert it.module("cobo0").clock_stale
        assert shown(it, "Ecc:cobo0:ClockStale_RBV") == (1, "MAJOR")
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.REFUSED
        assert "cobo0, cobo1: their clocks are stale" in outcome.message
        # Prepared is not enough: the clock is taken over at Prepare.
        assert (await it.submit("Breakup", ecc("cobo0"))).ok
        assert it.module("cobo0").clock_stale
        assert (await it.submit("Undo", ecc("cobo0"))).ok
        await it.until(lambda: not it.module("cobo0").clock_stale)


async def test_rule_07_what_cobos_missed_counts_once_the_mutant_takes_part(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(DESCRIBED)
        await it.ok("Ecc:mutant:Enable", "No")
        assert (await it.submit("GoTo", SYSTEM, READY)).ok
        # Without a MuTAnT nobody clocks the CoBos, and a run of them alone is allowed.
        assert not it.module("cobo0").clock_stale
        await it.until(lambda: not it.run.checklist)
        for operation in ("Prepare", "Configure"):
            await it.fleet.call("mutant", operation)
        await it.until(lambda: it.module("mutant").state is READY)
        await it.stop_ioc()
        await it.start_ioc()
        await it.until(lambda: it.module("mutant").state is READY and it.module("cobo0").state is READY)
        await it.ok("Ecc:mutant:Enable", "Yes")
        assert it.module("cobo0").clock_stale
        assert it.module("cobo1").clock_stale
        outcome = await it.submit("Start", RUN)
        assert "cobo0, cobo1: their clocks are stale" in outcome.message
        assert (await it.submit("GoTo", SYSTEM, READY)).ok
        assert not any(m.clock_stale for m in it.snapshot.enabled)
        assert not any(board.clock_stale for board in it.fleet.boards.values())


async def test_rule_07_a_mutant_that_restarts_makes_the_clocks_stale(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(PREPARED)
        it.fleet["mutant"].faults.die()
        await it.until(lambda: not it.module("mutant").online)
        assert not it.module("cobo0").clock_stale, "not seen, so not known"
        it.fleet["mutant"].faults.clear()
        await it.until(lambda: it.module("cobo0").clock_stale)


@pytest.mark.parametrize("mutant", [DESCRIBED, PREPARED], ids=str)
async def test_rule_07_goto_takes_stale_cobos_down_to_described_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: State
) -> None:
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(READY)
        await take_mutant_below_prepared(it)
        if mutant is PREPARED:
            await it.fleet.call("mutant", "Prepare")
            await it.until_all(PREPARED, "mutant")
        it.fleet.log.clear()
        outcome = await it.submit("GoTo", SYSTEM, PREPARED)
        assert outcome.ok, outcome.message
        # What a foreign client prepared the MuTAnT with is not known: it is prepared anew.
        down = ["mutant.Undo"] if mutant is PREPARED else []
        assert order(it) == ["cobo.Breakup", "cobo.Undo", *down, "mutant.Prepare", "cobo.Prepare"]
        assert not any(m.clock_stale for m in it.snapshot.enabled)
        assert not any(board.clock_stale for board in it.fleet.boards.values())


async def test_rule_07_the_mutant_stays_while_a_cobo_needs_its_clock(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(PREPARED)
        assert (await it.submit("Undo", ecc("cobo0"))).ok
        it.fleet.log.clear()
        because = "mutant: the MuTAnT clocks the CoBos, and cobo1 is Prepared: take the CoBos back first"
        await it.refused("Ecc:mutant:Undo", because=because)
        await it.refused("Ecc:mutant:Reset", because=because)
        await it.refused("Ecc:mutant:GoTo", "Idle", because=because)
        assert it.fleet.log.sequence() == []
        assert (await it.submit("Undo", ecc("cobo1"))).ok
        assert (await it.submit("Undo", ecc("mutant"))).ok


async def test_rule_07_the_order_that_the_clock_asks_for(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(DESCRIBED)
        it.fleet.log.clear()
        outcome = await it.submit("Prepare", ecc("cobo0"))
        assert outcome.code is ResultCode.REFUSED
        assert "the CoBos need the MuTAnT's clock, and mutant is Described" in outcome.message
        assert it.fleet.log.sequence() == []
        assert (await it.submit("Prepare")).ok
        it.fleet.log.clear()
        outcome = await it.submit("Configure", ecc("mutant"))
        assert outcome.code is ResultCode.REFUSED
        assert "cobo0 is Prepared, cobo1 is Prepared" in outcome.message
        assert it.fleet.log.sequence() == []


# ---------------------------------------------------------------------- rule 8: group commands


async def test_rule_08_those_that_are_there_are_skipped(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.select()
        assert (await it.submit("Describe", ecc("cobo0"))).ok
        it.fleet.log.clear()
        assert (await it.submit("Describe")).ok
        assert it.fleet.log.sequence() == ["cobo1.Describe", "mutant.Describe"]
        assert (await it.submit("Describe")).ok
        assert len(it.fleet.log.transitions()) == 2


async def test_rule_08_refused_naming_those_that_are_elsewhere(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(DESCRIBED)
        assert (await it.submit("Undo", ecc("cobo1"))).ok
        it.fleet["mutant"].faults.die()
        await it.until(lambda: not it.module("mutant").online)
        it.fleet.log.clear()
        message = await it.refused(
            "Prepare", because="cobo1: is in Idle; Prepare takes modules from Described"
        )
        assert "mutant: is Offline (" in message
        assert "cobo0" not in message
        assert await it.get("Result_RBV") == "Refused"
        assert it.fleet.log.sequence() == []


async def test_rule_08_only_enabled_modules_are_taken(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.ok("Ecc:cobo1:Enable", "No")
        await it.take_to(READY)
        assert it.states() == {"cobo0": "Ready", "cobo1": "Idle", "mutant": "Ready"}
        await it.ok("Run:Start")
        assert it.run.expected == ("cobo0", "mutant")
        await it.ok("Run:Stop")
        await it.ok("GoTo", "Idle")
        await it.ok("Ecc:cobo0:Enable", "No")
        await it.ok("Ecc:mutant:Enable", "No")
        await it.refused("Describe", because="no ECC server is enabled")
        assert it.fleet.log.of("cobo1", "Describe") == []


async def test_rule_08_without_a_selected_config_nothing_is_described(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.refused("Describe", because="cobo0, cobo1, mutant: no config is selected")
        assert it.fleet.log.sequence() == []


# ---------------------------------------------------------------------- rule 9: GoTo


async def place(it: Rig, states: dict[str, State]) -> None:
    """Take modules to these states from outside, from wherever they are; and wait until it is seen."""
    for name in ("cobo0", "cobo1", "mutant"):
        server = it.fleet[name]
        while server.state is not IDLE:
            await it.fleet.call(name, "Breakup" if server.state is READY else "Undo")
    for name in ("mutant", "cobo0", "cobo1"):
        if states[name] is not IDLE:
            await take_up_one(it, name, states[name])
    await it.until(lambda: all(it.module(n).state is s for n, s in states.items()), what=str(states))


async def take_up_one(it: Rig, name: str, target: State) -> None:
    await take_up(it.fleet, target, name)


@pytest.mark.slow
@pytest.mark.parametrize("mutant", WALKABLE, ids=lambda state: state.label)
async def test_rule_09_goto_from_every_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mutant: State
) -> None:
    """With what a foreign client left behind: every start, with every second target, and no forbidden call.

    Neighbouring starts have the other targets; `make test-thorough` tries each with each.
    """
    poll = "moving_period_s = 0.01\nquiet_period_s = 0.05\ntimeout_s = 3.0"
    # The limits of a real IOC: nothing waits for one here, unless the machine is busy.
    async with rig(tmp_path, monkeypatch, durations=INSTANT, poll=poll, limits="") as it:
        await it.select()
        for number, (cobo0, cobo1) in enumerate(itertools.combinations_with_replacement(WALKABLE, 2)):
            for target in WALKABLE:
                if (number + target + mutant) % 2 and not THOROUGH:
                    continue
                start = {"cobo0": cobo0, "cobo1": cobo1, "mutant": mutant}
                await place(it, start)
                it.fleet.log.clear()
                outcome = await it.submit("GoTo", SYSTEM, target)
                where = f"from {start} to {target.label}: {outcome.message}"
                assert outcome.ok, where
                assert all(m.state is target for m in it.snapshot.enabled), where
                assert all(server.state is target for server in it.fleet), where
                assert_nothing_forbidden(it)
                assert not any(b.clock_stale for b in it.fleet.boards.values()), where
                assert_down_before_up(it)


def assert_down_before_up(it: Rig) -> None:
    down = {"Breakup", "Undo"}
    calls = [call.operation in down for call in it.fleet.log.transitions()]
    assert calls == sorted(calls, reverse=True), it.fleet.log.sequence()


async def test_rule_09_a_module_in_off_gets_the_advice(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(READY)
        it.fleet["cobo0"].faults.board_dead()
        assert (await it.put("Reset")).code == 1
        assert "Breakup failed (code 8: Ice exception: " in await it.get_text("Message_RBV")
        assert await it.get("Ecc:cobo0:State_RBV") == "Off"
        assert await it.severity("Ecc:cobo0:State_RBV") == "MAJOR"
        it.fleet.log.clear()
        advice = "cobo0: is Off: restart the ECC server on 127.0.0.1, then GoTo"
        for name, value in (
            ("GoTo", "Idle"),
            ("Ecc:cobo0:GoTo", "Ready"),
            ("Reset", "1"),
            ("Run:Start", "1"),
        ):
            await it.refused(name, value, because=advice)
        await it.refused("Ecc:cobo0:Breakup", because=advice)
        assert it.fleet.log.sequence() == []
        it.fleet["cobo0"].faults.clear()
        it.fleet["cobo0"].restart()
        await it.until_all(IDLE, "cobo0")
        await it.ok("GoTo", "Ready")


async def test_rule_09_modules_that_run_are_not_touched(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(READY)
        assert (await it.submit("Start", ecc("cobo0"))).ok
        it.fleet.log.clear()
        for target in ("Idle", "Ready"):
            await it.refused("GoTo", target, because="cobo0: is Running: stop it first")
            await it.refused("Ecc:cobo0:GoTo", target, because="cobo0: is Running: stop it first")
        await it.refused("Reset", because="cobo0: is Running: stop it first")
        assert it.fleet.log.sequence() == []
        await it.ok("Ecc:cobo0:Stop")
        await it.ok("GoTo", "Idle")


async def test_rule_09_goto_of_one_module_walks_it_alone(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(READY)
        it.fleet.log.clear()
        await it.ok("Ecc:cobo0:GoTo", "Idle")
        await it.ok("Ecc:cobo0:GoTo", "Ready")
        assert it.fleet.log.sequence() == [
            f"cobo0.{name}" for name in ("Breakup", "Undo", "Undo", "Describe", "Prepare", "Configure")
        ]
        assert await it.get("Ecc:cobo0:GoTo") == "None"
        assert await it.get_text("Ecc:cobo0:Loaded_RBV") == f"cobo0/{EXPERIMENT}/{EXPERIMENT}"
        await it.ok("Run:Start")


# ---------------------------------------------------------------------- rule 10: Abort


async def test_rule_10_abort(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits="prepare_s = 20.0") as it:
        await it.take_to(DESCRIBED)
        it.fleet["mutant"].faults.hang("Prepare")
        going = asyncio.create_task(it.put("GoTo", "Ready"))
        await it.until(lambda: it.module("mutant").transition is Transition.PREPARE)
        await it.ok("Abort")
        assert (await going).code == 1
        assert await it.get("Result_RBV") == "Aborted"
        assert await it.severity("Result_RBV") == "MINOR"
        # The message says where all are that did not come where they were to go.
        assert await it.get_text("Message_RBV") == (
            "GoTo Ready Aborted: "
            "cobo0, cobo1: seen in Described; "
            "mutant: seen in Described, in transition Prepare"
        )
        # What is under way is watched: it blocks, it arrives, and it is recorded.
        await it.refused("GoTo", "Idle", because="mutant: has not answered our Prepare yet")
        it.fleet["mutant"].faults.clear()
        await it.until_all(PREPARED, "mutant")
        assert it.module("mutant").loaded.prepare == EXPERIMENT
        assert it.fleet.log.sequence()[3:] == ["mutant.Prepare"], "nothing further was sent"
        await it.ok("GoTo", "Ready")


async def test_rule_10_abort_of_nothing(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.refused("Abort", because="no command is running")
