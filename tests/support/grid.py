"""The grid of the troubles: a cell is one command, and one operation of it that goes wrong on one module."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from attpc_ioc.model.command import RUN, SYSTEM, Outcome, ResultCode, Scope, ScopeKind
from attpc_ioc.model.config import RECORDS, UNKNOWN
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import EDGES, Operation, State
from attpc_ioc.simulator.durations import Durations
from tests.support.rig import Rig, rig
from tests.support.trouble import (
    Trouble,
    arm,
    assert_nothing_forbidden,
    shown,
    state_after,
    strike,
    words,
)

FAST = Durations(0.005, 0.005, 0.005, 0.005, 0.005, 0.005, 0.005, 0.005, 0.005, jitter=0.0)
LIMITS_S = {Trouble.HANG: 2.0, Trouble.STALL: 3.0}
"""Where the trouble makes a command wait for its limit. Elsewhere nothing waits, and a limit that is met only
by a busy machine would be a false alarm."""

POLL_TIMEOUTS_S = {Trouble.STALL: 0.8}
"""A server is Offline after two polls that were not answered; a stall is to be seen before the limit."""

AMPLE_S = 15.0
STOP_MUTANT_S = 0.2

MODULES = ("cobo0", "cobo1", "mutant")


@dataclass(frozen=True)
class Cell:
    """One command, and what is to become of the others when `operation` goes wrong on `victim`.

    `sent` are the operations that the command sends, `others` the states that the other modules end in.
    """

    command: str
    victim: str
    operation: Operation
    start: State
    sent: str
    others: Mapping[str, State]
    scope: Scope = SYSTEM
    goto: State | None = None
    """For `GoTo`."""

    @property
    def target(self) -> State:
        return EDGES[self.operation][self.start]

    def __str__(self) -> str:
        goto = f"-{self.goto.label}" if self.goto is not None else ""
        return f"{self.scope}-{self.command}{goto}-{self.operation}-{self.victim}-{self.start.label}"


@contextlib.asynccontextmanager
async def grid_rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Trouble) -> AsyncIterator[Rig]:
    """A quick fleet of two CoBos and a MuTAnT, with limits as short as the trouble allows."""
    limit_s = limit_of(trouble)
    each = "\n".join(f"{operation.lower()}_s = {limit_s}" for operation in Operation)
    limits = f"{each}\nstop_mutant_s = {STOP_MUTANT_S}\narrival_grace_s = 0.05"
    timeout_s = POLL_TIMEOUTS_S.get(trouble, 3.0)
    poll = f"moving_period_s = 0.04\nquiet_period_s = 0.1\ntimeout_s = {timeout_s}"
    async with rig(tmp_path, monkeypatch, durations=FAST, limits=limits, poll=poll) as it:
        yield it
        assert_nothing_forbidden(it)


def limit_of(trouble: Trouble) -> float:
    """The limit of every operation in a cell of this trouble, in seconds."""
    return LIMITS_S.get(trouble, AMPLE_S)


async def provoke(it: Rig, cell: Cell, trouble: Trouble) -> Outcome:
    """Give the cell's command and let it meet the trouble; returns how it ended."""
    it.fleet.log.clear()
    server = it.fleet[cell.victim]
    arm(server, trouble, cell.operation)
    command = asyncio.create_task(it.submit(cell.command, cell.scope, cell.goto))
    await strike(server, it.fleet.log, trouble, cell.operation)
    return await command


def assert_outcome(it: Rig, cell: Cell, trouble: Trouble, outcome: Outcome) -> None:
    """The result and the message: which command, how it ended, which module, and why."""
    code = ResultCode.TIMED_OUT if trouble.late else ResultCode.FAILED
    assert outcome.code is code, outcome.message
    first, *more = words(trouble, cell.operation, cell.start, cell.target, limit_of(trouble))
    assert f"{cell.victim}: {first}" in outcome.message, outcome.message
    for text in more:
        assert text in outcome.message, outcome.message
    others = [name for name in MODULES if name != cell.victim and f"{name}:" in outcome.message]
    assert others == [] or cell.scope.kind is ScopeKind.ECC, outcome.message
    assert_shown_result(it, cell.scope, code, outcome.message)


