"""What can go wrong with one ECC server, and what the IOC is to say and to show of it.

The expectations come from the rules of operation and from how the real server behaves, not from the code.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from enum import StrEnum

from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.states import Kind, Operation, State, Transition
from attpc_ioc.simulator.calls import Call, CallLog, Outcome
from attpc_ioc.simulator.server import EccServer
from tests.support.rig import Rig
from tests.support.simfleet import wait_until

SENT_TWICE = (Outcome.BUSY, Outcome.IGNORED)
"""What the simulator says of calls that the rules forbid: on top of another one, or from a wrong state."""


class Trouble(StrEnum):
    """What goes wrong with one operation on one module."""

    FAIL = "fails"
    HANG = "hangs"
    STALL = "stalls"
    LIE = "lies"
    FAIL_BUT_MOVE = "fails but moves"
    DIE = "dies"
    RESTART = "restarts in Idle"
    LOSE_REPLY = "loses its reply"
    OFF = "reports State 0"

    @property
    def late(self) -> bool:
        """Whether the operation goes on when the IOC has given up waiting."""
        return self in (Trouble.HANG, Trouble.STALL)

    @property
    def moves(self) -> bool:
        """Whether the operation takes effect though it does not succeed."""
        return self in (Trouble.FAIL_BUT_MOVE, Trouble.LOSE_REPLY)


MESSAGE = "Exception: simulated failure."


def arm(server: EccServer, trouble: Trouble, operation: Operation) -> None:
    """Prepare the trouble, before the command is given."""
    match trouble:
        case Trouble.FAIL:
            server.faults.fail(operation)
        case Trouble.LIE:
            server.faults.lie(operation)
        case Trouble.FAIL_BUT_MOVE:
            server.faults.fail_but_move(operation)
        case Trouble.LOSE_REPLY:
            server.faults.lose_reply(operation)
        case _:
            server.faults.hang(operation)


async def strike(server: EccServer, log: CallLog, trouble: Trouble, operation: Operation) -> None:
    """Bring the trouble about that happens in the middle of the operation."""
    if trouble not in (Trouble.STALL, Trouble.DIE, Trouble.RESTART, Trouble.OFF):
        return
    await wait_until(
        lambda: log.of(server.name, operation) and server.transition is not Transition.NONE,
        what=f"{operation} under way on {server.name}",
    )
    match trouble:
        case Trouble.STALL:
            server.faults.stall()
        case Trouble.DIE:
            server.faults.die()
        case Trouble.RESTART:
            server.restart()
        case _:
            server.faults.off()
    server.faults.clear("hang")


def state_after(trouble: Trouble, start: State, target: State) -> State:
    """Where the module is seen when the command has failed and the trouble is still on."""
    match trouble:
        case Trouble.FAIL_BUT_MOVE | Trouble.LOSE_REPLY:
            return target
        case Trouble.STALL | Trouble.DIE:
            return State.OFFLINE
        case Trouble.RESTART:
            return State.IDLE
        case Trouble.OFF:
            return State.OFF
        case _:
            return start


def words(trouble: Trouble, operation: Operation, start: State, target: State, limit_s: float) -> list[str]:
    """What the message has to say of the module, beginning with its name and a colon."""
    code = f"{operation} failed (code {int(operation.transition)}: "
    late = f"{operation} has not arrived after {limit_s:g} s: "
    lost = f"the reply to {operation} was lost ("
    match trouble:
        case Trouble.FAIL:
            return [f"{code}{MESSAGE})"]
        case Trouble.HANG:
            return [f"{late}seen in {start.label}, in transition {operation}"]
        case Trouble.STALL:
            return [f"{late}the server does not answer ("]
        case Trouble.LIE:
            return [
                f"{operation} was answered with success, but the module is seen in {start.label}, "
                f"not {target.label}"
            ]
        case Trouble.FAIL_BUT_MOVE:
            return [f"{code}{MESSAGE}) and yet the module is seen in {target.label}"]
        case Trouble.DIE:
            return [f"the server was lost in {operation} ("]
        case Trouble.RESTART:
            return [lost, "; the module is seen in Idle"]
        case Trouble.LOSE_REPLY:
            return [lost, f"; the module is seen in {target.label}"]
        case Trouble.OFF:
            return [code, "; the module is seen in Off"]
    raise AssertionError(trouble)


def forbidden(log: CallLog, names: Iterable[str]) -> list[str]:
    """The calls that the rules forbid: one on top of another, or in a state that it may not start from."""
    found = []
    for name in names:
        before: Call | None = None
        for call in log.transitions(name):
            if call.outcome in SENT_TWICE:
                found.append(str(call))
            elif before is not None and (before.end_s is None or before.end_s > call.begin_s):
                found.append(f"{call} on top of {before}")
            before = call
    return found


class Clocking:
    """Knows of each moment whether a MuTAnT took part: without one, nobody's clock is stale (rule 7).

    What is enabled stays so while a command is at work, so that a Start is judged by the moment it came.
    """

    def __init__(self, it: Rig) -> None:
        self._changes = [(float("-inf"), self._takes_part(it.snapshot))]
        it.app.controller.subscribe(lambda change: self._note(change.fleet))

    @staticmethod
    def _takes_part(fleet: Fleet) -> bool:
        return any(m.kind is Kind.MUTANT for m in fleet.enabled)

    def _note(self, fleet: Fleet) -> None:
        if self._takes_part(fleet) is not self._changes[-1][1]:
            self._changes.append((asyncio.get_running_loop().time(), self._takes_part(fleet)))

    def at(self, time_s: float) -> bool:
        return [takes_part for since_s, takes_part in self._changes if since_s <= time_s][-1]


def assert_nothing_forbidden(it: Rig, clocking: Clocking | None = None) -> None:
    """Fail where the simulator got a call that the rules forbid, or a CoBo was started with a stale clock."""
    assert forbidden(it.fleet.log, it.fleet.servers) == []
    stale = [call for call in it.fleet.log if call.stale and (clocking is None or clocking.at(call.begin_s))]
    assert [str(call) for call in stale] == []


def shown(it: Rig, name: str) -> tuple[object, str]:
    """What a PV shows: its value and its severity."""
    reading = it.posted(name)
    assert reading is not None, name
    return reading.value, reading.severity.name


async def said(it: Rig, name: str) -> str:
    """A long text as it was before `caget` escaped its quotes."""
    return (await it.get_text(name)).replace("\\'", "'")
