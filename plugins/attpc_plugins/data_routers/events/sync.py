"""Whether the boards are in step: judged from event numbers and from the times at the same event.

Nothing here reads a clock: times are arguments, in monotonic seconds. All boards get the same triggers, so
each event has the same number everywhere. Their newest events differ because of buffers; what tells is how
long a board needs to reach an event that the others have, and `eventTime` at the same event: its difference
between two boards is a constant of the set-up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median, median_high

from attpc_ioc.model.names import Labelled
from attpc_plugins.data_routers.settings import EventsSettings
from attpc_plugins.data_routers.watch.flow import Delayed, rate_of

from .streams import Stream

TICK_S = 1e-8
TICKS_MOST = 1 << 48
"""`eventTime` has 48 bits."""

AHEAD_EVENTS = 50
"""A board that is ahead by fewer events is not out of step, however slow the triggers are."""


class Sync(Labelled):
    """The values of `Router:Sync_RBV` and `Run:Sync_RBV`."""

    UNKNOWN = 0
    """No frames are looked at, or none has come."""
    IN_STEP = 1
    BEHIND = 2
    """It has not reached an event that the others had `behind_s` ago."""
    OUT_OF_STEP = 3
    """Its event numbers or its clock have changed against the others'."""
    RESET = 4
    """Its event numbers began anew in the run."""
    TORN = 5
    """A frame is in its file in part."""

    @property
    def label(self) -> str:
        """The word shown to people, such as `InStep`."""
        return "".join(word.capitalize() for word in self.name.split("_"))


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of one sender, why, and which it is, as in `Stream.board`; both empty where it is in step."""

    state: Sync
    why: str = ""
    board: str = ""

    @property
    def text(self) -> str:
        """Why, with the name of the board."""
        return f"{self.board}: {self.why}" if self.board else self.why


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst state, with the texts of all that are not in step; Unknown for none.

    The AsAd boards of one CoBo that are in the same state are named together, with the figures of the first.
    """
    found = sorted((verdict for verdict in verdicts), key=lambda verdict: -verdict.state)
    if not found:
        return Verdict(Sync.UNKNOWN)
    together: dict[tuple[object, ...], list[Verdict]] = {}
    for verdict in found:
        if verdict.why:
            cobo, _, asad = verdict.board.partition(" ")
            key = (verdict.state, cobo) if asad else (verdict.state, verdict.text)
            together.setdefault(key, []).append(verdict)
    texts = []
    for first, *others in together.values():
        asads = [other.board.partition(" ")[2] for other in others]
        texts.append(
            f"{', '.join((first.board, *filter(None, asads)))}: {first.why}" if first.board else first.why
        )
    return Verdict(found[0].state, "; ".join(texts))


class Lead:
    """How far most boards have come, and when they had come so far."""

    def __init__(self, kept_s: float) -> None:
        self._kept_s = kept_s
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, now_s: float, last: Iterable[int]) -> None:
        """Take the last event numbers of all senders that have any."""
        events = list(last)
        event = median_high(events) if events else -1
        if self._seen and event <= self._seen[-1][1]:
            return
        self._seen.append((now_s, event))
        while len(self._seen) > 2 and self._seen[1][0] < now_s - self._kept_s:
            self._seen.popleft()

    @property
    def event(self) -> int:
        """The event number that half of the senders have reached; -1 before the first."""
        return self._seen[-1][1] if self._seen else -1

    @property
    def rate(self) -> float:
        """Events a second, over what is kept."""
        return rate_of(self._seen)

    def behind_s(self, now_s: float, event: int) -> float:
        """Return for how long most boards have been past an event; 0 if they are not."""
        for at_s, seen in self._seen:
            if seen > event:
                return now_s - at_s
        return 0.0


class Clocks:
    """The differences of `eventTime` between the senders at the same event, learned once in a run.

    `learned` has them in ticks, by the two senders, `CoBo0_AsAd1 CoBo3_AsAd0`.
    """

    def __init__(self, learned: Mapping[str, int]) -> None:
        self.learned = dict(learned)

    def shifts(self, streams: Mapping[str, Stream]) -> dict[str, tuple[int, int]]:
        """Return by how many ticks each sender's time has changed against most, and at which event.

        Only senders are in it that have an event in common with the reference. The reference may be the one
        that has changed: then it is the others' change that is common, so the median is subtracted.
        """
        reference = min(
            (stream for stream in streams.values() if stream.samples),
            key=lambda stream: (stream.is_cobo, stream.sender),
            default=None,
        )
        if reference is None:
            return {}
        times = dict(reference.samples)
        changes = {reference.sender: (0, reference.samples[-1][0])}
        for stream in streams.values():
            common = [(event, ticks) for event, ticks in stream.samples if event in times]
            if stream.sender == reference.sender or not common:
                continue
            pair = f"{reference.sender} {stream.sender}"
            if pair not in self.learned:
                event, ticks = common[0]
                self.learned[pair] = _signed(ticks - times[event])
            event, ticks = common[-1]
            changes[stream.sender] = _signed(ticks - times[event] - self.learned[pair]), event
        middle = int(median([change for change, _ in changes.values()]))
        return {sender: (change - middle, event) for sender, (change, event) in changes.items()}


