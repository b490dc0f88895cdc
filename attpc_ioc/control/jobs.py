"""The commands that run, each from its admission to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from attpc_ioc.model.command import Command, Outcome
from attpc_ioc.model.fleet import ActiveCommand
from attpc_ioc.model.plan import Plan

from .state import FleetState


def future() -> asyncio.Future[Any]:
    """Return a future of this event loop."""
    return asyncio.get_running_loop().create_future()


async def wait_all(
    waits: Iterable[asyncio.Future[Any]], abort: asyncio.Future[None], limit_s: float
) -> list[asyncio.Future[Any]]:
    """Wait until all of `waits` are done or `abort` is, `limit_s` at most; return what is not done."""
    left, deadline_s = list(waits), time.monotonic() + limit_s
    while (left := [wait for wait in left if not wait.done()]) and not abort.done():
        left_s = max(0.0, deadline_s - time.monotonic())
        done, _ = await asyncio.wait((*left, abort), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            break
    return left


@dataclass(slots=True, eq=False)
class Job:
    """One running command. `abort` is done when nothing further of it is to be sent."""

    command: Command
    plan: Plan
    active: ActiveCommand
    abort: asyncio.Future[None] = field(default_factory=future)
    ended: asyncio.Future[Outcome] = field(default_factory=future)
    """Done when the command has ended."""

    def cancel(self) -> None:
        """Have nothing further of it sent."""
        if not self.abort.done():
            self.abort.set_result(None)


class Jobs:
    """All running commands; the snapshot shows them."""

    def __init__(self, state: FleetState) -> None:
        self._state = state
        self._jobs: list[Job] = []

    def __iter__(self) -> Iterator[Job]:
        return iter(tuple(self._jobs))

    def begin(self, command: Command, plan: Plan) -> Job:
        """Enter a command that was admitted."""
        job = Job(command, plan, ActiveCommand(command))
        self._jobs.append(job)
        self._show()
        self._state.update_modules({name: {"working": str(command)} for name in plan.modules})
        return job

    def progress(self, job: Job, stage: str, percent: float) -> None:
        """Show how far a command is."""
        job.active = replace(job.active, stage=stage, progress_percent=percent)
        self._show(news=False)

    def end(self, job: Job) -> None:
        """Take a command away that has ended."""
        self._jobs.remove(job)
        self._state.update_modules({name: {"working": ""} for name in job.plan.modules})
        self._show()

    def _show(self, *, news: bool = True) -> None:
        self._state.set_active(tuple(job.active for job in self._jobs), news=news)
