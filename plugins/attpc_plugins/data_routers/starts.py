"""The data routers' reasons against a start of a run, from what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.run import RunRef, RunState, RunView
from attpc_ioc.plugin import PluginContext

from .closing.beside import NOT_LISTED
from .closing.rows import RUN_CLOSING_MESSAGE
from .closing.service import ClosingService
from .settings import DataRoutersSettings, Firmness
from .watch.around import FleetFacts
from .watch.interlocks import Against, Facts, NextRun, against_start
from .watch.router import Router


class StartChecks:
    """The checks of all routers. `ending()`: a run has ended, and its end was not reported yet."""

    def __init__(
        self,
        ctx: PluginContext,
        settings: DataRoutersSettings,
        routers: Sequence[Router],
        closing: ClosingService,
        ending: Callable[[RunView], bool],
    ) -> None:
        self._ctx = ctx
        self._settings = settings
        self._routers = routers
        self._closing = closing
        self._ending = ending
        self._next_run = NextRun()

    def next_run(self, run: RunView) -> RunRef | None:
        """Return the run whose folder must not exist yet."""
        return self._next_run.of(run)

    def against(self, fleet: Fleet, routers: Sequence[Router] | None = None) -> list[Against]:
        """Return every reason against a start, of these routers or of all."""
        facts = FleetFacts.of(fleet)
        return against_start(
            (
                self._facts_of(router, fleet.run, facts.enabled - facts.zeroed)
                for router in routers or self._routers
                if facts.takes_part(router)
            ),
            self.next_run(fleet.run),
            self._settings.interlocks,
            self._settings.limits,
        )

    def _facts_of(self, router: Router, run: RunView, kept: frozenset[str]) -> Facts:
        """Return what is known of a router; the start leaves the boards of the sources `kept` configured."""
        seen = router.watch.seen
        return Facts(
            router.label,
            router.where,
            unreachable=router.unreachable,
            polled=seen.polled if seen is not None else None,
            asked=seen.next_run if seen is not None else None,
            partial=router.partial,
            taking=run.state in (RunState.RUNNING, RunState.STOPPING),
            closing=self._unfinished(router, run),
            moving=self._closing.moving(router.label),
            expected=router.expected,
            restarted=any(map(router.restarted, kept.intersection(router.sources))),
            process=router.settings.program,
            staging=router.settings.staging or "",
        )

    def _unfinished(self, router: Router, run: RunView) -> str:
        # Between the end of a run and its event, no file has been moved yet.
        if self._ending(run):
            text = f"the files of run {run.number} are not closed yet: {NOT_LISTED}"
        elif not self._closing.unfinished(router.label):
            return ""
        else:
            text = self._closing.against_next(router.label)
            if not text and router.listed is None:
                text = f"the files of run {run.number} are not closed yet: {NOT_LISTED}"
        return f"{text}, see {self._ctx.prefix}{RUN_CLOSING_MESSAGE}" if text else ""


def warns(reason: Against) -> bool:
    """Return whether a reason only warns."""
    return reason.firmness is Firmness.WARN
