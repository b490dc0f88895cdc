"""Run control: start with roll-back, watching, stop, recovery after a restart, orphans (rules 11 to 20)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from attpc_ioc.errors import PluginError, StateDirError
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Command, Outcome, Reason, ResultCode, Who
from attpc_ioc.model.events import (
    RunDegraded,
    RunFailed,
    RunStarted,
    RunStarting,
    RunStopped,
    RunStopping,
)
from attpc_ioc.model.plan import Plan
from attpc_ioc.model.run import RunInfo, RunOutcome, RunState, RunView
from attpc_ioc.model.states import Operation, State, Transition
from attpc_ioc.plugin.host import PluginHost
from attpc_ioc.settings import Settings

from .emitter import Emitter, on_record
from .executor import Executor, PlanResult
from .fleet_state import FleetState
from .module import ModuleControl
from .run_document import DOCUMENT, RunDocument, dump, parse
from .stopping import LIVE, Stopper, is_out
from .store import StateStore

log = get_logger(__name__)

SAVE_PERIOD_S = 2.0
"""How often the last moment that a run was seen running is written."""

Progress = Callable[[str, float], None]


@dataclass(slots=True)
class StopUnderWay:
    """A stop of the run that is at work; a second `Run:Stop` joins it."""

    task: asyncio.Task[Outcome]
    abort: asyncio.Event


class RunControl:
    """Owns the run. Everything that happens to it goes through here, one thing at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        state: FleetState,
        modules: Mapping[str, ModuleControl],
        executor: Executor,
        host: PluginHost,
        emitter: Emitter,
        store: StateStore,
    ) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._state = state
        self._modules = modules
        self._executor = executor
        self._host = host
        self._emitter = emitter
        self._store = store
        self._stopper = Stopper(state, modules, settings.limits, settings.order)
        self.document = RunDocument()
        self.fault = ""
        """Why the run's state could not be read at the start; vetoes a start. Empty when it could."""
        self.phase = RunState.STOPPED
        """Stopped, Starting, Running, Stopping or Unknown; Interrupted and Orphan are derived."""
        self._load()
        self._start_abort: asyncio.Event | None = None
        self._start_done: asyncio.Future[Outcome] | None = None
        self._stop: StopUnderWay | None = None
        self._late: set[str] = set()
        self._lost: tuple[str, ...] = ()
        self._running_since_s = 0.0
        self._saved_at_s = 0.0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_own_stop: Callable[[str], None] = lambda _reason: None

    # ------------------------------------------------------------------ state

    @property
    def info(self) -> RunInfo | None:
        """The run that is on, or the last one."""
        return self.document.info

    @property
    def on(self) -> bool:
        """Whether a run is open."""
        return self.phase is not RunState.STOPPED

    @property
    def starting(self) -> bool:
        """Whether the start of a run is at work."""
        return self.phase is RunState.STARTING

    @property
    def stopping(self) -> bool:
        """Whether a stop is at work."""
        return self._stop is not None

    @property
    def incomplete(self) -> bool:
        """Whether the last stop ended with modules that were not seen out of Running."""
        return self.phase is RunState.STOPPING and self._stop is None

    @property
    def orphans(self) -> tuple[str, ...]:
        """Enabled modules that are seen in a run though none is on (rule 20)."""
        if self.on:
            return ()
        return tuple(m.name for m in self._state.fleet.enabled if m.state in LIVE)

    @property
    def members(self) -> tuple[str, ...]:
        """The members of the open run that are still configured and enabled."""
        if not self.on or self.info is None:
            return ()
        modules = self._state.fleet.modules
        return tuple(name for name in self.info.members if name in modules and modules[name].enabled)

    def view(self, checklist: tuple[str, ...]) -> RunView:
        """Return the run as PVs and plugins see it."""
        document = self.document
        state = self.phase
        if state is RunState.STOPPED:
            if self.orphans:
                state = RunState.ORPHAN
            elif document.interrupted:
                state = RunState.INTERRUPTED
        modules = self._state.fleet.modules
        shown = self.members if self.on else tuple(m.name for m in self._state.fleet.enabled)
        next_number = self._host.next_number(document.experiment)
        return RunView(
            state=state,
            info=document.info,
            on=self.on,
            incomplete=self.incomplete,
            lost=self._lost if self.on else (),
            expected=self.members if self.on else (),
            running=tuple(name for name in shown if modules[name].state is State.RUNNING),
            number=document.info.number if document.info else -1,
            next_number=-1 if next_number is None else next_number,
            experiment=document.experiment,
            texts=document.texts,
            max_duration_s=document.max_duration_s,
            checklist=checklist,
            duration_s=self._duration_s(),
        )

    def _duration_s(self) -> float:
        info = self.info
        if info is None or info.started_s is None:
            return 0.0
        if self.phase in (RunState.RUNNING, RunState.STOPPING):
            return max(0.0, time.monotonic() - self._running_since_s)
        if self.phase is RunState.UNKNOWN:
            return max(0.0, (info.last_seen_running_s or info.started_s) - info.started_s)
        return max(0.0, (info.stopped_s or info.started_s) - info.started_s)

    def _load(self) -> None:
        raw = self._store.load(DOCUMENT)
        self.fault = self._store.damaged.get(DOCUMENT, "")
        if raw is not None:
            try:
                self.document = parse(raw)
            except ValueError as error:
                self.fault = f"{self._store.folder}/{DOCUMENT}.json is damaged: {error}"
                log.error("state file damaged", reason=self.fault)
        if self.document.open and self.document.info is not None:
            self.phase = RunState.UNKNOWN

    def save(self) -> None:
        """Have the run's state written soon."""
        self._saved_at_s = time.monotonic()
        self._store.save(DOCUMENT, dump(self.document))

    def _set_info(self, **changes: Any) -> RunInfo:
        assert self.document.info is not None
        self.document.info = replace(self.document.info, **changes)
        return self.document.info

    def _enter(self, phase: RunState) -> None:
        if phase is not self.phase:
            log.info("run", state=phase.label, number=self.info.number if self.info else -1)
        self.phase = phase
        self._state.poke()

    # ------------------------------------------------------------------ start (rules 11 to 13)

    def begin_start(self) -> None:
        """Enter Starting in the same turn of the loop in which the start was admitted."""
        self._start_abort = asyncio.Event()
        self._start_done = asyncio.get_running_loop().create_future()
        self._enter(RunState.STARTING)

    async def start(
        self, command: Command, check: Callable[[], tuple[Plan, list[Reason]]], progress: Progress
    ) -> Outcome:
        """Start a run, after `begin_start`.

        `check` gives the plan and every reason against it, once more, after the number was reserved.
        """
        assert self._start_abort is not None
        assert self._start_done is not None
        began = time.monotonic()
        outcome = Outcome(command, ResultCode.FAILED, "the start ended unexpectedly")
        before = replace(self.document)
        try:
            outcome = await self._start(command, check, progress, before, self._start_abort)
        finally:
            if self.phase is RunState.STARTING:
                self._enter(RunState.STOPPED)
            self._start_done.set_result(outcome)
            self._start_abort = None
        return replace(outcome, duration_s=time.monotonic() - began)

    async def _start(
        self,
        command: Command,
        check: Callable[[], tuple[Plan, list[Reason]]],
        progress: Progress,
        before: RunDocument,
        abort: asyncio.Event,
    ) -> Outcome:
        experiment = self.document.experiment
        progress("run number", 0.0)
        try:
            number = await self._host.reserve_number(experiment, self._limits.run_number_s)
        except PluginError as error:
            return Outcome(command, ResultCode.REFUSED, str(error))
        plan, reasons = check()
        if reasons or abort.is_set():
            await self._release(experiment, number)
            if abort.is_set():
                return Outcome(command, ResultCode.ABORTED, "nothing was sent")
            return Outcome(command, ResultCode.REFUSED, "", tuple(reasons))
        modules = self._state.fleet.enabled
        self.document.info = RunInfo(
            number=number,
            experiment=experiment,
            members=tuple(m.name for m in modules),
            texts=self.document.texts,
            began_s=time.time(),
            who=command.who,
            loaded={m.name: str(m.loaded) for m in modules},
            urls={m.name: m.url for m in modules},
        )
        self.document.open = True
        self.document.interrupted = False
        self.save()
        try:
            await self._store.flush(self._limits.run_number_s)
        except StateDirError as error:
            self.document = before
            self.save()
            await self._release(experiment, number)
            return Outcome(command, ResultCode.REFUSED, str(error))
        self._emitter.emit("attpc_run_starting", RunStarting, run=self.document.info)
        result = await self._executor.run(plan, command.who, abort, progress)
        if abort.is_set():
            result.aborted = True
        if result.ok:
            return await self._started(command)
        return await self._roll_back(command, result, before, progress)

    async def _started(self, command: Command) -> Outcome:
        now = time.time()
        self._running_since_s = time.monotonic()
        info = self._set_info(started_s=now, last_seen_running_s=now)
        self._lost = ()
        self._enter(RunState.RUNNING)
        self.save()
        log.info("run started", number=info.number, members=len(info.members), who=command.who)
        await on_record(self._emitter.emit("attpc_run_started", RunStarted, run=info))
        self.look()
        return Outcome(command, ResultCode.DONE, f"run {info.number} started")

    async def _roll_back(
        self,
        command: Command,
        result: PlanResult,
        before: RunDocument,
        progress: Progress,
    ) -> Outcome:
        """Stop what had started, leave late arrivals to `look`, and release the number if that is safe."""
        starts = [op for op in result.sent if op.operation is Operation.START]
        number = self.info.number if self.info else -1
        if not result.aborted:
            # They had their whole time limit; what comes later is stopped when it comes.
            self._late |= {op.module for op in starts if op.verdict is None}
        targets = [op.module for op in starts if op.module not in self._late]
        progress("roll-back", 100.0)
        left = await self._stopper.bring_out(
            lambda: targets, command.who, asyncio.Event(), self._limits.stop_s
        )
        self._late |= {op.module for op in starts if op.verdict is None}
        used = any(op.may_have_run for op in starts)
        reasons = [*result.reasons, *(Reason(f"roll-back: {text}", name) for name, text in left.items())]
        kind = RunOutcome.ABORTED if result.aborted else RunOutcome.FAILED
        outcome = result.outcome(command)
        if outcome.code is ResultCode.REFUSED and used:
            outcome = replace(outcome, code=ResultCode.FAILED)
        info = self._set_info(stopped_s=time.time(), outcome=kind, reason=outcome.message)
        if not used:
            self.document.info = before.info
            self.document.interrupted = before.interrupted
        self.document.open = False
        self.save()
        self._enter(RunState.STOPPED)
        if not used:
            await self._release(info.experiment, number)
        self._emitter.emit(
            "attpc_run_failed", RunFailed, run=info, reasons=tuple(reasons), number_released=not used
        )
        log.warning("run not started", number=number, released=not used, reason=outcome.message)
        self.look()
        spent = f"run number {number} is used up" if used else f"run number {number} was released"
        return replace(outcome, text=spent, reasons=tuple(reasons))

    async def _release(self, experiment: str, number: int) -> None:
        await self._host.release_number(experiment, number, self._limits.run_number_s)

    # ------------------------------------------------------------------ stop (rules 17 and 18)

    async def stop(self, command: Command, progress: Progress) -> Outcome:
        """Stop the run, a start of one, or orphans; with no run: success and nothing sent."""
        if self._start_abort is not None and self._start_done is not None:
            self._start_abort.set()
            self._state.poke()
            await asyncio.shield(self._start_done)
            return self._after_aborted_start(command)
        if self._stop is None:
            if not self.on and not self.orphans:
                return self._acknowledge(command)
            abort = asyncio.Event()
            task = self._spawn(self._stop_run(command, abort, progress), "stop of the run")
            self._stop = StopUnderWay(task, abort)
        outcome = await asyncio.shield(self._stop.task)
        return replace(outcome, command=command)

    def _after_aborted_start(self, command: Command) -> Outcome:
        left = [m for m in self._state.fleet.enabled if not is_out(m)]
        if left or self._late:
            names = {m.name for m in left} | self._late
            reasons = tuple(Reason("was not seen out of Running", name) for name in sorted(names))
            return Outcome(command, ResultCode.INCOMPLETE, "the start was aborted", reasons)
        return Outcome(command, ResultCode.DONE, "the start was aborted, what had started was stopped")

    def _acknowledge(self, command: Command) -> Outcome:
        if self.document.interrupted:
            self.document.interrupted = False
            self.save()
            return Outcome(command, ResultCode.DONE, "no run is on; the interruption is acknowledged")
        return Outcome(command, ResultCode.DONE, "no run is on")

    def abort_stop(self) -> bool:
        """End the waiting of a stop that is at work; tells whether there was one."""
        if self._stop is None:
            return False
        self._stop.abort.set()
        self._state.poke()
        return True

    def abort_start(self) -> asyncio.Future[Outcome] | None:
        """Abort a start that is at work; returns the future of its outcome, or None where there is none."""
        if self._start_abort is None:
            return None
        self._start_abort.set()
        self._state.poke()
        return self._start_done

    async def _stop_run(self, command: Command, abort: asyncio.Event, progress: Progress) -> Outcome:
        began = time.monotonic()
        was_on = self.on
        was_unknown = self.phase is RunState.UNKNOWN
        seen_running = False
        if was_on and self.info is not None:
            self._enter(RunState.STOPPING)
            self._set_info(stopped_by=command.who)
            self._emitter.emit("attpc_run_stopping", RunStopping, run=self.info, who=command.who)
            self.save()
        stopped: dict[str, None] = {}

        def targets() -> list[str]:
            # All members, and whatever enabled module is seen Running, late ones included.
            nonlocal seen_running
            live = [m.name for m in self._state.fleet.enabled if m.state in LIVE]
            seen_running = seen_running or bool(live)
            stopped.update(dict.fromkeys([*self.members, *live]))
            names = list(stopped)
            out = sum(is_out(self._state.module(name)) for name in names)
            progress("stop", 100.0 * out / max(1, len(names)))
            return names

        try:
            left = await self._stopper.bring_out(targets, command.who, abort, self._limits.stop_s)
        finally:
            self._stop = None
        duration_s = time.monotonic() - began
        reasons = tuple(Reason(text, name) for name, text in left.items())
        if left:
            code = ResultCode.ABORTED if abort.is_set() else ResultCode.INCOMPLETE
            self.save()
            self._state.poke()
            text = "stop again to go on with the rest" if was_on else ""
            return Outcome(command, code, text, reasons, duration_s)
        if was_on:
            unseen = was_unknown and not seen_running
            await on_record(self._close(RunOutcome.INTERRUPTED if unseen else RunOutcome.STOPPED, ""))
            text = f"run {self.info.number} stopped" if self.info else "stopped"
        else:
            text = f"{', '.join(stopped)} stopped"
        return Outcome(command, ResultCode.DONE, text, (), duration_s)

    def _close(
        self, outcome: RunOutcome, reason: str, *, stopped_s: float | None = None
    ) -> asyncio.Future[Any] | None:
        """Close the open run; the result is done when it is on record (see `Emitter.emit`)."""
        info = self._set_info(stopped_s=stopped_s or time.time(), outcome=outcome, reason=reason)
        self.document.open = False
        self._lost = ()
        self.save()
        self._enter(RunState.STOPPED)
        log.info("run ended", number=info.number, outcome=outcome, duration_s=self._duration_s())
        return self._emitter.emit("attpc_run_stopped", RunStopped, run=info)

    # ------------------------------------------------------------------ watching (rules 13 to 15)

    def look(self) -> None:
        """Compare the run with what is seen now; called with every change of a module's state."""
        self._look_for_late()
        if self.phase is RunState.RUNNING and self._stop is None:
            self._look_for_lost()
        elif self.incomplete and all(is_out(self._state.module(name)) for name in self.members):
            self._close(RunOutcome.STOPPED, "the rest was seen stopped later")

    def _look_for_late(self) -> None:
        for name in sorted(self._late):
            view = self._state.module(name)
            if view.moving or not view.online:
                continue
            self._late.discard(name)
            if view.state in LIVE and not (self.on and name in self.members):
                log.warning("late start", module=name, reason="it is stopped: its run did not start")
                self._spawn(self._stop_late(name), f"stop late {name}")

    async def _stop_late(self, name: str) -> None:
        who = Who(user="ioc", host="late start")
        left = await self._stopper.bring_out(lambda: [name], who, asyncio.Event(), self._limits.stop_s)
        for module, reason in left.items():
            log.error("late start not stopped", module=module, reason=reason)

    def _look_for_lost(self) -> None:
        members = self.members
        views = {name: self._state.module(name) for name in members}
        running = [name for name in members if views[name].state is State.RUNNING]
        if members and all(is_out(view) and view.online for view in views.values()):
            self._close(RunOutcome.STOPPED_OUTSIDE, "all members left Running by no command of this IOC")
            return
        lost = tuple(name for name in members if name not in running)
        if lost == self._lost:
            return
        new = [name for name in lost if name not in self._lost]
        self._lost = lost
        assert self.info is not None
        info = self._set_info(lost_ever=tuple(dict.fromkeys((*self.info.lost_ever, *lost))))
        self.save()
        log.warning("members of the run", lost=", ".join(lost) or "none", number=info.number)
        self._emitter.emit("attpc_run_degraded", RunDegraded, run=info, lost=lost)
        if new and self._settings.run.stop_on_lost:
            self._on_own_stop(f"lost {', '.join(new)}")

    def on_own_stop(self, stop: Callable[[str], None]) -> None:
        """Set what stops the run by itself: a lost member (by setting) or the end of its time."""
        self._on_own_stop = stop

    def tick(self) -> None:
        """Do what follows time: called about once a second."""
        if self.phase is not RunState.RUNNING or self.info is None:
            return
        if any(self._state.module(name).state is State.RUNNING for name in self.members):
            self._set_info(last_seen_running_s=time.time())
            if time.monotonic() - self._saved_at_s >= SAVE_PERIOD_S:
                self.save()
        limit_s = self.document.max_duration_s
        if limit_s > 0 and self._duration_s() >= limit_s and self._stop is None:
            self._on_own_stop(f"the run has lasted {limit_s:g} s")

    # ------------------------------------------------------------------ after a restart (rule 19)

    async def recover(self) -> None:
        """Find out what became of the run that was open, without moving anything."""
        if self.phase is not RunState.UNKNOWN or self.info is None:
            return
        deadline = time.monotonic() + self._limits.recovery_s
        while self.phase is RunState.UNKNOWN and not all(self._settled(name) for name in self.members):
            if not await self._state.wait_change(deadline - time.monotonic()):
                break
        if self.phase is not RunState.UNKNOWN:
            return
        if any(self._state.module(name).state is State.RUNNING for name in self.members):
            info = self._set_info(started_s=self.info.started_s or time.time(), adopted=True)
            assert info.started_s is not None
            self._running_since_s = time.monotonic() - max(0.0, time.time() - info.started_s)
            self._enter(RunState.RUNNING)
            self.save()
            log.warning("run found again", number=info.number)
            self._emitter.emit("attpc_run_started", RunStarted, run=info)
            self.look()
            return
        self.document.interrupted = True
        self._close(
            RunOutcome.INTERRUPTED,
            "after a restart of the IOC no member was seen Running",
            stopped_s=self.info.last_seen_running_s or self.info.started_s or self.info.began_s,
        )

    def _settled(self, name: str) -> bool:
        view = self._state.module(name)
        return view.seen and view.transition is Transition.NONE

    # ------------------------------------------------------------------ adoption (rule 20)

    async def adopt(self, command: Command) -> Outcome:
        """Make a run of the modules that run without one, under the next number."""
        before = replace(self.document)
        experiment = self.document.experiment
        try:
            number = await self._host.reserve_number(experiment, self._limits.run_number_s)
        except PluginError as error:
            return Outcome(command, ResultCode.REFUSED, str(error))
        modules = self._state.fleet.enabled
        if self.on or not self.orphans:
            await self._release(experiment, number)
            return Outcome(command, ResultCode.REFUSED, "no module runs without a run any more")
        now = time.time()
        self.document.info = RunInfo(
            number=number,
            experiment=experiment,
            members=tuple(m.name for m in modules),
            texts=self.document.texts,
            began_s=now,
            started_s=now,
            last_seen_running_s=now,
            who=command.who,
            loaded={m.name: str(m.loaded) for m in modules},
            urls={m.name: m.url for m in modules},
            adopted=True,
        )
        self.document.open = True
        self.document.interrupted = False
        self.save()
        try:
            await self._store.flush(self._limits.run_number_s)
        except StateDirError as error:
            self.document = before
            self.save()
            await self._release(experiment, number)
            return Outcome(command, ResultCode.REFUSED, str(error))
        self._running_since_s = time.monotonic()
        self._lost = ()
        self._enter(RunState.RUNNING)
        await on_record(self._emitter.emit("attpc_run_started", RunStarted, run=self.document.info))
        self.look()
        return Outcome(command, ResultCode.DONE, f"adopted as run {number}")

    # ------------------------------------------------------------------ tasks

    def _spawn(self, work: Any, name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """End every task, leaving the hardware as it is."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
