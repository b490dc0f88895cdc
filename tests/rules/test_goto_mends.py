"""Rule 9: after `GoTo Ready` Done nothing is left on the checklist that GoTo could mend."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from attpc_ioc.model.command import RUN, SYSTEM
from attpc_ioc.model.config import UNKNOWN
from attpc_ioc.model.states import EDGES, Operation, State, Transition
from attpc_ioc.simulator.xcfg import configure_text, describe_text
from tests.rules.test_corners import restart_with
from tests.support.rig import Rig, ecc, rig
from tests.support.runs import call_of
from tests.support.simfleet import take_up
from tests.support.state_dir import change
from tests.support.thorough import taking_turns
from tests.support.trouble import assert_nothing_forbidden

"""A busy disk is no reason not to start."""

IDLE, DESCRIBED, PREPARED, READY = State.IDLE, State.DESCRIBED, State.PREPARED, State.READY
VICTIMS = ("cobo0", "mutant")
GIVING = (Operation.DESCRIBE, Operation.PREPARE, Operation.CONFIGURE)
BACK = {READY: Operation.BREAKUP, PREPARED: Operation.UNDO, DESCRIBED: Operation.UNDO}

Way = Callable[[Rig, str, Operation], Awaitable[None]]
"""Has the part that `operation` gives to `victim` become unknown; leaves the victim wherever that ends."""


async def test_rule_09_goto_ready_needs_a_selected_config_and_the_way_down_does_not(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, start=False) as it:
        await take_up(it.fleet, READY)
        await it.start_ioc()
        await it.until_all(READY)
        await it.refused("GoTo", "Ready", because="cobo0, cobo1, mutant: no config is selected")
        for target in (PREPARED, IDLE):
            outcome = await it.submit("GoTo", SYSTEM, target)
            assert outcome.ok, outcome.message


async def test_rule_09_goto_of_the_mutant_alone_says_what_takes_the_cobos_along(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await external_down_and_up(it, "mutant", Operation.PREPARE)
        message = await it.refused("Ecc:mutant:GoTo", "Ready", because="mutant: the MuTAnT clocks the CoBos")
        assert "the GoTo of all ECC servers does that" in message
        it.fleet.log.clear()
        assert (await it.submit("GoTo", SYSTEM, READY)).ok
        for cobo in ("cobo0", "cobo1"):
            assert [c for c in it.fleet.log.sequence() if cobo in c] == [
                f"{cobo}.{name}" for name in ("Breakup", "Undo", "Prepare", "Configure")
            ]
        assert it.run.checklist == ()


async def test_rule_09_goto_is_not_done_where_somebody_else_did_a_step_meanwhile(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(DESCRIBED)
        it.fleet["mutant"].faults.hang("Prepare")
        going = asyncio.create_task(it.submit("GoTo", SYSTEM, READY))
        await it.until(lambda: it.module("mutant").transition is Transition.PREPARE)
        await it.fleet.call("cobo0", "Prepare", config="cobo0/pulser/pulser")
        await it.until_all(PREPARED, "cobo0")
        it.fleet["mutant"].faults.clear()
        outcome = await going
        assert "cobo0: was taken to Prepared by no command of this IOC: what is loaded" in outcome.message
        assert "GoTo Ready takes it back to Described and up again" in outcome.message
        assert (await it.submit("GoTo", SYSTEM, READY)).ok
        assert it.run.checklist == ()
        assert (await it.submit("Start", RUN)).ok


def start_of(operation: Operation) -> State:
    return next(iter(EDGES[operation]))


async def bring(it: Rig, victim: str, operation: Operation) -> None:
    """Take all to where `operation` may go out to the victim."""
    await it.take_to(start_of(operation))
    if victim == "cobo0" and operation is Operation.PREPARE:
        assert (await it.submit("Prepare", ecc("mutant"))).ok
    if victim == "mutant" and operation is Operation.CONFIGURE:
        for cobo in ("cobo0", "cobo1"):
            assert (await it.submit("Configure", ecc(cobo))).ok


async def lost_reply(it: Rig, victim: str, operation: Operation) -> None:
    await bring(it, victim, operation)
    it.fleet[victim].faults.lose_reply(operation)
    assert not (await it.submit(operation, ecc(victim))).ok


async def failed_but_moved(it: Rig, victim: str, operation: Operation) -> None:
    await bring(it, victim, operation)
    it.fleet[victim].faults.fail_but_move(operation)
    assert not (await it.submit(operation, ecc(victim))).ok


async def failed(it: Rig, victim: str, operation: Operation) -> None:
    await bring(it, victim, operation)
    it.fleet[victim].faults.fail(operation)
    assert not (await it.submit(operation, ecc(victim))).ok


async def board_power_cycled(it: Rig, victim: str, operation: Operation) -> None:
    """The board has forgotten its ECC server; the operation fails until the board is described anew."""
    await bring(it, victim, operation)
    it.fleet[victim].faults.board_dead()
    it.fleet[victim].faults.clear()
    outcome = await it.submit(operation, ecc(victim))
    assert outcome.ok is (operation is Operation.DESCRIBE), outcome.message


async def external_up(it: Rig, victim: str, operation: Operation) -> None:
    await bring(it, victim, operation)
    await it.fleet.call(victim, operation, config=it.fleet.config(victim, "pulser"))
    await it.until_all(EDGES[operation][start_of(operation)], victim)


async def external_down_and_up(it: Rig, victim: str, operation: Operation) -> None:
    """Seen lower than it was recorded in."""
    await it.take_to(READY)
    state = READY
    while state is not start_of(operation):
        await it.fleet.call(victim, BACK[state])
        state = State(state - 1)
        await it.until_all(state, victim)
    await it.fleet.call(victim, operation, config=it.fleet.config(victim, "pulser"))
    await it.until_all(EDGES[operation][state], victim)


async def ioc_ended_in_it(it: Rig, victim: str, operation: Operation) -> None:
    await bring(it, victim, operation)
    it.fleet[victim].faults.slow(operation, extra_s=0.2)
    going = asyncio.create_task(it.submit(operation, ecc(victim)))
    await call_of(it, victim, operation)
    await it.stop_ioc()
    await going
    await it.start_ioc()
    await it.until_all(EDGES[operation][start_of(operation)], victim)


async def ioc_ended_in_the_way_back(it: Rig, victim: str, operation: Operation) -> None:
    target = EDGES[operation][start_of(operation)]
    await it.take_to(target)
    if victim == "mutant" and target is PREPARED:
        for cobo in ("cobo0", "cobo1"):
            assert (await it.submit("Undo", ecc(cobo))).ok
    it.fleet[victim].faults.slow(BACK[target], extra_s=0.2)
    going = asyncio.create_task(it.submit("Reset", ecc(victim)))
    await call_of(it, victim, BACK[target])
    await it.stop_ioc()
    await going
    await it.start_ioc()
    await it.until_all(start_of(operation), victim)


async def ecc_server_restarted_in_it(it: Rig, victim: str, operation: Operation) -> None:
    await bring(it, victim, operation)
    it.fleet[victim].faults.hang(operation)
    going = asyncio.create_task(it.submit(operation, ecc(victim)))
    await it.until(lambda: it.module(victim).transition is not Transition.NONE)
    it.fleet[victim].restart()
    it.fleet[victim].faults.clear()
    assert not (await going).ok
    await it.until_all(IDLE, victim)


async def ecc_server_restarted_after_it(it: Rig, victim: str, operation: Operation) -> None:
    await it.take_to(EDGES[operation][start_of(operation)])
    it.fleet[victim].restart()
    await it.until_all(IDLE, victim)


async def lost_in_it(it: Rig, victim: str, operation: Operation) -> None:
    """The network is gone before the end is seen; the operation goes on."""
    await bring(it, victim, operation)
    server = it.fleet[victim]
    server.faults.hang(operation)
    server.faults.lose_reply(operation)
    going = asyncio.create_task(it.submit(operation, ecc(victim)))
    await call_of(it, victim, operation)
    server.faults.refuse()
    await it.until(lambda: not it.module(victim).online)
    server.faults.clear("hang")
    assert not (await going).ok
    server.faults.clear()
    await it.until_all(EDGES[operation][start_of(operation)], victim)


async def other_config_selected(it: Rig, victim: str, operation: Operation) -> None:
    """Not unknown, but not what is selected: in this part alone where the server offers such a name."""
    await it.take_to(EDGES[operation][start_of(operation)])
    await it.select("pulser")


async def another_address(it: Rig, victim: str, operation: Operation) -> None:
    await it.take_to(EDGES[operation][start_of(operation)])
    await restart_with(it, victim, host="localhost")


async def damaged_record(it: Rig, victim: str, operation: Operation) -> None:
    await it.take_to(EDGES[operation][start_of(operation)])
    await it.stop_ioc()
    (database,) = (it.settings_file.parent / "state").rglob("state.db")
    change(database.parent, "DELETE FROM kept WHERE topic = 'modules'")
    await it.start_ioc()
    await it.until(lambda: all(m.offered is not None for m in it.snapshot.modules.values()))
    await it.select()


async def taken_over(it: Rig, victim: str, operation: Operation) -> None:
    """Another server's wrong Describe has made the board anew."""
    await it.take_to(EDGES[operation][start_of(operation)])
    assert (await it.submit("GoTo", ecc("cobo1"), IDLE)).ok
    board = "Mutant[master]" if victim == "mutant" else "CoBo[0]"
    (node,) = (n for n in it.fleet[victim].nodes if n.board == board)
    file = it.fleet.xcfg.path / "describe-cobo1.xcfg"
    right = file.read_text()
    file.write_text(describe_text([node]))
    assert not (await it.submit("Describe", ecc("cobo1"))).ok
    await it.until_all(IDLE, "cobo1")
    file.write_text(right)


