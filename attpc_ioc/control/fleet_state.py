"""The one place where the snapshot of the fleet changes, and where everybody else hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from attpc_ioc.model.command import RUN, SYSTEM, CommandName, Scope, ScopeKind, ScopeResult
from attpc_ioc.model.fleet import Fleet, FleetChange, ModuleView, Work
from attpc_ioc.model.run import RunView

Listener = Callable[[FleetChange], None]


class FleetState:
    """Holds the snapshot. Updates are synchronous; listeners are called before an update returns.

    `wait_change` lets a task wait until anything changed; it never misses one that comes after its call.
    """

    def __init__(self, modules: Mapping[str, ModuleView]) -> None:
        self._modules = dict(modules)
        """Those of the snapshot; copying this is thirty times quicker than copying its read-only view."""
        self._fleet = Fleet(modules=MappingProxyType(self._modules))
        self._listeners: list[Listener] = []
        self._changed: asyncio.Future[None] | None = None
        self.generation = 0

    @property
    def fleet(self) -> Fleet:
        """The snapshot as it is now."""
        return self._fleet

    def subscribe(self, listener: Listener) -> None:
        """Call `listener` with every change; it must not raise and must not wait."""
        self._listeners.append(listener)

    def module(self, name: str) -> ModuleView:
        """Return the view of one module."""
        return self._fleet.modules[name]

    def update_module(self, name: str, **changes: Any) -> ModuleView:
        """Change fields of one module's view and tell; nothing is told when nothing changed."""
        old = self._fleet.modules[name]
        new = replace(old, **changes)
        if new != old:
            self._set_modules({name: new})
            self._tell(FleetChange(self._fleet, frozenset((name,))))
        return new

    def update_modules(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Change fields of several modules at once, so that nobody sees half of it."""
        views = {name: replace(self._fleet.modules[name], **fields) for name, fields in changes.items()}
        views = {name: view for name, view in views.items() if view != self._fleet.modules[name]}
        if views:
            self._set_modules(views)
            self._tell(FleetChange(self._fleet, frozenset(views)))

    def set_run(self, run: RunView) -> None:
        """Put a new view of the run in place."""
        if run != self._fleet.run:
            self._fleet = replace(self._fleet, run=run)
            self._tell(FleetChange(self._fleet))

    def set_work(self, work: tuple[Work, ...]) -> None:
        """Put a new list of what is at work in place."""
        if work != self._fleet.work:
            self._fleet = replace(self._fleet, work=work)
            self._tell(FleetChange(self._fleet))

    def set_allowed(self, allowed: Mapping[Scope, frozenset[CommandName]]) -> None:
        """Put new answers to "what would be accepted now" in place."""
        old = self._fleet.allowed
        if allowed != old:
            names = frozenset(
                scope.name
                for scope, commands in allowed.items()
                if scope.kind is ScopeKind.ECC and old.get(scope) != commands
            )
            self._fleet = replace(self._fleet, allowed=MappingProxyType(dict(allowed)))
            self._tell(FleetChange(self._fleet, names))

    def result(self, scope: Scope) -> ScopeResult:
        """Return the last result of a scope."""
        if scope == RUN:
            return self._fleet.run_result
        if scope == SYSTEM:
            return self._fleet.system_result
        return self._fleet.modules[scope.name].result

    def set_result(self, scope: Scope, result: ScopeResult, *, attempt: bool = True) -> None:
        """Post the result of an attempt, even when it equals the last; not an `attempt`: what it became."""
        modules: frozenset[str] = frozenset()
        if scope == RUN:
            self._fleet = replace(self._fleet, run_result=result)
        elif scope == SYSTEM:
            self._fleet = replace(self._fleet, system_result=result)
        else:
            self._set_modules({scope.name: replace(self._fleet.modules[scope.name], result=result)})
            modules = frozenset((scope.name,))
        self._tell(FleetChange(self._fleet, modules, (scope,) if attempt else ()))

    async def wait_change(self, timeout_s: float) -> bool:
        """Wait until anything changed, at most `timeout_s`; False when the time is up."""
        if timeout_s <= 0:
            return False
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait((self._changed,), timeout=timeout_s)
        return bool(done)

    def poke(self) -> None:
        """Wake those who wait for a change, where what changed is not in the snapshot."""
        if self._changed is not None:
            changed, self._changed = self._changed, None
            if not changed.done():
                changed.set_result(None)

    def _set_modules(self, views: Mapping[str, ModuleView]) -> None:
        self._modules = self._modules.copy()
        self._modules.update(views)
        self._fleet = replace(self._fleet, modules=MappingProxyType(self._modules))

    def _tell(self, change: FleetChange) -> None:
        self.generation += 1
        for listener in self._listeners:
            listener(change)
        self.poke()
