"""Stops the run by itself: a disk is nearly full, or `Run:MaxEvents` or `Run:MaxWritten` is reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from attpc_ioc.errors import Refused
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import RUN, Command, CommandName
from attpc_ioc.model.run import RunState
from attpc_ioc.plugin import PluginContext
from attpc_ioc.plugin.faults import Faults
from attpc_ioc.pvs.row import Value

from .events.rows import MAX_EVENTS, MAX_WRITTEN
from .settings import LimitsSettings
from .state import ONLY, Records, Until
from .watch.router import Router
from .watch.rows import GIGABYTE

log = get_logger(__name__)

NOT_COUNTED = (
    "events are not counted here, because the frames of no data router are read (`frames` in the settings); "
    "Run:MaxWritten and Run:MaxDuration stop a run too"
)


class RunStopper:
    """Stops each run once; `faults` says so where a person has to do something about it.

    `counts_events`: whether the frames of any data router are read, so that there are events to count.
    """

    def __init__(
        self,
        ctx: PluginContext,
        faults: Faults,
        limits: LimitsSettings,
        records: Records,
        *,
        counts_events: bool,
    ) -> None:
        self._ctx = ctx
        self._counts_events = counts_events
        self._faults = faults
        self._limits = limits
        self._kept = records.until
        self._asked = False
        self._full: Router | None = None
        """The router whose disk was the reason."""

    @property
    def until(self) -> Until:
        """The limits of runs."""
        return self._kept.values.get(ONLY, Until())

    def show(self) -> None:
        """Publish the limits."""
        self._ctx.publish(MAX_EVENTS, self.until.events)
        self._ctx.publish(MAX_WRITTEN, self.until.written_gb)
        if self.until.events and not self._counts_events:
            self._faults.set("limit", f"Run:MaxEvents stops no run: {NOT_COUNTED}")
        else:
            self._faults.clear("limit")

    def set(self, pv: str, value: Value) -> bool:
        """Handle a write to a limit; return whether the PV is one.

        Raises `Refused` for a limit that cannot be kept.
        """
        field = {MAX_EVENTS: "events", MAX_WRITTEN: "written_gb"}.get(pv)
        if field is None or not isinstance(value, int | float):
            return False
        if pv == MAX_EVENTS and value and not self._counts_events:
            raise Refused(NOT_COUNTED)
        self._kept.keep(ONLY, replace(self.until, **{field: float(value)}))
        self.show()
        return True

    def run_begins(self) -> None:
        """Stop this run too, if it has to be."""
        self._asked, self._full = False, None
        self._faults.clear("stopped")

    def see_disk(self, router: Router) -> None:
        """Take the last poll of a router: stop the run before its disk is full."""
        polled = router.polled
        if router.too_full and polled is not None:
            if self._stop(
                f"data router {router.label} on {router.where} has "
                f"{polled.disk_free_bytes / GIGABYTE:.1f} GB free, less than limits.stop_below_gb "
                f"({self._limits.stop_below_gb:g} GB)",
                lambda said: self._faults.set("stopped", said),
            ):
                self._full = router
        elif router is self._full and router.has_room:
            self._full = None
            self._faults.clear("stopped")

    def see_run(self, events: int, data_bytes: int) -> None:
        """Take the events and bytes of the run: stop it where it has as many as it should."""
        until, written_gb = self.until, data_bytes / GIGABYTE
        reasons = []
        if 0 < until.events <= events:
            reasons.append(f"it has {events} events, Run:MaxEvents is {until.events:.0f}")
        if 0 < until.written_gb <= written_gb:
            reasons.append(f"it has {written_gb:.3f} GB, Run:MaxWritten is {until.written_gb:g} GB")
        if reasons:
            self._stop(" and ".join(reasons), lambda said: log.warning("run limit reached", reason=said))

    def _stop(self, reason: str, say: Callable[[str], None]) -> bool:
        run = self._ctx.snapshot().run
        if self._asked or run.state is not RunState.RUNNING:
            return False
        self._asked = True
        said = f"run {run.number} is stopped: {reason}"
        say(said)
        self._ctx.spawn(self._submit(said, reason))
        return True

    async def _submit(self, said: str, reason: str) -> None:
        outcome = await self._ctx.submit(Command(RUN, CommandName.STOP, reason=reason))
        if not outcome.ok:
            self._faults.set("stopped", f"{said}; {outcome.message}")
