"""The controller: admits or refuses commands and setpoints, runs them, and tells what became of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from attpc_ioc.ecc import load as load_client
from attpc_ioc.errors import Refused
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
    ScopeResult,
    Who,
)
from attpc_ioc.model.fleet import (
    DataLinkView,
    Fleet,
    FleetChange,
    ModuleView,
    SourceView,
    without_diagnostics,
)
from attpc_ioc.model.plan import Plan
from attpc_ioc.plugin.host import PluginHost
from attpc_ioc.settings import EccSettings, Settings

from . import module_document
from .admission import AtWork, Desk, is_stop
from .emitter import Emitter
from .executor import Executor
from .fleet_state import FleetState
from .judge import START, Judge
from .module import ModuleControl
from .run_control import RunControl
from .setpoints import Setpoints
from .store import StateStore

log = get_logger(__name__)

DERIVE_PERIOD_S = 0.02
"""The live answers (checklist, allowed commands) are worked out at most this often."""

SLICE_S = 0.004
"""Working them out holds up polls and clients for this long at a time, however large the fleet is."""

AT_ONCE_S = 0.02
"""For this long at most where somebody waits for them."""

REST = 3.0
"""And rests for this many times what it took, so that it takes a quarter of the time at most."""

TICK_S = 1.0

ANEW_TICKS = 10
"""Every so many ticks the live answers are worked out anew though nothing has changed."""

REFRESH_LIMIT_S = 15.0
"""How long Abort waits for a RefreshConfigs that is at work."""


class Controller:
    """One for an IOC. `submit` and `set` are all that PVs, plugins and the IOC itself can ask of it."""

    def __init__(self, settings: Settings, host: PluginHost, store: StateStore, emitter: Emitter) -> None:
        self._settings = settings
        self._host = host
        self._store = store
        raw = store.load(module_document.DOCUMENT) or {}
        kept = raw.get("modules")
        self._kept: dict[str, Any] = dict(kept) if isinstance(kept, dict) else {}
        views = {ecc.name: self._first_view(ecc) for ecc in settings.ecc}
        self._others = {name: entry for name, entry in self._kept.items() if name not in views}
        self.state = FleetState(views)
        self.modules = {
            ecc.name: ModuleControl(
                ecc,
                state=self.state,
                poll=settings.poll,
                limits=settings.limits,
                emitter=emitter,
                on_observed=self._on_observed,
            )
            for ecc in settings.ecc
        }
        self._desk = Desk()
        self._executor = Executor(self.state, self.modules)
        self.run_control = RunControl(
            settings,
            state=self.state,
            modules=self.modules,
            executor=self._executor,
            host=host,
            emitter=emitter,
            store=store,
        )
        self.run_control.watch.own_stop = self._stop_by_itself
        self.run_control.watch.late_end = lambda text: self._post(RUN, ResultCode.DONE, f"Done: {text}")
        self._judge = Judge(host, self._desk, self.run_control, store)
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
        self._persisted = {view.name: _kept_of(view) for view in views.values()}
        self._persist_handle: asyncio.Handle | None = None
        self._put_refused: set[Scope] = set()
        self._derive_handle: asyncio.TimerHandle | None = None
        self._derive_not_before_s = 0.0
        self._deriving: Iterator[None] | None = None
        self._derive_again = False
        self._derive_fresh = False
        self._own_change = False
        self._essences: dict[str, object] = {}
        self._ticks = 0
        self.state.subscribe(self._on_change)
        store.on_fault(self._derive_soon)

    def _first_view(self, ecc: EccSettings) -> ModuleView:
        view = ModuleView(name=ecc.name, kind=ecc.kind, url=ecc.url, host=ecc.host, sources=source_views(ecc))
        return module_document.restore(view, self._kept[ecc.name]) if ecc.name in self._kept else view

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
        plan, reasons = self._admit(command)
        if reasons:
            return self._refused(command, reasons)
        self.state.poke()
        entry = self._desk.add(command)
        if command == replace(START, who=command.who):
            self.run_control.begin_start()
        self._post_busy(command)
        task = asyncio.get_running_loop().create_task(self._perform(command, plan, entry), name=str(command))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def set(self, setpoint: str, scope: Scope, value: int | float | str, who: Who) -> None:
        """Set a setpoint; raises `Refused`, then nothing changed and the scope's message has the reason."""
        try:
            if self._closing:
                raise Refused("the IOC is shutting down")
            self._setpoints.set(setpoint, scope, value, who)
        except Refused as error:
            self.reject(scope, str(error), who, attempt=True)
            raise
        if scope in self._put_refused:
            self._put_refused.discard(scope)
            self._post(scope, ResultCode.DONE, f"{setpoint} set")
        self._derive()

    def reject(self, scope: Scope, text: str, who: Who, *, attempt: bool) -> None:
        """Show a refused put in the scope's message; with `attempt` in its result as well."""
        log.warning("put refused", scope=scope, reason=text, who=who)
        if scope.kind not in (ScopeKind.SYSTEM, ScopeKind.ECC, ScopeKind.RUN):
            return
        if attempt and self.state.result(scope).code is not ResultCode.BUSY:
            self._put_refused.add(scope)
            self._post(scope, ResultCode.REFUSED, f"Refused: {text}")
        else:
            result = self.state.result(scope)
            count = result.count + 1 if attempt else result.count
            self.state.set_result(scope, replace(result, count=count, message=f"Refused: {text}"))

    # ------------------------------------------------------------------ life

    def refresh(self) -> None:
        """Work the live answers out, before anybody asks for them."""
        self._derive()

    async def run(self) -> None:
        """Watch the fleet for ever; ends by cancellation only."""
        # In a thread: Channel Access answers meanwhile.
        await asyncio.to_thread(load_client)
        async with asyncio.TaskGroup() as group:
            for module in self.modules.values():
                group.create_task(module.run(), name=f"poll {module.name}")
            group.create_task(self.run_control.watch.recover(), name="recover the run")
            group.create_task(self._tick(), name="tick")
            self._derive()

    async def close(self) -> None:
        """Refuse everything from now on and end what is at work, leaving the hardware as it is."""
        self._closing = True
        if self._derive_handle is not None:
            self._derive_handle.cancel()
        self._persist_now()
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
            self._ticks += 1
            if self._judge.alike and self._ticks % ANEW_TICKS:
                # Nobody looks at anything but the fleet: what has not changed is as it was.
                self._show_run(self.fleet.run.checklist)
            elif self._deriving is None:
                self._derive_fresh = True
                self._derive_slice()

    # ------------------------------------------------------------------ commands

    def _admit(self, command: Command) -> tuple[Plan, list[Reason]]:
        scope = command.scope
        if self._closing:
            return Plan(command), [Reason("the IOC is shutting down")]
        if scope.kind is ScopeKind.ECC and scope.name not in self.modules:
            return Plan(command), [Reason(f"there is no ECC server {scope.name}")]
        return self._judge.judge(command, self.fleet)

    def _refused(self, command: Command, reasons: list[Reason]) -> Outcome:
        outcome = Outcome(command, ResultCode.REFUSED, "", tuple(reasons))
        log.warning("command refused", command=command, who=command.who, reason=outcome.message)
        # A command of this scope that is at work keeps the result; the refusal is in count and message.
        if self.state.result(command.scope).code is ResultCode.BUSY:
            result = self.state.result(command.scope)
            self.state.set_result(
                command.scope, replace(result, count=result.count + 1, message=outcome.message)
            )
        else:
            self._post(command.scope, outcome.code, outcome.message)
        return outcome

    async def _perform(self, command: Command, plan: Plan, entry: AtWork) -> Outcome:
        began = time.monotonic()
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
            self._post_end(command, outcome)
        self._derive()
        return outcome

    async def _dispatch(self, command: Command, plan: Plan, entry: AtWork) -> Outcome:
        progress = self._progress_of(entry)
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
            case _, CommandName.REFRESH_CONFIGS:
                return await self._refresh(command)
        abort = asyncio.Event()
        self._aborts[id(entry)] = abort
        try:
            result = await self._executor.run(plan, command.who, abort, progress)
        finally:
            del self._aborts[id(entry)]
        return result.outcome(command, "" if plan.stages else "nothing to do, all are there already")

    async def _abort(self, command: Command) -> Outcome:
        """End a group command, a start, or the waiting of a stop; return when that has ended (rule 10)."""
        # Said at once, so that the aborted command's own result, Aborted, is the one that stays.
        self._post(command.scope, ResultCode.DONE, f"{command} Done")
        group = self._desk.group
        done = self.run_control.abort_start()
        if done is not None:
            await asyncio.shield(done)
        elif not self.run_control.abort_stop() and group is not None:
            # RefreshConfigs has nothing to abort: it is bounded in time, and is waited for.
            if (event := self._aborts.get(id(group))) is not None:
                event.set()
            while self._desk.group is group and await self.state.wait_change(REFRESH_LIMIT_S):
                pass
        return Outcome(command, ResultCode.DONE)

    async def _refresh(self, command: Command) -> Outcome:
        scope = command.scope
        views = self.fleet.enabled if scope == SYSTEM else (self.fleet.modules[scope.name],)
        tasks = {view.name: self.modules[view.name].refresh() for view in views if view.online}
        reasons = [
            Reason(f"is Offline ({view.offline_reason})", view.name) for view in views if not view.online
        ]
        for name, task in tasks.items():
            fault = await asyncio.shield(task)
            if fault:
                reasons.append(Reason(fault, name))
        code = ResultCode.FAILED if reasons else ResultCode.DONE
        return Outcome(command, code, "", tuple(reasons))

    def _stop_by_itself(self, reason: str) -> None:
        who = replace(IOC_ITSELF, host=reason)
        log.warning("the IOC stops the run", reason=reason)
        task = asyncio.get_running_loop().create_task(
            self._submit_quietly(Command(RUN, CommandName.STOP, who=who)), name="own stop"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _submit_quietly(self, command: Command) -> None:
        await self.submit(command)

    # ------------------------------------------------------------------ results

    def _post(self, scope: Scope, code: ResultCode, message: str) -> None:
        count = self.state.result(scope).count + 1
        self.state.set_result(scope, ScopeResult(code, count, message))

    def _post_busy(self, command: Command) -> None:
        self._put_refused.discard(command.scope)
        if command.name is not CommandName.ABORT:
            result = self.state.result(command.scope)
            self.state.set_result(
                command.scope, ScopeResult(ResultCode.BUSY, result.count, f"{command} is at work")
            )
        self._show_work()
        self._derive()

    def _post_end(self, command: Command, outcome: Outcome) -> None:
        self._post(command.scope, outcome.code, outcome.message)
        self._show_work()
        still = [w for w in self._desk.run if is_stop(w.command)] if command.scope == RUN else []
        if still:
            # A Stop that aborted this start, or a joined Stop, has not ended yet.
            result = self.state.result(RUN)
            self.state.set_result(RUN, replace(result, code=ResultCode.BUSY))

    def _progress_of(self, entry: AtWork) -> Callable[[str, float], None]:
        def progress(text: str, percent: float) -> None:
            entry.text, entry.percent = text, percent
            self._show_work()

        return progress

    def _show_work(self) -> None:
        self.state.set_work(self._desk.work())

    # ------------------------------------------------------------------ seeing

    def _on_observed(self, name: str) -> None:
        """Follow what a poll changed: stale clocks, the run, and what is kept over restarts."""
        view = self.state.module(name)
        seen = (view.state, view.last_state, view.transition, view.outstanding, view.enabled)
        if self._last_seen.get(name) == seen:
            return
        self._last_seen[name] = seen
        self._follow_clock()
        self.run_control.watch.look()
        self.state.poke()

    def _follow_clock(self) -> None:
        stale = rules.stale_after(self.fleet.modules)
        changes = {
            m.name: {"clock_stale": m.name in stale}
            for m in self.fleet.modules.values()
            if m.clock_stale is not (m.name in stale)
        }
        for name, change in changes.items():
            if change["clock_stale"]:
                log.warning("clock stale", module=name, reason="the MuTAnT was taken back below Prepared")
        self.state.update_modules(changes)

    def _on_module_setpoint(self) -> None:
        self._follow_clock()
        self.run_control.watch.look()

    def _on_change(self, change: FleetChange) -> None:
        news = not change.modules and not self._own_change
        for name in change.modules:
            view = change.fleet.modules[name]
            if self._essences.get(name) != (essence := without_diagnostics(view)):
                self._essences[name] = essence
                news = True
                self._note_kept(view)
        if news and not self._own_change:
            self._derive_soon()

    def _note_kept(self, view: ModuleView) -> None:
        kept = _kept_of(view)
        if self._persisted[view.name] != kept:
            self._persisted[view.name] = kept
            if self._persist_handle is None:
                # Once for all that change in one turn of the loop.
                self._persist_handle = asyncio.get_running_loop().call_soon(self._persist_now)

    def _persist_now(self) -> None:
        if self._persist_handle is not None:
            self._persist_handle.cancel()
            self._persist_handle = None
            modules = self.fleet.modules
            self._store.save(module_document.DOCUMENT, module_document.dump(modules, self._others))

    # ------------------------------------------------------------------ live answers

    def _derive_soon(self) -> None:
        if self._deriving is not None:
            self._derive_again = True
        elif self._derive_handle is None and not self._closing:
            wait_s = max(0.0, self._derive_not_before_s - time.monotonic())
            self._derive_handle = asyncio.get_running_loop().call_later(wait_s, self._derive_slice)

    def _derive(self) -> None:
        """Work out the checklist and what would be accepted now: before this returns, in all but huge fleets.

        Who was answered that a command has ended is to find the new answers.
        """
        self._deriving = None
        self._derive_slice(AT_ONCE_S)

    def _derive_slice(self, limit_s: float = SLICE_S) -> None:
        """Begin to work them out, or go on, for some time; then rest and go on."""
        if self._derive_handle is not None:
            self._derive_handle.cancel()
            self._derive_handle = None
        if self._closing:
            return
        if self._deriving is None:
            self._derive_again = False
            self._deriving = self._derive_steps()
        began = time.monotonic()
        try:
            for _ in self._deriving:
                if time.monotonic() - began >= limit_s:
                    pause_s = REST * (time.monotonic() - began)
                    self._derive_handle = asyncio.get_running_loop().call_later(pause_s, self._derive_slice)
                    return
        except Exception:  # a fault of the program: the next change tries again
            log.exception("live answers failed")
        self._deriving = None
        now = time.monotonic()
        self._derive_not_before_s = now + max(DERIVE_PERIOD_S, REST * (now - began))
        if self._derive_again:
            self._derive_soon()

    def _show_run(self, checklist: tuple[str, ...]) -> None:
        self._own_change = True
        try:
            self.state.set_run(self.run_control.record.view(checklist))
        finally:
            self._own_change = False

    def _derive_steps(self) -> Iterator[None]:
        """Yield between the steps; what it changes itself asks for no other round."""
        fresh, self._derive_fresh = self._derive_fresh, False
        self._show_run(self._judge.checklist(self.fleet))
        yield
        for allowed in self._judge.allowed(lambda: self.fleet, fresh=fresh):
            if allowed is not None:
                self._own_change = True
                try:
                    self.state.set_allowed(allowed)
                finally:
                    self._own_change = False
            yield


def _kept_of(view: ModuleView) -> object:
    """Return what of a module is kept over restarts."""
    return (view.enabled, view.selected, view.loaded, view.clock_stale)


def source_views(ecc: EccSettings) -> tuple[SourceView, ...]:
    """Return the data sources of one ECC server."""
    return tuple(
        SourceView(
            name=source.pv_name,
            sender_id=source.id,
            ecc=ecc.name,
            links=tuple(DataLinkView(k.name, str(k.address), k.port, k.type) for k in source.link),
        )
        for source in ecc.source
    )
