"""One data router: evaluates the last poll of its host."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.hosts.names import spoils_the_search
from attpc_plugins.data_routers.model import Polled
from attpc_plugins.data_routers.settings import Access, DataRoutersSettings, RouterSettings

from .flow import (
    NEVER_FULL_H,
    Count,
    Delayed,
    DelayedLevel,
    Flow,
    FlowJudge,
    Listed,
    Meter,
    below_level,
    earliest,
    far_below,
    full_level,
    hours_to_full,
)
from .incidents import Wrong, clock
from .links import NOTHING_WRITTEN
from .poll import Watch
from .rows import DISK_FREE, DISK_UNKNOWN, FLOW, GIGABYTE, MEGABYTE, ONLINE, RESTARTED, TIME_TO_FULL


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the evaluation of one router needs from the fleet and the other routers.

    `running`: a run is on and one of its ECC servers is Running. `cut`: none of its Running boards is
    connected to it any more, because its process is gone or was restarted. `other_rates`: of the other
    running CoBos, in bytes a second for each CoBo. `disk_rate`: what all routers together write to its disk.
    `remaining_s`: the time until the run ends automatically; None where it has no maximum duration.
    """

    running: bool = False
    cut: bool = False
    other_rates: Sequence[float] = ()
    disk_rate: float = 0.0
    remaining_s: float | None = None


