"""Evaluates what a router's host reports: bytes of the run, rates, and alarm conditions.

Nothing here reads a clock, a file or the network: times are arguments, in monotonic seconds. Where a
condition becomes an alarm by time alone, `due_s` is that time, so that the host is polled then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from attpc_ioc.model import outside
from attpc_ioc.model.names import Labelled
from attpc_ioc.model.run import RunRef

NEVER_FULL_H = 9999.0
"""The largest shown time to full, also for a disk that does not fill."""


class Flow(Labelled):
    """The values of `Router:Flow_RBV`."""

    IDLE = 0
    """No run, or no data yet."""
    FLOWING = 1
    LOW = 2
    """Much less than from the other CoBos."""
    DEAD = 3
    """Running without a byte for `limits.dead_after_s`, or the router is known to get none."""


class Delayed:
    """Whether a condition has held for some seconds, evaluated at each call of `judge`."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self.since_s: float | None = None
        """Since when it holds; None while it does not."""
        self.due_s: float | None = None
        """When it will have held long enough; None while it does not hold or already has."""

    def judge(self, now_s: float, holds: bool) -> bool:
        """Return whether it has held long enough; the end takes effect at once."""
        if not holds:
            self.since_s = self.due_s = None
            return False
        if self.since_s is None:
            self.since_s = now_s
        end_s = self.since_s + self._after_s
        reached = now_s >= end_s
        self.due_s = None if reached else end_s
        return reached


class DelayedLevel:
    """An alarm with two levels, 1 and 2, each of which must hold for some seconds."""

    def __init__(self, after_s: float) -> None:
        self._minor = Delayed(after_s)
        self._major = Delayed(after_s)

    def judge(self, now_s: float, level: int) -> int:
        """Return the level that has held long enough: 0, 1 or 2."""
        minor, major = self._minor.judge(now_s, level >= 1), self._major.judge(now_s, level >= 2)
        return 2 if major else int(minor)

    def since_s(self, level: int) -> float | None:
        """Since when it is at this level, 1 or 2, or above; None while it is not."""
        return (self._major if level > 1 else self._minor).since_s

    @property
    def due_s(self) -> float | None:
        """When the next level will be reached; None where none will."""
        return earliest(self._minor.due_s, self._major.due_s)


def earliest(*times_s: float | None) -> float | None:
    """Return the earliest of some times; None where there is none."""
    return min((time_s for time_s in times_s if time_s is not None), default=None)


@dataclass(frozen=True, slots=True)
class Count:
    """Files and bytes of a staging folder."""

    files: int = 0
    data_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """A staging folder's files: all of them, and those of runs that have ended, by the names."""

    total: Count
    of: Mapping[RunRef, Count]

    @property
    def known(self) -> Count:
        """The files of runs that have ended: they are no strays."""
        return Count(
            sum(count.files for count in self.of.values()),
            sum(count.data_bytes for count in self.of.values()),
        )

    def without(self, known: Count) -> Count:
        """Return the count of all other files than these."""
        return Count(self.total.files - known.files, self.total.data_bytes - known.data_bytes)

    def for_run(self, run: RunRef | None) -> Count:
        """Return the count of all files that are not known to be of another run."""
        own = self.of.get(run, Count()) if run is not None else Count()
        known = self.known
        return self.without(Count(known.files - own.files, known.data_bytes - own.data_bytes))


