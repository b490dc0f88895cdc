"""Whether the boards are in step: judged from event numbers and from the times at the same event.

Nothing here reads a clock: times are arguments, in monotonic seconds. All boards get the same triggers, so
each event has the same number everywhere. Their newest events differ because of buffers; what tells is how
long a board needs to reach an event that the others have, and `eventTime` at the same event: its difference
between two boards is a constant of the set-up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from statistics import median_high

from attpc_ioc.model.names import Labelled
from attpc_plugins.data_routers.settings import EventsSettings
from attpc_plugins.data_routers.watch.flow import Delayed, earliest, rate_of

from .clocks import TICK_S, Clocks, Step
from .streams import Stream

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


_NOT_MERGED = (
    "its data from then on cannot be merged: stop the run, GoTo Idle, then GoTo Ready, and start the next run"
)
ADVICE = {
    Sync.BEHIND: "look at its Router:Flow_RBV and at the load of its host; if it does not catch up, stop the "
    "run and start the next one",
    Sync.OUT_OF_STEP: _NOT_MERGED,
    Sync.RESET: _NOT_MERGED,
    Sync.TORN: "the merger refuses this run as it is: look at the disk of its host, then stop the run and "
    "start the next one",
}
"""What to do in each state, as texts on screens say it once for all boards."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of one sender, why, and which it is, as in `Stream.board`; both empty where it is in step."""

    state: Sync
    why: str = ""
    board: str = ""
    states: frozenset[Sync] = field(default=frozenset(), compare=False)
    """Of several together: the states of all."""

    @property
    def rank(self) -> float:
        """How bad it is among others: unknown for a reason is worse than in step."""
        return Sync.IN_STEP + 0.5 if self.why and self.state is Sync.UNKNOWN else self.state

    @property
    def text(self) -> str:
        """Why, with the name of the board."""
        return f"{self.board}: {self.why}" if self.board else self.why


