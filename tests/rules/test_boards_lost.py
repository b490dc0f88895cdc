"""Boards that an ECC server has lost: dead, switched off and on, or taken over (rules 6, 11 and 16)."""

from __future__ import annotations

import asyncio

import pytest

from attpc_ioc.model.command import RUN, SYSTEM, ResultCode
from attpc_ioc.model.config import Loaded
from attpc_ioc.model.events import RunDegraded
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State, Transition
from attpc_ioc.simulator.xcfg import describe_text
from tests.support.advice import follow, follow_all
from tests.support.patience import HANGS_S
from tests.support.rig import EXPERIMENT, PATIENT_LIMITS, SHORT_LIMITS, Rig, ecc, rig
from tests.support.runs import Recorder, boards_running, ready, running, under_way
from tests.support.trouble import assert_nothing_forbidden, shown

"""A busy disk is no reason not to start."""

IDLE, DESCRIBED, PREPARED, READY = State.IDLE, State.DESCRIBED, State.PREPARED, State.READY
RESTART = "restart the ECC server on 127.0.0.1"

# ---------------------------------------------------------------------- dead and power-cycled boards


def power_cycle(it: Rig, victim: str) -> None:
    it.fleet[victim].switch_boards(False)
    it.fleet[victim].switch_boards(True)


def die(it: Rig, victim: str) -> None:
    it.fleet[victim].switch_boards(False)


@pytest.mark.parametrize("lose", [die, power_cycle])
async def test_rule_11_a_start_on_a_lost_board_is_not_tried_twice(tmp_path, monkeypatch, lose):
    async with rig(tmp_path, monkeypatch) as it:
        number = await ready(it)
        lose(it, "cobo1")
        outcome = await it.submit("Start", RUN)
        assert "cobo1: Start failed (code 4: Could not start run (Ice::" in outcome.message
        assert f"If its Breakup ends in Off, {RESTART} and GoTo Ready again" in outcome.message
        assert it.module("cobo1").state is READY
        assert boards_running(it) == []
        it.fleet.log.clear()
        (line,) = it.run.checklist
        assert line.startswith("cobo1: Start failed (code 4: Could not start run (Ice::")
        assert RESTART in line
        assert "Start" not in str(it.snapshot.allowed[RUN])
        for _ in range(2):
            await it.refused("Run:Start", because="cobo1: Start failed (code 4: ")
            await it.refused("Ecc:cobo1:Start", because="cobo1: Start failed (code 4: ")
        assert it.fleet.log.sequence() == []
        # Only the first start has used a number up, and a restart of the IOC forgets nothing.
        assert it.run.next_number == number + 1
        await it.stop_ioc()
        await it.start_ioc()
        await it.until_all(READY)
        message = await it.refused("Run:Start", because="cobo1: Start failed (code 4: ")
        assert it.run.next_number == number + 1
        messages = await follow_all(it, message)
        assert "cobo1: Breakup failed (code 8: " in messages[1]
        assert "; the module is seen in Off: " + RESTART in messages[1]
        assert (await it.submit("Start", RUN)).ok
        assert it.run.number == number + 1
        assert len(boards_running(it)) == 3