class Meter:
    """What a router has written in the current or the last run, from polls of its folder.

    Only growth counts, so files from before the run and files that shrink or vanish make nothing negative.
    Counting goes on after the run, because routers buffer data for tens of seconds, until files vanish
    (they were moved) or none has grown for `quiet_s`.
    """

    def __init__(self, window_s: float, quiet_s: float) -> None:
        self._window_s = window_s
        self._quiet_s = quiet_s
        self._counting = False
        self._resumed = False
        self._stopped_s: float | None = None
        self._last: Count | None = None
        self._samples: deque[tuple[float, int]] = deque()
        self.written = Count()
        """Files and bytes of the run."""
        self.grew_s: float | None = None
        """When bytes of the run were last added; None before the first."""

    @property
    def last(self) -> Count | None:
        """The contents of the folder at the last poll; None before the first."""
        return self._last

    def start(self, now_s: float, known: Count | None = None) -> Count | None:
        """Begin a run. Returns the last counts, which are not of the run; keep them for `resume`.

        `known`: the last counts, without files of runs that have ended, which are not counted from now on.
        """
        self._last = known or self._last
        self.written = Count()
        self.grew_s = None
        self._counting, self._resumed, self._stopped_s = True, False, None
        self._samples.clear()
        self._samples.append((now_s, 0))
        return self._last

    def resume(self, now_s: float, before: Count) -> None:
        """Continue a run after a restart; `before` was in the folder when the run began.

        What the next poll finds counts as written but not for the rate, because its time is not known.
        """
        self.start(now_s)
        self._last, self._resumed = before, True

    def stop(self, now_s: float) -> None:
        """End the run; late data still counts."""
        if self._counting and self._stopped_s is None:
            self._stopped_s = now_s

    def settle(self, written: Count) -> None:
        """Take the counts of the run's closing, which are final."""
        if self._stopped_s is not None:
            self.written = written
            self._end()

    def take(self, now_s: float, seen: Count) -> None:
        """Take the result of a poll."""
        last, self._last = self._last, seen
        if not self._counting:
            return
        before = last or seen
        grown = max(0, seen.data_bytes - before.data_bytes)
        if self._stopped_s is not None and seen.files < before.files:
            # A sentry reports the bytes that a process has written: the last ones come with this poll.
            self.written = self._more(0, grown)
            self._end()
            return
        new = max(0, seen.files - before.files)
        self.written = self._more(new, grown)
        if self._resumed:
            self._resumed = False
            self._samples.clear()
        elif grown:
            self.grew_s = now_s
        self._samples.append((now_s, self.written.data_bytes))
        while len(self._samples) > 2 and self._samples[1][0] <= now_s - self._window_s:
            self._samples.popleft()
        if self._stopped_s is not None and now_s - max(self._stopped_s, self.grew_s or 0.0) > self._quiet_s:
            self._end()

    def _more(self, files: int, data_bytes: int) -> Count:
        # A host that reports large and small values in turn makes this grow without end.
        return Count(
            min(self.written.files + files, outside.MOST_SHOWN),
            min(self.written.data_bytes + data_bytes, outside.MOST),
        )

    def _end(self) -> None:
        self._counting = False
        self._samples.clear()

    @property
    def rate(self) -> float:
        """Bytes a second over the window; 0 while not counting. Never negative."""
        return rate_of(self._samples)


class FlowJudge:
    """Evaluates the flow of one router: `Idle`, `Flowing`, `Low` or `Dead`."""

    def __init__(self, dead_after_s: float, low_after_s: float) -> None:
        self._dead_after_s = dead_after_s
        self._low = Delayed(low_after_s)
        self._running_since_s: float | None = None
        self.silent_since_s: float | None = None
        """Since when no byte has come in the run; None while none is expected."""
        self.due_s: float | None = None
        """When the flow changes by time alone; None where it does not."""

    @property
    def low_since_s(self) -> float | None:
        """Since when the rate is far below the others'; None while it is not."""
        return self._low.since_s

    def judge(
        self, now_s: float, *, running: bool, grew_s: float | None, low: bool, cut: bool = False
    ) -> Flow:
        """Return the flow.

        `running`: data are expected; `grew_s`: when bytes of this run last came; `low`: its rate is far below
        the others'; `cut`: no data can come any more.
        """
        if not running:
            self._running_since_s = self.silent_since_s = self.due_s = None
            self._low.judge(now_s, False)
            return Flow.IDLE
        if self._running_since_s is None:
            self._running_since_s = now_s
        since_s = self.silent_since_s = max(self._running_since_s, grew_s or self._running_since_s)
        dead_s = since_s + self._dead_after_s
        if cut or now_s >= dead_s:
            self._low.judge(now_s, False)
            self.due_s = None
            return Flow.DEAD
        is_low = self._low.judge(now_s, low and grew_s is not None)
        self.due_s = earliest(dead_s, self._low.due_s)
        if grew_s is None:
            return Flow.IDLE
        return Flow.LOW if is_low else Flow.FLOWING


def rate_of(samples: Sequence[tuple[float, int]]) -> float:
    """Return how much a count has risen a second; `samples` are of time and count, the oldest first."""
    if len(samples) < 2:
        return 0.0
    (first_s, first), (last_s, last) = samples[0], samples[-1]
    return (last - first) / (last_s - first_s) if last_s > first_s else 0.0


def far_below(rate: float, others: Sequence[float], ratio: float) -> bool:
    """Return whether a rate is below this fraction of the median of the others; False without others."""
    return bool(others) and rate < ratio * median(others)


def hours_to_full(free_bytes: int, bytes_per_s: float) -> float:
    """Return the hours until a disk is full, at most `NEVER_FULL_H`."""
    if bytes_per_s <= 0:
        return NEVER_FULL_H
    return min(NEVER_FULL_H, max(0, free_bytes) / bytes_per_s / 3600.0)


def full_level(hours: float, minor_h: float, remaining_s: float | None) -> int:
    """Return 2 where the disk is full before the run ends, 1 below `minor_h`, else 0.

    `remaining_s` is None where the run has no maximum duration, or no run is on.
    """
    if hours >= NEVER_FULL_H:
        return 0
    if remaining_s is not None and hours * 3600.0 < remaining_s:
        return 2
    return int(hours < minor_h)


def below_level(value: float, minor: float, major: float) -> int:
    """Return 2 where a value is at or below `major`, 1 at or below `minor`, else 0."""
    return 2 if value <= major else int(value <= minor)
