"""The built-in mapping of commands to plans, in the AT-TPC's order. A site's plugin may replace it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attpc_ioc.model import rules
from attpc_ioc.model.command import OPERATION_OF, Command, CommandName, Reason, ScopeKind
from attpc_ioc.model.fleet import Fleet, ModuleView
from attpc_ioc.model.plan import Plan, Stage, Step
from attpc_ioc.model.states import EDGES, LIVE, Kind, Operation, State
from attpc_ioc.settings import LimitSettings, OrderSettings, Stages

from .spec import hookimpl

DOWN = (
    (State.READY, State.PREPARED, Operation.BREAKUP),
    (State.PREPARED, State.DESCRIBED, Operation.UNDO),
    (State.DESCRIBED, State.IDLE, Operation.UNDO),
)
UP = (
    (State.IDLE, State.DESCRIBED, Operation.DESCRIBE),
    (State.DESCRIBED, State.PREPARED, Operation.PREPARE),
    (State.PREPARED, State.READY, Operation.CONFIGURE),
)


class Mapping:
    """Plans every command that sends SOAP transitions, except the stop of a run, which the core does."""

    def __init__(self, limits: LimitSettings, order: OrderSettings) -> None:
        self._limits = limits
        self._order = order

    @hookimpl(trylast=True)
    def attpc_plan(self, command: Command, fleet: Fleet) -> Plan | None:
        """Return the plan of `command`, or None for commands that are not a sequence of transitions."""
        match command.scope.kind, command.name:
            case ScopeKind.RUN, CommandName.START:
                return self._start_run(command, fleet)
            case ScopeKind.SYSTEM, CommandName.GOTO:
                return self._go_to(command, fleet.enabled)
            case ScopeKind.SYSTEM, CommandName.RESET:
                return self._reset_all(command, fleet.enabled)
            case ScopeKind.SYSTEM, CommandName.DESCRIBE | CommandName.PREPARE | CommandName.CONFIGURE:
                return self._forward(command, fleet.enabled)
            case ScopeKind.ECC, CommandName.GOTO:
                return self._go_to(command, (fleet.modules[command.scope.name],))
            case ScopeKind.ECC, CommandName.RESET:
                return self._reset_one(command, fleet.modules[command.scope.name])
            case ScopeKind.ECC, name if name in OPERATION_OF:
                return self._single(command, fleet.modules[command.scope.name])
        return None

    # ------------------------------------------------------------------ pieces

    def _step(
        self, module: ModuleView, operation: Operation, start: State, *, loaded_names: bool = False
    ) -> Step:
        return Step(
            module=module.name,
            operation=operation,
            start_states=frozenset((start,)),
            target=EDGES[operation][start],
            limit_s=self._limits.of(operation),
            loaded_names=loaded_names,
        )

    def _staged(
        self, modules: Iterable[ModuleView], operation: Operation, start: State, order: Stages
    ) -> list[Stage]:
        """Return the stages of one operation over some modules, in an order of kinds."""
        modules = list(modules)
        stages = []
        for kinds in order:
            steps = tuple(self._step(m, operation, start) for m in modules if m.kind in kinds)
            if steps:
                stages.append(Stage(f"{operation} {_crowd(modules, kinds)}", steps))
        return stages

    def _order_down(self, start: State) -> Stages:
        return {
            State.READY: self._order.breakup,
            State.PREPARED: self._order.undo_prepared,
            State.DESCRIBED: self._order.undo_described,
        }[start]

    def _order_up(self, operation: Operation) -> Stages:
        return {
            Operation.DESCRIBE: self._order.describe,
            Operation.PREPARE: self._order.prepare,
            Operation.CONFIGURE: self._order.configure,
        }[operation]

    # ------------------------------------------------------------------ plans

    def _forward(self, command: Command, modules: Sequence[ModuleView]) -> Plan:
        """One step forward for all; modules that are already there, and stay there, are skipped (rule 8)."""
        operation = OPERATION_OF[command.name]
        ((start, target),) = EDGES[operation].items()
        refusals = _nobody(modules)
        for module in modules:
            if (hindrance := rules.cannot_move(module)) is not None:
                refusals.append(Reason(hindrance, module.name))
            elif module.state not in (start, target):
                refusals.append(
                    Reason(
                        f"is in {module.state.label}; {operation} takes modules from {start.label}",
                        module.name,
                    )
                )
        if refusals:
            return Plan(command, refusals=tuple(refusals))
        moving = [m for m in modules if m.state is start]
        return Plan(command, tuple(self._staged(moving, operation, start, self._order_up(operation))))

    def _go_to(self, command: Command, modules: Sequence[ModuleView]) -> Plan:
        """Take each module from where it is, down before up, as far down as needed (rule 9)."""
        target = command.target
        if target is None:
            return Plan(command)
        refusals = _nobody(modules) + _not_walkable(modules)
        if refusals:
            return Plan(command, refusals=tuple(refusals))
        turn = {m.name: rules.turning_point(m, target) for m in modules}
        if any(m.kind is Kind.MUTANT and turn[m.name] < State.PREPARED for m in modules):
            # The clock of every CoBo is lost with it.
            turn |= {m.name: min(turn[m.name], State.DESCRIBED) for m in modules if m.kind is Kind.COBO}
        stages: list[Stage] = []
        for start, end, operation in DOWN:
            going = [m for m in modules if m.state >= start and turn[m.name] <= end]
            stages += self._staged(going, operation, start, self._order_down(start))
        for start, end, operation in UP:
            going = [m for m in modules if turn[m.name] <= start and target >= end]
            stages += self._staged(going, operation, start, self._order_up(operation))
        return Plan(command, tuple(stages))

    def _reset_all(self, command: Command, modules: Sequence[ModuleView]) -> Plan:
        """Take the fleet one step back from its highest state; modules below that wait."""
        refusals = _nobody(modules) + _not_walkable(modules)
        if refusals:
            return Plan(command, refusals=tuple(refusals))
        highest = max(m.state for m in modules)
        for start, _end, operation in DOWN:
            if start is highest:
                going = [m for m in modules if m.state is start]
                return Plan(command, tuple(self._staged(going, operation, start, self._order_down(start))))
        return Plan(command)

    def _reset_one(self, command: Command, module: ModuleView) -> Plan:
        refusals = _not_walkable((module,))
        if refusals:
            return Plan(command, refusals=tuple(refusals))
        for start, _end, operation in DOWN:
            if start is module.state:
                return Plan(command, tuple(self._staged((module,), operation, start, ((module.kind,),))))
        return Plan(command)

    def _single(self, command: Command, module: ModuleView) -> Plan:
        operation = OPERATION_OF[command.name]
        edges = EDGES[operation]
        stop = operation is Operation.STOP and rules.can_be_stopped(module)
        state = (stop and module.last_state) or module.state
        reason = None if stop else rules.cannot_move(module)
        if reason is None and state not in edges:
            allowed = " or ".join(s.label for s in edges)
            reason = f"is in {module.state.label}; {operation} starts from {allowed}"
        if reason is not None:
            return Plan(command, refusals=(Reason(reason, module.name),))
        step = self._step(module, operation, state)
        return Plan(command, (Stage(f"{operation} {module.name}", (step,)),))

    def _start_run(self, command: Command, fleet: Fleet) -> Plan:
        """Re-zero the MuTAnT, start the CoBos all at once, then the MuTAnT (rules 11 and 12)."""
        modules = fleet.enabled
        refusals = _nobody(modules)
        for module in modules:
            hindrance = rules.cannot_move(module)
            re_zero = module.kind is Kind.MUTANT and module.state is State.PREPARED
            if hindrance is not None:
                refusals.append(Reason(hindrance, module.name))
            elif module.state is not State.READY and not re_zero:
                none = ", and no config is selected" if module.selected is None else ""
                refusals.append(Reason(f"is in {module.state.label}, not Ready{none}", module.name))
        if refusals:
            return Plan(command, refusals=tuple(refusals))
        mutants = [m for m in modules if m.kind is Kind.MUTANT]
        stages: list[Stage] = []
        ready = tuple(
            self._step(m, Operation.BREAKUP, State.READY) for m in mutants if m.state is State.READY
        )
        if ready:
            stages.append(Stage("Breakup MuTAnT", ready))
        if mutants:
            again = tuple(
                self._step(m, Operation.CONFIGURE, State.PREPARED, loaded_names=True) for m in mutants
            )
            stages.append(Stage("Configure MuTAnT", again))
        stages += self._staged(modules, Operation.START, State.READY, self._order.start)
        return Plan(command, tuple(stages))


def _nobody(modules: Sequence[ModuleView]) -> list[Reason]:
    return [] if modules else [Reason("no ECC server is enabled")]


def _not_walkable(modules: Iterable[ModuleView]) -> list[Reason]:
    """Return a reason for each module that GoTo and Reset can neither move nor skip.

    A module in the target state that is leaving it does not count as there (rule 3).
    """
    reasons = []
    for module in modules:
        if (hindrance := rules.cannot_move(module)) is not None:
            reasons.append(Reason(hindrance, module.name))
        elif module.state in LIVE:
            reasons.append(Reason(f"is {module.state.label}: stop it first", module.name))
    return reasons


def _crowd(modules: Sequence[ModuleView], kinds: tuple[Kind, ...]) -> str:
    """Return a short name for the modules of these kinds: the only module's own name, else the kinds."""
    mine = [m for m in modules if m.kind in kinds]
    if len(mine) == 1:
        return mine[0].name
    words = {Kind.COBO: "CoBos", Kind.MUTANT: "MuTAnT", Kind.OTHER: "others"}
    return " and ".join(words[k] for k in kinds if any(m.kind is k for m in mine))
