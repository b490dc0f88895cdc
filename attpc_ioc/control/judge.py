"""Whether a command would be accepted now, with every reason why not; asked for puts and for the live PVs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from attpc_ioc.eventlog import EventLog
from attpc_ioc.model import rules
from attpc_ioc.model.command import (
    COMMANDS,
    RUN,
    SYSTEM,
    Command,
    CommandName,
    Reason,
    Scope,
    ScopeKind,
    ecc_scope,
    reason_lines,
)
from attpc_ioc.model.config import UNKNOWN
from attpc_ioc.model.fleet import Fleet, ModuleView
from attpc_ioc.model.plan import Plan
from attpc_ioc.model.states import State
from attpc_ioc.plugin.host import PluginHost

from .admission import Desk, beside, is_abort, is_stop
from .run_control import RunControl

START = Command(RUN, CommandName.START)

MAPPING = "mapping"
"""The name under which the built-in mapping of commands to plans is registered."""

MODULES_A_STEP = 50

UNPLANNED = frozenset((CommandName.ABORT, CommandName.REFRESH_CONFIGS, CommandName.ADOPT))
"""Commands that send no transitions, or (Run:Stop) whose transitions the core orders itself."""


class Judge:
    """Answers from cached state, at once; see the rules of operation, "Before anything is sent"."""

    def __init__(self, host: PluginHost, desk: Desk, run: RunControl, event_log: EventLog) -> None:
        self._host = host
        self._desk = desk
        self._run = run
        self._log = event_log
        self._memo: dict[Scope, tuple[object, frozenset[CommandName]]] = {}
        self._plans: dict[Command, tuple[Plan, list[Reason]]] = {}
        self._plans_of: object = None

    def judge(
        self, command: Command, fleet: Fleet, *, at_work: bool = True, situation: object = None
    ) -> tuple[Plan, list[Reason]]:
        """Return the plan of a command and every reason against it; `at_work` asks the table too.

        A `situation` stands for all that plans and rules look at: while it is equal, their part is not worked
        out again. Vetoes are always asked.
        """
        reasons = beside(command, self._desk, self._run, fleet) if at_work else []
        if is_stop(command) or is_abort(command):
            return Plan(command), reasons
        plan = Plan(command)
        if command.name not in UNPLANNED:
            plan, against = self._plan(command, fleet, situation)
            reasons += against
        elif command.name is CommandName.ADOPT and not self._run.record.orphans:
            reasons.append(Reason("no module runs without a run"))
        elif command.name is CommandName.REFRESH_CONFIGS:
            reasons += self._unreachable(command, fleet)
        if command.scope == RUN and command.name is CommandName.START:
            reasons += self._against_start(fleet, {reason.module for reason in reasons})
        if command.scope == RUN and self._log.fault:
            reasons.append(Reason(self._log.fault))
        if not (command.scope.kind is ScopeKind.ECC and command.name is CommandName.STOP):
            reasons += self._host.vetoes(plan, fleet)
        return plan, list(dict.fromkeys(reasons))

    def _plan(self, command: Command, fleet: Fleet, situation: object) -> tuple[Plan, list[Reason]]:
        """Return the plan of a command and what its makers and the rules say against it."""
        if situation is None or situation != self._plans_of or not self._mapping_plans:
            self._plans.clear()
            self._plans_of = situation
        if command not in self._plans:
            plan = self._host.plan(command, fleet)
            self._plans[command] = plan, [*plan.refusals, *rules.plan_reasons(plan, fleet.modules)]
        return self._plans[command]

    def _against_start(self, fleet: Fleet, named: set[str]) -> list[Reason]:
        """Return what vetoes a start beyond the states (rules 3, 5, 6, 7 and 11).

        A module that is `named` already needs no second line about what is loaded.
        """
        reasons = [Reason(m.board_fault.text, m.name) for m in fleet.enabled if m.board_fault is not None]
        named |= {reason.module for reason in reasons}
        reasons += [Reason(rules.stale_text(), m.name) for m in fleet.enabled if m.clock_stale]
        reasons += [
            Reason(rules.mismatch_text(m), m.name)
            for m in fleet.enabled
            if m.mismatch and _counts(m) and m.name not in named
        ]
        if self._run.record.fault:
            reasons.append(Reason(self._run.record.fault))
        return reasons

    def _unreachable(self, command: Command, fleet: Fleet) -> list[Reason]:
        modules = fleet.enabled if command.scope == SYSTEM else (fleet.modules[command.scope.name],)
        if not modules:
            return [Reason("no ECC server is enabled")]
        if any(m.online for m in modules):
            return []
        return [Reason(f"is Offline ({m.offline_reason})", m.name) for m in modules]

    def checklist(self, fleet: Fleet, situation: object = None) -> tuple[str, ...]:
        """Return every reason why a start would be refused now; equal ones share a line."""
        return reason_lines(self.judge(START, fleet, situation=situation)[1])

    def allowed(
        self,
        fleet: Callable[[], Fleet],
        situation: Callable[[], object] = lambda: None,
        *,
        fresh: bool = False,
    ) -> Iterator[Mapping[Scope, frozenset[CommandName]] | None]:
        """Work out which commands of each scope would be accepted now, in small steps.

        Each step yields None, the last one the answers, so that the caller can leave the event loop to others
        in between: the whole takes as long as there are modules. A module's answer is kept until something
        that it depends on changes; `fresh` asks everything anew, which is needed for vetoes on outside
        conditions. Modules in the same situation share an answer, unless a plugin might tell them apart.
        `fleet` and `situation` (see `judge`) are asked at each step.
        """
        answers: dict[Scope, frozenset[CommandName]] = {}
        for scope in (SYSTEM, RUN):
            accepted = set()
            for name in COMMANDS[scope.kind]:
                if self._accepts(scope, name, fleet(), situation()):
                    accepted.add(name)
                yield None
            answers[scope] = frozenset(accepted)
        shared = self._shared_signature(fleet())
        alike = self.alike
        signature = _class_signature if alike else _module_signature
        classes: dict[object, frozenset[CommandName]] = {}
        for number, name in enumerate(tuple(fleet().modules)):
            module, scope = fleet().modules[name], ecc_scope(name)
            key = (shared, module.kind, name in self._desk.singles, signature(module))
            kept = self._memo.get(scope)
            if alike and key in classes:
                kept = (key, classes[key])
            elif fresh or kept is None or kept[0] != key:
                names = COMMANDS[ScopeKind.ECC]
                kept = (key, frozenset(n for n in names if self._accepts(scope, n, fleet(), situation())))
                yield None
            classes[key] = kept[1]
            self._memo[scope] = kept
            answers[scope] = kept[1]
            if number % MODULES_A_STEP == 0:
                yield None
        yield answers

    @property
    def alike(self) -> bool:
        """Whether modules in the same situation have the same answers: nobody looks at their names."""
        return self._mapping_plans and not any(
            "attpc_veto" in self._host.hooks_of(plugin.name)
            and not getattr(plugin.plugin, "attpc_veto_alike", False)
            for plugin in self._host.active()
        )

    @property
    def _mapping_plans(self) -> bool:
        """Whether every plan is the built-in mapping's, which looks at nothing but the fleet."""
        return not any(
            "attpc_plan" in self._host.hooks_of(plugin.name)
            for plugin in self._host.active()
            if plugin.name != MAPPING
        )

    def _accepts(self, scope: Scope, name: CommandName, fleet: Fleet, situation: object) -> bool:
        if beside(Command(scope, name), self._desk, self._run, fleet):
            # The usual answer while something is at work, when this is asked most often.
            return False
        if name is not CommandName.GOTO:
            return not self.judge(Command(scope, name), fleet, situation=situation)[1]
        targets = (State.IDLE, State.DESCRIBED, State.PREPARED, State.READY)
        return any(
            not self.judge(Command(scope, name, target), fleet, situation=situation)[1] for target in targets
        )

    def _shared_signature(self, fleet: Fleet) -> object:
        """Return what the answers of every module depend on."""
        kinds = frozenset((m.kind, m.state, rules.level(m)) for m in fleet.enabled)
        run = self._run
        return (
            self._desk.signature(),
            len(self._desk.run),
            run.record.phase,
            run.stopping,
            bool(run.record.orphans),
            self._log.fault,
            kinds,
        )


def _module_signature(module: ModuleView) -> object:
    return (
        module.enabled,
        module.state,
        module.last_state,
        module.connects,
        module.transition,
        module.outstanding,
        module.selected,
        module.loaded,
        module.clock_stale,
        module.board_fault,
        module.offline_reason,
    )


def _class_signature(module: ModuleView) -> object:
    """Return what the built-in mapping and the rules look at for one module's commands.

    Of names they ask only whether there is one, and whether it is the selected one. So a thousand modules
    fall into a few classes.
    """
    loaded = module.loaded
    state = module.last_state or State.OFF
    return (
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


def _counts(module: ModuleView) -> bool:
    """Tell whether a mismatch is worth a line: below Described nothing is loaded, and the state says that."""
    return module.online and module.state >= State.DESCRIBED
