"""A controller for tests of the Channel Access face: real snapshots, answers set by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from attpc_ioc.errors import Refused
from attpc_ioc.model.command import RUN, Command, Outcome, ResultCode, Scope, ScopeKind, ScopeResult, Who
from attpc_ioc.model.fleet import Fleet, FleetChange
from tests.support.fleets import with_module


@dataclass
class FakeController:
    """Takes commands and setpoints, keeps a fleet, tells listeners.

    A command waits for `go` (set from the start) and ends with `code`; a setpoint is refused where `refuse`
    has a text.
    """

    fleet: Fleet
    code: ResultCode = ResultCode.DONE
    text: str = ""
    refuse: str = ""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    commands: list[Command] = field(default_factory=list)
    sets: list[tuple[str, Scope, object, Who]] = field(default_factory=list)
    rejects: list[tuple[Scope, str, Who, bool]] = field(default_factory=list)
    listeners: list[Callable[[FleetChange], None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.go.set()

    def subscribe(self, listener: Callable[[FleetChange], None]) -> None:
        self.listeners.append(listener)

    def change(self, fleet: Fleet, *modules: str, attempts: tuple[Scope, ...] = ()) -> None:
        """Make `fleet` the latest snapshot and tell so."""
        self.fleet = fleet
        for listener in self.listeners:
            listener(FleetChange(fleet, frozenset(modules), attempts))

    def change_module(self, name: str, **changes: object) -> None:
        """Change one module and tell so."""
        self.change(with_module(self.fleet, name, **changes), name)

    async def submit(self, command: Command) -> Outcome:
        self.commands.append(command)
        self._result(command.scope, ResultCode.BUSY, f"{command} Busy", count=1)
        await self.go.wait()
        outcome = Outcome(command, self.code, self.text)
        self._result(command.scope, outcome.code, outcome.message)
        return outcome

    def set(self, setpoint: str, scope: Scope, value: int | float | str, who: Who) -> None:
        if self.refuse:
            self._result(scope, ResultCode.NONE, self.refuse)
            raise Refused(self.refuse)
        self.sets.append((setpoint, scope, value, who))
        if setpoint == "title":
            run = replace(self.fleet.run, texts=replace(self.fleet.run.texts, title=str(value)))
            self.change(replace(self.fleet, run=run))
        elif setpoint == "enable":
            self.change_module(scope.name, enabled=bool(value))

    def reject(self, scope: Scope, text: str, who: Who, *, attempt: bool) -> None:
        self.rejects.append((scope, text, who, attempt))

    def accept(self, scope: Scope, setpoint: str) -> None:
        pass

    def _result(self, scope: Scope, code: ResultCode, message: str, count: int = 0) -> None:
        if scope.kind is ScopeKind.ECC:
            old = self.fleet.modules[scope.name].result
            result = ScopeResult(code, old.count + count, message)
            self.change(with_module(self.fleet, scope.name, result=result), scope.name, attempts=(scope,))
            return
        key = "run_result" if scope == RUN else "system_result"
        old = getattr(self.fleet, key)
        result = ScopeResult(code, old.count + count, message)
        self.change(replace(self.fleet, **{key: result}), attempts=(scope,))