class Router:
    """The state of one data router. Set `watch` before you use anything else."""

    watch: Watch

    def __init__(self, router: RouterSettings, settings: DataRoutersSettings) -> None:
        limits = settings.limits
        self.settings = router
        self.label = router.label
        self.sources = router.sources
        self.meter = Meter(settings.rate_window_s, settings.closing.quiet_s)
        self.flow = Flow.IDLE
        self.left: Callable[[], Count] = Count
        """Returns what is in its staging folder and is known not to be strays, where it was not listed."""
        self.sorts: Callable[[], bool] = lambda: False
        """Returns whether there may be files of runs that have ended, which do not count as the run's."""
        self.lost: Callable[[str], bool] = lambda _source: False
        """Returns whether the process to which a source's board was connected is gone."""
        self.run: RunRef | None = None
        """The run that is counted."""
        self.cobos = 0
        """The number of its sources that are CoBos."""
        self.gone = False
        """Its process has been missing long enough for an alarm."""
        self.cut = False
        """See `Circumstances`."""
        self.disk_level = self.full_level = 0
        self.hours_to_full = NEVER_FULL_H
        self.too_full = False
        """Its disk has had less free space than `limits.stop_below_gb` for long enough."""
        self._limits = limits
        self._flow_judge = FlowJudge(limits.dead_after_s, limits.low_after_s)
        self._gone = Delayed(limits.gone_after_s)
        self._disk = DelayedLevel(limits.disk_after_s)
        self._full = DelayedLevel(limits.disk_after_s)
        self._stop = Delayed(limits.disk_after_s)
        self._seen_s = 0.0
        self._times: dict[str, tuple[float, float]] = {}
        """The reported start of each condition: monotonic, and as Unix time."""

    @property
    def where(self) -> str:
        """Its host, as messages name it."""
        return "this machine" if self.settings.access is Access.LOCAL else self.settings.host

    @property
    def disk(self) -> tuple[str, str, int | None, int] | None:
        """An identity of its disk; None before the first answer."""
        polled = self.polled
        if polled is None or not self.knows_disk:
            return None
        return self.settings.access, self.settings.host, self.settings.port, polled.disk_total_bytes

    @property
    def polled(self) -> Polled | None:
        """The last answer of its host; None before the first."""
        return self.watch.seen.polled if self.watch.seen is not None else None

    @property
    def listed(self) -> Listed | None:
        """Its files sorted by runs; None where the last answer does not have that."""
        return self.watch.seen.listed if self.watch.seen is not None else None

    @property
    def expected(self) -> Count:
        """What is in its staging folder and is known not to be strays."""
        return self.listed.known if self.listed is not None else self.left()

    def begin(self, run: RunRef, now_s: float) -> Count | None:
        """Start counting a run; returns what is there that is not the run's, None if not known."""
        self.run = run
        listed = self.listed
        return self.meter.start(now_s, listed.without(listed.known) if listed is not None else None)

    @property
    def strays(self) -> int:
        """The number of files in its staging folder that are not expected there."""
        return max(0, self.polled.files - self.expected.files) if self.polled is not None else 0

    @property
    def partial(self) -> bool:
        """Whether its host reports only that it does not run."""
        return self.watch.seen is not None and self.watch.seen.partial

    @property
    def has_rate(self) -> bool:
        """Whether its rate is known: a sentry answers nothing while it moves files, or its router is gone."""
        held = self.watch.held and self.settings.access is Access.SENTRY
        return bool(self.watch.answering) and not self.partial and not held

    @property
    def knows_disk(self) -> bool:
        """Whether its host knows its disk: a sentry that does not find it reports a size of 0."""
        return self.polled is not None and self.polled.disk_total_bytes > 0

    @property
    def has_room(self) -> bool:
        """Whether its disk is known to have more free space than `limits.stop_below_gb`."""
        polled = self.polled if self.watch.answering and self.knows_disk else None
        return polled is not None and polled.disk_free_bytes >= self._limits.stop_below_gb * GIGABYTE

    @property
    def rate(self) -> float:
        """Bytes a second of the run."""
        return self.meter.rate

    @property
    def cobo_rate(self) -> float | None:
        """Bytes a second for each of its CoBos; None where it has none."""
        return self.meter.rate / self.cobos if self.cobos else None

    def restarted(self, source: str) -> bool:
        """Return whether it runs, but not as the process to which a source's board was connected."""
        return self.polled is not None and self.polled.process and self.lost(source)

    def judge(self, now_s: float, around: Circumstances) -> None:
        """Take the last answer, if it is new, and evaluate all alarm conditions."""
        seen = self.watch.seen
        if seen is None or not self.watch.answering:
            return
        polled = seen.polled
        self.gone = self._gone.judge(now_s, not polled.process)
        if seen.partial:
            # Of its files nothing is known but that nothing is written into them.
            self.cut = around.running
            self.flow = self._flow_judge.judge(
                now_s, running=around.running, grew_s=self.meter.grew_s, low=False, cut=True
            )
            self.watch.wake_at(self._gone.due_s)
            return
        if seen.at_s != self._seen_s:
            self._seen_s = seen.at_s
            if seen.listed is not None:
                self.meter.take(seen.at_s, seen.listed.for_run(self.run))
            elif not self.sorts():
                self.meter.take(seen.at_s, Count(polled.files, polled.data_bytes))
        limits, rate = self._limits, self.cobo_rate
        low = rate is not None and far_below(rate, around.other_rates, limits.low_ratio)
        self.cut = around.cut
        self.flow = self._flow_judge.judge(
            now_s, running=around.running, grew_s=self.meter.grew_s, low=low, cut=self.cut
        )
        free_gb = polled.disk_free_bytes / GIGABYTE if self.knows_disk else math.inf
        self.disk_level = self._disk.judge(
            now_s, below_level(free_gb, limits.disk_minor_gb, limits.disk_major_gb)
        )
        self.hours_to_full = (
            hours_to_full(polled.disk_free_bytes, around.disk_rate) if self.knows_disk else NEVER_FULL_H
        )
        self.full_level = self._full.judge(
            now_s, full_level(self.hours_to_full, limits.full_minor_h, around.remaining_s)
        )
        self.too_full = self._stop.judge(now_s, around.running and free_gb < limits.stop_below_gb)
        self.watch.wake_at(
            earliest(
                self._flow_judge.due_s, self._gone.due_s, self._disk.due_s, self._full.due_s, self._stop.due_s
            )
        )

    # ------------------------------------------------------------------ texts

    @property
    def unreachable(self) -> str:
        """Why it cannot be polled, with its name; empty while its host answers."""
        return f"{self.label}: {self.silent}" if self.silent else ""

    @property
    def silent(self) -> str:
        """Why it cannot be polled, with its host; empty while that answers."""
        if self.watch.answering:
            return ""
        if self.watch.answering is None:
            return f"{self.where} was not polled yet"
        fault = self.watch.fault
        # Most messages of a host name it already.
        return fault if self.where in fault else f"{self.where}: {fault}"

    @property
    def odd(self) -> str:
        """What its host has that the run's readers would stumble on; empty if there is nothing.

        That is an entry with the name of a data file that is not one, such as a link, or one that the merger
        cannot read, or a folder whose path looks like a data file's.
        """
        seen = self.watch.seen if self.watch.answering else None
        if seen is None:
            return ""
        texts = [seen.polled.odd] if seen.polled.odd else []
        experiment = seen.next_run.experiment if seen.next_run is not None else ""
        path = f"{self.settings.staging or ''}/{experiment}"
        if spoils_the_search(path):
            texts.append(
                f"the merger takes every file in {path!r} for a data file, because its path has "
                "'CoBo<k>_AsAd<a>' or '.graw' in it: it will refuse the runs there"
            )
        return f"{self.label}: {self.where}: {'; '.join(texts)}" if texts else ""

    @property
    def wrong(self) -> dict[str, Wrong]:
        """What is wrong with it now, by cause, for the log and for the run history."""
        watch, judge = self.watch, self._flow_judge
        if watch.answering is False:
            # Reasons that differ only in limits and times are the same.
            kind = "" if watch.silent else re.sub(r"\d+", "", watch.fault)
            return {"host": Wrong("its host did not answer", self._unix("host", watch.asked_s), kind)}
        if watch.answering is None:
            return {}
        found: dict[str, Wrong] = {}
        if self.gone:
            found[ONLINE] = Wrong("its process was gone", self._unix("gone", self._gone.since_s))
        if self.flow is Flow.DEAD:
            cut = f", {self.why_cut}" if self.cut else ""
            found[f"{FLOW} Dead"] = Wrong(f"no data (Dead){cut}", self._unix("silent", judge.silent_since_s))
        if self.partial:
            return found
        if self.flow is Flow.LOW:
            found[f"{FLOW} Low"] = Wrong("few data (Low)", self._unix("low", judge.low_since_s))
        for level in range(1, self.disk_level + 1):
            found[f"{DISK_FREE} {level}"] = Wrong(
                f"less than {self._disk_limit_gb(level):g} GB free",
                self._unix(f"disk {level}", self._disk.since_s(level)),
                logged=level == self.disk_level,
            )
        return found

    def _unix(self, what: str, at_s: float | None, now_s: float | None = None) -> float:
        """Return the Unix time of a monotonic time; now where that is None.

        It is computed once: the two clocks drift, and one moment must not be reported as two.
        """
        if at_s is None:
            return time.time()
        known = self._times.get(what)
        if known is None or known[0] != at_s:
            ago_s = (time.monotonic() if now_s is None else now_s) - at_s
            known = self._times[what] = at_s, time.time() - ago_s
        return known[1]

    def _disk_limit_gb(self, level: int) -> float:
        return self._limits.disk_major_gb if level > 1 else self._limits.disk_minor_gb

    def why_wrong(self, cause: str, now_s: float) -> str:
        """Return the details of a cause of `wrong`, with the present figures."""
        part, polled = cause.split(" ")[0], self.polled
        text = self.why(part, now_s)
        if self.unreachable or polled is None:
            return text
        if cause == f"{FLOW} Low":
            return f"{text}: {self.rate / MEGABYTE:.2f} MB/s"
        if part == DISK_FREE:
            return f"{text}: {polled.disk_free_bytes / GIGABYTE:.1f} GB"
        return text

    @property
    def why_cut(self) -> str:
        """Why nothing of its boards is written while these are not connected to it any more."""
        if self.polled is not None and self.polled.process:
            return "it was restarted after its board was configured"
        return "its process was gone"

    def why(self, part: str, now_s: float) -> str:
        """Return why one of its PVs is in alarm; empty if it is not.

        The text has no changing figures: it is the value of a PV, and archivers store every change.
        """
        if self.unreachable:
            return f"data router {self.unreachable}"
        polled = self.polled
        if polled is None:
            return ""
        name = f"data router {self.label} on {self.where}"
        if part in (DISK_FREE, TIME_TO_FULL) and not self.partial and not self.knows_disk:
            return f"{name}: {DISK_UNKNOWN}" + (f" ({polled.note})" if polled.note else "")
        if part == ONLINE or (self.partial and part != FLOW):
            process = self.settings.program
            words = f"no process {process}" if process else "does not run"
            return f"{name}: {words}" + (f" ({polled.note})" if polled.note else "")
        if part == RESTARTED:
            return f"{name}: {NOTHING_WRITTEN}"
        if part == FLOW and self.flow is Flow.DEAD:
            since_s = self._flow_judge.silent_since_s
            silent = f" since {clock(self._unix('silent', since_s, now_s))}" if since_s is not None else ""
            return f"{name}: running without any data{silent}" + (f"; {self.why_cut}" if self.cut else "")
        if part == FLOW:
            return f"{name}: its rate is far below that of the other CoBos"
        if part == DISK_FREE and self.disk_level:
            return f"{name}: less than {self._disk_limit_gb(self.disk_level):g} GB free"
        if part == TIME_TO_FULL:
            limit = f"in less than {self._limits.full_minor_h:g} h"
            return f"{name}: its disk is full {'before the run ends' if self.full_level > 1 else limit}"
        return ""
