"""The controller: admits or refuses commands and setpoints, runs them, and tells what became of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from attpc_ioc.ecc import load as load_client
from attpc_ioc.errors import Refused
from attpc_ioc.eventlog import EventLog
from attpc_ioc.log import get_logger
from attpc_ioc.model import rules
from attpc_ioc.model.command import (
    IOC_ITSELF,
    RUN,
    SYSTEM,
    Command,
    CommandName,
    Outcome,
    Reason,
    ResultCode,
    Scope,
    ScopeKind,
    Who,
)
from attpc_ioc.model.fleet import Fleet, FleetChange
from attpc_ioc.model.plan import Plan
from attpc_ioc.model.states import Kind
from attpc_ioc.plugin.host import PluginHost
from attpc_ioc.settings import Settings

from .admission import AtWork, Desk, is_start
from .emitter import Emitter
from .executor import Executor
from .fleet_state import FleetState
from .incoming import checked
from .judge import Judge
from .kept_modules import KeptModules
from .live_answers import LiveAnswers
from .module import CONFIGS_AT_ONCE, ModuleControl
from .numbers import StateDirNumbers
from .result_board import ResultBoard, goals_of
from .run_control import RunControl
from .setpoints import Setpoints

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
        self._kept = KeptModules(event_log, settings.ecc)
        self.state = FleetState(self._kept.views)
        asking_configs = asyncio.Semaphore(CONFIGS_AT_ONCE)
        self.modules = {
            ecc.name: ModuleControl(
                ecc,
                state=self.state,
                poll=settings.poll,
                limits=settings.limits,
                emitter=emitter,
                on_observed=self._on_observed,
                asking_configs=asking_configs,
            )
            for ecc in settings.ecc
        }
        self._desk = Desk()
        self._board = ResultBoard(self.state, self._desk)
        self._executor = Executor(self.state, self.modules)
        self.run_control = RunControl(
            settings,
            state=self.state,
            modules=self.modules,
            executor=self._executor,
            host=host,
            emitter=emitter,
            event_log=event_log,
            numbers=numbers,
        )
        self.run_control.watch.own_stop = self._stop_by_itself
        self.run_control.watch.late_end = self._board.rest_stopped
        self.run_control.on_unwatched_stop = lambda end: self._board.command_ended(end.command, end, {})
        for module in self.modules.values():
            module.on_arrived = self._board.arrived
        self._judge = Judge(host, self._desk, self.run_control, event_log)
        self._answers = LiveAnswers(self.state, self._judge, self.run_control.record)
        self.run_control.record.show = self._answers.show_run
        self._setpoints = Setpoints(
            state=self.state,
            run=self.run_control,
            desk=self._desk,
            ecc={ecc.name: ecc for ecc in settings.ecc},
            on_module_setpoint=self._on_module_setpoint,
        )
        self._aborts: dict[int, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._last_seen: dict[str, object] = {}
        self._mutants = frozenset(ecc.name for ecc in settings.ecc if ecc.kind is Kind.MUTANT)
        self.state.subscribe(self._kept.on_change)
        self.state.subscribe(self._answers.on_change)
        event_log.on_fault(self._answers.work_out_soon)

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
            plan, reasons = self._admit(command) if not fault else (Plan(command), [Reason(fault)])
        except Exception as error:  # a fault of the program, or a plugin's plan that is none
            log.exception("command failed unexpectedly", command=command)
            plan, reasons = Plan(command), [Reason(f"fault of the program: {error}")]
        if reasons:
            return self._refused(command, reasons)
        self.state.poke()
        entry = self._desk.add(command)
        if is_start(command):
            self.run_control.begin_start()
        self._board.command_begun(command)
        self._answers.work_out()
        task = asyncio.get_running_loop().create_task(self._perform(command, plan, entry), name=str(command))
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
        self._board.put_accepted(scope, setpoint)
        self._answers.work_out()

    def reject(self, scope: Scope, text: str, who: Who, *, attempt: bool) -> None:
        """Show a refused put in the scope's message; with `attempt` in its result as well."""
        # Each put has a line of its own, written where its PV and its values are known.
        log.debug("put refused", scope=scope, reason=text, who=who)
        self._board.put_refused(scope, text, attempt=attempt)

    # ------------------------------------------------------------------ life

    def refresh(self) -> None:
        """Work the live answers out, before anybody asks for them."""
        self._answers.work_out()

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
        """Refuse everything from now on and end what is at work, leaving the hardware as it is."""
        self._closing = True
        self._answers.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.run_control.close()
        await asyncio.gather(*(module.close() for module in self.modules.values()))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.run_control.watch.tick()
            self._answers.tick()

    # ------------------------------------------------------------------ commands

    def _admit(self, command: Command) -> tuple[Plan, list[Reason]]:
        if self._closing:
            return Plan(command), [Reason("the IOC is shutting down")]
        return self._judge.judge(command, self.fleet)

    def _refused(self, command: Command, reasons: list[Reason]) -> Outcome:
        outcome = Outcome(command, ResultCode.REFUSED, "", tuple(reasons))
        # A client's put has a line of its own; the IOC itself and the plugins have none but this.
        report = log.debug if command.who.address else log.warning
        report("command refused", command=command, who=command.who, reason=outcome.message)
        self._board.command_refused(command, outcome.message)
        return outcome

    async def _perform(self, command: Command, plan: Plan, entry: AtWork) -> Outcome:
        began = time.monotonic()
        goals = goals_of(plan, self.fleet)
        log.info("command", command=command, who=command.who)
        try:
            outcome = await self._dispatch(command, plan, entry)
        except asyncio.CancelledError:
            # The IOC is ending: the put is answered as failed, the hardware stays as it is.
            outcome = Outcome(command, ResultCode.ABORTED, "the IOC was stopped before it was done")
        except Exception as error:  # a fault of the program must not leave the desk or the screen busy
            log.exception("command failed unexpectedly", command=command)
            outcome = Outcome(command, ResultCode.FAILED, f"fault of the program: {error}")
        finally:
            self._desk.remove(entry)
            self.state.poke()
        outcome = replace(outcome, duration_s=time.monotonic() - began)
        report = log.info if outcome.ok else log.warning
        report("command ended", command=command, message=outcome.message, duration_s=outcome.duration_s)
        if command.name is not CommandName.ABORT:
            self._board.command_ended(command, outcome, goals)
        self._answers.work_out()
        return outcome

    async def _dispatch(self, command: Command, plan: Plan, entry: AtWork) -> Outcome:
        progress = self._board.progress_of(entry)
        match command.scope.kind, command.name:
            case ScopeKind.RUN, CommandName.START:
                return await self.run_control.start(
                    command,
                    lambda: self._judge.judge(command, self.fleet, at_work=False),
                    progress,
                )
            case ScopeKind.RUN, CommandName.STOP:
                return await self.run_control.stop(command, progress)
            case ScopeKind.RUN, CommandName.ADOPT:
                return await self.run_control.adopt(command)
            case _, CommandName.ABORT:
                return await self._abort(command)
        abort = asyncio.Event()
        self._aborts[id(entry)] = abort
        try:
            if command.name is CommandName.REFRESH_CONFIGS:
                return await self._refresh(command, abort)
            result = await self._executor.run(plan, command.who, abort, progress)
        finally:
            del self._aborts[id(entry)]
        return result.outcome(command, "" if plan.stages else "nothing to do, all are there already")

    async def _abort(self, command: Command) -> Outcome:
        """End a group command, a start, or the waiting of a stop; return when that has ended (rule 10)."""
        # Said at once, so that the aborted command's own result, Aborted, is the one that stays.
        self._board.post(command.scope, ResultCode.DONE, f"{command} Done")
        group = self._desk.group
        done = self.run_control.abort_start()
        if done is not None:
            await asyncio.shield(done)
        elif not self.run_control.abort_stop() and group is not None:
            self._aborts[id(group)].set()
            deadline = time.monotonic() + ABORT_LIMIT_S
            while self._desk.group is group:
                if not await self.state.wait_change(deadline - time.monotonic()):
                    break
        return Outcome(command, ResultCode.DONE)

    async def _refresh(self, command: Command, abort: asyncio.Event) -> Outcome:
        """Ask for the configs; a server that has not answered at the end goes on being asked."""
        scope = command.scope
        views = self.fleet.enabled if scope == SYSTEM else (self.fleet.modules[scope.name],)
        tasks = {view.name: self.modules[view.name].refresh() for view in views if view.online}
        reasons = [
            Reason(f"is Offline ({view.offline_reason})", view.name) for view in views if not view.online
        ]
        loop = asyncio.get_running_loop()
        if tasks:
            ends: list[asyncio.Task[Any]] = [
                loop.create_task(abort.wait(), name="abort"),
                loop.create_task(asyncio.wait(tasks.values()), name="configs"),
            ]
            try:
                await asyncio.wait(ends, timeout=REFRESH_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for end in ends:
                    end.cancel()
        late = [name for name, task in tasks.items() if not task.done()]
        reasons += [
            Reason(fault, name) for name, task in tasks.items() if task.done() and (fault := task.result())
        ]
        if abort.is_set():
            return Outcome(command, ResultCode.ABORTED, "", tuple(reasons))
        reasons += [
            Reason(f"GetConfigIDs is not answered after {REFRESH_LIMIT_S:g} s", name) for name in late
        ]
        code = ResultCode.TIMED_OUT if late else ResultCode.FAILED if reasons else ResultCode.DONE
        return Outcome(command, code, "", tuple(reasons))

    def _stop_by_itself(self, reason: str) -> None:
        log.warning("the IOC stops the run", reason=reason)
        stop = Command(RUN, CommandName.STOP, who=IOC_ITSELF, reason=reason)
        task = asyncio.get_running_loop().create_task(self._submit_quietly(stop), name="own stop")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _submit_quietly(self, command: Command) -> None:
        await self.submit(command)

    # ------------------------------------------------------------------ seeing

    def _on_observed(self, name: str) -> None:
        """Follow what a poll changed: stale clocks, the run, and what is kept over restarts."""
        view = self.state.module(name)
        seen = (view.state, view.last_state, view.transition, view.outstanding, view.enabled)
        if self._last_seen.get(name) == seen:
            return
        self._last_seen[name] = seen
        self._follow_clock(name)
        self.run_control.watch.look()
        self.state.poke()

    def _follow_clock(self, name: str = "") -> None:
        """Follow what is new of one module, or of any: what is new of a CoBo changes its own clock only."""
        modules = self.fleet.modules
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
