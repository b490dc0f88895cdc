"""Results: what became of the last command or put of each scope, and which failures still stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from attpc_ioc.model.command import (
    COMMANDS,
    FAILURES,
    OPERATION_OF,
    RUN,
    Command,
    CommandName,
    Outcome,
    Reason,
    ResultCode,
    Scope,
    ScopeKind,
    ScopeResult,
    is_stop,
)
from attpc_ioc.model.fleet import ModuleView
from attpc_ioc.model.plan import Plan
from attpc_ioc.model.states import EDGES, State

from .modules.operation import OngoingOperation
from .state import FleetState

WITH_RESULT = frozenset(COMMANDS)
"""The kinds of scope that have `Result_RBV`, `ResultCount_RBV` and `Message_RBV`."""

Goals = Mapping[str, State | None]
"""Where a command is to take each module; None where it only asks the module's server for its configs."""


def goals_of(plan: Plan, modules: Mapping[str, ModuleView]) -> Goals:
    """Return where the command of a plan is to take each module, those included that are there already."""
    command = plan.command
    if command.scope.kind is ScopeKind.ECC:
        names: tuple[str, ...] = (command.scope.name,)
    else:
        names = tuple(module.name for module in modules.values() if module.enabled)
    if command.name is CommandName.REFRESH_CONFIGS:
        return dict.fromkeys(names)
    if command.name is CommandName.GOTO:
        return dict.fromkeys(names, command.target)
    if command.scope.kind is ScopeKind.SYSTEM and (operation := OPERATION_OF.get(command.name)) is not None:
        (target,) = EDGES[operation].values()
        return dict.fromkeys(names, target)
    return plan.goals


@dataclass(slots=True)
class _Failure:
    """A failure that stands: its message, and the modules that are not yet where they were to go."""

    message: str
    left: dict[str, State | None]


@dataclass(slots=True)
class PlanResult:
    """What became of a plan. `sent` are the operations that went out, in their order."""

    reasons: list[Reason] = field(default_factory=list)
    sent: list[OngoingOperation] = field(default_factory=list)
    timed_out: bool = False
    aborted: bool = False

    @property
    def ok(self) -> bool:
        """Whether every module was seen where it was to go."""
        return not self.reasons and not self.aborted

    def outcome(self, command: Command, text: str = "") -> Outcome:
        """Return the outcome of the command that the plan was for."""
        if self.aborted:
            code = ResultCode.ABORTED
        elif self.ok:
            code = ResultCode.DONE
        elif self.timed_out:
            code = ResultCode.TIMED_OUT
        elif not self.sent:
            code = ResultCode.REFUSED
        else:
            code = ResultCode.FAILED
        return Outcome(command, code, text, tuple(self.reasons))


