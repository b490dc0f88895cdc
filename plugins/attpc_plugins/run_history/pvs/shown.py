"""The values of the history's PVs: the last runs, comment and quality of the run, the last warnings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from attpc_ioc.errors import Refused
from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunInfo
from attpc_ioc.model.states import Severity, Status
from attpc_ioc.plugin import PluginContext
from attpc_ioc.pvs.row import Reading, Value
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.model.history import Quality, Run, RunChanges, RunFilter
from attpc_plugins.run_history.store.model.records import LogRecord, RunRef
from attpc_plugins.run_history.store.reading.queries import LISTED_COMMENT

from . import screens
from .log_feed import LogFeed
from .rows import QUALITIES

LOG_PERIOD_S = 0.2

Edit = Callable[[RunRef, RunChanges, Who], Awaitable[None]]
"""Records a change of a run's entries."""


class Shown:
    """The PVs of a running IOC; call all methods in its event loop.

    The runs are read from the database: they are INVALID, with their last values, from the start and from the
    loss of the database until they are read (again). The log needs no database.
    """

    def __init__(
        self,
        ctx: PluginContext,
        *,
        drained: Callable[[], bool],
        edit: Edit,
        on_entry: Callable[[LogRecord], None],
    ) -> None:
        self._ctx = ctx
        self._drained = drained
        self._edit = edit
        self._ref: RunRef | None = None
        self._comment, self._quality = "", Quality.UNKNOWN
        self._runs: Sequence[Run] = ()
        self._log_feed = LogFeed(on_entry, self._on_log_change, self._run_on)
        self._log_due: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start showing warnings; the runs are not known yet."""
        self._log_feed.attach()
        self.database_gone()

    def close(self) -> None:
        """Stop showing warnings."""
        self._log_feed.detach()
        if self._log_due is not None:
            self._log_due.cancel()

    # ------------------------------------------------------------------ runs

    async def refresh(self, store: Store, experiment: str) -> bool:
        """Show the last runs of an experiment as the database has them now; raises `StoreError`.

        Returns whether the database had every event then: only then it knows the run's comment and quality.
        """
        drained = self._drained()
        runs = await store.last_runs(experiment=experiment)
        self._runs = runs
        self._show_runs(Severity.NO_ALARM, Status.NO_ALARM)
        info = self._ctx.snapshot().run.info
        if self._ref is None and info is not None:
            self.follow_run(info)
        if drained and self._ref is not None:
            await self._show_edits(store, self._ref)
        return drained

    def database_gone(self) -> None:
        """Mark the shown runs as INVALID: they may not be the last ones."""
        self._show_runs(Severity.INVALID, Status.COMM)

    def _show_runs(self, severity: Severity, status: Status) -> None:
        for pv, value in screens.history(self._runs):
            self._ctx.publish(pv, Reading(value, severity, status))

    async def _show_edits(self, store: Store, ref: RunRef) -> None:
        """Show the run's comment and quality from the database, unless changes of ours are pending."""
        found = [run for run in self._runs if RunRef(run.experiment, run.number) == ref]
        # Of another experiment, older than those shown, or with a comment that may be longer than is listed.
        if not found or len(found[0].comment) >= LISTED_COMMENT:
            which = RunFilter(experiment=ref.experiment, number_from=ref.number, number_to=ref.number)
            found = list((await store.runs(which, limit=1)).runs)
        for run in found:
            changed = (run.comment, run.quality) != (self._comment, self._quality)
            # Meanwhile another run may have begun, or somebody may have written.
            if changed and ref == self._ref and self._drained():
                self._comment, self._quality = run.comment, run.quality
                self._show_texts()

    # ------------------------------------------------------------------ comment and quality

    def follow_run(self, info: RunInfo) -> None:
        """Set the run that comment and quality belong to: the current or the last one."""
        if info.ref != self._ref:
            self._ref = info.ref
            self._comment, self._quality = "", Quality.UNKNOWN
            self._show_texts()

    def _show_texts(self) -> None:
        self._ctx.publish("Run:Comment", self._comment)
        self._ctx.publish("Run:Quality", QUALITIES.index(self._quality))

    async def write(self, pv: str, value: Value, who: Who) -> None:
        """Handle a write to `Run:Comment` or `Run:Quality`; raises `Refused`."""
        if self._ref is None:
            raise Refused("there was no run yet")
        if pv == "Run:Comment":
            self._comment = str(value)
            changes = RunChanges(comment=self._comment)
        elif pv == "Run:Quality" and isinstance(value, int):
            self._quality = QUALITIES[value]
            changes = RunChanges(quality=self._quality)
        else:
            raise Refused(f"{pv} does not accept this value")
        self._show_texts()
        await self._edit(self._ref, changes, who)

    # ------------------------------------------------------------------ warnings

    def _run_on(self) -> RunRef | None:
        run = self._ctx.snapshot().run
        return run.info.ref if run.on and run.info is not None else None

    def _on_log_change(self) -> None:
        if self._log_due is None:
            self._log_due = asyncio.get_running_loop().call_later(LOG_PERIOD_S, self._show_log)

    def _show_log(self) -> None:
        self._log_due = None
        self._ctx.publish("Log:Text_RBV", "\n".join(self._log_feed.lines))
        self._ctx.publish("Log:Count_RBV", self._log_feed.count)
