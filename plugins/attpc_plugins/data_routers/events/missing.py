"""Whether too many events are missing in the frames of a sender.

Nothing here reads a clock: times are arguments, in monotonic seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attpc_plugins.data_routers.settings import EventsSettings
from attpc_plugins.data_routers.watch.flow import DelayedLevel, earliest

from .streams import Stream


@dataclass(frozen=True, slots=True)
class Missing:
    """The level of an alarm, 0, 1 or 2, with its reason, and the board it is of, as in `Stream.board`."""

    level: int = 0
    why: str = ""
    board: str = ""


NOT_MISSING = Missing()


def worst_missing(found: Sequence[Missing]) -> Missing:
    """Return the worst level, with the text of its first board and the names of the others."""
    level = max((one.level for one in found), default=0)
    if not level:
        return NOT_MISSING
    own = [one for one in found if one.level == level]
    return Missing(level, f"{', '.join(one.board for one in own)}: {own[0].why}")


class _Sender:
    def __init__(self, after_s: float) -> None:
        self.level = DelayedLevel(after_s)
        self.said: tuple[int, str, str] = (0, "", "")
        """Level, time of what is missing, and the text on it."""
        self.seen: deque[tuple[float, int, int]] = deque()
        """Times with the missing and present events until then."""


class MissingJudge:
    """Judges the senders of a run, make a new one for each; `window_s`: the time of what is recent.

    What is missing of the run as a whole counts, and what is of its last seconds: after hours without a
    fault, a loss that has just begun is a small part of the run.
    """

    def __init__(self, settings: EventsSettings, window_s: float) -> None:
        self._settings = settings
        self._window_s = window_s
        self._senders: dict[str, _Sender] = {}
        self._run = DelayedLevel(settings.missing_after_s)

    def judge(self, now_s: float, streams: Mapping[str, Stream]) -> dict[str, Missing]:
        """Return the level of each sender."""
        return {sender: self._of(now_s, stream) for sender, stream in streams.items()}

    def due_s(self, now_s: float, streams: Sequence[Stream]) -> float | None:
        """Return when the level of one of these senders rises if it goes on like this; None if none does."""
        levels = (self._senders[stream.sender].level for stream in streams if stream.sender in self._senders)
        return earliest(*(level.due_s for level in levels if level.due_s is not None and level.due_s > now_s))

    def level_of_run(self, now_s: float, percent: float) -> int:
        """Return the level of the run, of whose worst sender a part is missing."""
        return self._run.judge(now_s, self._level(percent))

    def _of(self, now_s: float, stream: Stream) -> Missing:
        sender = self._senders.setdefault(stream.sender, _Sender(self._settings.missing_after_s))
        seen = sender.seen
        seen.append((now_s, stream.missing, stream.frames))
        while len(seen) > 2 and seen[1][0] <= now_s - self._window_s:
            seen.popleft()
        recent = percent_of(stream.missing - seen[0][1], stream.frames - seen[0][2])
        of_run, of_recent = self._level(stream.missing_percent), self._level(recent)
        level = sender.level.judge(now_s, max(of_run, of_recent))
        if not level:
            sender.said = (0, "", "")
            return NOT_MISSING
        limits = self._settings
        limit = limits.missing_major_percent if level > 1 else limits.missing_minor_percent
        when = "the run" if of_run >= level else f"the last {self._window_s:g} s"
        if sender.said[:2] != (level, when):
            # Its figures are those of the beginning: archivers store every change of a text.
            text = (
                f"more than {limit:g} % of the events of {when} are missing, {stream.missing} in all by "
                f"event {stream.last}: look at its Router:Flow_RBV, and at the load and the disk of its host"
            )
            sender.said = level, when, text
        return Missing(level, sender.said[2], stream.board)

    def _level(self, percent: float) -> int:
        limits = self._settings
        return 2 if percent > limits.missing_major_percent else int(percent > limits.missing_minor_percent)


def percent_of(missing: int, frames: int) -> float:
    """Return the part of events that is missing, in percent."""
    return 100.0 * missing / (missing + frames) if missing > 0 else 0.0
