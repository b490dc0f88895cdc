"""The clocks of the senders of a run against each other, from `eventTime` at the same event."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from statistics import median

from .streams import Stream

TICK_S = 1e-8
TICKS_MOST = 1 << 48
"""`eventTime` has 48 bits."""

Changes = Sequence[tuple[int, int]]
"""Events and, at each, the change of a time difference in ticks, in the order of events."""


JUDGED_LEAST = 4
"""So many events tell what has changed."""


class Cause(StrEnum):
    """What has changed where a sender's time has left that of the others."""

    UNKNOWN = "its event numbers or its clock have changed"
    NUMBERS = "its event numbers have slipped"
    CLOCK = "its clock has jumped"


@dataclass(frozen=True, slots=True)
class Step:
    """Where a sender's time has left that of most others.

    `event`: the first that was compared at which it differed, by `ticks`; `agreed`: the last one before at
    which it did not, -1 if that is not known. `cause`: as far as it can be known.
    """

    event: int
    ticks: int
    agreed: int = -1
    cause: Cause = Cause.UNKNOWN

    @property
    def text(self) -> str:
        """Since when, and by how much."""
        before = f", in step at event {self.agreed}" if self.agreed >= 0 else ""
        return (
            f"out of step since event {self.event} at the latest{before}: event {self.event} came "
            f"{self._amount} than at the other boards"
        )

    def text_until(self, last: int, again: int) -> str:
        """Return from when to when, and by how much, where it is in step again.

        `last`: the last event that was compared at which it differed; `again`: the next one.
        """
        events = f"at event {last}" if self.event == last else f"from event {self.event} to {last}"
        in_step = f"events {self.agreed} and {again}" if self.agreed >= 0 else f"event {again}"
        return (
            f"out of step {events}, in step at {in_step}: event {self.event} came {self._amount} "
            "than at the other boards"
        )

    @property
    def _amount(self) -> str:
        return f"{_time_text(abs(self.ticks))} {'later' if self.ticks > 0 else 'earlier'}"


class Clocks:
    """The differences of `eventTime` between the senders at the same event, learned once in a run.

    `learned` has them in ticks, by the two senders, `CoBo0_AsAd1 CoBo3_AsAd0`; `steps`, by sender, where
    those have begun that are out of step. Up to `limit` ticks a change is none.
    """

    def __init__(self, limit: float, learned: Mapping[str, int], steps: Mapping[str, Step]) -> None:
        self._limit = limit
        self.learned = dict(learned)
        self.steps = dict(steps)
        self._agreed: dict[str, tuple[int, int]] = {}
        """By sender: the last compared event at which it was in step, and the events missing by then."""

    def see(self, streams: Mapping[str, Stream]) -> dict[str, Step]:
        """Return which senders' times differ now from most others', and since which event.

        Only senders are compared that have an event in common with the reference. The reference may be the
        one that has changed: then it is the others' change that is common, so the median is subtracted.
        """
        changes = changes_of(streams, self.learned)
        if len(changes) < 2:
            return {}
        middle = int(median([own[-1][1] for own in changes.values()]))
        found: dict[str, Step] = {}
        for sender, own in changes.items():
            event, change = own[-1]
            if abs(change - middle) <= self._limit:
                self._agreed[sender] = event, streams[sender].missing
                self.steps.pop(sender, None)
            else:
                step = self.steps.get(sender) or self._began(sender, changes, middle)
                if step.cause is Cause.UNKNOWN:
                    step = replace(step, cause=self._cause(streams[sender], step, changes))
                found[sender] = self.steps[sender] = step
        return found

    def _began(self, sender: str, changes: Mapping[str, Changes], middle: int) -> Step:
        """Return where a sender that differs now began to, as far back as samples go."""
        own = changes[sender]
        event, ticks = own[-1][0], own[-1][1] - middle
        for earlier, change in reversed(own[:-1]):
            off = change - int(median(_at(other, earlier) for other in changes.values()))
            if abs(off) <= self._limit:
                return Step(event, ticks, earlier)
            event, ticks = earlier, off
        agreed, _ = self._agreed.get(sender, (-1, 0))
        return Step(event, ticks, agreed if agreed < event else -1)

    def _cause(self, stream: Stream, step: Step, changes: Mapping[str, Changes]) -> Cause:
        """Return what has changed, by the events since: a clock that has jumped differs by the same at each.

        Event numbers that have slipped are at the times of other triggers, so that they differ by another
        time at each event, unless triggers come evenly: then by a multiple of the time between them. If
        they are too high by that, numbers were left out.
        """
        offs = [
            change - int(median(_at(other, event) for other in changes.values()))
            for event, change in changes[stream.sender]
            if event >= step.event
        ]
        if len(offs) < JUDGED_LEAST:
            return Cause.UNKNOWN
        if max(offs) - min(offs) > 2 * self._limit:
            # A clock that runs at another speed rises or falls all the time.
            return Cause.UNKNOWN if offs in (sorted(offs), sorted(offs, reverse=True)) else Cause.NUMBERS
        spaces = [
            signed(ticks - before) / (event - last)
            for (last, before), (event, ticks) in pairwise(stream.samples)
        ]
        space = median(spaces)
        # One of them has the step in it.
        even = space > 0 and sum(abs(one - space) > space / 100 for one in spaces) <= 1
        slipped = round(step.ticks / space) if even else 0
        if not slipped or abs(step.ticks - space * slipped) > max(2 * self._limit, space / 100):
            return Cause.CLOCK
        if slipped > 0 or stream.sender not in self._agreed:
            return Cause.UNKNOWN
        return Cause.NUMBERS if stream.missing > self._agreed[stream.sender][1] else Cause.CLOCK


def changes_of(streams: Mapping[str, Stream], learned: dict[str, int]) -> dict[str, Changes]:
    """Return the changes of each sender against the reference, which is one of them, with none.

    `learned`: see `Clocks`; what is not known yet is added.
    """
    reference = min(
        (stream for stream in streams.values() if stream.samples),
        key=lambda stream: (stream.is_cobo, stream.sender),
        default=None,
    )
    if reference is None:
        return {}
    times = dict(reference.samples)
    changes: dict[str, Changes] = {reference.sender: [(event, 0) for event, _ in reference.samples]}
    for stream in streams.values():
        common = [(event, ticks - times[event]) for event, ticks in stream.samples if event in times]
        if stream.sender != reference.sender and common:
            known = learned.setdefault(f"{reference.sender} {stream.sender}", signed(common[0][1]))
            changes[stream.sender] = [(event, signed(ticks - known)) for event, ticks in common]
    return changes


def _at(changes: Changes, event: int) -> int:
    """Return the change at the last event that is not after another; at the first one if all are."""
    return changes[max(0, bisect_right(changes, event, key=lambda change: change[0]) - 1)][1]


def signed(ticks: int) -> int:
    """Return a difference of two 48-bit times."""
    half = TICKS_MOST // 2
    return (ticks + half) % TICKS_MOST - half


def _time_text(ticks: int) -> str:
    seconds = ticks * TICK_S
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.4g} {unit}"
    return f"{ticks * 10} ns"
