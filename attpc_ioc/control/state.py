"""The one place where the snapshot of the fleet changes, and where everybody else hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from attpc_ioc.model.command import RUN, SYSTEM, CommandName, Scope, ScopeKind, ScopeResult
from attpc_ioc.model.fleet import (
    ActiveCommand,
    Fleet,
    FleetChange,
    ModuleView,
    decisive,
    members_of,
    without_diagnostics,
)
from attpc_ioc.model.run import RunState, RunView
from attpc_ioc.model.states import State

Listener = Callable[[FleetChange], None]

PUBLISH_TURNS = 10
PUBLISH_S = 0.002
"""What happens within so many turns of the event loop is published together, if they are over in this time.

A module's arrival and the end of the command that waited for it are one snapshot then.
"""

QUIET_S = 0.1
"""What each poll measures is published that much later: of a large fleet that is something all the time."""


class Signal:
    """Lets tasks wait until something happens; none misses what happens after its call."""

    def __init__(self) -> None:
        self._next: asyncio.Future[None] | None = None

    async def wait(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s`; False when the time is up."""
        if timeout_s <= 0:
            return False
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait((self._next,), timeout=timeout_s)
        return bool(done)

    def fire(self) -> None:
        """Wake everybody who waits."""
        if self._next is not None:
            waiting, self._next = self._next, None
            if not waiting.done():
                waiting.set_result(None)


