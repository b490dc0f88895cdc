"""The engine: carries every plan out, stage by stage; each step checked when it is sent, each arrival seen.

Forward and back, the start of a run, its stop, a roll-back, the stop of late starts and the undo of a wrong
board are all plans, and they run here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

from attpc_ioc.errors import EccBusy, EccError, EccStale
from attpc_ioc.log import get_logger
from attpc_ioc.model import rules
from attpc_ioc.model.command import Command, CommandName, Reason, Who, ecc_scope
from attpc_ioc.model.config import RECORDS, UNKNOWN
from attpc_ioc.model.plan import Plan, Stage, Step
from attpc_ioc.model.rules import seen_text
from attpc_ioc.model.states import EDGES, Operation, State
from attpc_ioc.settings import LimitSettings, OrderSettings

from .jobs import future
from .modules.module import ModuleControl
from .modules.operation import OngoingOperation, Verdict
from .results import PlanResult
from .state import FleetState

log = get_logger(__name__)

STOP = Command(ecc_scope(""), CommandName.STOP)
"""What a plan is for that stops modules, whoever wants that."""

RETRY_S = 0.2
"""How often a Stop that could not be sent is tried again, where nothing is seen to change."""

Progress = Callable[[str, float], None]


async def _at_once(_stage: Stage) -> None:
    """Hold no stage back."""


class Engine:
    """Runs plans. Cancelling or aborting one never touches a call that was sent (rule 2)."""

    def __init__(
        self,
        state: FleetState,
        modules: Mapping[str, ModuleControl],
        limits: LimitSettings,
        order: OrderSettings,
    ) -> None:
        self._state = state
        self._modules = modules
        self._limits = limits
        self._order = order

    async def run(
        self,
        plan: Plan,
        who: Who,
        abort: asyncio.Future[None],
        progress: Progress = lambda _text, _percent: None,
        *,
        before: Callable[[Stage], Awaitable[None]] = _at_once,
        may_send: Callable[[], bool] = lambda: True,
    ) -> PlanResult:
        """Run a plan to its end, its first failed stage, or `abort`.

        `before` is awaited before each stage; where `may_send` says no, nothing further is sent.
        """
        run = _PlanRun(self._state, self._modules, plan, who, abort, progress, may_send=may_send)
        return await run.go(before)

    async def stop(
        self,
        targets: Callable[[], Iterable[str]],
        who: Who,
        progress: Progress = lambda _text, _percent: None,
    ) -> dict[str, str]:
        """Bring modules out of Running (rule 17); return a reason for each that was not seen out.

        `targets` is asked again with every change: modules that it names later are stopped as well. It ends
        when all are out, when each that is not has clearly failed, or at the limit of Stop. Replies that are
        still to come then have `arrival_grace_s`, so that the next command is not refused for them.
        """
        run = _PlanRun(
            self._state,
            self._modules,
            self._stop_plan(targets()),
            who,
            future(),
            progress,
            grace_s=self._limits.arrival_grace_s,
            again=lambda: self._stop_plan(targets()),
        )
        result = await run.go(_at_once)
        # One whose Stop has failed may have been seen out all the same.
        return {r.module: r.text for r in result.reasons if not self._state.modules[r.module].out}

    def _stop_plan(self, names: Iterable[str]) -> Plan:
        """Return the plan that stops modules; its stages are always those of the settings."""
        known = [self._state.modules[name] for name in dict.fromkeys(names) if name in self._modules]
        stages: dict[int, list[Step]] = {number: [] for number in range(len(self._order.stop))}
        for view in known:
            number = next((n for n, kinds in enumerate(self._order.stop) if view.kind in kinds), 0)
            stages[number].append(
                Step(
                    view.name,
                    Operation.STOP,
                    frozenset(EDGES[Operation.STOP]),
                    State.READY,
                    self._limits.stop_s,
                    insistent=True,
                )
            )
        wait_s = self._limits.stop_mutant_s
        return Plan(STOP, tuple(Stage("stop", tuple(steps), wait_s) for steps in stages.values()))

    async def undo(self, describe: OngoingOperation) -> str:
        """Undo a Describe that took another board (rule 6); return how that went.

        Where its command ends before it can be sent, it is not sent at all.
        """
        late = describe.given_up
        step = Step(
            describe.module,
            Operation.UNDO,
            frozenset((State.DESCRIBED,)),
            EDGES[Operation.UNDO][State.DESCRIBED],
            self._limits.undo_s,
        )
        command = Command(ecc_scope(describe.module), CommandName.UNDO)
        result = await self.run(
            Plan(command, (Stage("undo", (step,)),)),
            describe.who,
            future(),
            may_send=lambda: late or not describe.given_up,
        )
        if result.ok and result.sent:
            return "it was undone"
        why = "; ".join(reason.text for reason in result.reasons) or "the command had ended"
        return why if result.sent or why.startswith("Undo was not") else f"Undo was not sent: {why}"


class _PlanRun:
    """One plan that is carried out."""

    def __init__(
        self,
        state: FleetState,
        modules: Mapping[str, ModuleControl],
        plan: Plan,
        who: Who,
        abort: asyncio.Future[None],
        progress: Progress,
        *,
        may_send: Callable[[], bool] = lambda: True,
        grace_s: float = 0.0,
        again: Callable[[], Plan] | None = None,
    ) -> None:
        self._state = state
        self._modules = modules
        self._plan = plan
        self._who = who
        self._abort = abort
        self._progress = progress
        self._may_send = may_send
        self._grace_s = grace_s
        self._again = again
        self._began_s = time.monotonic()
        self._result = PlanResult()
        self._involved: set[str] = set()
        self._tasks: dict[asyncio.Task[str], tuple[int, Step]] = {}
        """Those that are not done."""
        self._latest: dict[str, asyncio.Task[str]] = {}
        """By module."""
        self._holding: list[set[str]] = []
        """For each stage that was sent, the modules for which the next one waits."""
        self._failed: set[str] = set()
        self._ended = 0
        self._woken = asyncio.Event()

    async def go(self, before: Callable[[Stage], Awaitable[None]]) -> PlanResult:
        """Carry the plan out."""
        self._abort.add_done_callback(self._wake)
        if self._again is not None:
            self._state.subscribe(self._wake)
        self._involve()
        try:
            self._result.aborted = not await self._go(before)
        finally:
            self._abort.remove_done_callback(self._wake)
            if self._again is not None:
                self._state.unsubscribe(self._wake)
            # What was sent goes on by itself; only the waiting, and steps not yet sent, end here.
            for task in (left := tuple(self._tasks)):
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            for ongoing in self._result.sent:
                ongoing.give_up()
            for name in self._involved:
                self._modules[name].involve(False)
        return self._result

    async def _go(self, before: Callable[[Stage], Awaitable[None]]) -> bool:
        """Send stage after stage; tells whether nobody aborted that."""
        for number in range(len(self._plan.stages)):
            stage = self._plan.stages[number]
            await before(stage)
            if self._abort.done():
                return False
            self._holding.append(set())
            self._progress(stage.name, self._percent)
            for step in stage.steps:
                self._begin(number, step)
            holding = self._holding[number]
            await self._until(lambda holding=holding: not holding, stage.advance_after_s)
            if self._abort.done():
                return False
            if self._failed and not all(step.insistent for step in stage.steps):
                break
        await self._until(lambda: not self._tasks)
        return not self._tasks

    def _begin(self, number: int, step: Step) -> None:
        work, what = (self._bring_out, "stop") if step.insistent else (self._take, step.operation)
        task = asyncio.get_running_loop().create_task(work(number, step), name=f"{what} {step.module}")
        self._holding[number].add(step.module)
        self._tasks[task] = number, step
        self._latest[step.module] = task
        task.add_done_callback(self._step_ended)

    def _step_ended(self, task: asyncio.Task[str]) -> None:
        number, step = self._tasks.pop(task)
        self._holding[number].discard(step.module)
        self._ended += 1
        self._woken.set()
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            # It fails the step, so that a start is still rolled back.
            log.error(
                "step failed unexpectedly", module=step.module, operation=step.operation, exc_info=error
            )
        reason = f"fault of the program: {error}" if error is not None else task.result()
        if reason:
            self._failed.add(step.module)
            self._result.reasons.append(Reason(reason, step.module))

    async def _until(self, there: Callable[[], bool], limit_s: float | None = None) -> None:
        """Wait until `there`, an abort, or for `limit_s`; meanwhile have later targets join."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_s if limit_s is not None else None
        shown = self._ended
        while True:
            self._join()
            if self._ended > shown:
                shown = self._ended
                self._progress(self._plan.stages[len(self._holding) - 1].name, self._percent)
            if there() or self._abort.done():
                return
            self._woken.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._woken.wait()
            except TimeoutError:
                return

    def _join(self) -> None:
        """Begin with modules that are targets only now, or again."""
        if self._again is None:
            return
        self._plan = self._again()
        self._involve()
        for number, stage in enumerate(self._plan.stages[: len(self._holding)]):
            for step in stage.steps:
                latest = self._latest.get(step.module)
                again = latest not in self._tasks and step.module not in self._failed
                if latest is None or (again and not self._state.modules[step.module].out):
                    self._begin(number, step)

    def _involve(self) -> None:
        for name in self._plan.modules - self._involved:
            self._involved.add(name)
            self._modules[name].involve(True)

    @property
    def _percent(self) -> float:
        return min(100.0, 100.0 * self._ended / max(1, self._plan.steps))

    def _wake(self, _what: object) -> None:
        self._woken.set()

    # ------------------------------------------------------------------ steps; each returns why it failed

    async def _take(self, _number: int, step: Step) -> str:
        """Check, send and see one step.

        Its limit counts from here: what could not be sent within it is never sent (rule 1).
        """
        module = self._modules[step.module]
        deadline = time.monotonic() + step.limit_s
        try:
            await module.answers.before(step.operation, step.limit_s)
        except EccStale as error:
            self._result.timed_out = True
            text = f"{step.operation} was not sent within {step.limit_s:g} s: {error}"
            log.warning("operation not sent", module=step.module, operation=step.operation, reason=text)
            return text
        except EccError as error:
            return str(error)
        if self._abort.done() or not self._may_send():
            return ""
        view = module.view
        if (reason := rules.step_reason(step, self._state.modules)) is not None:
            return reason
        if view.state is step.target:
            part = RECORDS.get(step.operation)
            if part is None or getattr(view.loaded, part) != UNKNOWN:
                return ""
            return f"was taken to {step.target.label} by no command of this IOC: {rules.mismatch_text(view)}"
        within = f"within the {step.limit_s:g} s of the command"
        ongoing, late = await self._send(module, step, deadline, within)
        if ongoing.verdict is Verdict.ARRIVED:
            return ""
        self._result.timed_out |= late
        if ongoing.verdict is None:
            text = f"{step.operation} has not arrived after {step.limit_s:g} s: {seen_text(module.view)}"
            log.warning("operation late", module=step.module, operation=step.operation, reason=text)
            return text
        if ongoing.cleanup is None:
            return ongoing.reason
        await asyncio.wait((ongoing.cleanup,), timeout=max(0.0, deadline - time.monotonic()))
        how = ongoing.cleanup.result() if ongoing.cleanup.done() else "Undo has not arrived yet"
        return f"{ongoing.reason}; {how}"

    async def _bring_out(self, number: int, step: Step) -> str:
        """Send Stop, once unless it could not be sent at all, until the module was seen out of Running."""
        module, holding = self._modules[step.module], self._holding[number]
        deadline = self._began_s + step.limit_s
        settled_by: float | None = None
        while True:
            view, now = module.view, time.monotonic()
            if view.out:
                settled_by = settled_by or now + self._grace_s
                if view.outstanding is not Operation.STOP or now >= settled_by:
                    return ""
                await self._state.wait_module(step.module, settled_by - now)
                continue
            settled_by = None
            if now >= deadline:
                return f"was not seen out of Running: {seen_text(view)}"
            if view.online or view.connects or view.outstanding is not None:
                holding.add(step.module)
            elif step.module in holding:
                # Nothing of it can arrive at present.
                holding.discard(step.module)
                self._woken.set()
            if rules.can_be_stopped(view):
                await module.answers.before(step.operation, step.limit_s)
                if rules.can_be_stopped(module.view):
                    ongoing, _late = await self._send(module, step, deadline, "within the time of the stop")
                    # On an old answer nobody knows of another client's transition: it is over some time.
                    if ongoing.verdict is Verdict.FAILED and not isinstance(ongoing.error, EccBusy):
                        return ongoing.reason
                    if ongoing.verdict is Verdict.ARRIVED:
                        continue
            await self._state.wait_module(step.module, min(RETRY_S, deadline - time.monotonic()))

    async def _send(
        self, module: ModuleControl, step: Step, deadline: float, within: str
    ) -> tuple[OngoingOperation, bool]:
        """Send a step and wait for its end; returns it, and whether it had none by the deadline."""
        ongoing = module.send(step.operation, step.target, rules.config_of(step, module.view), self._who)
        self._result.sent.append(ongoing)
        try:
            await asyncio.wait((ongoing.settled,), timeout=max(0.0, deadline - time.monotonic()))
            late = ongoing.verdict is None
        finally:
            module.withdraw(ongoing, within)
        return ongoing, late
