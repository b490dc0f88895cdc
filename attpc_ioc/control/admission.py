"""What may run beside what: the table of the rules of operation, as a look-up in what is at work."""

from __future__ import annotations

from dataclasses import dataclass, field

from attpc_ioc.model.command import Command, CommandName, Reason, Scope, ScopeKind
from attpc_ioc.model.fleet import Fleet, Work
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State

from .run_control import RunControl
from .stopping import another_stop_helps, is_out

AGAIN = "use Run:Stop again"
NOT_AGAIN = "another Run:Stop does not help, see what is said of the modules"


@dataclass(slots=True)
class AtWork:
    """One command that is at work."""

    command: Command
    text: str = ""
    percent: float = 0.0


@dataclass(slots=True)
class Desk:
    """Everything that is at work. Admission is a look-up here: nothing has to be held while waiting."""

    singles: dict[str, AtWork] = field(default_factory=dict)
    group: AtWork | None = None
    aborts: list[AtWork] = field(default_factory=list)
    run: list[AtWork] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        """Whether anything is at work."""
        return bool(self.singles or self.group or self.run)

    def add(self, command: Command) -> AtWork:
        """Enter a command that was admitted."""
        entry = AtWork(command, str(command))
        if command.scope.kind is ScopeKind.RUN:
            self.run.append(entry)
        elif is_abort(command):
            self.aborts.append(entry)
        elif command.scope.kind is ScopeKind.ECC:
            self.singles[command.scope.name] = entry
        else:
            self.group = entry
        return entry

    def remove(self, entry: AtWork) -> None:
        """Take a command away that has ended."""
        if self.group is entry:
            self.group = None
        for name in [n for n, e in self.singles.items() if e is entry]:
            del self.singles[name]
        self.run = [e for e in self.run if e is not entry]
        self.aborts = [e for e in self.aborts if e is not entry]

    def work(self) -> tuple[Work, ...]:
        """Return what is at work as PVs show it."""
        entries = [*self.singles.values(), *self.run]
        if self.group is not None:
            entries.append(self.group)
        return tuple(
            Work(e.command.scope, f"{e.command}: {e.text}" if e.text != str(e.command) else e.text, e.percent)
            for e in entries
        )

    def signature(self) -> tuple[object, ...]:
        """Return what admission depends on."""
        return (frozenset(self.singles), self.group is not None)


def is_start(command: Command) -> bool:
    """Tell whether this is `Run:Start`."""
    return command.scope.kind is ScopeKind.RUN and command.name is CommandName.START


def is_stop(command: Command) -> bool:
    """Tell whether this is `Run:Stop`."""
    return command.scope.kind is ScopeKind.RUN and command.name is CommandName.STOP


def is_abort(command: Command) -> bool:
    """Tell whether this is `Abort`."""
    return command.name is CommandName.ABORT


def beside(command: Command, desk: Desk, run: RunControl, fleet: Fleet) -> list[Reason]:
    """Return why this command may not run beside what is at work; one row of the table after the other."""
    if run.starting:
        if is_stop(command) or is_abort(command):
            return []
        return [Reason("a run is being started; Run:Stop or Abort ends that")]
    if run.stopping or any(is_stop(e.command) for e in desk.run):
        if is_stop(command) or is_abort(command):
            return []
        return [Reason("the run is being stopped")]
    if desk.group is not None:
        return [] if is_abort(command) else [Reason(f"{desk.group.command} is at work; Abort ends that")]
    if desk.run:
        # What is left here is Adopt: orphans can be stopped at any time.
        return [] if is_stop(command) else [Reason(f"{desk.run[0].command} is at work")]
    if run.record.on:
        return _beside_run(command, desk, run, fleet)
    if is_abort(command):
        return (
            [Reason(f"{_names(desk)} at work: Abort is for group commands")]
            if desk.singles
            else [Reason("nothing is at work")]
        )
    if desk.singles:
        if is_stop(command) and run.record.orphans:
            return []
        if command.scope.kind is not ScopeKind.ECC or command.scope.name in desk.singles:
            return [Reason(f"{_names(desk, command.scope)} at work")]
    return []


def _beside_run(command: Command, desk: Desk, run: RunControl, fleet: Fleet) -> list[Reason]:
    if is_stop(command):
        return []
    number = run.record.number
    if run.record.phase is RunState.UNKNOWN:
        return [Reason(f"whether run {number} is still on is not known yet; only Run:Stop is possible")]
    if command.scope.kind is ScopeKind.ECC:
        module = command.scope.name
        if command.name is CommandName.START:
            return [Reason(f"run {number} is on: a module is never started inside a run")]
        if module in fleet.modules and fleet.modules[module].state is State.RUNNING:
            return [Reason(f"run {number} is on and this module is Running: use Run:Stop")]
        if module in desk.singles:
            return [Reason(f"{desk.singles[module].command} is at work")]
        return []
    if run.record.incomplete:
        left = [fleet.modules[name] for name in run.record.members if not is_out(fleet.modules[name])]
        advice = AGAIN if another_stop_helps(left) else NOT_AGAIN
        return [Reason(f"the stop of run {number} is not complete: {advice}")]
    return [Reason(f"run {number} is on")]


def setpoint_refusal(desk: Desk, run: RunControl) -> str:
    """Return why `Enable`, `Config` and `Experiment` may not change now; empty when they may."""
    if desk.busy or run.starting or run.stopping:
        work = ", ".join(w.text for w in desk.work())
        return f"{work or 'something'} is at work"
    if run.record.on:
        return f"run {run.record.number} is on"
    return ""


def _names(desk: Desk, scope: Scope | None = None) -> str:
    entries = list(desk.singles.values())
    if scope is not None and scope.kind is ScopeKind.ECC and scope.name in desk.singles:
        entries = [desk.singles[scope.name]]
    names = ", ".join(str(e.command) for e in entries)
    return f"{names} {'is' if len(entries) == 1 else 'are'}"
