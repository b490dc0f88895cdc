"""Every trouble, in every operation of the start and of the stop of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from attpc_ioc.model.command import RUN, ResultCode
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import Operation, State
from tests.support.grid import (
    STOP_MUTANT_S,
    Cell,
    assert_no_second_call,
    assert_outcome,
    assert_sent,
    assert_shown_result,
    assert_states,
    assert_usable,
    grid_rig,
    heal,
    limit_of,
    provoke,
)
from tests.support.trouble import Trouble, shown, state_after, words

PREPARED, READY, RUNNING = State.PREPARED, State.READY, State.RUNNING
COBOS_READY = {"cobo0": READY, "cobo1": READY}
RE_ZERO = "mutant.Breakup mutant.Configure"
COBOS_START = f"{RE_ZERO} cobo0.Start cobo1.Start"
COBOS_STOP = "cobo0.Stop cobo1.Stop"

STARTS = [
    Cell("Start", "mutant", Operation.BREAKUP, READY, "mutant.Breakup", COBOS_READY, RUN),
    Cell("Start", "mutant", Operation.CONFIGURE, PREPARED, RE_ZERO, COBOS_READY, RUN),
    Cell("Start", "cobo0", Operation.START, READY, COBOS_START, {"cobo1": READY, "mutant": READY}, RUN),
    Cell("Start", "mutant", Operation.START, READY, f"{COBOS_START} mutant.Start", COBOS_READY, RUN),
]

STOPS = [
    Cell("Stop", "mutant", Operation.STOP, RUNNING, f"mutant.Stop {COBOS_STOP}", COBOS_READY, RUN),
    Cell(
        "Stop",
        "cobo0",
        Operation.STOP,
        RUNNING,
        f"mutant.Stop {COBOS_STOP}",
        {"cobo1": READY, "mutant": READY},
        RUN,
    ),
]

LEFT_RUNNING = (Trouble.FAIL, Trouble.HANG, Trouble.STALL, Trouble.LIE, Trouble.DIE)
"""The troubles of Stop after which the module is not seen out of Running."""


def rolled_back(cell: Cell, trouble: Trouble) -> str:
    """The Stops of the roll-back: of all that started, the one in trouble only where it did start."""
    if cell.operation is not Operation.START:
        return ""
    others = "cobo1.Stop" if cell.victim == "cobo0" else COBOS_STOP
    return f"{others} {cell.victim}.Stop" if trouble.moves else others


def start_states(cell: Cell, trouble: Trouble) -> State:
    """Where the module is after the roll-back, while the trouble is still on."""
    if cell.operation is Operation.START and trouble.moves:
        return READY
    return state_after(trouble, cell.start, cell.target)


@pytest.mark.parametrize("trouble", Trouble)
@pytest.mark.parametrize("cell", STARTS, ids=str)
async def test_grid_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: Cell, trouble: Trouble
) -> None:
    async with grid_rig(tmp_path, monkeypatch, trouble) as it:
        await it.take_to(READY)
        number = it.run.next_number
        outcome = await provoke(it, cell, trouble)
        assert_outcome(it, cell, trouble, outcome)
        await it.until_run(RunState.STOPPED)
        assert not it.run.on

        # Rule 13: the number goes back only where no Start was sent.
        spent = "used up" if cell.operation is Operation.START else "released"
        assert f"run number {number} was {spent}" in outcome.message.replace("is used", "was used")
        following = number + 1 if spent == "used up" else number
        await it.until(lambda: it.run.next_number == following, what=f"next number {following}")

        after = start_states(cell, trouble)
        await it.until(lambda: it.module(cell.victim).state is after, what=f"{cell.victim} {after.label}")
        for name, state in cell.others.items():
            assert it.module(name).state is state, it.states()
            assert it.fleet[name].state is state
        assert_sent(it, cell, rolled_back(cell, trouble))
        await assert_no_second_call(it, cell, trouble)

        it.fleet.log.clear()
        await heal(it, cell, trouble)
        if cell.operation is Operation.START and trouble.late:
            # The late start is stopped when it comes, and nothing else is touched.
            assert it.fleet.log.sequence()[-1] == f"{cell.victim}.Stop"
            assert {call.server for call in it.fleet.log.transitions()} == {cell.victim}
        re_zero_left = cell.operation is Operation.CONFIGURE and trouble in (
            Trouble.FAIL,
            Trouble.HANG,
            Trouble.STALL,
            Trouble.LIE,
        )
        if re_zero_left:
            # Rule 11: a start is possible from exactly what a failed re-zero leaves.
            again = await it.submit("Start", RUN)
            assert again.ok, again.message
        await assert_usable(it)


def stop_words(trouble: Trouble) -> list[str]:
    """What the message of an incomplete stop has to say of the module."""
    match trouble:
        case Trouble.HANG:
            return ["was not seen out of Running: seen in Running, in transition Stop"]
        case Trouble.STALL:
            return ["was not seen out of Running: the server does not answer ("]
        case _:
            return words(trouble, Operation.STOP, RUNNING, READY, limit_of(trouble))


@pytest.mark.parametrize("trouble", Trouble)
@pytest.mark.parametrize("cell", STOPS, ids=str)
async def test_grid_of_the_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: Cell, trouble: Trouble
) -> None:
    async with grid_rig(tmp_path, monkeypatch, trouble) as it:
        await it.start_run()
        number = it.run.number
        outcome = await provoke(it, cell, trouble)
        # Whatever the MuTAnT does, the CoBos are stopped within the time that they wait for it.
        assert_sent(it, cell)
        mutant, *cobos = (it.fleet.log.of(name, "Stop")[0] for name in ("mutant", "cobo0", "cobo1"))
        for call in cobos:
            assert call.begin_s - mutant.begin_s < STOP_MUTANT_S + 0.5
        await assert_states(it, cell, trouble)

        if trouble not in LEFT_RUNNING:
            # Rule 17: it ends when all were seen out of Running, whatever the replies say.
            assert outcome.code is ResultCode.DONE, outcome.message
            await it.until_run(RunState.STOPPED)
            await heal(it, cell, trouble)
            await assert_usable(it)
            return

        assert outcome.code is ResultCode.INCOMPLETE, outcome.message
        for text in stop_words(trouble):
            assert text in outcome.message
        assert f"{cell.victim}: " in outcome.message
        assert_shown_result(it, RUN, ResultCode.INCOMPLETE, outcome.message)
        await it.until_run(RunState.STOPPING)
        assert shown(it, "Run:Ready_RBV")[0] == 0
        veto = await it.submit("Start", RUN)
        assert veto.code is ResultCode.REFUSED
        assert f"the stop of run {number} is not complete" in veto.message
        await assert_no_second_call(it, cell, trouble)

        if trouble in (Trouble.FAIL, Trouble.LIE):
            it.fleet[cell.victim].faults.clear()
            it.fleet.log.clear()
            again = await it.submit("Stop", RUN)
            assert again.ok, again.message
            # Another Run:Stop goes on with the rest, and only with the rest.
            assert it.fleet.log.sequence() == [f"{cell.victim}.Stop"]
        else:
            await heal(it, cell, trouble)
        await it.until_run(RunState.STOPPED)
        await assert_usable(it)


async def test_a_fault_of_the_program_in_a_start_is_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with grid_rig(tmp_path, monkeypatch, Trouble.FAIL) as it:
        await it.take_to(READY)
        mutant = it.app.controller.modules["mutant"]
        send = mutant.send

        def broken(operation: Operation, *args: object) -> object:
            if operation is Operation.START:
                raise RuntimeError("this cannot happen")
            return send(operation, *args)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(mutant, "send", broken)
            outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.FAILED
        assert "mutant: fault of the program: this cannot happen" in outcome.message
        assert {server.name: server.state for server in it.fleet} == {"mutant": READY, **COBOS_READY}
        await it.until_run(RunState.STOPPED)
        await assert_usable(it)