async def test_rule_11_a_mutant_that_is_lost_uses_no_number_up(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        number = await ready(it)
        power_cycle(it, "mutant")
        outcome = await it.submit("Start", RUN)
        assert "mutant: Breakup failed (code 8: " in outcome.message
        assert "; the module is seen in Off: " + RESTART in outcome.message
        assert f"run number {number} was released" in outcome.message
        await follow_all(it, outcome.message)
        assert (await it.submit("Start", RUN)).ok
        assert it.run.number == number


async def test_rule_11_a_start_that_failed_for_another_reason_may_be_tried_again(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        it.fleet["cobo1"].faults.fail("Start", message="Exception: the trigger is busy.")
        assert not (await it.submit("Start", RUN)).ok
        assert it.run.checklist == ()
        assert (await it.submit("Start", RUN)).ok


async def test_rule_11_a_late_start_that_failed_is_said_too(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=f"start_s = {HANGS_S}\narrival_grace_s = 0.1") as it:
        await ready(it)
        it.fleet["cobo1"].faults.hang("Start")
        start = under_way(it, "Start")
        await it.until(lambda: it.module("cobo1").transition is Transition.START)
        assert (await start).code is ResultCode.TIMED_OUT
        die(it, "cobo1")
        it.fleet["cobo1"].faults.clear("hang")
        await it.until(lambda: it.module("cobo1").outstanding is None)
        assert "Late: Start failed (code 4: " in it.module("cobo1").result.message
        assert RESTART in it.module("cobo1").result.message
        await it.refused("Run:Start", because="cobo1: Start failed (code 4: ")


@pytest.mark.parametrize("lose", [die, power_cycle])
@pytest.mark.parametrize("victim", ["cobo0", "mutant"])
@pytest.mark.parametrize(
    ("at", "command"),
    [(IDLE, "Describe"), (DESCRIBED, "Prepare"), (PREPARED, "Configure"), (READY, "Reset"), (READY, "Start")],
    ids=str,
)
async def test_what_a_message_says_of_a_lost_board_helps(tmp_path, monkeypatch, at, command, victim, lose):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(at)
        lose(it, victim)
        outcome = await it.submit(command, RUN if command == "Start" else SYSTEM)
        if at is IDLE and lose is power_cycle:
            assert outcome.ok, "a Describe makes it anew"
            return
        assert f"{victim}: " in outcome.message
        await follow_all(it, outcome.message)
        assert (await it.submit("Start", RUN)).ok
        assert len(boards_running(it)) == 3
        assert not any(board.clock_stale for board in it.fleet.boards.values())
        assert_nothing_forbidden(it)


async def test_a_failure_that_has_nothing_to_do_with_the_board_takes_nothing_down(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(PREPARED)
        await it.fleet.routers["CoBo[0]"].stop()
        outcome = await it.submit("Configure")
        assert "TCP connection to" in outcome.message
        await it.fleet.routers["CoBo[0]"].start()
        it.fleet.log.clear()
        assert (await it.submit("GoTo", SYSTEM, READY)).ok
        assert it.fleet.log.sequence() == ["cobo0.Configure", "mutant.Configure"]


@pytest.mark.parametrize("lose", [die, power_cycle])
async def test_rule_17_a_stop_of_a_mutant_whose_board_is_lost(tmp_path, monkeypatch, lose):
    async with rig(tmp_path, monkeypatch) as it:
        number = await running(it)
        lose(it, "mutant")
        outcome = await it.submit("Stop", RUN)
        assert outcome.code is ResultCode.INCOMPLETE
        assert "another stop does not help" in outcome.message
        assert "mutant: Stop failed (code 5: Could not stop run (Ice::" in outcome.message
        assert RESTART in outcome.message
        assert boards_running(it) == []
        assert it.module("mutant").state is State.RUNNING
        refused = await it.submit("Start", RUN)
        assert "use Run:Stop again" not in refused.message
        assert f"the stop of run {number} is not complete: another Run:Stop does not help" in refused.message
        # What the refusal says already is not repeated from the failure that still stands.
        shown = it.app.controller.state.result(RUN).text
        assert shown.count("mutant: Stop failed") == 1
        assert "; still unresolved: Run:Stop Incomplete" in shown
        assert (await it.submit("Stop", RUN)).code is ResultCode.INCOMPLETE
        it.fleet["mutant"].switch_boards(True)
        await follow_all(it, outcome.message)
        assert it.run.state is RunState.STOPPED
        assert it.run.number == number
        assert (await it.submit("Start", RUN)).ok


# ---------------------------------------------------------------------- boards that were taken over


def write_describe(it: Rig, *boards: str) -> str:
    """Have cobo0's describe file name these boards; returns the right one."""
    file = it.fleet.xcfg.path / "describe-cobo0.xcfg"
    right = file.read_text()
    nodes = {node.board: node for found in it.fleet.default_describes().values() for node in found}
    file.write_text(describe_text([nodes[board] for board in boards]))
    return right


async def ready_but_cobo0(it: Rig) -> None:
    """All are Ready, and cobo0 is to be described."""
    await it.take_to(READY)
    assert (await it.submit("GoTo", ecc("cobo0"), IDLE)).ok
    it.fleet.log.clear()


TAKEN = "its board CoBo[1] was made anew by a wrong Describe of cobo0"


async def test_rule_06_what_a_taken_over_board_had_loaded_is_not_known(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready_but_cobo0(it)
        right = write_describe(it, "CoBo[1]")
        assert "it was undone" in (await it.submit("Describe", ecc("cobo0"))).message
        assert it.module("cobo1").state is READY
        assert it.module("cobo1").loaded == Loaded("?", "?", "?")
        assert shown(it, "Ecc:cobo1:Loaded_RBV") == ("?/?/?", "MINOR")
        assert TAKEN in await it.get_text("Ecc:cobo1:Message_RBV")
        assert it.module("mutant").loaded == Loaded(EXPERIMENT, EXPERIMENT, EXPERIMENT)
        # Kept over a restart of the IOC.
        await it.stop_ioc()
        await it.start_ioc()
        await it.until(lambda: all(m.offered is not None for m in it.snapshot.modules.values()))
        assert it.module("cobo1").loaded == Loaded("?", "?", "?")
        assert any(f"cobo1: {TAKEN}" in line for line in it.run.checklist)
        await it.refused("Run:Start", because=f"cobo1: {TAKEN}")
        await it.refused("Ecc:cobo1:Start", because=f"cobo1: {TAKEN}")
        # Its own server would start it all the same, and the board would take no data.
        (it.fleet.xcfg.path / "describe-cobo0.xcfg").write_text(right)
        assert (await it.submit("GoTo", SYSTEM, READY)).ok
        assert it.run.checklist == ()
        assert (await it.submit("Start", RUN)).ok
        assert len(boards_running(it)) == 3


@pytest.mark.parametrize("boards", [("CoBo[0]", "CoBo[1]"), ("CoBo[1]", "Mutant[master]")], ids=str)
async def test_rule_06_every_module_of_a_board_that_was_named(tmp_path, monkeypatch, boards):
    async with rig(tmp_path, monkeypatch) as it:
        await ready_but_cobo0(it)
        right = write_describe(it, *boards)
        await it.submit("Describe", ecc("cobo0"))
        hurt = {"CoBo[1]": "cobo1", "Mutant[master]": "mutant"}
        for board, name in hurt.items():
            known = board not in boards
            assert (it.module(name).loaded == Loaded("?", "?", "?")) is not known
        (it.fleet.xcfg.path / "describe-cobo0.xcfg").write_text(right)
        assert (await it.submit("GoTo", SYSTEM, READY)).ok
        assert it.run.checklist == ()
        assert (await it.submit("Start", RUN)).ok
        assert len(boards_running(it)) == 3
        assert not any(board.clock_stale for board in it.fleet.boards.values())


@pytest.mark.parametrize("late", ["late", "not undone", "server lost"])
async def test_rule_06_also_where_the_wrong_describe_ended_badly(tmp_path, monkeypatch, late):
    limits = SHORT_LIMITS if late == "late" else PATIENT_LIMITS
    async with rig(tmp_path, monkeypatch, limits=limits) as it:
        await ready_but_cobo0(it)
        write_describe(it, "CoBo[1]")
        server = it.fleet["cobo0"]
        match late:
            case "late":
                server.faults.hang("Describe")
                assert (await it.submit("Describe", ecc("cobo0"))).code is ResultCode.TIMED_OUT
                assert it.module("cobo1").loaded == Loaded("cobo1", EXPERIMENT, EXPERIMENT)
                server.faults.clear()
            case "not undone":
                server.faults.fail("Undo")
                assert "Undo failed" in (await it.submit("Describe", ecc("cobo0"))).message
            case _:
                server.faults.slow("Describe", extra_s=1.0)  # to be seen under way
                going = asyncio.create_task(it.submit("Describe", ecc("cobo0")))
                await it.until(lambda: it.module("cobo0").transition is Transition.DESCRIBE)
                server.faults.refuse()
                assert not (await going).ok
        await it.until(lambda: it.module("cobo1").loaded == Loaded("?", "?", "?"))
        assert TAKEN in it.module("cobo1").result.message


async def test_rule_06_a_disabled_module_and_one_that_is_offline_too(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, cobos=3) as it:
        await ready_but_cobo0(it)
        await it.ok("Ecc:cobo1:Enable", "No")
        it.fleet["cobo2"].faults.refuse()
        await it.until(lambda: not it.module("cobo2").online)
        right = write_describe(it, "CoBo[1]", "CoBo[2]")
        await it.submit("Describe", ecc("cobo0"))
        for name in ("cobo1", "cobo2"):
            assert it.module(name).loaded == Loaded("?", "?", "?")
        it.fleet["cobo2"].faults.clear()
        (it.fleet.xcfg.path / "describe-cobo0.xcfg").write_text(right)
        await it.ok("Ecc:cobo1:Enable", "Yes")
        await it.until(lambda: it.module("cobo2").online)
        assert (await it.submit("GoTo", SYSTEM, READY)).ok
        assert (await it.submit("Start", RUN)).ok
        assert len(boards_running(it)) == 4


@pytest.mark.parametrize("own_first", [True, False])
async def test_rule_06_described_at_the_same_time(tmp_path, monkeypatch, own_first):
    """Which of two Describes came last to the board cannot be known: its own has to be done again."""
    async with rig(tmp_path, monkeypatch) as it:
        await it.select()
        right = write_describe(it, "CoBo[1]")
        slow = "cobo0" if own_first else "cobo1"
        it.fleet[slow].faults.slow("Describe", extra_s=0.2)
        assert not (await it.submit("Describe")).ok
        await it.until(lambda: not any(m.moving for m in it.snapshot.enabled))
        await it.until_all(IDLE, "cobo0")
        it.fleet[slow].faults.clear()
        (it.fleet.xcfg.path / "describe-cobo0.xcfg").write_text(right)
        assert it.module("cobo1").loaded == Loaded("?")
        assert (await it.submit("GoTo", SYSTEM, READY)).ok
        assert (await it.submit("Start", RUN)).ok
        assert len(boards_running(it)) == 3


async def test_rule_06_an_idle_module_has_lost_nothing(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.select()
        write_describe(it, "CoBo[1]")
        await it.submit("Describe", ecc("cobo0"))
        assert it.module("cobo1").loaded == Loaded()
        assert it.module("cobo1").board_fault is None
        assert it.module("cobo1").result.message == ""


async def test_rule_14_a_member_whose_board_is_taken_over_is_lost(tmp_path, monkeypatch):
    recorder = Recorder()
    async with rig(tmp_path, monkeypatch, cobos=3, plugins=[("recorder", recorder)]) as it:
        await it.select()
        await it.ok("Ecc:cobo0:Enable", "No")
        await running(it)
        right = write_describe(it, "CoBo[1]")
        assert not (await it.submit("Describe", ecc("cobo0"))).ok
        # Its ECC server goes on saying Running; the board takes no data.
        assert it.module("cobo1").state is State.RUNNING
        assert sorted(boards_running(it)) == ["CoBo[2]", "Mutant[master]"]
        await it.until(lambda: it.run.lost == ("cobo1",))
        assert shown(it, "Run:State_RBV") == (int(RunState.RUNNING), "MAJOR")
        assert shown(it, "Ecc:cobo1:Loaded_RBV") == ("?/?/?", "MINOR")
        await it.until(lambda: any(isinstance(e, RunDegraded) and e.lost for e in recorder.events))
        await it.stop_ioc()
        await it.start_ioc()
        await it.until_run(RunState.RUNNING)
        assert it.run.lost == ("cobo1",)
        (it.fleet.xcfg.path / "describe-cobo0.xcfg").write_text(right)
        outcome = await follow(it, it.module("cobo1").result.message)
        assert outcome.ok, outcome.message
        assert it.run.checklist == ()
        assert (await it.submit("Start", RUN)).ok
        assert len(boards_running(it)) == 3