def text_of(verdict: Verdict, more: str = "", *, advised: bool) -> str:
    """Return the text of a verdict, another one, and what to do if it is to be `advised`."""
    states = verdict.states or {verdict.state}
    if verdict.state > Sync.BEHIND:
        states -= {Sync.BEHIND}  # what is to be done anyway is more
    advice = dict.fromkeys(ADVICE[state] for state in sorted(states) if advised and state in ADVICE)
    return " -- ".join(filter(None, ("; ".join(filter(None, (verdict.text, more))), "; ".join(advice))))


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst state, with the texts of all that are not in step; Unknown for none.

    The AsAd boards of one CoBo that are in the same state are named together, with the figures of the first.
    """
    found = sorted(verdicts, key=lambda verdict: -verdict.rank)
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
        text = f"{', '.join((first.board, *filter(None, asads)))}: {first.why}" if first.board else first.why
        if asads and first.board and first.state is Sync.TORN:
            text += f", and {len(asads)} more file{'s' * (len(asads) > 1)}"
        texts.append(text)
    states = frozenset(chain.from_iterable(verdict.states or (verdict.state,) for verdict in found))
    return Verdict(found[0].state, "; ".join(texts), states=states)


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

    def past_s(self, event: int) -> float | None:
        """Return since when most boards have been past an event; None if they are not."""
        return next((at_s for at_s, seen in self._seen if seen > event), None)

    def behind_s(self, now_s: float, event: int) -> float:
        """Return for how long most boards have been past an event; 0 if they are not."""
        at_s = self.past_s(event)
        return 0.0 if at_s is None else now_s - at_s


class SyncJudge:
    """Judges all senders of a run; make a new one for each run. `learned`, `steps`: see `Clocks`.

    The texts of its verdicts have no figures that change with each look: archivers store every change.
    """

    def __init__(
        self,
        settings: EventsSettings,
        learned: Mapping[str, int] | None = None,
        steps: Mapping[str, Step] | None = None,
    ) -> None:
        self._settings = settings
        self._lead = Lead(2 * settings.behind_s + 20.0)
        self._clocks = Clocks(settings.clock_us * 1e-6 / TICK_S, learned or {}, steps or {})
        self._noticed: dict[tuple[str, str], str] = {}
        """By sender and what is wrong with it: the text on it from when that was noticed."""
        self._last: dict[str, int] = {}
        self._shifted: dict[str, Delayed] = {}
        self._ends: dict[str, tuple[tuple[str, int], Delayed]] = {}
        """By sender: file and offset up to which there are whole frames, and how long more stands behind."""

    @property
    def lead(self) -> Lead:
        """How far most boards have come."""
        return self._lead

    @property
    def learned(self) -> Mapping[str, int]:
        """The differences of clocks, see `Clocks`."""
        return self._clocks.learned

    @property
    def steps(self) -> Mapping[str, Step]:
        """Where the senders that are out of step have begun to be, see `Clocks`."""
        return self._clocks.steps

    def judge(
        self, now_s: float, streams: Mapping[str, Stream], unseen: Collection[str] = ()
    ) -> dict[str, Verdict]:
        """Return the verdict on each sender; those `unseen` may have come further than is known."""
        begun = {sender: stream for sender, stream in streams.items() if stream.last >= 0}
        self._lead.see(now_s, (stream.last for sender, stream in begun.items() if sender not in unseen))
        steps = self._clocks.see({s: stream for s, stream in begun.items() if not stream.resets})
        found = {
            sender: self._of(now_s, stream, steps.get(sender), is_seen=sender not in unseen)
            for sender, stream in streams.items()
        }
        self._last = {sender: stream.last for sender, stream in begun.items()}
        return found

    def due_s(self, now_s: float, streams: Sequence[Stream]) -> float | None:
        """Return when the verdict on a board's senders changes if nothing of them comes; None if it does not.

        Without a stream it is that on a board of which no frame has come.
        """
        past_s = [self._lead.past_s(last) for last in [stream.last for stream in streams] or [-1]]
        times = [at_s + self._settings.behind_s for at_s in past_s if at_s is not None]
        known = [stream.sender for stream in streams if stream.sender in self._ends]
        delays = [self._ends[sender][1] for sender in known]
        delays += [self._shifted[sender] for sender in known if sender in self._shifted]
        times += [delayed.due_s for delayed in delays if delayed.due_s is not None]
        return earliest(*(at_s for at_s in times if at_s > now_s))

    def silent(self, now_s: float, board: str) -> Verdict:
        """Return the verdict on a board of which no frame has come."""
        if self._lead.behind_s(now_s, -1) < self._settings.behind_s:
            return Verdict(Sync.UNKNOWN)
        text = f"no frame has come, the others have had some for over {self._settings.behind_s:g} s"
        return Verdict(Sync.BEHIND, text, board)

    def _of(self, now_s: float, stream: Stream, step: Step | None, *, is_seen: bool) -> Verdict:
        board, lead, limits = stream.board, self._lead, self._settings
        torn_end = self._stands(now_s, stream) and stream.torn_end
        if stream.torn:
            others = f" ({stream.torn} in all)" if stream.torn > 1 else ""
            return Verdict(Sync.TORN, f"torn frame in {stream.torn_at}{others}", board)
        if torn_end:
            return Verdict(Sync.TORN, f"torn frame at the end of {stream.torn_end}", board)
        if stream.resets:
            again = f" ({stream.resets} times in all)" if stream.resets > 1 else ""
            after = f" after event {stream.reset_at}" if stream.reset_at >= 0 else ""
            file = f"{stream.sender}_{stream.began}_0000.graw"
            return Verdict(
                Sync.RESET, f"its event counter was reset{after}, where {file} begins{again}", board
            )
        if out := self._out_of_step(now_s, stream, step):
            return Verdict(Sync.OUT_OF_STEP, out, board)
        if stream.last < 0:
            return self.silent(now_s, board)
        is_behind = is_seen and lead.behind_s(now_s, stream.last) >= limits.behind_s
        said = f"over {limits.behind_s:g} s behind the others since event {stream.last}"
        if text := self._first_said(stream, "behind", said if is_behind else ""):
            return Verdict(Sync.BEHIND, text, board)
        return Verdict(Sync.IN_STEP)

    def _stands(self, now_s: float, stream: Stream) -> bool:
        """Return whether what is no whole frame has been the end of its file for long."""
        place, end = (stream.name, stream.offset), self._ends.get(stream.sender)
        if end is None or end[0] != place:
            end = self._ends[stream.sender] = place, Delayed(self._settings.torn_after_s)
        return end[1].judge(now_s, stream.offset < stream.size)

    def _out_of_step(self, now_s: float, stream: Stream, step: Step | None) -> str:
        """Return why a sender is out of step; empty if it is not, or not for long enough."""
        lead, limits = self._lead, self._settings
        ahead = stream.last - lead.event
        most = max(AHEAD_EVENTS, 2 * lead.rate * limits.behind_s)
        # Its number has jumped. Where it gets ahead step by step, it is the others that are slow or stand.
        has_jumped = stream.last - self._last.get(stream.sender, -1) > most
        is_ahead = ahead > most and (has_jumped or (stream.sender, "ahead") in self._noticed)
        said = f"{ahead} events ahead of the others since event {stream.last}"
        text = self._first_said(stream, "ahead", said if is_ahead else "")
        if not text and step is not None:
            text = f"{step.text}; {step.cause.value}"
        delayed = self._shifted.setdefault(stream.sender, Delayed(limits.out_of_step_after_s))
        return text if delayed.judge(now_s, bool(text)) else ""

    def _first_said(self, stream: Stream, what: str, text: str) -> str:
        """Return the text on what is wrong with a sender from when that was noticed; empty if nothing is."""
        if not text:
            self._noticed.pop((stream.sender, what), None)
            return ""
        return self._noticed.setdefault((stream.sender, what), text)
