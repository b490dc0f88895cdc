"""Boards apart from the servers that drive them: dead, power-cycled, taken over."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from attpc_ioc.model.states import State
from attpc_ioc.simulator.boards import Board
from attpc_ioc.simulator.durations import INSTANT
from attpc_ioc.simulator.fleet import SimulatedFleet
from attpc_ioc.simulator.messages import TRANSITIONS
from tests.support.simfleet import take_up, wait_until


def dead(board: Board) -> None:
    board.die()


def power_cycled(board: Board) -> None:
    board.die()
    board.revive()


KINDS = {"cobo0": "CoBo[0]", "mutant": "Mutant[master]"}
CODES = {name: number for number, name in enumerate(TRANSITIONS, start=1)}
KEEPS = None

ICE = {
    dead: "ConnectionRefusedException",
    power_cycled: "ObjectNotExistException",
}
NETWORK = {
    dead: r"Ice exception: .*Network\.cpp:\d+: ::Ice::ConnectionRefusedException:\nconnection refused: .*",
    power_cycled: r"Ice exception: ::Ice::ObjectNotExistException:\nobject does not exist:.*",
}
UNREACHABLE = (
    r"Could not connect to '(CoBo|Mutant)' node '(0|master)' at 127\.0\.0\.\d:46001\. Connection to HW node "
    r"'.*' failed:\n.*ConnectionRefusedException.*"
)


@dataclass(frozen=True)
class Case:
    """A transition of a server whose board is gone; `message` "" is success, `after` None keeps the state."""

    server: str
    happens: Callable[[Board], None]
    start: State
    operation: str
    message: str = ""
    after: State | None = KEEPS

    def __str__(self) -> str:
        return f"{self.server} {self.happens.__name__} {self.operation} from {self.start.label}"


READY, RUNNING, OFF = State.READY, State.RUNNING, State.OFF
BOTH = [(server, happens) for server in KINDS for happens in (dead, power_cycled)]

CASES = [
    *(Case(server, dead, State.IDLE, "Describe", UNREACHABLE) for server in KINDS),
    *(Case(server, power_cycled, State.IDLE, "Describe", after=State.DESCRIBED) for server in KINDS),
    *(Case(*at, State.DESCRIBED, "Prepare", NETWORK[at[1]]) for at in BOTH),
    *(Case(*at, State.DESCRIBED, "Undo", after=State.IDLE) for at in BOTH),
    *(Case(*at, State.PREPARED, "Configure", NETWORK[at[1]]) for at in BOTH),
    *(Case(*at, READY, "Start", rf"Could not start run \(Ice::{ICE[at[1]]}\)") for at in BOTH),
    *(Case("cobo0", gone, RUNNING, "Stop", after=READY) for gone in ICE),
    *(Case("mutant", gone, RUNNING, "Stop", rf"Could not stop run \(Ice::{ICE[gone]}\)") for gone in ICE),
    *(Case("cobo0", gone, RUNNING, "Pause", after=State.PAUSED) for gone in ICE),
    *(Case("cobo0", gone, at, "Breakup", NETWORK[gone], OFF) for gone in ICE for at in (READY, RUNNING)),
    *(Case("mutant", gone, at, "Breakup", "Unknown error!", OFF) for gone in ICE for at in (READY, RUNNING)),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_board_that_is_gone(fleet: SimulatedFleet, case: Case) -> None:
    await take_up(fleet, case.start, case.server)
    case.happens(fleet.boards[KINDS[case.server]])
    assert (await fleet.call(case.server, "GetState")).state == case.start, "it answers from memory"
    answer = await fleet.call(case.server, case.operation)
    assert answer.code == (CODES[case.operation] if case.message else 0)
    assert re.fullmatch(case.message, answer.message, re.DOTALL)
    assert len(answer.message) < 250
    seen = await fleet.call(case.server, "GetState")
    assert (seen.code, seen.message, seen.state) == (0, "", case.start if case.after is None else case.after)


async def test_a_start_fails_also_after_the_board_is_back(fleet: SimulatedFleet) -> None:
    await take_up(fleet, READY, "cobo0")
    board = fleet.boards["CoBo[0]"]
    board.die()
    for exception in ("ConnectionRefused", "ObjectNotExist", "ObjectNotExist"):
        answer = await fleet.call("cobo0", "Start")
        assert (answer.code, answer.message) == (4, f"Could not start run (Ice::{exception}Exception)")
        assert fleet["cobo0"].state is READY
        board.revive()
    assert (await fleet.call("cobo0", "Breakup")).code == 8
    fleet["cobo0"].restart()
    await take_up(fleet, RUNNING, "cobo0")
    assert board.running


async def test_errors_of_several_boards_are_joined() -> None:
    async with SimulatedFleet(2, durations=INSTANT, one_server=True) as fleet:
        await take_up(fleet, READY)
        for name in ("CoBo[1]", "Mutant[master]"):
            fleet.boards[name].die()
        refused = "Could not start run (Ice::ConnectionRefusedException)"
        answer = await fleet.call("ecc", "Start")
        assert answer.message == f"CoBo[1]: {refused} | Mutant[master]: {refused} | "


async def test_off_needs_a_restart(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.READY, "cobo0")
    fleet.boards["CoBo[0]"].die()
    await fleet.call("cobo0", "Breakup")
    fleet.boards["CoBo[0]"].revive()
    for operation in TRANSITIONS:
        assert (await fleet.call("cobo0", operation)).code == (8 if operation == "Breakup" else 0)
        assert (await fleet.call("cobo0", "GetState")).state == State.OFF
    fleet["cobo0"].restart()
    await take_up(fleet, State.READY, "cobo0")


async def test_power_cycled_board_still_shows_its_last_state(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.RUNNING, "cobo0")
    board = fleet.boards["CoBo[0]"]
    board.die()
    board.revive()
    assert not board.running
    assert (await fleet.call("cobo0", "GetState")).state == State.RUNNING
    assert (await fleet.call("cobo0", "Stop")).code == 0


async def test_restarted_server_is_idle_whatever_its_board_does(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.RUNNING, "cobo0")
    fleet["cobo0"].restart()
    assert (await fleet.call("cobo0", "GetState")).state == State.IDLE
    assert (await fleet.call("cobo0", "Stop")).code == 0
    assert fleet.boards["CoBo[0]"].running


@pytest.mark.parametrize("undone", [False, True])
async def test_another_servers_describe_makes_the_board_anew(fleet: SimulatedFleet, undone: bool) -> None:
    await take_up(fleet, READY, "cobo0")
    board = fleet.boards["CoBo[0]"]
    assert str(board.loaded) == "cobo0/e20009/e20009"
    assert (await fleet.call("cobo1", "Describe", config="cobo0/e20009/e20009")).code == 0
    assert str(board.loaded) == "cobo0//"
    if undone:
        assert (await fleet.call("cobo1", "Undo")).code == 0
    await wait_until(lambda: fleet.routers["CoBo[0]"].connections == 0)
    assert (await fleet.call("cobo0", "GetState")).state == READY
    assert (await fleet.call("cobo0", "Start")).code == 0
    assert not board.running
    assert board.loaded.configure is None
    fleet["cobo0"].restart()
    await take_up(fleet, RUNNING, "cobo0")
    assert board.running
    assert str(board.loaded) == "cobo0/e20009/e20009"


async def test_describe_takes_a_board_from_its_own_server(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.RUNNING, "cobo0")
    board = fleet.boards["CoBo[0]"]
    answer = await fleet.call("cobo1", "Describe", config="cobo0/e20009/e20009")
    assert answer.code == 0
    assert 'id="CoBo[0]"' in (answer.text or "")
    assert (await fleet.call("cobo0", "GetState")).state == State.RUNNING
    assert (board.owner, board.running) == ("cobo1", False)
    assert (await fleet.call("cobo0", "Stop")).code == 0
    assert board.state is State.DESCRIBED
