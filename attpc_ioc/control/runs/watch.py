"""Watching the run: lost members, stops from outside, late starts, and what was open before a restart."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from attpc_ioc.control.engine import Engine
from attpc_ioc.control.results import Results
from attpc_ioc.control.state import FleetState
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import IOC_ITSELF, RUN, Command, CommandName, Outcome
from attpc_ioc.model.events import RunDegraded, RunStarted
from attpc_ioc.model.run import RunInfo, RunOutcome, RunState
from attpc_ioc.model.states import LIVE, State, Transition
from attpc_ioc.settings import Settings

from .run import RunRecord

log = get_logger(__name__)


SAVE_PERIOD_S = 2.0
"""How often the last moment that a run was seen running is written."""

OpenRun = Callable[[float], Awaitable[RunInfo | None]]
"""Asks the plugins for a run that they have on record as open, for at most so many seconds."""

Spawn = Callable[[Coroutine[Any, Any, Any], str], object]

Submit = Callable[[Command], Coroutine[Any, Any, Outcome]]


class RunWatch:
    """Compares the run with what is seen. It sends nothing but Stop to a module whose start came late.

    `submit` takes the command by which the IOC itself stops the run.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        state: FleetState,
        record: RunRecord,
        engine: Engine,
        results: Results,
        spawn: Spawn,
        open_run: OpenRun,
        submit: Submit,
    ) -> None:
        self._settings = settings
        self._state = state
        self._record = record
        self._engine = engine
        self._results = results
        self._spawn = spawn
        self._open_run = open_run
        self._submit = submit
        self.late: set[str] = set()
        """Modules whose Start was sent for a run that did not start, and is not answered yet."""

    def look(self) -> None:
        """Compare the run with what is seen now; called with every change of a module's state."""
        record = self._record
        if record.on and not record.seen_running:
            record.seen_running = any(m.enabled and m.state in LIVE for m in self._state.modules.values())
        self._look_for_late()
        if record.phase is RunState.RUNNING and not record.stopping:
            self._look_for_lost()
        elif record.incomplete and all(self._state.modules[name].out for name in record.members):
            record.close_stopped("the rest was seen stopped later")
            self._results.rest_stopped(f"run {record.number} stopped: the rest was seen stopped later")

    # ------------------------------------------------------------------ late starts (rule 13)

    def _look_for_late(self) -> None:
        record = self._record
        for name in sorted(self.late):
            view = self._state.modules[name]
            if view.moving or not (view.online or view.live):
                continue
            self.late.discard(name)
            if view.live and name not in record.members:
                log.warning("late start", module=name, reason="it is stopped: its run did not start")
                self._spawn(self._stop_late(name), f"stop late {name}")

    async def _stop_late(self, name: str) -> None:
        left = await self._engine.stop(lambda: [name], IOC_ITSELF)
        for module, reason in left.items():
            log.error("late start not stopped", module=module, reason=reason)

    # ------------------------------------------------------------------ members (rules 14 and 15)

    def _look_for_lost(self) -> None:
        record = self._record
        views = [self._state.modules[name] for name in record.members]
        if views and all(view.out and view.online for view in views):
            record.close_run(RunOutcome.STOPPED_OUTSIDE, "all members left Running by no command of this IOC")
            return
        # A board that is known to be lost runs no more, whatever its ECC server remembers.
        lost = tuple(
            view.name for view in views if view.state is not State.RUNNING or view.board_fault is not None
        )
        if lost == record.lost or record.info is None:
            return
        new = [name for name in lost if name not in record.lost]
        record.lost = lost
        info = record.set_info(lost_ever=tuple(dict.fromkeys((*record.info.lost_ever, *lost))))
        record.save()
        log.warning("members of the run", lost=", ".join(lost) or "none", number=info.number)
        record.tell(RunDegraded, info, lost=lost)
        if new and self._settings.run.stop_on_lost:
            self._stop(f"lost {', '.join(new)}")

    def tick(self) -> None:
        """Do what follows time: called about once a second."""
        record = self._record
        if record.phase is not RunState.RUNNING or record.stopping:
            return
        if any(self._state.modules[name].state is State.RUNNING for name in record.members):
            record.seen_running_now()
            if time.monotonic() - record.saved_at_s >= SAVE_PERIOD_S:
                record.save()
        record.show(news=False)
        limit_s = record.kept.max_duration_s
        if 0 < limit_s <= record.duration_s:
            self._stop(f"the run has lasted {limit_s:g} s")

    def _stop(self, reason: str) -> None:
        log.warning("the IOC stops the run", reason=reason)
        stop = Command(RUN, CommandName.STOP, who=IOC_ITSELF, reason=reason)
        self._spawn(self._submit(stop), "own stop")

    # ------------------------------------------------------------------ after a restart (rule 19)

    async def recover(self) -> None:
        """Find out what became of the run that was open, without moving anything."""
        record = self._record
        if record.blank:
            await self._recall()
        if record.phase is not RunState.UNKNOWN or record.info is None:
            return
        deadline = time.monotonic() + self._settings.limits.recovery_s
        while record.phase is RunState.UNKNOWN and not all(self._settled(name) for name in record.members):
            if not await self._state.changed.wait(deadline - time.monotonic()):
                break
        if record.phase is not RunState.UNKNOWN:
            return
        if any(self._state.modules[name].state is State.RUNNING for name in record.members):
            started_s = record.info.started_s or time.time()
            info = record.set_info(started_s=started_s, adopted=True)
            record.begin_running(time.monotonic() - max(0.0, time.time() - started_s))
            record.save()
            log.warning("run found again", number=info.number)
            record.tell(RunStarted, info)
            self.look()
            return
        record.kept.interrupted = True
        record.close_run(
            RunOutcome.INTERRUPTED,
            "after a restart of the IOC no member was seen Running",
            stopped_s=record.last_moment_s,
        )

    async def _recall(self) -> None:
        """Take over the open run that a plugin has on record, where the state directory knows nothing."""
        record = self._record
        info = await self._open_run(self._settings.limits.recovery_s)
        if info is None or record.on or record.info is not None:
            return
        log.warning("open run taken from a plugin's record", number=info.number, experiment=info.experiment)
        record.open_run(info)
        record.kept.experiment = info.experiment
        record.enter(RunState.UNKNOWN)
        record.save()

    def _settled(self, name: str) -> bool:
        view = self._state.modules[name]
        return view.seen and view.transition is Transition.NONE
