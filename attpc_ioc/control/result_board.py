"""The result board: what became of the last command or put of each scope, and what is at work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from attpc_ioc.model.command import (
    RUN,
    Command,
    CommandName,
    Outcome,
    ResultCode,
    Scope,
    ScopeKind,
    ScopeResult,
)

from .admission import AtWork, Desk, is_stop
from .fleet_state import FleetState

WITH_RESULT = frozenset((ScopeKind.SYSTEM, ScopeKind.ECC, ScopeKind.RUN))
"""The kinds of scope that have `Result_RBV`, `ResultCount_RBV` and `Message_RBV`."""


class ResultBoard:
    """Writes `Result_RBV`, `ResultCount_RBV`, `Message_RBV` and the list of what is at work.

    A command that is at work keeps its scope's result Busy: a refusal meanwhile shows in count and message.
    """

    def __init__(self, state: FleetState, desk: Desk) -> None:
        self._state = state
        self._desk = desk
        self._put_refused: set[Scope] = set()

    def post(self, scope: Scope, code: ResultCode, message: str) -> None:
        """Show the result of an attempt."""
        count = self._state.result(scope).count + 1
        self._state.set_result(scope, ScopeResult(code, count, message))

    def command_refused(self, command: Command, message: str) -> None:
        """Show that a command was not admitted."""
        result = self._state.result(command.scope)
        if result.code is ResultCode.BUSY:
            self._state.set_result(command.scope, replace(result, count=result.count + 1, message=message))
        else:
            self.post(command.scope, ResultCode.REFUSED, message)

    def command_begun(self, command: Command) -> None:
        """Show that a command is at work."""
        self._put_refused.discard(command.scope)
        if command.name is not CommandName.ABORT:
            result = self._state.result(command.scope)
            busy = ScopeResult(ResultCode.BUSY, result.count, f"{command} is at work")
            self._state.set_result(command.scope, busy)
        self.show_work()

    def command_ended(self, command: Command, outcome: Outcome) -> None:
        """Show how a command ended, once it is no longer on the desk."""
        self.post(command.scope, outcome.code, outcome.message)
        self.show_work()
        if command.scope == RUN and any(is_stop(entry.command) for entry in self._desk.run):
            # A Stop that aborted this start, or a joined Stop, has not ended yet.
            result = self._state.result(RUN)
            self._state.set_result(RUN, replace(result, code=ResultCode.BUSY))

    def put_refused(self, scope: Scope, text: str, *, attempt: bool) -> None:
        """Show a refused put in the scope's message; with `attempt` in its result as well."""
        if scope.kind not in WITH_RESULT:
            return
        message = f"Refused: {text}"
        result = self._state.result(scope)
        if attempt and result.code is not ResultCode.BUSY:
            self._put_refused.add(scope)
            self.post(scope, ResultCode.REFUSED, message)
        else:
            count = result.count + 1 if attempt else result.count
            self._state.set_result(scope, replace(result, count=count, message=message))

    def put_accepted(self, scope: Scope, setpoint: str) -> None:
        """Take the refusal of an earlier put back."""
        if scope in self._put_refused:
            self._put_refused.discard(scope)
            self.post(scope, ResultCode.DONE, f"{setpoint} set")

    def progress_of(self, entry: AtWork) -> Callable[[str, float], None]:
        """Return what a command at work calls with the text of its stage and how far it is, in percent."""

        def progress(text: str, percent: float) -> None:
            entry.text, entry.percent = text, percent
            self.show_work()

        return progress

    def show_work(self) -> None:
        """Show what is at work now."""
        self._state.set_work(self._desk.work())
