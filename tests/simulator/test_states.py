"""The sections States, transitions and Messages that an operator will see."""

from __future__ import annotations

import asyncio

import pytest

from attpc_ioc.model.states import State, Transition
from attpc_ioc.simulator.durations import BRISK, INSTANT, REAL, Durations
from attpc_ioc.simulator.fleet import SimulatedFleet
from attpc_ioc.simulator.messages import TRANSITIONS
from attpc_ioc.simulator.server import BUSY, ServerOptions
from tests.support.simfleet import call_and_leave, take_up, wait_until

EDGES = {
    ("Describe", 1): 2,
    ("Prepare", 2): 3,
    ("Configure", 3): 4,
    ("Start", 4): 5,
    ("Stop", 5): 4,
    ("Stop", 6): 4,
    ("Pause", 5): 6,
    ("Resume", 6): 5,
    ("Breakup", 4): 3,
    ("Breakup", 5): 3,
    ("Breakup", 6): 3,
    ("Undo", 2): 1,
    ("Undo", 3): 2,
}


async def reach(fleet: SimulatedFleet, state: int) -> None:
    if state == State.OFF:
        fleet["cobo0"].faults.off()
        return
    await take_up(fleet, State(min(state, State.RUNNING)), "cobo0")
    if state == State.PAUSED:
        await fleet.call("cobo0", "Pause")


@pytest.mark.parametrize("state", range(7))
async def test_every_operation_in_every_state(state: int) -> None:
    """A transition that may not start there returns code 0 and does nothing."""
    options = ServerOptions(resume_crashes=False)
    async with SimulatedFleet(1, False, durations=INSTANT, options=options) as fleet:
        for operation in TRANSITIONS:
            if (state, operation) == (0, "Breakup"):
                continue
            fleet["cobo0"].restart()
            await reach(fleet, state)
            seen = await fleet.call("cobo0", "GetState")
            assert (seen.state, seen.transition) == (state, 0)
            answer = await fleet.call("cobo0", operation)
            target = EDGES.get((operation, state))
            assert answer.code == 0
            assert fleet.log[-1].outcome == ("executed" if target else "ignored")
            assert (await fleet.call("cobo0", "GetState")).state == (target or state)


async def test_fresh_server_is_idle(fleet: SimulatedFleet) -> None:
    answer = await fleet.call("cobo0", "GetState")
    assert (answer.code, answer.message, answer.state, answer.transition) == (0, "", 1, 0)


async def test_what_is_answered_while_a_transition_runs(fleet: SimulatedFleet) -> None:
    server = fleet["cobo0"]
    server.faults.hang("Describe")
    describe = asyncio.create_task(fleet.call("cobo0", "Describe"))
    await wait_until(lambda: server.transition is Transition.DESCRIBE)
    seen = await fleet.call("cobo0", "GetState")
    assert (seen.code, seen.message, seen.state, seen.transition) == (0, BUSY, 1, 1)
    for number, operation in enumerate(TRANSITIONS, start=1):
        second = await fleet.call("cobo0", operation)
        assert (second.code, second.message) == (number, BUSY)
    assert (await fleet.call("cobo0", "GetConfigIDs")).code == 0
    assert (await fleet.call("cobo0", "Special")).message != BUSY
    assert not describe.done()
    server.faults.clear()
    assert (await describe).code == 0
    assert server.state is State.DESCRIBED


async def test_transition_goes_on_when_the_caller_hangs_up(fleet: SimulatedFleet) -> None:
    server = fleet["cobo0"]
    server.faults.hang("Describe")
    await call_and_leave(fleet, "cobo0", "Describe")
    await wait_until(lambda: server.transition is Transition.DESCRIBE)
    server.faults.clear()
    call = await fleet.log.wait_for(lambda call: call.reply_lost)
    assert (call.outcome, server.state) == ("executed", State.DESCRIBED)


@pytest.mark.parametrize(
    ("operation", "config", "code", "message"),
    [
        ("Describe", "nope/e20009/e20009", 1, "Exception: Configuration 'nope' does not exist."),
        ("Prepare", "cobo0/nope/e20009", 2, "Exception: Configuration 'nope' does not exist."),
        (
            "Prepare",
            "cobo0/other/other",
            2,
            "Exception: The config element Setup[Conditions].Node[CoBo].Instance[0] "
            "cannot be resolved to a concrete attribute.",
        ),
    ],
)
async def test_failure_has_its_own_number_and_keeps_the_state(
    fleet: SimulatedFleet, operation: str, config: str, code: int, message: str
) -> None:
    (fleet.xcfg.path / "configure-other.xcfg").write_text('<Setup id="Conditions"/>')
    if operation == "Prepare":
        await fleet.call("cobo0", "Describe")
    before = fleet["cobo0"].state
    answer = await fleet.call("cobo0", operation, config=config)
    assert (answer.code, answer.message) == (code, message)
    assert fleet["cobo0"].state is before
    assert (await fleet.call("cobo0", "GetState")).code == 0