def _signed(ticks: int) -> int:
    """Return a difference of two 48-bit times."""
    half = TICKS_MOST // 2
    return (ticks + half) % TICKS_MOST - half


class SyncJudge:
    """Judges all senders of a run; make a new one for each run. `learned`: what is known, see `Clocks`."""

    def __init__(self, settings: EventsSettings, learned: Mapping[str, int] | None = None) -> None:
        self._settings = settings
        self._lead = Lead(2 * settings.behind_s + 20.0)
        self._clocks = Clocks(learned or {})
        self._shifted: dict[str, Delayed] = {}
        self._torn: dict[str, Delayed] = {}

    @property
    def lead(self) -> Lead:
        """How far most boards have come."""
        return self._lead

    @property
    def learned(self) -> Mapping[str, int]:
        """The differences of clocks, see `Clocks`."""
        return self._clocks.learned

    def judge(self, now_s: float, streams: Mapping[str, Stream]) -> dict[str, Verdict]:
        """Return the verdict on each sender."""
        begun = {sender: stream for sender, stream in streams.items() if stream.last >= 0}
        self._lead.see(now_s, (stream.last for stream in begun.values()))
        shifts = self._clocks.shifts({s: stream for s, stream in begun.items() if not stream.resets})
        return {sender: self._of(now_s, stream, shifts.get(sender)) for sender, stream in streams.items()}

    def silent(self, now_s: float, board: str) -> Verdict:
        """Return the verdict on a board of which no frame has come."""
        if self._lead.behind_s(now_s, -1) < self._settings.behind_s:
            return Verdict(Sync.UNKNOWN)
        return Verdict(Sync.BEHIND, f"no frame has come, the others are at event {self._lead.event}", board)

    def _of(self, now_s: float, stream: Stream, shift: tuple[int, int] | None) -> Verdict:
        board, lead, limits = stream.board, self._lead, self._settings
        torn_end = self._torn.setdefault(stream.sender, Delayed(limits.torn_after_s)).judge(
            now_s, bool(stream.torn_end)
        )
        if stream.torn:
            others = f" ({stream.torn} in all)" if stream.torn > 1 else ""
            return Verdict(Sync.TORN, f"torn frame in {stream.torn_at}{others}", board)
        if torn_end:
            return Verdict(Sync.TORN, f"torn frame at the end of {stream.torn_end}", board)
        if stream.resets:
            again = f" ({stream.resets} times in all)" if stream.resets > 1 else ""
            return Verdict(
                Sync.RESET, f"its event counter was reset after event {stream.reset_at}{again}", board
            )
        if out := self._out_of_step(now_s, stream, shift):
            return Verdict(Sync.OUT_OF_STEP, out, board)
        if stream.last < 0:
            return self.silent(now_s, board)
        if lead.behind_s(now_s, stream.last) >= limits.behind_s:
            events = _rounded(lead.event - stream.last)
            return Verdict(Sync.BEHIND, f"at event {stream.last}, over {events} behind the others", board)
        return Verdict(Sync.IN_STEP)

    def _out_of_step(self, now_s: float, stream: Stream, shift: tuple[int, int] | None) -> str:
        """Return why a sender is out of step; empty if it is not, or not for long enough."""
        lead, limits = self._lead, self._settings
        ahead = stream.last - lead.event
        ticks, event = shift if shift is not None else (0, 0)
        text = ""
        if ahead > max(AHEAD_EVENTS, 2 * lead.rate * limits.behind_s):
            text = f"at event {stream.last}, {ahead} events ahead of the others"
        elif abs(ticks) * TICK_S * 1e6 > limits.clock_us:
            later = "later" if ticks > 0 else "earlier"
            text = (
                f"event {event} came {_time_text(abs(ticks))} {later} than at the other boards, and did not "
                "before: its event numbers or its clock have changed"
            )
        delayed = self._shifted.setdefault(stream.sender, Delayed(limits.out_of_step_after_s))
        return text if delayed.judge(now_s, bool(text)) else ""


def _rounded(events: int) -> int:
    """Return a number below, of one digit and noughts: a text with it does not change with each look."""
    scale = 10 ** (len(str(events)) - 1)
    return (events - 1) // scale * scale if events > scale else events - 1


def _time_text(ticks: int) -> str:
    seconds = ticks * TICK_S
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.4g} {unit}"
    return f"{ticks * 10} ns"
