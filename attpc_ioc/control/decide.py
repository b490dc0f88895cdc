"""Decides whether a command may run now, how, and every reason why not: for puts and for the live PVs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from attpc_ioc.model import rules
from attpc_ioc.model.command import (
    COMMANDS,
    GOTO_TARGETS,
    RUN,
    SYSTEM,
    Command,
    CommandName,
    Reason,
    Scope,
    ScopeKind,
    ecc_scope,
    is_start,
    is_stop,
    reason_lines,
)
from attpc_ioc.model.config import UNKNOWN
from attpc_ioc.model.fleet import Fleet, ModuleView
from attpc_ioc.model.plan import Plan
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from attpc_ioc.plugin.host import PluginHost

START = Command(RUN, CommandName.START)

UNPLANNED = frozenset((CommandName.REFRESH_CONFIGS, CommandName.ADOPT))
"""Commands that send no transitions."""

MODULES_A_STEP = 50


@dataclass(frozen=True, slots=True)
class Decision:
    """The plan of a command and every reason against it; without reasons it may run now."""

    plan: Plan
    reasons: tuple[Reason, ...] = ()


# ---------------------------------------------------------------------- commands running at the same time


def beside(command: Command, fleet: Fleet) -> list[Reason]:
    """Return why a command may not run beside those already running: the table in the rules of operation."""
    run = fleet.run
    running = [active.command for active in fleet.active]
    whole = [other for other in running if other.scope.kind is not ScopeKind.ECC]
    if whole or run.stopping:
        return _beside_whole(command, whole)
    if run.on:
        return _beside_run(command, fleet, running)
    if command.name is CommandName.ABORT:
        return [Reason(f"{fleet.running}: Abort is for group commands" if running else IDLE)]
    if command.scope.kind is ScopeKind.ECC:
        own = [other for other in running if other.scope == command.scope]
        return [Reason(f"{own[0]} is running")] if own else []
    if running and not (fleet.orphans and is_stop(command)):
        return [Reason(fleet.running)]
    return []


def _beside_whole(command: Command, running: list[Command]) -> list[Reason]:
    """Return why a command may not run beside a fleet or run command, or beside a stop that nobody awaits."""
    ends_it = command.name is CommandName.ABORT or is_stop(command)
    if any(is_start(other) for other in running):
        return [] if ends_it else [Reason("a run is being started; Run:Stop or Abort ends that")]
    if not running or any(is_stop(other) for other in running):
        return [] if ends_it else [Reason("the run is being stopped")]
    other = running[0]
    if other.scope.kind is ScopeKind.SYSTEM:
        aborts = command.name is CommandName.ABORT
        return [] if aborts else [Reason(f"{other} is running; Abort ends that")]
    # An Adopt: orphans can be stopped at any time.
    return [] if is_stop(command) else [Reason(f"{other} is running")]


IDLE = "no command is running"


def _beside_run(command: Command, fleet: Fleet, running: list[Command]) -> list[Reason]:
    run = fleet.run
    if is_stop(command):
        return []
    if run.state is RunState.UNKNOWN:
        return [
            Reason(f"it is not known yet whether run {run.number} is still on; only Run:Stop is possible")
        ]
    if command.scope.kind is ScopeKind.ECC:
        module = fleet.modules.get(command.scope.name)
        if command.name is CommandName.START:
            return [Reason(f"run {run.number} is on: a module is never started inside a run")]
        if module is not None and module.state is State.RUNNING:
            return [Reason(f"run {run.number} is on and this module is Running: use Run:Stop")]
        own = [other for other in running if other.scope == command.scope]
        return [Reason(f"{own[0]} is running")] if own else []
    if run.incomplete:
        left = [fleet.modules[name] for name in run.expected if not fleet.modules[name].out]
        return [Reason(f"the stop of run {run.number} is not complete: {stop_advice(left)}")]
    return [Reason(f"run {run.number} is on")]


def stop_advice(left: list[ModuleView]) -> str:
    """Return whether another `Run:Stop` may stop the modules that are left."""
    if rules.another_stop_helps(left):
        return "use Run:Stop again"
    return "another Run:Stop does not help, see the messages of the modules"


def setpoint_refusal(fleet: Fleet) -> str:
    """Return why `Enable`, `Config` and `Experiment` may not change now; empty when they may."""
    if fleet.busy or fleet.run.stopping:
        return f"{', '.join(active.text for active in fleet.active) or 'a stop'} is running"
    return f"run {fleet.run.number} is on" if fleet.run.on else ""


# ---------------------------------------------------------------------- the decision


class Decider:
    """Decides at once, from a snapshot alone; see the rules of operation, "Before anything is sent"."""

    def __init__(self, host: PluginHost) -> None:
        self._host = host
        self._plans: dict[Command, tuple[Plan, tuple[Reason, ...]]] = {}
        """Plans of one snapshot with the reasons against them; the live PVs ask once a second."""
        self._news = -1

    def decide(self, fleet: Fleet, command: Command, *, admitted: bool = False) -> Decision:
        """Return the plan of a command and every reason against it.

        `admitted`: the command itself is running already, so what else is running is no reason against it.
        """
        plan, against = self._judge(fleet, command)
        reasons = [] if admitted else beside(command, fleet)
        return Decision(plan, tuple(dict.fromkeys((*reasons, *against, *self._host.vetoes(plan, fleet)))))

    def _judge(self, fleet: Fleet, command: Command) -> tuple[Plan, list[Reason]]:
        """Return the plan of a command and what the rules have against it."""
        plan, reasons = Plan(command), list[Reason]()
        of_run = command.scope == RUN
        if command.name is CommandName.ABORT or (of_run and command.name is CommandName.STOP):
            return plan, reasons
        if command.name not in UNPLANNED:
            plan, against = self._plan(fleet, command)
            reasons += against
        elif command.name is CommandName.ADOPT and not fleet.orphans:
            reasons.append(Reason("no module runs without a run"))
        elif command.name is CommandName.REFRESH_CONFIGS:
            reasons += _unreachable(command, fleet)
        if of_run and command.name is CommandName.START:
            reasons += _against_start(fleet, {reason.module for reason in reasons})
        if of_run and fleet.log_fault:
            reasons.append(Reason(fleet.log_fault))
        return plan, reasons

    def _plan(self, fleet: Fleet, command: Command) -> tuple[Plan, tuple[Reason, ...]]:
        if fleet.news != self._news or fleet.news < 0 or self._host.plans_by_plugins:
            self._plans.clear()
            self._news = fleet.news
        if command not in self._plans:
            plan = self._host.plan(command, fleet)
            against = rules.plan_reasons(plan, fleet.modules) if plan.stages else ()
            self._plans[command] = plan, (*plan.refusals, *against)
        return self._plans[command]

    def checklist(self, fleet: Fleet) -> tuple[str, ...]:
        """Return every reason why a start would be refused now; equal ones share a line."""
        return reason_lines(self.decide(fleet, START).reasons)

    def allowed(self, fleet: Fleet) -> Iterator[Mapping[Scope, frozenset[CommandName]] | None]:
        """Work out which commands of each scope would be accepted now, in small steps.

        Each step yields None and the last one the answers, so that the caller can yield to the event loop
        in between: the total time grows with the number of modules. Modules in the same situation share an
        answer, unless a plugin tells them apart.
        """
        answers: dict[Scope, frozenset[CommandName]] = {}
        for scope in (SYSTEM, RUN):
            accepted = set()
            for name in COMMANDS[scope.kind]:
                if self._accepts(fleet, scope, name):
                    accepted.add(name)
                yield None
            answers[scope] = frozenset(accepted)
        alike = not self._host.distinguishes_modules
        shared: dict[object, frozenset[CommandName]] = {}
        for number, (name, module) in enumerate(fleet.modules.items()):
            scope = ecc_scope(name)
            situation = (fleet.active_on(scope), *_situation(module)) if alike else name
            if situation not in shared:
                names = COMMANDS[ScopeKind.ECC]
                shared[situation] = frozenset(n for n in names if self._accepts(fleet, scope, n))
                yield None
            answers[scope] = shared[situation]
            if number % MODULES_A_STEP == 0:
                yield None
        yield answers

    def _accepts(self, fleet: Fleet, scope: Scope, name: CommandName) -> bool:
        if beside(Command(scope, name), fleet):
            # The usual answer while a command runs, which is when this is called most.
            return False
        for target in GOTO_TARGETS[1:] if name is CommandName.GOTO else (None,):
            plan, against = self._judge(fleet, Command(scope, name, target))
            if not against and not self._host.vetoes(plan, fleet):
                return True
        return False


def _against_start(fleet: Fleet, named: set[str]) -> list[Reason]:
    """Return the reasons against a start other than states (rules 3, 5, 6, 7 and 11).

    A module in `named` has a reason already and gets no second one about what is loaded.
    """
    reasons = [Reason(m.board_fault.text, m.name) for m in fleet.enabled if m.board_fault is not None]
    named |= {reason.module for reason in reasons}
    reasons += [Reason(rules.stale_text(), m.name) for m in fleet.enabled if m.clock_stale]
    reasons += [
        Reason(rules.mismatch_text(m), m.name)
        for m in fleet.enabled
        # Below Described nothing is loaded, and the state already says so.
        if m.online and m.state >= State.DESCRIBED and m.name not in named and m.mismatch
    ]
    if fleet.run.fault:
        reasons.append(Reason(fleet.run.fault))
    return reasons


def _unreachable(command: Command, fleet: Fleet) -> list[Reason]:
    modules = fleet.enabled if command.scope == SYSTEM else (fleet.modules[command.scope.name],)
    if not modules:
        return [Reason("no ECC server is enabled")]
    if any(m.online for m in modules):
        return []
    return [Reason(f"is Offline ({m.offline_reason})", m.name) for m in modules]


def _situation(module: ModuleView) -> tuple[object, ...]:
    """Return everything that the built-in mapping and the rules use for one module's commands.

    They use of a name only whether it is set and whether it is the selected one. So a thousand modules
    fall into a few situations.
    """
    loaded = module.loaded
    state = module.last_state or State.OFF
    return (
        module.kind,
        module.enabled,
        module.state,
        module.last_state,
        module.connects,
        module.transition,
        module.outstanding,
        module.selected is None,
        tuple(part and part == UNKNOWN for part in (loaded.describe, loaded.prepare, loaded.configure)),
        loaded.mismatches(module.selected, state),
        module.clock_stale,
        module.board_fault and module.board_fault.back_to,
    )
