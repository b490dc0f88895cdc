"""The live answers of a fleet: those that modules share, and what a large fleet is asked at once."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from attpc_ioc.control.decide import Decider
from attpc_ioc.control.modules.offered import AT_ONCE
from attpc_ioc.model.boards import BoardFault
from attpc_ioc.model.command import (
    COMMANDS,
    RUN,
    SYSTEM,
    Command,
    CommandName,
    ScopeKind,
    Who,
    ecc_scope,
)
from attpc_ioc.model.config import UNKNOWN, ConfigName, Loaded
from attpc_ioc.model.fleet import Fleet, ModuleView
from attpc_ioc.model.states import Kind, Operation, State, Transition
from tests.support.fleets import as_mapping
from tests.support.rig import rig
from tests.support.simfleet import wait_until

SEEN = [s for s in State if s not in (State.OFFLINE, State.MIXED)]
TARGETS = (State.IDLE, State.DESCRIBED, State.PREPARED, State.READY)
FAULTS = (BoardFault("is dead", State.PREPARED), BoardFault("is taken", State.IDLE))
FLEETS = 60


def any_module(chance: random.Random, name: str) -> ModuleView:
    last = chance.choice([None, *SEEN])
    offline = last is None or chance.random() < 0.2

    def part() -> str | None:
        return chance.choice((None, UNKNOWN, name))

    return ModuleView(
        name=name,
        kind=chance.choice((Kind.COBO, Kind.COBO, Kind.MUTANT, Kind.OTHER)),
        url="http://127.0.0.1:1/",
        host="127.0.0.1",
        enabled=chance.random() < 0.8,
        state=State.OFFLINE if offline else last or State.OFFLINE,
        last_state=last,
        transition=chance.choice((*[Transition.NONE] * 6, *Transition)),
        outstanding=chance.choice((*[None] * 8, Operation.DESCRIBE)),
        selected=chance.choice((None, ConfigName(name, "e", "e"))),
        loaded=Loaded(part(), part(), part()),
        clock_stale=chance.random() < 0.3,
        board_fault=chance.choice((None, None, None, *FAULTS)),
        offline_reason="gone" if offline else "",
    )


def accepted(decider: Decider, name: str, command: CommandName, fleet: Fleet) -> bool:
    """Whether one command of one module would be accepted, decided by itself."""
    targets = TARGETS if command is CommandName.GOTO else (None,)
    return any(
        not decider.decide(fleet, Command(ecc_scope(name), command, target)).reasons for target in targets
    )


@pytest.mark.parametrize("seed", range(3))
async def test_modules_that_share_an_answer_have_the_same(seed, tmp_path, monkeypatch):
    chance = random.Random(seed)
    async with rig(tmp_path, monkeypatch) as it:
        decider = Decider(it.app.host)
        assert not it.app.host.distinguishes_modules
        seen = set()
        for _ in range(FLEETS):
            modules = [any_module(chance, f"m{n}") for n in range(12)]
            # Some are alike but for their names.
            modules += [replace(module, name=f"twin-{module.name}") for module in modules[:4]]
            fleet = Fleet(as_mapping(modules))
            *_, answers = decider.allowed(fleet)
            assert answers is not None
            for name in fleet.modules:
                one_by_one = {c for c in COMMANDS[ScopeKind.ECC] if accepted(decider, name, c, fleet)}
                assert answers[ecc_scope(name)] == one_by_one, fleet.modules[name]
                seen |= one_by_one
        # Abort and Run's commands apart, each was possible somewhere.
        assert seen >= {CommandName.DESCRIBE, CommandName.PREPARE, CommandName.CONFIGURE, CommandName.GOTO}


async def test_the_answers_follow_whatever_happens(tmp_path, monkeypatch):
    """After all that happens the answers in the snapshot are those of a new look at it."""
    async with rig(tmp_path, monkeypatch, cobos=3) as it:

        def true_ones() -> object:
            *_, answers = Decider(it.app.host).allowed(it.snapshot)
            return answers

        await it.select()
        seen = set()
        for name, scope, target in (
            ("Describe", ecc_scope("cobo0"), None),
            ("GoTo", SYSTEM, State.READY),
            ("Breakup", ecc_scope("cobo1"), None),
            ("GoTo", SYSTEM, State.READY),
            ("Start", RUN, None),
            ("Stop", RUN, None),
            ("GoTo", SYSTEM, State.IDLE),
        ):
            outcome = await it.submit(name, scope, target)
            assert outcome.ok, outcome.message
            await it.until(lambda: it.snapshot.allowed == true_ones(), what=f"the answers after {name}")
            seen.add(it.snapshot.allowed[SYSTEM])
            for enable in () if it.run.on else (0, 1):
                it.app.controller.set("enable", ecc_scope("cobo2"), enable, Who("test"))
                what = f"the answers with cobo2 {enable} after {name}"
                await it.until(lambda: it.snapshot.allowed == true_ones(), what=what)
        assert len(seen) > 2


async def test_only_some_servers_are_asked_for_their_configs_at_a_time(tmp_path, monkeypatch):
    cobos = 2 * AT_ONCE
    async with rig(tmp_path, monkeypatch, cobos=cobos, start=False) as it:
        for server in it.fleet:
            server.faults.slow(extra_s=0.05)
        await it.start_ioc()
        await wait_until(
            lambda: all(m.offered is not None for m in it.snapshot.modules.values()), 30, "configs"
        )
        calls = [call for call in it.fleet.log if call.operation == "GetConfigIDs"]
        assert len({call.server for call in calls}) == cobos + 1
        begun = sorted(call.begin_s for call in calls)
        overlap = max(
            sum(1 for call in calls if call.begin_s <= moment and (call.end_s or moment) > moment)
            for moment in begun
        )
        assert 1 < overlap <= AT_ONCE