def assert_shown_result(it: Rig, scope: Scope, code: ResultCode, message: str) -> None:
    """What screens see of it."""
    head = {ScopeKind.SYSTEM: "", ScopeKind.RUN: "Run:"}.get(scope.kind, f"Ecc:{scope.name}:")
    alarm = "NO_ALARM" if code is ResultCode.DONE else "MAJOR"
    assert shown(it, f"{head}Result_RBV") == (int(code), alarm)
    assert shown(it, f"{head}Message_RBV")[0] == message


async def assert_states(it: Rig, cell: Cell, trouble: Trouble) -> None:
    """The module is shown where it is, and the others, undisturbed, where the command took them."""
    after = state_after(trouble, cell.start, cell.target)
    await it.until(lambda: it.module(cell.victim).state is after, what=f"{cell.victim} in {after.label}")
    alarm = {State.OFFLINE: "INVALID", State.OFF: "MAJOR"}.get(after, "NO_ALARM")
    assert shown(it, f"Ecc:{cell.victim}:State_RBV") == (int(after), alarm)
    for name, state in cell.others.items():
        assert it.module(name).state is state, (name, it.states())
        assert it.fleet[name].state is state
        assert shown(it, f"Ecc:{name}:State_RBV") == (int(state), "NO_ALARM")
    part = RECORDS.get(cell.operation)
    if part and trouble.moves:
        assert getattr(it.module(cell.victim).loaded, part) == UNKNOWN
        assert shown(it, f"Ecc:{cell.victim}:Loaded_RBV")[1] == "MINOR"


def assert_sent(it: Rig, cell: Cell, more: str = "") -> None:
    """Exactly the operations of the plan were sent, each once, and nothing after the failed stage."""
    assert sorted(it.fleet.log.sequence()) == sorted(f"{cell.sent} {more}".split())


async def assert_no_second_call(it: Rig, cell: Cell, trouble: Trouble) -> None:
    """Rule 1: while the operation is not answered, no other one goes out on top of it."""
    if not trouble.late:
        return
    calls = len(it.fleet.log.transitions())
    reason = "is Offline" if trouble is Trouble.STALL else f"has not answered our {cell.operation} yet"
    commands = [("GoTo", Scope(ScopeKind.ECC, cell.victim), State.IDLE), ("GoTo", SYSTEM, State.IDLE)]
    commands += [("Start", RUN, None), (str(cell.operation), Scope(ScopeKind.ECC, cell.victim), None)]
    for name, scope, goto in commands:
        outcome = await it.submit(name, scope, goto)
        assert outcome.code is ResultCode.REFUSED, outcome.message
        if cell.start is not State.RUNNING:
            assert f"{cell.victim}: {reason}" in outcome.message, outcome.message
    assert len(it.fleet.log.transitions()) == calls


async def heal(it: Rig, cell: Cell, trouble: Trouble) -> None:
    """The trouble is gone: what was under way arrives, and is recorded though nobody waited for it."""
    it.fleet[cell.victim].faults.clear()
    if trouble.late:
        end = State.READY if cell.operation is Operation.START and cell.scope == RUN else cell.target
        await it.until_all(end, cell.victim)
        part, view = RECORDS.get(cell.operation), it.module(cell.victim)
        if part:
            assert view.selected is not None
            assert getattr(view.loaded, part) == getattr(view.selected, part)
    await it.until(
        lambda: all(m.online and not m.moving and m.state is not State.OFF for m in it.snapshot.enabled),
        what="all at rest",
    )


async def assert_usable(it: Rig) -> None:
    """After `GoTo Ready` a whole run works."""
    if it.run.on or any(m.live for m in it.snapshot.enabled):
        outcome = await it.submit("Stop", RUN)
        assert outcome.ok, outcome.message
    outcome = await it.submit("GoTo", SYSTEM, State.READY)
    assert outcome.ok, outcome.message
    await it.until(lambda: it.run.checklist == (), what="nothing against a start")
    outcome = await it.submit("Start", RUN)
    assert outcome.ok, outcome.message
    for board in it.fleet.boards.values():
        assert board.running, board
        assert not board.clock_stale, board
    outcome = await it.submit("Stop", RUN)
    assert outcome.ok, outcome.message
    assert it.run.state is RunState.STOPPED
    assert not any(board.running for board in it.fleet.boards.values())
