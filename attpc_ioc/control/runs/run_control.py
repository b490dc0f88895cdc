"""Run control: start with roll-back, stop, adoption (rules 11 to 13, 17, 18 and 20)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from attpc_ioc.control.decide import Decision
from attpc_ioc.control.emitter import Emitter
from attpc_ioc.control.engine import Engine, PlanResult, Progress
from attpc_ioc.control.jobs import Job, Jobs, wait_all
from attpc_ioc.control.modules.operation import OngoingOperation
from attpc_ioc.control.results import Results
from attpc_ioc.control.state import FleetState
from attpc_ioc.errors import PluginError, StateDirError
from attpc_ioc.eventlog import EventLog
from attpc_ioc.log import get_logger
from attpc_ioc.model import rules
from attpc_ioc.model.command import Command, Outcome, Reason, ResultCode, is_start, is_stop
from attpc_ioc.model.events import RunFailed, RunStarted, RunStopping
from attpc_ioc.model.plan import Stage
from attpc_ioc.model.run import RunInfo, RunOutcome, RunState
from attpc_ioc.model.states import Operation
from attpc_ioc.plugin.host import PluginHost
from attpc_ioc.settings import Settings

from .kept import KeptRun
from .numbers import StateDirNumbers
from .run import RunRecord
from .watch import RunWatch, Submit

log = get_logger(__name__)

NOT_ON_RECORD = "but that is not on disk yet: see the checklist"

PREPARED_S = 1.0
"""How long the first Start of a run waits at most until the plugins are prepared for it."""

Check = Callable[[], Decision]
"""Decides about a start once more."""


@dataclass(slots=True, eq=False)
class RunStop:
    """A stop that is under way; a second `Run:Stop` joins it.

    `names` are the modules that it stops; `watched` is how many commands wait for its end.
    """

    task: asyncio.Task[Outcome]
    names: dict[str, None]
    watched: int = 0


class RunControl:
    """Starts, stops and adopts runs. `record` is the run as it stands, `watch` what happens by itself.

    `numbers` keeps account of every number that the owner gave or took back.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        state: FleetState,
        jobs: Jobs,
        engine: Engine,
        results: Results,
        host: PluginHost,
        emitter: Emitter,
        event_log: EventLog,
        numbers: StateDirNumbers,
        submit: Submit,
    ) -> None:
        self._limits = settings.limits
        self._state = state
        self._jobs = jobs
        self._engine = engine
        self._results = results
        self._host = host
        self._numbers = numbers
        self.record = RunRecord(state, host, emitter, event_log)
        self.watch = RunWatch(
            settings,
            state=state,
            record=self.record,
            engine=engine,
            results=results,
            spawn=self._spawn,
            open_run=host.open_run,
            submit=submit,
        )
        self._stop: RunStop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    # ------------------------------------------------------------------ start (rules 11 to 13)

    def begin_start(self) -> None:
        """Enter Starting in the same turn of the loop in which the start was admitted."""
        self.record.enter(RunState.STARTING)

    async def start(self, job: Job, check: Check) -> Outcome:
        """Start a run, after `begin_start`; `check` is asked once more after the number was reserved."""
        try:
            return await self._start_run(job, check)
        finally:
            if self.record.phase is RunState.STARTING:
                self.record.enter(RunState.STOPPED)

    async def _start_run(self, job: Job, check: Check) -> Outcome:
        record, command = self.record, job.command
        before = replace(record.kept)
        experiment = before.experiment
        self._jobs.progress(job, "run number", 0.0)
        try:
            number = await self._reserve(experiment)
        except PluginError as error:
            return Outcome(command, ResultCode.REFUSED, str(error))
        decision = check()
        if job.abort.done():
            await self._release(experiment, number)
            return Outcome(command, ResultCode.ABORTED, "nothing was sent")
        if decision.reasons:
            await self._release(experiment, number)
            return Outcome(command, ResultCode.REFUSED, "", decision.reasons)
        record.open_run(self._new_run(number, command))
        if refused := await self._keep_or_forget(command, before):
            return refused
        assert record.info is not None
        prepared, deadline_s = record.prepare(record.info), time.monotonic() + PREPARED_S

        async def hold_start(stage: Stage) -> None:
            """Hold the first Start back; a plugin that is late or fails never refuses a run."""
            if any(step.operation is Operation.START for step in stage.steps):
                left_s = max(0.0, deadline_s - time.monotonic())
                if await wait_all(prepared, job.abort, left_s) and not job.abort.done():
                    log.info("start goes on before every plugin is prepared", limit_s=PREPARED_S)

        progress = partial(self._jobs.progress, job)
        result = await self._engine.run(decision.plan, command.who, job.abort, progress, before=hold_start)
        if job.abort.done():
            result.aborted = True
        if not result.ok:
            return await self._roll_back(command, result, before, progress)
        now = time.time()
        # The loaded names are those after the re-zero: a MuTAnT may have come from Prepared.
        loaded = {name: str(self._state.modules[name].loaded) for name in record.members}
        info = record.set_info(started_s=now, last_seen_running_s=now, loaded=loaded)
        return self._now_running(command, info, f"run {number} started")

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

    def _now_running(self, command: Command, info: RunInfo, text: str) -> Outcome:
        self.record.begin_running(time.monotonic())
        self.record.save()
        log.info("run started", number=info.number, members=len(info.members), who=command.who)
        self.record.tell(RunStarted, info)
        self.watch.look()
        return Outcome(command, ResultCode.DONE, self._with_record(text))

    def _with_record(self, text: str) -> str:
        """Add that what has just been recorded cannot be written."""
        return f"{text}, {NOT_ON_RECORD}" if self._state.fleet.log_fault else text

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
        left = await self._engine.stop(lambda: targets, command.who)
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
        """Return whether a Start may still lead to Running, or has done so behind a lost connection."""
        return start.verdict is None or (start.may_have_run and not self._state.modules[start.module].online)

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

    def abort_start(self) -> Job | None:
        """Abort a start that runs, and return it; None where there is none."""
        start = next((job for job in self._jobs if is_start(job.command)), None)
        if start is not None:
            self.record.stop_asked()
            start.cancel()
        return start

    # ------------------------------------------------------------------ stop (rules 17 and 18)

    async def stop(self, job: Job) -> Outcome:
        """Stop the run, a start of one, or orphans; with no run: success and nothing sent."""
        command = job.command
        start = self.abort_start()
        if start is not None:
            outcome = await asyncio.shield(start.ended)
            if not outcome.ok:
                return self._after_aborted_start(command)
            # The last member was seen Running before the start could be aborted: it is stopped as a run.
        if self._stop is None:
            if not self.record.on and not self._state.fleet.orphans:
                return self._acknowledge(command)
            names: dict[str, None] = {}
            stop = RunStop(self._spawn(self._stop_run(job, names), "stop of the run"), names)
            stop.task.add_done_callback(lambda _: self._stop_ended(stop))
            self._stop = stop
            self.record.stopping = True
        stop = self._stop
        stop.watched += 1
        await asyncio.wait((stop.task, job.abort), return_when=asyncio.FIRST_COMPLETED)
        if stop.task.done():
            return replace(stop.task.result(), command=command)
        stop.watched -= 1
        reasons = tuple(
            Reason("was not seen out of Running yet", name)
            for name in stop.names
            if not self._state.modules[name].out
        )
        return Outcome(command, ResultCode.ABORTED, "the waiting was ended, the stop goes on", reasons)

    def abort_stop(self) -> bool:
        """End the waiting for a stop that is under way, not the stop; tells whether there was one."""
        if self._stop is None:
            return False
        for job in self._jobs:
            if is_stop(job.command):
                job.cancel()
        return True

    def _stop_ended(self, stop: RunStop) -> None:
        task = stop.task
        if not stop.watched and not task.cancelled() and task.exception() is None:
            outcome = task.result()
            self._results.command_ended(outcome.command, outcome, {})

    def _after_aborted_start(self, command: Command) -> Outcome:
        names = {m.name for m in self._state.fleet.enabled if not m.out} | self.watch.late
        if names:
            reasons = tuple(Reason("was not seen out of Running", name) for name in sorted(names))
            return Outcome(command, ResultCode.INCOMPLETE, "the start was aborted", reasons)
        return Outcome(command, ResultCode.DONE, "the start was aborted, what had started was stopped")

    def _acknowledge(self, command: Command) -> Outcome:
        what = self.record.acknowledge()
        text = f"no run is on; {what} is acknowledged" if what else "no run is on"
        return Outcome(command, ResultCode.DONE, text)

    async def _stop_run(self, job: Job, names: dict[str, None]) -> Outcome:
        record, command = self.record, job.command
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
            modules = self._state.modules
            live = [module.name for module in modules.values() if module.enabled and module.live]
            names.update(dict.fromkeys((*record.members, *live)))
            return [name for name in names if name in modules]

        def progress(stage: str, percent: float) -> None:
            if job in self._jobs:
                self._jobs.progress(job, stage, percent)

        try:
            left = await self._engine.stop(targets, command.who, progress)
        finally:
            self._stop = None
            record.stopping = False
        if left:
            reasons = tuple(Reason(text, name) for name, text in left.items())
            log.warning("stop incomplete", left=", ".join(left))
            again = rules.another_stop_helps([self._state.modules[name] for name in left])
            text = "stop again to go on with the rest" if again else "another stop does not help"
            return Outcome(command, ResultCode.INCOMPLETE, text, reasons)
        if not was_on:
            return Outcome(command, ResultCode.DONE, f"{', '.join(names)} stopped")
        record.close_stopped("")
        said = f"run {record.number} stopped" + (f": {command.reason}" if command.reason else "")
        return Outcome(command, ResultCode.DONE, self._with_record(said))

    # ------------------------------------------------------------------ adoption (rule 20)

    async def adopt(self, command: Command) -> Outcome:
        """Make a run of the modules that run without one, under the next number."""
        record = self.record
        before = replace(record.kept)
        try:
            number = await self._reserve(before.experiment)
        except PluginError as error:
            return Outcome(command, ResultCode.REFUSED, str(error))
        if record.on or not self._state.fleet.orphans or record.stopping:
            await self._release(before.experiment, number)
            return Outcome(command, ResultCode.REFUSED, "no module runs without a run any more")
        now = time.time()
        info = replace(self._new_run(number, command), started_s=now, last_seen_running_s=now, adopted=True)
        record.open_run(info)
        if refused := await self._keep_or_forget(command, before):
            return refused
        if record.stopping:
            await self._forget(before, number)
            return Outcome(command, ResultCode.REFUSED, "the modules are being stopped")
        return self._now_running(command, info, f"adopted as run {number}")

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
