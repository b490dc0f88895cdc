"""The commands that run, each from its admission to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from attpc_ioc.model.command import Command, Outcome
from attpc_ioc.model.fleet import ActiveCommand
from attpc_ioc.model.plan import Plan

from .state import FleetState


def future() -> asyncio.Future[None]:
    """Return a future of this event loop."""
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True, eq=False)
class Job:
    """One running command. `abort` is done when nothing further of it is to be sent."""

    command: Command
    plan: Plan
    active: ActiveCommand
    abort: asyncio.Future[None] = field(default_factory=future)
    ended: asyncio.Future[Outcome | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """Done when the command has ended; None where the IOC ends before."""

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
