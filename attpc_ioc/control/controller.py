"""The controller: admits or refuses commands and setpoints, runs them, and tells what became of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from attpc_ioc.ecc import load as load_client
from attpc_ioc.errors import Refused
from attpc_ioc.eventlog import EventLog
from attpc_ioc.log import get_logger
from attpc_ioc.model import rules
from attpc_ioc.model.command import (
    SYSTEM,
    Command,
    CommandName,
    Outcome,
    Reason,
    ResultCode,
    Scope,
    ScopeKind,
    Who,
    is_start,
)
from attpc_ioc.model.fleet import Fleet, FleetChange
from attpc_ioc.model.plan import Plan
from attpc_ioc.model.states import Kind
from attpc_ioc.plugin.host import PluginHost
from attpc_ioc.settings import Settings

from .answers import LiveAnswers
from .decide import Decider, Decision
from .emitter import Emitter
from .engine import Engine
from .incoming import checked
from .jobs import Job, Jobs, wait_all
from .modules import offered
from .modules.kept import KeptModules
from .modules.module import ModuleControl
from .results import Results, goals_of
from .runs.numbers import StateDirNumbers
from .runs.run_control import RunControl
from .setpoints import Setpoints
from .state import FleetState

log = get_logger(__name__)

TICK_S = 1.0

REFRESH_LIMIT_S = 15.0
"""How long RefreshConfigs waits for all servers together."""

ABORT_LIMIT_S = 5.0
"""How long Abort waits for a group command to end, which does so at once."""


class Controller:
    """One for an IOC. `submit` and `set` are all that PVs, plugins and the IOC itself can ask of it."""

    def __init__(
        self,
        settings: Settings,
        host: PluginHost,
        event_log: EventLog,
        emitter: Emitter,
        numbers: StateDirNumbers,
    ) -> None:
        kept = KeptModules(event_log, settings.ecc)
        self.state = FleetState(kept.views, kept.follow)
        self._jobs = Jobs(self.state)
        self._results = Results(self.state)
        self.modules: dict[str, ModuleControl] = {}
        self._engine = Engine(self.state, self.modules, settings.limits, settings.order)
        asking_configs = asyncio.Semaphore(offered.AT_ONCE)
        for ecc in settings.ecc:
            self.modules[ecc.name] = ModuleControl(
                ecc,
                state=self.state,
                poll=settings.poll,
                limits=settings.limits,
                emitter=emitter,
                on_observed=self._on_observed,
                on_arrived=self._results.arrived,
                undo=self._engine.undo,
                asking_configs=asking_configs,
            )
        self.run_control = RunControl(
            settings,
            state=self.state,
            jobs=self._jobs,
            engine=self._engine,
            results=self._results,
            host=host,
            emitter=emitter,
            event_log=event_log,
            numbers=numbers,
            submit=self.submit,
        )
        self._decider = Decider(host)
        self._answers = LiveAnswers(self.state, self._decider, host)
        self._setpoints = Setpoints(
            state=self.state,
            record=self.run_control.record,
            ecc={ecc.name: ecc for ecc in settings.ecc},
            on_module_setpoint=self._on_module_setpoint,
        )
        self._tasks: set[asyncio.Task[Outcome]] = set()
        self._closing = False
        self._last_seen: dict[str, object] = {}
        self._mutants = frozenset(ecc.name for ecc in settings.ecc if ecc.kind is Kind.MUTANT)
        event_log.on_fault(lambda: self.state.set_log_fault(event_log.fault))
        self.state.set_log_fault(event_log.fault)

    # ------------------------------------------------------------------ what others ask

    @property
    def fleet(self) -> Fleet:
        """The snapshot as it is now."""
        return self.state.fleet

    def subscribe(self, listener: Callable[[FleetChange], None]) -> None:
        """Call `listener` with every change, in the event loop; it must not wait and must not raise."""
        self.state.subscribe(listener)

    async def submit(self, command: Command) -> Outcome:
        """Do a command and return how it ended. Refusals and failures are outcomes, never exceptions."""
        command, fault = checked(command, self.modules)
        try:
            decision = Decision(Plan(command), (Reason(fault),)) if fault else self._decide(command)
        except Exception as error:  # a fault of the program, or a plugin's plan that is none
            log.exception("command failed unexpectedly", command=command)
            decision = Decision(Plan(command), (Reason(f"fault of the program: {error}"),))
        if decision.reasons:
            return self._refused(command, decision.reasons)
        if command.name is CommandName.ABORT:
            return await self._abort(command)
        job = self._begin(command, decision.plan)
        task = asyncio.get_running_loop().create_task(self._perform(job), name=str(command))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    def set(self, setpoint: str, scope: Scope, value: int | float | str, who: Who) -> None:
        """Set a setpoint; raises `Refused`, then nothing changed and the scope's message has the reason."""
        try:
            if self._closing:
                raise Refused("the IOC is shutting down")
            self._setpoints.set(setpoint, scope, value, who)
        except Refused as error:
            self.reject(scope, str(error), who, attempt=True)
            raise
        self.accept(scope, setpoint)
        self._answers.work_out()

    def accept(self, scope: Scope, setpoint: str) -> None:
        """Take the refusal of an earlier put back."""
        self._results.put_accepted(scope, setpoint)

    def reject(self, scope: Scope, text: str, who: Who, *, attempt: bool) -> None:
        """Show a refused put in the scope's message; with `attempt` in its result as well."""
        # Each put has a line of its own, written where its PV and its values are known.
        log.debug("put refused", scope=scope, reason=text, who=who)
        self._results.put_refused(scope, text, attempt=attempt)
        self.state.publish()

    # ------------------------------------------------------------------ life

    def refresh(self) -> None:
        """Work the live answers out, before anybody asks for them."""
        self._answers.work_out()

    def vetoes_changed(self) -> None:
        """Work the live answers out anew soon, because of something else than the fleet."""
        self._answers.again()

    async def run(self) -> None:
        """Watch the fleet for ever; ends by cancellation only."""
        # In a thread: Channel Access answers meanwhile.
        await asyncio.to_thread(load_client)
        async with asyncio.TaskGroup() as group:
            for module in self.modules.values():
                group.create_task(module.run(), name=f"poll {module.name}")
            group.create_task(self.run_control.watch.recover(), name="recover the run")
            group.create_task(self._tick(), name="tick")
            self._answers.work_out()

    async def close(self) -> None:
        """Refuse everything from now on and end what is running, leaving the hardware as it is."""
        self._closing = True
        self._answers.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.run_control.close()
        await asyncio.gather(*(module.close() for module in self.modules.values()))
        self.state.publish()
        self.state.close()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.run_control.watch.tick()
            self._answers.tick()

    # ------------------------------------------------------------------ commands

    def _decide(self, command: Command) -> Decision:
        if self._closing:
            return Decision(Plan(command), (Reason("the IOC is shutting down"),))
        return self._decider.decide(self.fleet, command)

    def _refused(self, command: Command, reasons: tuple[Reason, ...]) -> Outcome:
        outcome = Outcome(command, ResultCode.REFUSED, "", reasons)
        # A client's put has a line of its own; the IOC itself and the plugins have none but this.
        report = log.debug if command.who.address else log.warning
        report("command refused", command=command, who=command.who, reason=outcome.message)
        self._results.command_refused(command, outcome.message)
        self.state.publish()
        return outcome

    def _begin(self, command: Command, plan: Plan) -> Job:
        """Enter a command, in the turn of the event loop in which it was decided."""
        job = self._jobs.begin(command, plan)
        if is_start(command):
            self.run_control.begin_start()
        self._results.command_begun(command)
        return job

    async def _perform(self, job: Job) -> Outcome:
        command = job.command
        began = time.monotonic()
        goals = goals_of(job.plan, self.state.modules)
        log.info("command", command=command, who=command.who)
        outcome = Outcome(command, ResultCode.ABORTED, "the IOC was stopped before it was done")
        try:
            outcome = await self._dispatch(job)
        except asyncio.CancelledError:
            pass  # The IOC is ending: the put is answered as failed, the hardware stays as it is.
        except Exception as error:  # a fault of the program must not leave the screen busy
            log.exception("command failed unexpectedly", command=command)
            outcome = Outcome(command, ResultCode.FAILED, f"fault of the program: {error}")
        self._jobs.end(job)
        job.ended.set_result(outcome)
        outcome = replace(outcome, duration_s=time.monotonic() - began)
        report = log.info if outcome.ok else log.warning
        report("command ended", command=command, message=outcome.message, duration_s=outcome.duration_s)
        self._results.command_ended(command, outcome, goals)
        # What was seen, and the result, goes out to the clients before the answers to it are worked out.
        self.state.publish()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        self._answers.work_out()
        return outcome

    async def _dispatch(self, job: Job) -> Outcome:
        command = job.command
        match command.scope.kind, command.name:
            case ScopeKind.RUN, CommandName.START:
                return await self.run_control.start(
                    job, lambda: self._decider.decide(self.fleet, command, admitted=True)
                )
            case ScopeKind.RUN, CommandName.STOP:
                return await self.run_control.stop(job)
            case ScopeKind.RUN, CommandName.ADOPT:
                return await self.run_control.adopt(command)
            case _, CommandName.REFRESH_CONFIGS:
                return await self._refresh(command, job.abort)
        progress = partial(self._jobs.progress, job)
        goals = goals_of(job.plan, self.state.modules)
        result = await self._engine.run(job.plan, command.who, job.abort, progress)
        if result.aborted:
            views = (self.fleet.modules[name] for name in goals)
            left = (view for view in views if view.state is not goals[view.name] or view.moving)
            result.reasons += [Reason(rules.seen_text(view), view.name) for view in left]
        return result.outcome(command, "" if job.plan.stages else "nothing to do, all are there already")

    async def _abort(self, command: Command) -> Outcome:
        """End a group command, a start, or the waiting of a stop; return when that has ended (rule 10)."""
        log.info("command", command=command, who=command.who)
        # Said at once, so that the aborted command's own result, Aborted, is the one that stays.
        self._results.post(command.scope, ResultCode.DONE, f"{command} Done")
        job = self.run_control.abort_start()
        if job is None and not self.run_control.abort_stop():
            job = next((job for job in self._jobs if job.command.scope == SYSTEM), None)
        if job is not None:
            job.cancel()
            await asyncio.wait((job.ended,), timeout=ABORT_LIMIT_S)
        self._answers.work_out()
        return Outcome(command, ResultCode.DONE)

    async def _refresh(self, command: Command, abort: asyncio.Future[None]) -> Outcome:
        """Ask for the configs; a server that has not answered at the end goes on being asked."""
        scope = command.scope
        views = self.fleet.enabled if scope == SYSTEM else (self.fleet.modules[scope.name],)
        tasks = {view.name: self.modules[view.name].configs.refresh() for view in views if view.online}
        reasons = [
            Reason(f"is Offline ({view.offline_reason})", view.name) for view in views if not view.online
        ]
        await wait_all(tasks.values(), abort, REFRESH_LIMIT_S)
        late = [name for name, task in tasks.items() if not task.done()]
        reasons += [
            Reason(fault, name) for name, task in tasks.items() if task.done() and (fault := task.result())
        ]
        if abort.done():
            return Outcome(command, ResultCode.ABORTED, "", tuple(reasons))
        reasons += [
            Reason(f"GetConfigIDs is not answered after {REFRESH_LIMIT_S:g} s", name) for name in late
        ]
        code = ResultCode.TIMED_OUT if late else ResultCode.FAILED if reasons else ResultCode.DONE
        return Outcome(command, code, "", tuple(reasons))

    # ------------------------------------------------------------------ seeing

    def _on_observed(self, name: str) -> None:
        """Follow what a poll changed: stale clocks, the run, and what is kept across restarts."""
        view = self.state.modules[name]
        seen = (view.state, view.last_state, view.transition, view.outstanding, view.enabled)
        if self._last_seen.get(name) == seen:
            return
        self._last_seen[name] = seen
        self._follow_clock(name)
        self.run_control.watch.look()

    def _follow_clock(self, name: str = "") -> None:
        """Follow what is new of one module, or of any: what is new of a CoBo changes its own clock only."""
        modules = self.state.modules
        mutants = [modules[mutant] for mutant in self._mutants]
        alone = name and name not in self._mutants
        concerned = (modules[name],) if alone else modules.values()
        changes = {
            name: {"unclocked": unclocked, "clock_stale": stale}
            for name, (unclocked, stale) in rules.clocks_after(mutants, concerned).items()
            if (modules[name].unclocked, modules[name].clock_stale) != (unclocked, stale)
        }
        for name, change in changes.items():
            if change["clock_stale"] and not modules[name].clock_stale:
                log.warning("clock stale", module=name, reason="the MuTAnT was taken back below Prepared")
        self.state.update_modules(changes)

    def _on_module_setpoint(self) -> None:
        self._follow_clock()
        self.run_control.watch.look()
