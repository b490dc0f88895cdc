"""Helpers for tests of run control: a plugin that keeps events, commands under way, foreign calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from attpc_ioc.model.command import RUN, Outcome
from attpc_ioc.model.events import RunEvent, StateChanged
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from attpc_ioc.plugin import hookimpl
from attpc_ioc.simulator.calls import Call
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig


@dataclass
class Recorder:
    """A plugin that keeps what it hears of runs."""

    events: list[RunEvent] = field(default_factory=list)
    changes: list[StateChanged] = field(default_factory=list)

    @hookimpl
    def attpc_event(self, event: object) -> None:
        if isinstance(event, StateChanged):
            self.changes.append(event)
        elif isinstance(event, RunEvent):
            self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    @property
    def last(self) -> RunEvent:
        return self.events[-1]


def under_way(it: Rig, name: str) -> asyncio.Task[Outcome]:
    """Give a command of the run and go on; its task must be awaited."""
    return asyncio.create_task(it.submit(name, RUN), name=f"Run:{name} of the test")


async def call_of(it: Rig, server: str, operation: str, limit_s: float = PATIENCE_S) -> Call:
    """Wait until a server has taken up a call."""
    return await it.fleet.log.wait_for(lambda c: c.server == server and c.operation == operation, limit_s)


async def ready(it: Rig) -> int:
    """Take all modules to Ready, forget the calls until here, and return the number of the next run."""
    await it.take_to(State.READY)
    it.fleet.log.clear()
    return it.run.next_number


async def running(it: Rig) -> int:
    """Have a run on, forget the calls until here, and return its number."""
    await it.start_run()
    await it.until_run(RunState.RUNNING)
    it.fleet.log.clear()
    return it.run.number


async def outside(it: Rig, operation: str, *servers: str) -> None:
    """Call an operation as another client would."""
    for server in servers:
        answer = await it.fleet.call(server, operation)
        assert answer.code == 0, answer


def boards_running(it: Rig) -> list[str]:
    """The boards that take data, whatever any server says."""
    return [name for name, board in it.fleet.boards.items() if board.running]
