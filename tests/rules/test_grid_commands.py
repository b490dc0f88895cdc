"""Every trouble, in every operation, of a group command or a command of a single module."""

from __future__ import annotations

from pathlib import Path

import pytest

from attpc_ioc.model.command import SYSTEM, ecc_scope
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import Operation, State
from tests.support.grid import (
    Cell,
    assert_no_second_call,
    assert_outcome,
    assert_sent,
    assert_states,
    assert_usable,
    grid_rig,
    heal,
    provoke,
)
from tests.support.rig import Rig
from tests.support.thorough import taking_turns
from tests.support.trouble import Trouble

IDLE, DESCRIBED, PREPARED, READY, RUNNING = (
    State.IDLE,
    State.DESCRIBED,
    State.PREPARED,
    State.READY,
    State.RUNNING,
)
BACK_TO_PREPARED = "mutant.Breakup cobo0.Breakup cobo1.Breakup"
UNDO_COBOS = "cobo0.Undo cobo1.Undo"


def others(cobo: State, mutant: State, victim: str = "cobo0") -> dict[str, State]:
    """The states of the modules that nothing is wrong with."""
    states = {"cobo0": cobo, "cobo1": cobo, "mutant": mutant}
    return {name: state for name, state in states.items() if name != victim}


def group(
    command: str,
    victim: str,
    operation: Operation,
    start: State,
    sent: str,
    rest: tuple[State, State],
    goto: State | None = None,
) -> Cell:
    """A group command; `rest` are the states that the other CoBos and the MuTAnT end in."""
    return Cell(command, victim, operation, start, sent, others(*rest, victim=victim), goto=goto)


# fmt: off
GROUP = [
    group("Describe", "cobo0", Operation.DESCRIBE, IDLE, "cobo0.Describe cobo1.Describe", (DESCRIBED, IDLE)),
    group("Describe", "mutant", Operation.DESCRIBE, IDLE,
          "cobo0.Describe cobo1.Describe mutant.Describe", (DESCRIBED, DESCRIBED)),
    group("Prepare", "mutant", Operation.PREPARE, DESCRIBED, "mutant.Prepare", (DESCRIBED, DESCRIBED)),
    group("Prepare", "cobo0", Operation.PREPARE, DESCRIBED,
          "mutant.Prepare cobo0.Prepare cobo1.Prepare", (PREPARED, PREPARED)),
    group("Configure", "cobo0", Operation.CONFIGURE, PREPARED,
          "cobo0.Configure cobo1.Configure", (READY, PREPARED)),
    group("Configure", "mutant", Operation.CONFIGURE, PREPARED,
          "cobo0.Configure cobo1.Configure mutant.Configure", (READY, PREPARED)),
    group("Reset", "mutant", Operation.BREAKUP, READY, "mutant.Breakup", (READY, PREPARED)),
    group("Reset", "cobo0", Operation.BREAKUP, READY, BACK_TO_PREPARED, (PREPARED, PREPARED)),
    group("Reset", "cobo0", Operation.UNDO, PREPARED, UNDO_COBOS, (DESCRIBED, PREPARED)),
    group("Reset", "mutant", Operation.UNDO, PREPARED, f"{UNDO_COBOS} mutant.Undo", (DESCRIBED, DESCRIBED)),
    group("Reset", "cobo0", Operation.UNDO, DESCRIBED, f"{UNDO_COBOS} mutant.Undo", (IDLE, IDLE)),
    group("GoTo", "cobo0", Operation.BREAKUP, READY, BACK_TO_PREPARED, (PREPARED, PREPARED), IDLE),
]
# fmt: on

STAYING = (READY, READY)


def single(
    victim: str, operation: Operation, start: State, rest: tuple[State, State], command: str = ""
) -> Cell:
    """A command of one module: the others are not touched at all."""
    goto = EDGE_ENDS[operation] if command == "GoTo" else None
    return Cell(
        command or str(operation),
        victim,
        operation,
        start,
        f"{victim}.{operation}",
        others(*rest, victim=victim),
        ecc_scope(victim),
        goto,
    )


EDGE_ENDS = {Operation.CONFIGURE: READY, Operation.UNDO: DESCRIBED}

SINGLE = [
    single("cobo0", Operation.DESCRIBE, IDLE, (IDLE, IDLE)),
    single("mutant", Operation.PREPARE, DESCRIBED, (DESCRIBED, DESCRIBED)),
    single("cobo0", Operation.CONFIGURE, PREPARED, (PREPARED, PREPARED)),
    single("cobo0", Operation.START, READY, STAYING),
    single("cobo0", Operation.STOP, RUNNING, STAYING),
    single("cobo0", Operation.BREAKUP, READY, STAYING),
    single("cobo0", Operation.UNDO, PREPARED, (PREPARED, PREPARED)),
    single("cobo0", Operation.UNDO, DESCRIBED, (DESCRIBED, DESCRIBED)),
    single("cobo0", Operation.CONFIGURE, PREPARED, (PREPARED, PREPARED), "GoTo"),
    single("cobo0", Operation.BREAKUP, READY, STAYING, "Reset"),
]


async def begin(it: Rig, cell: Cell) -> None:
    """Take the modules to where the cell starts."""
    if cell.start is not RUNNING:
        await it.take_to(cell.start)
        return
    await it.take_to(READY)
    outcome = await it.submit("Start", ecc_scope(cell.victim))
    assert outcome.ok, outcome.message
    await it.until_run(RunState.ORPHAN)


TRIED = taking_turns([*GROUP, *SINGLE], Trouble, lambda cell: cell.operation)


def test_each_trouble_meets_each_operation_group_commands_and_single_ones_and_each_kind_of_module():
    for part in (
        lambda cell: cell.operation,
        lambda cell: cell.scope == SYSTEM,
        lambda cell: cell.victim,
    ):
        found = {(part(cell), trouble) for cell, trouble in TRIED}
        assert found == {(part(cell), trouble) for cell in (*GROUP, *SINGLE) for trouble in Trouble}
    assert {str(cell) for cell, _ in TRIED} == {str(cell) for cell in (*GROUP, *SINGLE)}


@pytest.mark.parametrize(("cell", "trouble"), TRIED, ids=str)
async def test_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: Cell, trouble: Trouble) -> None:
    async with grid_rig(tmp_path, monkeypatch, trouble) as it:
        await begin(it, cell)
        outcome = await provoke(it, cell, trouble)
        assert_outcome(it, cell, trouble, outcome)
        await assert_states(it, cell, trouble)
        assert_sent(it, cell)
        await assert_no_second_call(it, cell, trouble)
        await heal(it, cell, trouble)
        await assert_usable(it)