class Results:
    """Writes `Result_RBV`, `ResultCount_RBV` and `Message_RBV`.

    A command that runs keeps its scope's result Busy: a refusal meanwhile shows in count and message.

    A failure stands, with its alarm, until its modules are where they were to go (rule 22): a command of the
    same scope succeeds, or a group command or a run takes all of them along, or single operations of ours
    take each to its goal. A `RefreshConfigs` moves nothing: it ends failures of its own kind only.
    """

    def __init__(self, state: FleetState) -> None:
        self._state = state
        self._put_refused: set[Scope] = set()
        self._failures: dict[tuple[Scope, bool], _Failure] = {}
        """By scope and whether it is a RefreshConfigs's."""

    def post(self, scope: Scope, code: ResultCode, message: str) -> None:
        """Show the result of an attempt."""
        count = self._state.result(scope).count + 1
        self._state.set_result(scope, ScopeResult(code, count, message, unresolved=self._unresolved(scope)))

    def command_refused(self, command: Command, message: str) -> None:
        """Show that a command was not admitted."""
        if not self._shows(command.scope):
            return
        result = self._state.result(command.scope)
        if result.code is ResultCode.BUSY:
            self._state.set_result(command.scope, replace(result, count=result.count + 1, message=message))
        else:
            self.post(command.scope, ResultCode.REFUSED, message)

    def command_begun(self, command: Command) -> None:
        """Show that a command runs."""
        self._put_refused.discard(command.scope)
        if command.name is not CommandName.ABORT:
            count, unresolved = self._state.result(command.scope).count, self._unresolved(command.scope)
            busy = ScopeResult(ResultCode.BUSY, count, f"{command} is running", unresolved=unresolved)
            self._state.set_result(command.scope, busy)

    def command_ended(self, command: Command, outcome: Outcome, goals: Goals) -> None:
        """Show how a command ended that runs no longer; `goals` is where it was to go."""
        if outcome.ok:
            self._succeeded(command, goals)
        elif outcome.code in FAILURES:
            self._failed(command, outcome, goals)
        self.post(command.scope, outcome.code, outcome.message)
        if command.scope == RUN and any(is_stop(active.command) for active in self._state.fleet.active):
            # A Stop that aborted this start, or a joined Stop, has not ended yet.
            result = self._state.result(RUN)
            self._state.set_result(RUN, replace(result, code=ResultCode.BUSY))

    def rest_stopped(self, text: str) -> None:
        """Show that what an incomplete stop had left was seen stopped after all."""
        self._failures.pop((RUN, False), None)
        self.post(RUN, ResultCode.DONE, f"Done: {text}")

    def put_refused(self, scope: Scope, text: str, *, attempt: bool) -> None:
        """Show a refused put in the scope's message; with `attempt` in its result as well."""
        if not self._shows(scope):
            return
        message = f"Refused: {text}"
        result = self._state.result(scope)
        if attempt and result.code is not ResultCode.BUSY:
            self._put_refused.add(scope)
            self.post(scope, ResultCode.REFUSED, message)
        else:
            count = result.count + 1 if attempt else result.count
            self._state.set_result(scope, replace(result.noted(message), count=count))

    def put_accepted(self, scope: Scope, setpoint: str) -> None:
        """Take the refusal of an earlier put back."""
        if scope in self._put_refused:
            self._put_refused.discard(scope)
            self.post(scope, ResultCode.DONE, f"{setpoint} set")

    def _shows(self, scope: Scope) -> bool:
        if scope.kind is ScopeKind.ECC:
            return scope.name in self._state.modules
        return scope.kind in WITH_RESULT

    # ------------------------------------------------------------------ failures that stand (rule 22)

    def arrived(self, module: str, state: State) -> None:
        """Take that an operation of ours has taken a module to a state."""
        self._reached({module: state}, f"{module} reached {state.label}")

    def _unresolved(self, scope: Scope) -> tuple[str, ...]:
        return tuple(f.message for (where, _), f in self._failures.items() if where == scope)

    def _failed(self, command: Command, outcome: Outcome, goals: Goals) -> None:
        """Have a failure stand, with what an earlier one has left and this one did not touch."""
        blamed = [reason.module for reason in outcome.reasons if reason.module]
        if is_stop(command):
            goals = dict.fromkeys(blamed, State.READY)
        key = command.scope, command.name is CommandName.REFRESH_CONFIGS
        older = self._failures.pop(key, None)
        left = {m: goal for m, goal in older.left.items() if m not in goals} if older else {}
        # One that is blamed may be seen at its goal all the same (rule 3).
        left |= {m: goal for m, goal in goals.items() if m in blamed or not self._is_at(m, goal)}
        self._failures[key] = _Failure(outcome.message, left)

    def _is_at(self, module: str, goal: State | None) -> bool:
        view = self._state.modules.get(module)
        return goal is None or (view is not None and view.state is goal and not view.moving)

    def _succeeded(self, command: Command, goals: Goals) -> None:
        asked = command.name is CommandName.REFRESH_CONFIGS
        for scope, of_asking in list(self._failures):
            if scope == command.scope:
                if of_asking or not asked:
                    del self._failures[scope, of_asking]
            elif of_asking is asked and command.scope.kind is not ScopeKind.ECC:
                left = self._left(scope, of_asking)
                if left and left.keys() <= goals.keys():
                    self._resolve(scope, of_asking, f"{command} Done")
        self._reached(goals, f"{command} Done")

    def _reached(self, goals: Goals, how: str) -> None:
        """Take that modules are where `goals` says; a failure ends with the last that it had left."""
        for (scope, of_asking), failure in list(self._failures.items()):
            before = len(failure.left)
            failure.left = {m: goal for m, goal in failure.left.items() if goals.get(m, ...) is not goal}
            if len(failure.left) < before and not self._left(scope, of_asking):
                self._resolve(scope, of_asking, how)

    def _left(self, scope: Scope, of_asking: bool) -> Goals:
        """Return what a failure has left; of a group, modules that were taken out meanwhile do not count."""
        left = self._failures[scope, of_asking].left
        if scope.kind is ScopeKind.ECC:
            return left
        enabled = {module.name for module in self._state.modules.values() if module.enabled}
        return {m: goal for m, goal in left.items() if m in enabled}

    def _resolve(self, scope: Scope, of_asking: bool, how: str) -> None:
        """Take a failure away that other scopes' commands have made good."""
        failure = self._failures.pop((scope, of_asking))
        result = replace(self._state.result(scope), unresolved=self._unresolved(scope))
        if result.code in FAILURES and not result.unresolved:
            result = replace(result, code=ResultCode.DONE, said="")
        if result.message == failure.message:
            result = replace(result, message=f"Resolved ({how}): {failure.message}")
        self._state.set_result(scope, result, attempt=False)