async def test_configure_whose_own_file_has_vanished_keeps_the_state(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.PREPARED, "cobo0")
    (fleet.xcfg.path / "configure-e20009.xcfg").unlink()
    answer = await fleet.call("cobo0", "Configure")
    assert (answer.code, fleet["cobo0"].state) == (3, State.PREPARED)
    assert answer.message == "Exception: Configuration 'e20009' does not exist."


@pytest.mark.parametrize(("file", "name"), [("describe-cobo0", "cobo0"), ("configure-pulser", "pulser")])
async def test_configure_without_another_file_of_its_reply_fails_and_moves(
    fleet: SimulatedFleet, file: str, name: str
) -> None:
    config = "cobo0/pulser/e20009"
    for operation in ("Describe", "Prepare"):
        await fleet.call("cobo0", operation, config=config)
    (fleet.xcfg.path / f"{file}.xcfg").unlink()
    answer = await fleet.call("cobo0", "Configure", config=config)
    assert (answer.code, answer.message) == (3, f"Configuration '{name}' does not exist.")
    assert fleet["cobo0"].state is State.READY
    assert fleet.boards["CoBo[0]"].state is State.READY


@pytest.mark.parametrize("state", [State.READY, State.RUNNING])
async def test_configure_again_returns_the_loaded_ids_and_the_files_of_now(
    fleet: SimulatedFleet, state: State
) -> None:
    await take_up(fleet, state, "cobo0")
    (fleet.xcfg.path / "configure-e20009.xcfg").write_text("<Setup>edited</Setup>")
    answer = await fleet.call("cobo0", "Configure", config="cobo0/pulser/pulser")
    assert answer.code == 0
    for kind, name in (("describe", "cobo0"), ("prepare", "e20009"), ("configure", "e20009")):
        assert f'subConfigType="{kind}" subConfigId="{name}">' in (answer.text or "")
    assert "<Setup>edited</Setup>" in (answer.text or "")
    assert fleet["cobo0"].state is state


async def test_resume_ends_the_process(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.RUNNING, "cobo0")
    await fleet.call("cobo0", "Pause")
    with pytest.raises(ValueError, match="b''"):
        await fleet.call("cobo0", "Resume")
    assert not fleet["cobo0"].alive


async def test_cobo_starts_while_the_mutant_is_idle(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.RUNNING, "cobo0")
    start = fleet.log.of("cobo0", "Start")[0]
    assert (start.code, start.stale) == (0, ("CoBo[0]",))


async def test_clock(fleet: SimulatedFleet) -> None:
    board = fleet.boards["CoBo[0]"]
    await take_up(fleet, State.PREPARED)
    assert not board.clock_stale
    await fleet.call("mutant", "Undo")
    assert board.clock_stale
    await fleet.call("mutant", "Prepare")
    assert board.clock_stale, "a new clock is not the old one"
    await fleet.call("cobo0", "Undo")
    await fleet.call("cobo0", "Prepare")
    assert not board.clock_stale
    assert fleet.boards["CoBo[1]"].clock_stale


async def test_one_server_for_all_boards() -> None:
    async with SimulatedFleet(2, durations=INSTANT, one_server=True) as fleet:
        await take_up(fleet, State.RUNNING)
        assert [board.state for board in fleet.boards.values()] == [State.RUNNING] * 3
        assert not any(board.stale_starts for board in fleet.boards.values())
        assert (await fleet.call("ecc", "Describe")).code == 0
        await wait_until(lambda: all(router.connections == 1 for router in fleet.routers.values()))


def test_durations() -> None:
    assert (REAL.describe_s, REAL.prepare_s, REAL.configure_s, REAL.start_s) == (0.03, 4.7, 0.05, 0.1)
    assert (REAL.stop_s, REAL.pause_s, REAL.breakup_s, REAL.undo_s) == (0.5, 0.5, 0.5, 0)
    assert BRISK.prepare_s == 0.3


async def test_reply_waits_for_the_end_of_the_transition() -> None:
    loop = asyncio.get_running_loop()
    durations = Durations(describe_s=0.2, jitter=0.1)
    async with SimulatedFleet(1, False, durations=durations) as fleet:
        begin_s = loop.time()
        await fleet.call("cobo0", "Describe")
        assert loop.time() - begin_s >= 0.18
        call = fleet.log[0]
        assert call.end_s is not None
        assert call.end_s - call.begin_s >= 0.18
