"""Compares the senders of a closed run: whether all have the same events, and whether these came together.

Each board gets the same triggers, so an event has the same number everywhere; at a stop the MuTAnT is stopped
first, so the last event is the same too. Nothing here reads a clock or a file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, takewhile
from statistics import median_high, median_low

from attpc_plugins.data_routers.events.clocks import TICK_S, Changes, Step, changes_of, signed
from attpc_plugins.data_routers.events.streams import Stream
from attpc_plugins.data_routers.hosts.frames import Piece
from attpc_plugins.data_routers.settings import EventsSettings

from .figures import counted
from .manifest import StreamFrames

STOP_S = 1.0
"""A stop that boards get one after the other leaves those of this time without the last events."""

SAMPLES_KEPT = 8192
"""The most events of a sender whose times are compared."""
STEP_MOST = 1 << 32
"""Event numbers are smaller."""

Gap = tuple[int, int]
"""The first event number that is left out, and how many are."""


@dataclass(slots=True)
class Trail:
    """What a look at all frames of one sender has found: `samples` and `gaps` as in `Piece`.

    `gaps` may be the first ones of each piece only; samples are of events whose number is a multiple of
    `step`, a power of two.
    """

    samples: list[tuple[int, int]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    step: int = 1

    def take(self, piece: Piece, last: int) -> None:
        """Take a piece; `last`: the event number before it, -1 if there is none."""
        self.samples += [sample for sample in piece.samples if not sample[0] % self.step]
        while len(self.samples) > SAMPLES_KEPT and self.step < STEP_MOST:
            self.step *= 2
            self.samples = [sample for sample in self.samples if not sample[0] % self.step]
        if piece.frames and 0 <= last < piece.first - 1:
            self.gaps.append((last + 1, piece.first - last - 1))
        self.gaps += piece.gaps


class Trails:
    """The trails of all senders of some files, by sender."""

    def __init__(self) -> None:
        self.by_sender: dict[str, Trail] = {}

    def take(self, sender: str, piece: Piece, last: int) -> None:
        """Take a piece of a sender's files, see `Trail.take`."""
        self.by_sender.setdefault(sender, Trail()).take(piece, last)


@dataclass(frozen=True, slots=True)
class Departure:
    """How a sender differs from most others; not `bad`: within what is normal."""

    sender: str
    what: str
    bad: bool = True

    @property
    def text(self) -> str:
        """Who, and how."""
        return f"{self.sender}: {self.what}"


def compare(
    streams: Sequence[StreamFrames],
    settings: EventsSettings,
    trails: Mapping[str, Trail] | None = None,
    rate_hz: float = 0.0,
) -> list[Departure]:
    """Return how senders differ from most others, in the order of `streams`.

    A sender whose numbers go back or begin anew is not compared. Without `trails` neither gaps nor clocks
    are; `rate_hz` are the run's events in a second, 0 if that is not known, where the trails do not say it.
    """
    trails = trails or {}
    whole = [stream for stream in streams if stream.first >= 0 and not (stream.resets or stream.back)]
    if not whole:
        return []
    first = _usual([stream.first for stream in whole], min)
    last = _usual([stream.last for stream in whole], max)
    rate_hz = _rate(trails) or rate_hz
    steps = _steps(whole, settings, trails)
    gaps = _Gaps(whole, trails)
    found: list[Departure] = []
    for stream in streams:
        sender = stream.sender
        if stream.first < 0:
            if len(whole) > 1 or sender != whole[0].sender:
                found.append(Departure(sender, f"no frame, the others have events {first} to {last}"))
            continue
        if stream not in whole:
            continue
        if stream.first != first:
            how = _amount(abs(stream.first - first), "fewer" if stream.first > first else "more")
            found.append(
                Departure(sender, f"begins with event {stream.first}, the others with {first}: {how}")
            )
        if (short := last - stream.last) and abs(short) > STOP_S * rate_hz:
            how = _amount(abs(short), "fewer" if short > 0 else "more")
            time = f", some {abs(short) / rate_hz:.3g} s" if rate_hz else ""
            found.append(
                Departure(sender, f"ends with event {stream.last}, the others with {last}: {how}{time}")
            )
        if sender in gaps.lacking:
            found.append(gaps.departure(stream, settings.missing_minor_percent))
        found += [Departure(sender, text) for text in steps.get(sender, ())]
    return found


def rate_of(streams: Sequence[StreamFrames], started_s: float | None, stopped_s: float | None) -> float:
    """Return the events in a second of a run between two Unix times; 0 if that is not known."""
    span_s = 0.0 if started_s is None or stopped_s is None else stopped_s - started_s
    return max((stream.last for stream in streams), default=0) / span_s if span_s > 0 else 0.0


def _usual(values: Sequence[int], best: Callable[[list[int]], int]) -> int:
    """Return the value that most have; of several the `best`."""
    counts = Counter(values).most_common()
    return best([value for value, _ in takewhile(lambda one: one[1] == counts[0][1], counts)])