class FleetState:
    """Holds what the snapshot is made of. Updates are synchronous, and `fleet` shows each at once.

    Listeners get the changes of several turns of the event loop together, or when `publish` is called: each
    state of a module and each result of an attempt, in order, however many changes there are. `keep` hears of
    each new view of a module at once, so that what is kept across restarts is in the transaction of the
    event.
    """

    def __init__(self, modules: Mapping[str, ModuleView], keep: Callable[[ModuleView], None]) -> None:
        self._modules = dict(modules)
        self.modules: Mapping[str, ModuleView] = MappingProxyType(self._modules)
        """The modules as they are now."""
        self._keep = keep
        self.run = RunView()
        """The run as its record has it."""
        self._results: dict[Scope, ScopeResult] = {}
        self._fleet = Fleet(modules=MappingProxyType(dict(modules)))
        self._stale = False
        """The snapshot is to be made anew when somebody asks for it."""
        self._modules_stale = False
        self._next: dict[str, Any] = {}
        """Fields of the next snapshot."""
        self._listeners: list[Listener] = []
        self._pending = False
        self._changed: set[str] = set()
        self._moved: set[str] = set()
        self._attempts: list[Scope] = []
        self._publishing: asyncio.Handle | None = None
        self._soon = False
        self.changed = Signal()
        """Fired by every change."""
        self._module_changed: dict[str, Signal] = {}
        self.news = 0
        """Counts the changes of all that a decision looks at."""

    @property
    def fleet(self) -> Fleet:
        """The snapshot as it is now."""
        if self._stale:
            self._stale = False
            if self._modules_stale:
                self._modules_stale = False
                self._next["modules"] = MappingProxyType(self._modules.copy())
            fields, self._next = self._next, {}
            modules = fields.get("modules", self._fleet.modules)
            self._fleet = replace(self._fleet, **fields, run=_seen_with(self.run, modules), news=self.news)
        return self._fleet

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with the changes; it must not raise and must not wait."""
        self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Call a listener no more."""
        self._listeners.remove(listener)

    async def wait_module(self, name: str, timeout_s: float) -> bool:
        """Wait until one module has changed, at most `timeout_s`; False when the time is up."""
        return await self._module_changed.setdefault(name, Signal()).wait(timeout_s)

    # ------------------------------------------------------------------ updates

    def update_module(self, name: str, **changes: Any) -> ModuleView:
        """Change fields of one module's view."""
        old = self._modules[name]
        new = replace(old, **changes)
        if new != old:
            if new.state is not old.state and name in self._moved:
                self.publish()
            if new.state is not old.state:
                self._moved.add(name)
            self._modules[name] = new
            self._modules_stale = True
            self._keep(new)
            if name in self._module_changed:
                self._module_changed[name].fire()
            quiet = without_diagnostics(new) == without_diagnostics(old)
            self._note((name,), news=not quiet and decisive(new) != decisive(old), quiet=quiet)
        return new

    def update_modules(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Change fields of several modules."""
        for name, fields in changes.items():
            self.update_module(name, **fields)

    def set_run(self, run: RunView, *, news: bool = True) -> None:
        """Put a new view of the run in place; no `news` where nothing but time has passed."""
        if run != self.run:
            self.run = run
            self._note(news=news)

    def set_active(self, active: tuple[ActiveCommand, ...], *, news: bool = True) -> None:
        """Put a new list of the running commands in place; no `news` where only their progress is new."""
        self._next["active"] = active
        self._note(news=news)

    def set_log_fault(self, fault: str) -> None:
        """Put why the state database cannot be written in place."""
        self._next["log_fault"] = fault
        self._note()

    def set_answers(
        self,
        allowed: Mapping[Scope, frozenset[CommandName]],
        checklist: tuple[str, ...],
        next_number: int,
    ) -> None:
        """Put new answers to what would be accepted now, and why a start would not be, in place."""
        old: Mapping[Scope, frozenset[CommandName]] = self._next.get("allowed", self._fleet.allowed)
        if allowed != old:
            self._next["allowed"] = MappingProxyType(dict(allowed))
            names = [
                scope.name
                for scope, commands in allowed.items()
                if scope.kind is ScopeKind.ECC and old.get(scope) != commands
            ]
            self._note(names, news=False)
        self.set_run(replace(self.run, checklist=checklist, next_number=next_number), news=False)

    def result(self, scope: Scope) -> ScopeResult:
        """Return the last result of a scope."""
        if scope.kind is ScopeKind.ECC:
            return self._modules[scope.name].result
        return self._results.get(scope, ScopeResult())

    def set_result(self, scope: Scope, result: ScopeResult, *, attempt: bool = True) -> None:
        """Post the result of an attempt, even when it equals the last; not an `attempt`: what it became."""
        if attempt and scope in self._attempts:
            self.publish()
        if scope.kind is ScopeKind.ECC:
            self.update_module(scope.name, result=result)
        elif scope in (RUN, SYSTEM):
            self._results[scope] = result
            self._next["run_result" if scope == RUN else "system_result"] = result
        if attempt:
            self._attempts.append(scope)
        self._note(news=False)

    # ------------------------------------------------------------------ telling

    def publish(self) -> None:
        """Give the listeners what has changed, at once."""
        self._cancel()
        if not self._pending:
            return
        change = FleetChange(self.fleet, frozenset(self._changed), tuple(self._attempts))
        self._pending = False
        self._changed.clear()
        self._moved.clear()
        self._attempts.clear()
        for listener in tuple(self._listeners):
            listener(change)

    def close(self) -> None:
        """Publish nothing more by itself."""
        self._cancel()

    def _note(
        self, modules: tuple[str, ...] | list[str] = (), *, news: bool = True, quiet: bool = False
    ) -> None:
        self._stale = self._pending = True
        self._changed.update(modules)
        self.news += news
        if quiet:
            if self._publishing is None:
                self._publishing = asyncio.get_running_loop().call_later(QUIET_S, self.publish)
            return
        self.changed.fire()
        if not self._soon:
            self._cancel()
            self._soon = True
            loop = asyncio.get_running_loop()
            self._publishing = loop.call_soon(self._turn, PUBLISH_TURNS, loop.time() + PUBLISH_S)

    def _turn(self, left: int, due_s: float) -> None:
        loop = asyncio.get_running_loop()
        if left and loop.time() < due_s:
            self._publishing = loop.call_soon(self._turn, left - 1, due_s)
        else:
            self.publish()

    def _cancel(self) -> None:
        self._soon = False
        if self._publishing is not None:
            self._publishing.cancel()
            self._publishing = None


def _seen_with(run: RunView, modules: Mapping[str, ModuleView]) -> RunView:
    """Return the run with what the modules add to it."""
    if run.on:
        expected = members_of(run, modules)
        running = tuple(name for name in expected if modules[name].state is State.RUNNING)
        return replace(run, expected=expected, running=running)
    enabled = [module for module in modules.values() if module.enabled]
    running = tuple(module.name for module in enabled if module.state is State.RUNNING)
    state = RunState.INTERRUPTED if run.interrupted else RunState.STOPPED
    if any(module.live for module in enabled):
        state = RunState.ORPHAN
    return replace(run, state=state, running=running)
