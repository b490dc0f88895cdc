"""The figures of a data source and of the run, from the frames of their senders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from .missing import NOT_MISSING, Missing
from .streams import Stream
from .sync import Sync, Verdict, worst


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """The figures of one data source, of all its senders together.

    `first` and `last` are event numbers, -1 without a frame: the first of the run of any sender, the last of
    any; `all` is the last that every sender has, counted on over resets. `rate` is in events a second, `lack`
    the alarm of the missing events.
    """

    first: int
    last: int
    all: int
    rate: float
    streams: int
    missing: int
    missing_percent: float
    resets: int
    verdict: Verdict
    lack: Missing = NOT_MISSING

    @classmethod
    def of(
        cls, streams: Sequence[Stream], rate: float, verdict: Verdict, lack: Missing = NOT_MISSING
    ) -> SourceFigures:
        """Return the figures of these senders."""
        begun = [stream for stream in streams if stream.last >= 0]
        return cls(
            first=min((stream.begin for stream in begun), default=-1),
            last=max((stream.last for stream in begun), default=-1),
            all=min((stream.reached for stream in streams), default=-1),
            rate=rate if begun else 0.0,
            streams=len(streams),
            missing=sum(stream.missing for stream in streams),
            missing_percent=max((stream.missing_percent for stream in streams), default=0.0),
            resets=sum(stream.resets for stream in streams),
            verdict=verdict,
            lack=lack,
        )


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The figures of the run: `events` is the number of those that every member has.

    `missing_level` is the level of the alarm of `missing_percent`, 0, 1 or 2; `triggers` are the MuTAnT's
    counts, empty before its first frame.
    """

    events: int = 0
    rate: float = 0.0
    missing_percent: float = 0.0
    missing_level: int = 0
    verdict: Verdict = Verdict(Sync.UNKNOWN)
    triggers: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, members: Sequence[SourceFigures], triggers: tuple[int, ...] = (), *, unread: int = 0
    ) -> RunFigures:
        """Return the figures of all members of the run together.

        `unread`: of so many boards nothing is known, so that they cannot be said to be in step.
        """
        if not members:
            return cls()
        verdict = worst(member.verdict for member in members)
        if unread and verdict.state is Sync.IN_STEP:
            read = sum(member.verdict.state is Sync.IN_STEP for member in members)
            how = "are in step" if read > 1 else "is read, so that nothing is compared"
            verdict = Verdict(Sync.UNKNOWN, f"{read} of {read + unread} boards {how}")
        first = min((member.first for member in members if member.first >= 0), default=0)
        return cls(
            events=max(0, min(member.all for member in members) - first + 1),
            rate=median(member.rate for member in members),
            missing_percent=max(member.missing_percent for member in members),
            verdict=verdict,
            triggers=triggers,
        )