def _amount(count: int, word: str) -> str:
    return f"{counted(count, 'event')} {word}"


def _rate(trails: Mapping[str, Trail]) -> float:
    """Return the events in a second of the sender with the longest trail; 0 if that is not known."""
    spans = [(trail.samples[0], trail.samples[-1]) for trail in trails.values() if len(trail.samples) > 1]
    begin, end = max(spans, key=lambda span: span[1][0] - span[0][0], default=((0, 0), (0, 0)))
    ticks = signed(end[1] - begin[1])
    return max(0, end[0] - begin[0]) / (ticks * TICK_S) if ticks > 0 else 0.0


def _steps(
    whole: Sequence[StreamFrames], settings: EventsSettings, trails: Mapping[str, Trail]
) -> dict[str, list[str]]:
    """Return which senders' clocks or event numbers have changed against the others', and where.

    Only events are compared that most boards have among their samples. The AsAd boards of a CoBo have one
    clock, so together they count as one.
    """
    seen = {
        stream.sender: Stream(stream.sender, samples=tuple(trails[stream.sender].samples))
        for stream in whole
        if stream.sender in trails
    }
    changes = changes_of(seen, {})
    boards = {sender: sender.partition("_")[0] for sender in changes}
    at: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for sender, own in changes.items():
        for event, change in own:
            at[event].setdefault(boards[sender], change)
    most = len(set(boards.values())) / 2
    middles = {event: _middle(found.values()) for event, found in at.items() if len(found) > most}
    limit = settings.clock_us * 1e-6 / TICK_S
    found = {
        sender: _step_texts(
            [(event, change - middles[event]) for event, change in own if event in middles], limit
        )
        for sender, own in changes.items()
    }
    return {sender: texts for sender, texts in found.items() if texts}


def _middle(changes: Collection[int]) -> int:
    """Return the change of most boards; of an even number the one that is nearer to the reference's, 0."""
    return min(median_low(changes), median_high(changes), key=abs)


def _step_texts(own: Changes, limit: float) -> list[str]:
    """Return where a sender's changes against the others' are above a limit: where it came back, and last."""
    spans = [(off, list(span)) for off, span in groupby(own, lambda change: abs(change[1]) > limit)]
    texts: list[str] = []
    returned = 0
    for index, (off, span) in enumerate(spans):
        if not off:
            continue
        step = Step(*span[0], spans[index - 1][1][-1][0] if index else -1)
        if index == len(spans) - 1:
            texts.append(step.text)
        else:
            returned += 1
            if returned == 1:
                texts.append(step.text_until(span[-1][0], spans[index + 1][1][0][0]))
    if returned > 1:
        texts[0] += f"; {returned} times in all"
    return texts


class _Gaps:
    """The events that a sender lacks and another has: `lacking` has their number and the first, by sender."""

    def __init__(self, whole: Sequence[StreamFrames], trails: Mapping[str, Trail]) -> None:
        own = {stream.sender: trails[stream.sender].gaps for stream in whole if stream.sender in trails}
        self._counted = all(
            stream.missing == sum(count for _, count in own.get(stream.sender, ())) for stream in whole
        )
        common = _common([own.get(stream.sender, []) for stream in whole])
        shared = sum(count for _, count in common)
        self.lacking: dict[str, tuple[int, int]] = {}
        for stream in whole:
            first = _first_outside(own.get(stream.sender, []), common)
            if first is not None:
                self.lacking[stream.sender] = ((stream.missing or 0) - shared, first)

    def departure(self, stream: StreamFrames, limit_percent: float) -> Departure:
        """Return how a sender departs; more than `limit_percent` of its events are bad."""
        count, first = self.lacking[stream.sender]
        up_to = "" if self._counted else "up to "
        events = f"{counted(count, 'event')} that others have"
        bad = count > limit_percent / 100 * (count + (stream.frames or 0))
        return Departure(stream.sender, f"lacks {up_to}{events}, the first is event {first}", bad)


def _common(all_gaps: Sequence[Sequence[Gap]]) -> list[Gap]:
    """Return what is in all of these lists, each of which is in order."""
    common = list(all_gaps[0])
    for gaps in all_gaps[1:]:
        both: list[Gap] = []
        one, other = 0, 0
        while one < len(common) and other < len(gaps):
            (begin, count), (begin_2, count_2) = common[one], gaps[other]
            start, end = max(begin, begin_2), min(begin + count, begin_2 + count_2)
            if start < end:
                both.append((start, end - start))
            if begin + count <= begin_2 + count_2:
                one += 1
            else:
                other += 1
        common = both
    return common


def _first_outside(gaps: Sequence[Gap], common: Sequence[Gap]) -> int | None:
    """Return the first number of some gaps that is in none of the common ones, which are parts of them."""
    left = iter(common)
    part = next(left, None)
    for begin, count in gaps:
        at = begin
        while part is not None and part[0] == at and at < begin + count:
            at += part[1]
            part = next(left, None)
        if at < begin + count:
            return at
    return None
