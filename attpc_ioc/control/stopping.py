"""Bringing modules out of Running: to stop a run, to roll a failed start back, for orphans (rule 17)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from attpc_ioc.errors import EccBusy
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Who
from attpc_ioc.model.fleet import ModuleView
from attpc_ioc.model.states import Operation, State, Transition
from attpc_ioc.settings import LimitSettings, OrderSettings

from .executor import seen_text
from .fleet_state import FleetState
from .module import ModuleControl
from .operation import OngoingOperation, Verdict

log = get_logger(__name__)

LIVE = frozenset((State.RUNNING, State.PAUSED))
"""The states from which Stop leads out of a run."""

STARTS = frozenset((Transition.START, Transition.RESUME))
RETRY_S = 0.2


def is_out(view: ModuleView) -> bool:
    """Tell whether a module was seen out of Running and nothing is on its way that would start it."""
    return (
        view.last_state is not None
        and view.last_state not in LIVE
        and view.outstanding is not Operation.START
        and view.transition not in STARTS
    )


def another_stop_helps(left: Iterable[ModuleView]) -> bool:
    """Tell whether there is a module among those left Running that another Stop may bring out of it.

    A board that does not answer is not one: its ECC server goes on saying Running.
    """
    left = list(left)
    return not left or any(view.board_fault is None for view in left)


class Stopper:
    """Stops modules in the order of stages, each sent once unless it could not be sent at all."""

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
        self._stages = order.stop

    async def bring_out(
        self, targets: Callable[[], Iterable[str]], who: Who, limit_s: float
    ) -> dict[str, str]:
        """Stop all `targets()` (asked again and again); return a reason for each that was not seen out.

        A later stage goes out when nothing of the earlier ones can arrive any more (they were seen out, their
        Stop has failed, or their server cannot be reached), or 10 s (`stop_mutant_s`) after them. Ends when
        all are out, when each that is not has clearly failed, or at `limit_s`. Replies that are still to come
        then have `arrival_grace_s`, so that the next command is not refused for them.
        """
        effort = _Effort(self, who)
        deadline = time.monotonic() + limit_s
        settled_by = time.monotonic() + self._limits.arrival_grace_s
        try:
            while True:
                names = [name for name in dict.fromkeys(targets()) if name in self._modules]
                effort.involve(names)
                left = [name for name in names if not is_out(self._state.module(name))]
                if not left and (self._settled(names) or time.monotonic() >= settled_by):
                    return {}
                if left:
                    settled_by = time.monotonic() + self._limits.arrival_grace_s
                opened = self._opened(names, effort)
                effort.send_where_possible(name for name in left if self._stage_of(name) < opened)
                if left and (time.monotonic() >= deadline or effort.all_failed(left)):
                    return {name: effort.reason(name) for name in left}
                # Wake for any change, for the next stage, and for another try to send.
                await self._state.wait_change(min(RETRY_S, max(0.001, deadline - time.monotonic())))
        finally:
            await effort.close()

    def _settled(self, names: list[str]) -> bool:
        return all(self._state.module(name).outstanding is not Operation.STOP for name in names)

    def _stage_of(self, name: str) -> int:
        kind = self._state.module(name).kind
        return next((i for i, kinds in enumerate(self._stages) if kind in kinds), 0)

    def _opened(self, names: list[str], effort: _Effort) -> int:
        """Return how many stages may go out now."""
        for stage in range(len(self._stages)):
            began = effort.began.setdefault(stage, time.monotonic())
            coming = any(self._stage_of(n) == stage and effort.can_come_out(n) for n in names)
            if coming and time.monotonic() - began < self._limits.stop_mutant_s:
                return stage + 1
        return len(self._stages)


class _Effort:
    """One `bring_out`: the Stop calls that it has under way and those that failed."""

    def __init__(self, stopper: Stopper, who: Who) -> None:
        self._modules = stopper._modules
        self._state = stopper._state
        self._limits = stopper._limits
        self._who = who
        self._tasks: dict[str, asyncio.Task[str | None]] = {}
        self._sent: list[OngoingOperation] = []
        self._failed: dict[str, str] = {}
        self._involved: set[str] = set()
        self.began: dict[int, float] = {}
        """When each stage went out, in monotonic seconds."""

    def involve(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._involved:
                self._involved.add(name)
                self._modules[name].involve(True)

    def send_where_possible(self, names: Iterable[str]) -> None:
        self._collect()
        for name in names:
            view = self._state.module(name)
            if name in self._tasks or name in self._failed or view.moving:
                continue
            if view.live:
                self._tasks[name] = asyncio.get_running_loop().create_task(
                    self._stop_one(name), name=f"stop {name}"
                )

    def can_come_out(self, name: str) -> bool:
        """Tell whether a module is still to be seen out because of a Stop that has gone or may go out."""
        self._collect()
        view = self._state.module(name)
        reachable = view.online or view.connects or view.outstanding is not None
        return reachable and name not in self._failed and not is_out(view)

    def all_failed(self, left: Iterable[str]) -> bool:
        self._collect()
        return not self._tasks and all(name in self._failed for name in left)

    def reason(self, name: str) -> str:
        failed = self._failed.get(name)
        return failed or f"was not seen out of Running: {seen_text(self._state.module(name))}"

    def _collect(self) -> None:
        for name in [n for n, task in self._tasks.items() if task.done()]:
            reason = self._tasks.pop(name).result()
            if reason is not None:
                self._failed[name] = reason

    async def _stop_one(self, name: str) -> str | None:
        """Send Stop once; returns why it failed, or None where it arrived or may be tried again."""
        module = self._modules[name]
        await module.answers.before(Operation.STOP, self._limits.stop_s)
        view = module.view
        if not view.live or view.moving:
            return None
        ongoing = module.send(Operation.STOP, State.READY, None, self._who)
        self._sent.append(ongoing)
        await asyncio.wait((ongoing.settled,))
        # On an old answer nobody knows of another client's transition: it is over some time.
        if ongoing.verdict is Verdict.FAILED and not isinstance(ongoing.error, EccBusy):
            return ongoing.reason
        return None

    async def close(self) -> None:
        # What was sent goes on by itself, and its module tells the end of it; only the waiting ends.
        for ongoing in self._sent:
            self._modules[ongoing.module].withdraw(ongoing, "within the time of the stop")
            ongoing.give_up()
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for name in self._involved:
            self._modules[name].involve(False)
