"""Run control: start with roll-back, stop, adoption (rules 11 to 13, 17, 18 and 20)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from attpc_ioc.errors import PluginError, StateDirError
from attpc_ioc.eventlog import EventLog
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Command, Outcome, Reason, ResultCode
from attpc_ioc.model.events import RunFailed, RunStarted, RunStopping
from attpc_ioc.model.plan import Plan
from attpc_ioc.model.run import RunInfo, RunOutcome, RunState
from attpc_ioc.model.states import Operation
from attpc_ioc.plugin.host import PluginHost
from attpc_ioc.settings import Settings

from .emitter import Emitter
from .executor import Executor, PlanResult
from .fleet_state import FleetState
from .kept_run import KeptRun
from .module import ModuleControl
from .numbers import StateDirNumbers
from .operation import OngoingOperation
from .run_record import RunRecord
from .run_watch import RunWatch
from .start_hold import StartHold
from .stopping import Stopper, another_stop_helps, is_out

log = get_logger(__name__)

NOT_ON_RECORD = "but that is not on disk yet: see the checklist"

Progress = Callable[[str, float], None]
Check = Callable[[], tuple[Plan, list[Reason]]]
"""Gives the plan of a start and every reason against it."""


@dataclass(slots=True)
class StartUnderWay:
    """A start of a run that is at work. `done` has its outcome, roll-back included."""

    abort: asyncio.Event
    done: asyncio.Future[Outcome]


@dataclass(slots=True)
class StopUnderWay:
    """A stop of the run that is at work; a second `Run:Stop` joins it.

    `names` are the modules that it stops, `aborted` is done when those who wait are to wait no longer,
    `waiting` is how many do.
    """

    task: asyncio.Task[Outcome]
    names: dict[str, None]
    aborted: asyncio.Future[None]
    waiting: int = 0


class RunControl:
    """Starts, stops and adopts runs. `record` is the run as it stands, `watch` what happens by itself.

    `numbers` keeps account of every number that the owner gave or took back.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        state: FleetState,
        modules: Mapping[str, ModuleControl],
        executor: Executor,
        host: PluginHost,
        emitter: Emitter,
        event_log: EventLog,
        numbers: StateDirNumbers,
    ) -> None:
        self._limits = settings.limits
        self._state = state
        self._executor = executor
        self._host = host
        self._emitter = emitter
        self._stopper = Stopper(state, modules, settings.limits, settings.order)
        self.record = RunRecord(state, host, emitter, event_log)
        self.watch = RunWatch(
            settings,
            state=state,
            record=self.record,
            stopper=self._stopper,
            spawn=self._spawn,
            open_run=host.open_run,
        )
        self._numbers = numbers
        self.on_unwatched_stop: Callable[[Outcome], None] = lambda _outcome: None
        """Called with how a stop ended that nobody has waited for to the end."""
        self._start: StartUnderWay | None = None
        self._stop: StopUnderWay | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def starting(self) -> bool:
        """Whether the start of a run is at work."""
        return self._start is not None

    @property
    def stopping(self) -> bool:
        """Whether a stop is at work."""
        return self._stop is not None

    # ------------------------------------------------------------------ start (rules 11 to 13)

    def begin_start(self) -> None:
        """Enter Starting in the same turn of the loop in which the start was admitted."""
        self._start = StartUnderWay(asyncio.Event(), asyncio.get_running_loop().create_future())
        self.record.enter(RunState.STARTING)

    async def start(self, command: Command, check: Check, progress: Progress) -> Outcome:
        """Start a run, after `begin_start`; `check` is asked once more after the number was reserved."""
        start = self._start
        assert start is not None
        outcome = Outcome(command, ResultCode.FAILED, "the start ended unexpectedly")
        try:
            outcome = await self._start_run(command, check, progress, start.abort)
        finally:
            if self.record.phase is RunState.STARTING:
                self.record.enter(RunState.STOPPED)
            self._start = None
            start.done.set_result(outcome)
        return outcome

    async def _start_run(
        self, command: Command, check: Check, progress: Progress, abort: asyncio.Event
    ) -> Outcome:
        record = self.record
        before = replace(record.kept)
        experiment = before.experiment
        progress("run number", 0.0)
        try:
            number = await self._reserve(experiment)
        except PluginError as error:
            return Outcome(command, ResultCode.REFUSED, str(error))
        plan, reasons = check()
        if reasons or abort.is_set():
            await self._release(experiment, number)
            if abort.is_set():
                return Outcome(command, ResultCode.ABORTED, "nothing was sent")
            return Outcome(command, ResultCode.REFUSED, "", tuple(reasons))
        record.open_run(self._new_run(number, command))
        if refused := await self._keep_or_forget(command, before):
            return refused
        assert record.info is not None
        hold = StartHold(record.prepare(record.info), abort)
        result = await self._executor.run(plan, command.who, abort, progress, hold.before)
        if abort.is_set():
            result.aborted = True
        if not result.ok:
            return await self._roll_back(command, result, before, progress)
        now = time.time()
        # The loaded names are those after the re-zero: a MuTAnT may have come from Prepared.
        loaded = {name: str(self._state.module(name).loaded) for name in record.members}
        info = record.set_info(started_s=now, last_seen_running_s=now, loaded=loaded)
        return await self._now_running(command, info, f"run {number} started")

    def _new_run(self, number: int, command: Command) -> RunInfo:
        modules = self._state.fleet.enabled
        return RunInfo(
            number=number,
            experiment=self.record.kept.experiment,
            members=tuple(m.name for m in modules),
            texts=self.record.kept.texts,
            began_s=time.time(),
            who=command.who,
            loaded={m.name: str(m.loaded) for m in modules},
            urls={m.name: m.url for m in modules},
        )

    async def _keep_or_forget(self, command: Command, before: KeptRun) -> Outcome | None:
        """Have the new run on disk before anything is sent; returns the refusal where it cannot be."""
        try:
            await self.record.save_now(self._limits.run_number_s)
        except StateDirError as error:
            await self._forget(before, self.record.number)
            return Outcome(command, ResultCode.REFUSED, str(error))
        return None

    async def _now_running(self, command: Command, info: RunInfo, text: str) -> Outcome:
        self.record.begin_running(time.monotonic())
        self.record.save()
        log.info("run started", number=info.number, members=len(info.members), who=command.who)
        if not await self._emitter.on_record(self.record.tell(RunStarted, info)):
            text = f"{text}, {NOT_ON_RECORD}"
        self.watch.look()
        return Outcome(command, ResultCode.DONE, text)

    async def _roll_back(
        self, command: Command, result: PlanResult, before: KeptRun, progress: Progress
    ) -> Outcome:
        """Stop what had started, leave late arrivals to `watch`, and release the number if that is safe."""
        record, late = self.record, self.watch.late
        starts = [op for op in result.sent if op.operation is Operation.START]
        if not result.aborted:
            # They had their whole time limit; what comes later is stopped when it comes.
            late |= {op.module for op in starts if self._may_come(op)}
        targets = [op.module for op in starts if op.module not in late]
        progress("roll-back", 100.0)
        left = await self._stopper.bring_out(lambda: targets, command.who, self._limits.stop_s)
        late |= {op.module for op in starts if self._may_come(op)}
        used = record.seen_running or any(op.may_have_run for op in starts)
        reasons = (*result.reasons, *(Reason(f"roll-back: {text}", name) for name, text in left.items()))
        kind = RunOutcome.ABORTED if result.aborted else RunOutcome.FAILED
        number = record.number
        spent = f"run number {number} is used up" if used else f"run number {number} was released"
        outcome = replace(result.outcome(command, spent), reasons=reasons)
        info = record.set_info(stopped_s=time.time(), outcome=kind, reason=outcome.message)
        if used:
            record.kept.open = False
            record.save()
        else:
            await self._forget(before, number)
        record.enter(RunState.STOPPED)
        log.warning("run not started", number=number, released=not used, reason=outcome.message)
        record.tell(RunFailed, info, reasons=reasons, number_released=not used)
        self.watch.look()
        return outcome

    def _may_come(self, start: OngoingOperation) -> bool:
        """Tell whether a Start may still lead to Running, or has done so behind a lost connection."""
        return start.verdict is None or (start.may_have_run and not self._state.module(start.module).online)

    async def _forget(self, before: KeptRun, number: int) -> None:
        """Take a run back that never was, and only then its number.

        While the disk works it never says otherwise. While it does not, it may still have the run as open:
        that is then found interrupted after a restart, and its number is not given again by that.
        """
        self.record.forget_run(before)
        try:
            await self.record.save_now(self._limits.run_number_s)
        except StateDirError as error:
            log.warning("run not taken back on disk", number=number, reason=error)
        await self._release(before.experiment, number)

    async def _reserve(self, experiment: str) -> int:
        """Return the next number; raises `PluginError`."""
        number = await self._host.reserve_number(experiment, self._limits.run_number_s)
        self._numbers.note(experiment, number)
        return number

    async def _release(self, experiment: str, number: int) -> None:
        await self._host.release_number(experiment, number, self._limits.run_number_s)
        self._numbers.unnote(experiment, number)

    def abort_start(self) -> asyncio.Future[Outcome] | None:
        """Abort a start that is at work; returns the future of its outcome, or None where there is none."""
        if self._start is None:
            return None
        self.record.stop_asked()
        self._start.abort.set()
        self._state.poke()
        return self._start.done

    # ------------------------------------------------------------------ stop (rules 17 and 18)

    async def stop(self, command: Command, progress: Progress) -> Outcome:
        """Stop the run, a start of one, or orphans; with no run: success and nothing sent."""
        started = self.abort_start()
        if started is not None:
            outcome = await asyncio.shield(started)
            if not outcome.ok:
                return self._after_aborted_start(command)
            # The last member was seen Running before the start could be aborted: it is stopped as a run.
        if self._stop is None:
            if not self.record.on and not self.record.orphans:
                return self._acknowledge(command)
            names: dict[str, None] = {}
            task = self._spawn(self._stop_run(command, names, progress), "stop of the run")
            stop = StopUnderWay(task, names, asyncio.get_running_loop().create_future())
            task.add_done_callback(lambda _: self._stop_ended(stop))
            self._stop = stop
            self.record.stop_at_work = True
        stop = self._stop
        aborted = stop.aborted
        stop.waiting += 1
        await asyncio.wait((stop.task, aborted), return_when=asyncio.FIRST_COMPLETED)
        if stop.task.done():
            return replace(stop.task.result(), command=command)
        stop.waiting -= 1
        reasons = tuple(
            Reason("was not seen out of Running yet", name)
            for name in stop.names
            if not is_out(self._state.module(name))
        )
        return Outcome(command, ResultCode.ABORTED, "the waiting was ended, the stop goes on", reasons)

    def abort_stop(self) -> bool:
        """End the waiting for a stop that is at work, not the stop; tells whether there was one."""
        if self._stop is None:
            return False
        self._stop.aborted.set_result(None)
        self._stop.aborted = asyncio.get_running_loop().create_future()
        return True

    def _stop_ended(self, stop: StopUnderWay) -> None:
        task = stop.task
        if not stop.waiting and not task.cancelled() and task.exception() is None:
            self.on_unwatched_stop(task.result())

    def _after_aborted_start(self, command: Command) -> Outcome:
        names = {m.name for m in self._state.fleet.enabled if not is_out(m)} | self.watch.late
        if names:
            reasons = tuple(Reason("was not seen out of Running", name) for name in sorted(names))
            return Outcome(command, ResultCode.INCOMPLETE, "the start was aborted", reasons)
        return Outcome(command, ResultCode.DONE, "the start was aborted, what had started was stopped")

    def _acknowledge(self, command: Command) -> Outcome:
        what = self.record.acknowledge()
        text = f"no run is on; {what} is acknowledged" if what else "no run is on"
        return Outcome(command, ResultCode.DONE, text)

    async def _stop_run(self, command: Command, names: dict[str, None], progress: Progress) -> Outcome:
        record = self.record
        was_on = record.on
        if was_on:
            given = record.info.reason if record.info is not None else ""
            why = command.reason or given
            info = record.set_info(stopped_by=command.who, reason=why)
            record.stop_asked()
            record.enter(RunState.STOPPING)
            record.tell(RunStopping, info, who=command.who, reason=why)
            record.save()

        def targets() -> list[str]:
            # All members, and whatever enabled module is seen Running, late ones included.
            live = [m.name for m in self._state.fleet.enabled if m.live]
            names.update(dict.fromkeys((*record.members, *live)))
            out = sum(is_out(self._state.module(name)) for name in names)
            progress("stop", 100.0 * out / max(1, len(names)))
            return list(names)

        try:
            left = await self._stopper.bring_out(targets, command.who, self._limits.stop_s)
        finally:
            self._stop = None
            record.stop_at_work = False
            self._state.poke()
        if left:
            reasons = tuple(Reason(text, name) for name, text in left.items())
            log.warning("stop incomplete", left=", ".join(left))
            again = another_stop_helps(self._state.module(name) for name in left)
            text = "stop again to go on with the rest" if again else "another stop does not help"
            return Outcome(command, ResultCode.INCOMPLETE, text, reasons)
        if not was_on:
            return Outcome(command, ResultCode.DONE, f"{', '.join(names)} stopped")
        text = f"run {record.number} stopped"
        if not await self._emitter.on_record(record.close_stopped("")):
            text = f"{text}, {NOT_ON_RECORD}"
        return Outcome(command, ResultCode.DONE, text)

    # ------------------------------------------------------------------ adoption (rule 20)

    async def adopt(self, command: Command) -> Outcome:
        """Make a run of the modules that run without one, under the next number."""
        record = self.record
        before = replace(record.kept)
        try:
            number = await self._reserve(before.experiment)
        except PluginError as error:
            return Outcome(command, ResultCode.REFUSED, str(error))
        if record.on or not record.orphans or self.stopping:
            await self._release(before.experiment, number)
            return Outcome(command, ResultCode.REFUSED, "no module runs without a run any more")
        now = time.time()
        info = replace(self._new_run(number, command), started_s=now, last_seen_running_s=now, adopted=True)
        record.open_run(info)
        if refused := await self._keep_or_forget(command, before):
            return refused
        if self.stopping:
            await self._forget(before, number)
            return Outcome(command, ResultCode.REFUSED, "the modules are being stopped")
        return await self._now_running(command, info, f"adopted as run {number}")

    # ------------------------------------------------------------------ tasks

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task failed unexpectedly", task=task.get_name(), reason=repr(error))

    async def close(self) -> None:
        """End every task, leaving the hardware as it is."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
