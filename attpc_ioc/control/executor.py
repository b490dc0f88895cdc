"""Execution of plans: stage by stage, each step checked at the moment it is sent, each arrival seen."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from attpc_ioc.errors import EccError, EccStale
from attpc_ioc.log import get_logger
from attpc_ioc.model import rules
from attpc_ioc.model.command import Command, Outcome, Reason, ResultCode, Who
from attpc_ioc.model.config import RECORDS, UNKNOWN, ConfigName
from attpc_ioc.model.fleet import ModuleView
from attpc_ioc.model.plan import OnFailure, Plan, Stage, Step
from attpc_ioc.model.rules import seen_text

from .fleet_state import FleetState
from .module import ModuleControl
from .operation import OngoingOperation, Verdict

log = get_logger(__name__)


@dataclass(slots=True)
class PlanResult:
    """What became of a plan. `sent` are the operations that went out, in their order."""

    reasons: list[Reason] = field(default_factory=list)
    sent: list[OngoingOperation] = field(default_factory=list)
    timed_out: bool = False
    aborted: bool = False
    duration_s: float = 0.0

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
        return Outcome(command, code, text, tuple(self.reasons), self.duration_s)


class Executor:
    """Runs plans. Cancelling or aborting a run of one never touches a call that was sent (rule 2)."""

    def __init__(self, state: FleetState, modules: Mapping[str, ModuleControl]) -> None:
        self._state = state
        self._modules = modules

    async def run(
        self,
        plan: Plan,
        who: Who,
        abort: asyncio.Event,
        progress: Callable[[str, float], None] = lambda _text, _percent: None,
        before: Callable[[Stage], Awaitable[None]] | None = None,
    ) -> PlanResult:
        """Run a plan to its end, its first failed stage, or `abort`.

        `before` is awaited before each stage.
        """
        began = time.monotonic()
        result = PlanResult()
        involved = [self._modules[name] for name in plan.modules]
        for module in involved:
            module.involve(True)
        self._show(plan, str(plan.command))
        try:
            done = 0
            for stage in plan.stages:
                if before is not None:
                    await before(stage)
                if abort.is_set():
                    result.aborted = True
                    break
                progress(stage.name, 100.0 * done / max(1, plan.steps))
                go_on = await self._stage(stage, who, abort, result)
                done += len(stage.steps)
                if not go_on:
                    break
        finally:
            for module in involved:
                module.involve(False)
            self._show(plan, "")
            for ongoing in result.sent:
                ongoing.give_up()
        result.duration_s = time.monotonic() - began
        return result

    def _show(self, plan: Plan, working: str) -> None:
        """Show on every module of a plan which command is at work on it; empty when none is any more."""
        self._state.update_modules({name: {"working": working} for name in plan.modules})

    async def _stage(self, stage: Stage, who: Who, abort: asyncio.Event, result: PlanResult) -> bool:
        """Run one stage; tells whether the next may go out."""
        loop = asyncio.get_running_loop()
        steps = {
            loop.create_task(
                self._step(step, who, abort, result), name=f"{step.operation} {step.module}"
            ): step
            for step in stage.steps
        }
        # Woken by callbacks: to wait anew for all that are left, each time one ends, costs their square.
        ended: list[asyncio.Task[bool]] = []
        woken = asyncio.Event()

        def end(task: asyncio.Task[bool]) -> None:
            ended.append(task)
            woken.set()

        for task in steps:
            task.add_done_callback(end)
        aborted = loop.create_task(abort.wait(), name="abort")
        aborted.add_done_callback(lambda _: woken.set())
        pending: set[asyncio.Task[bool]] = set(steps)
        failed_hard = False
        deadline = loop.time() + stage.advance_after_s if stage.advance_after_s else None
        try:
            while pending:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await woken.wait()
                woken.clear()
                done, ended[:] = set(ended), []
                if abort.is_set():
                    result.aborted = True
                    return False
                if not done:
                    result.reasons += [
                        Reason(f"{steps[t].operation} has not arrived yet", steps[t].module) for t in pending
                    ]
                    return True
                for task in done & pending:
                    pending.discard(task)
                    if not _arrived(task, steps[task], result) and (
                        steps[task].on_failure is OnFailure.STOP_PLAN
                    ):
                        failed_hard = True
        finally:
            # What was sent goes on by itself; only the waiting, and steps not yet sent, end here.
            for task in (*pending, aborted):
                task.cancel()
            await asyncio.gather(*pending, aborted, return_exceptions=True)
        return not failed_hard

    async def _step(self, step: Step, who: Who, abort: asyncio.Event, result: PlanResult) -> bool:
        """Check, send and see one step; tells whether the module is where it was to go.

        Its limit counts from here: what could not be sent within it is never sent (rule 1).
        """
        module = self._modules[step.module]
        deadline = time.monotonic() + step.limit_s
        try:
            await module.answers.before(step.operation, step.limit_s)
        except EccError as error:
            text = str(error)
            if isinstance(error, EccStale):
                result.timed_out = True
                text = f"{step.operation} was not sent within {step.limit_s:g} s: {error}"
                log.warning("operation not sent", module=step.module, operation=step.operation, reason=text)
            result.reasons.append(Reason(text, step.module))
            return False
        if abort.is_set():
            return False
        view = module.view
        reason = rules.step_reason(step, self._state.fleet.modules)
        if reason is not None:
            result.reasons.append(Reason(reason, step.module))
            return False
        if view.state is step.target:
            part = RECORDS.get(step.operation)
            if part is None or getattr(view.loaded, part) != UNKNOWN:
                return True
            text = f"was taken to {step.target.label} by no command of this IOC: {rules.mismatch_text(view)}"
            result.reasons.append(Reason(text, step.module))
            return False
        ongoing = module.send(step.operation, step.target, config_for(step, view), who)
        result.sent.append(ongoing)
        try:
            await asyncio.wait((ongoing.settled,), timeout=deadline - time.monotonic())
            late = ongoing.verdict is None
        finally:
            module.withdraw(ongoing, f"within the {step.limit_s:g} s of the command")
        if ongoing.verdict is Verdict.ARRIVED:
            return True
        result.timed_out |= late
        if ongoing.verdict is None:
            text = f"{step.operation} has not arrived after {step.limit_s:g} s: {seen_text(module.view)}"
            log.warning("operation late", module=step.module, operation=step.operation, reason=text)
        else:
            text = ongoing.reason
            if ongoing.cleanup is not None:
                left_s = max(0.0, deadline - time.monotonic())
                await asyncio.wait((ongoing.cleanup,), timeout=left_s)
                how = ongoing.cleanup.result() if ongoing.cleanup.done() else "Undo has not arrived yet"
                text = f"{text}; {how}"
        result.reasons.append(Reason(text, step.module))
        return False


def _arrived(task: asyncio.Task[bool], step: Step, result: PlanResult) -> bool:
    """Return what a step told; a fault of the program fails it, so that a start is still rolled back."""
    try:
        return task.result()
    except Exception as error:
        log.exception("step failed unexpectedly", module=step.module, operation=step.operation)
        result.reasons.append(Reason(f"fault of the program: {error}", step.module))
        return False


def config_for(step: Step, view: ModuleView) -> ConfigName | None:
    """Return the names that a step sends; None for an operation that reads none (rule 5)."""
    if step.operation not in RECORDS:
        return None
    if step.loaded_names:
        describe, prepare, configure = rules.loaded_parts(view)
        if describe is None or prepare is None or configure is None:
            raise RuntimeError(f"{view.name}: what is loaded is not known")  # step_reason has checked it
        return ConfigName(describe, prepare, configure)
    return view.selected