WAYS: tuple[Way, ...] = (
    lost_reply,
    failed_but_moved,
    failed,
    board_power_cycled,
    external_up,
    external_down_and_up,
    ioc_ended_in_it,
    ioc_ended_in_the_way_back,
    ecc_server_restarted_in_it,
    ecc_server_restarted_after_it,
    lost_in_it,
    other_config_selected,
    another_address,
    damaged_record,
    taken_over,
)


PLACES = tuple(itertools.product(GIVING, VICTIMS))
TRIED = taking_turns(PLACES, WAYS, lambda place: place[0])


def test_each_way_is_tried_with_each_operation_and_each_kind_of_module():
    assert {(way, operation) for (operation, _), way in TRIED} == set(itertools.product(WAYS, GIVING))
    assert {(way, victim) for (_, victim), way in TRIED} == set(itertools.product(WAYS, VICTIMS))
    assert {place for place, _ in TRIED} == set(PLACES)


@pytest.mark.parametrize(
    ("way", "operation", "victim"),
    [pytest.param(way, *place, id="-".join((way.__name__, *map(str, place)))) for place, way in TRIED],
)
async def test_rule_09_goto_ready_mends_what_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: Way, operation: Operation, victim: str
) -> None:
    async with rig(tmp_path, monkeypatch) as it:
        for name in it.fleet.experiments:
            text = configure_text([("CoBo", "*"), ("Mutant", "*")], 0)
            (it.fleet.xcfg.path / f"configure-{name}.xcfg").write_text(text)
        await way(it, victim, operation)
        it.fleet[victim].faults.clear()
        await it.until(
            lambda: all(m.online and not m.moving and m.offered is not None for m in it.snapshot.enabled)
        )
        if victim == "cobo0" and it.module("mutant").state >= PREPARED:
            # One module by itself as well, once the others are where it is to go.
            for name in ("cobo1", "mutant"):
                assert (await it.submit("GoTo", ecc(name), READY)).ok or name == "mutant"
            outcome = await it.submit("GoTo", ecc(victim), READY)
            assert outcome.ok, outcome.message
            assert not it.module(victim).mismatch
        outcome = await it.submit("GoTo", SYSTEM, READY)
        assert outcome.ok, outcome.message
        assert it.run.checklist == ()
        loaded = it.fleet[victim].machine.loaded
        assert str(it.module(victim).loaded) == str(loaded)
        assert UNKNOWN not in str(loaded)
        outcome = await it.submit("Start", RUN)
        assert outcome.ok, outcome.message
        for board in it.fleet.boards.values():
            assert board.running, board
            assert not board.clock_stale, board
        assert_nothing_forbidden(it)
