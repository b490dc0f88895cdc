"""What each data router has written in a run, from its beginning or from a restart of the IOC on."""

from __future__ import annotations

from collections.abc import Sequence

from attpc_ioc.eventlog import Kept
from attpc_ioc.model.run import RunRef

from .settings import Access
from .state import ONLY, Baseline
from .watch.flow import Count
from .watch.router import Router


class RunCounts:
    """Begins and ends the counting of all routers. Times are monotonic seconds."""

    def __init__(self, routers: Sequence[Router], baseline: Kept[Baseline]) -> None:
        self._routers = routers
        self._baseline = baseline
        self.run: RunRef | None = None
        """The run that is counted, or was last."""

    def begin(self, run: RunRef, now_s: float) -> None:
        """Count a run from its beginning, and keep what is there before it."""
        self.run = run
        before = {router.label: router.begin(run, now_s) for router in self._routers}
        counts = {label: count for label, count in before.items() if count is not None}
        if counts:
            self._baseline.keep(ONLY, Baseline(run, counts))

    def resume(self, run: RunRef, now_s: float) -> None:
        """Count a run that began before this IOC: all files that are not in the stored baseline.

        A sentry reports not the files' sizes but what its router has written since its own start: without a
        baseline only new data counts.
        """
        self.run = run
        baseline = self._baseline.values.get(ONLY)
        counts = baseline.counts if baseline is not None and baseline.run == run else {}
        for router in self._routers:
            router.run = run
            before = counts.get(router.label)
            if before is None and router.settings.access is Access.SENTRY:
                router.meter.start(now_s)
            else:
                router.meter.resume(now_s, before or Count())

    def end(self, now_s: float) -> None:
        """Count only late data from now on."""
        for router in self._routers:
            router.meter.stop(now_s)
