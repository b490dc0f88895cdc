"""What is found in the frames of a run's files, in a few numbers and in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attpc_plugins.data_routers.events.streams import STRETCHES_MOST

from .manifest import StreamFrames

SHOWN = 2
"""A message has at most so many lines about streams; it counts the others."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one data router's files of a run: those of `RunFiles`, None where they are not known."""

    event_count: int | None = None
    missing_events: int | None = None
    resets: int | None = None
    damaged_frames: int | None = None
    first_event: int | None = None
    last_event: int | None = None
    all_from: int | None = None


def figures_of(streams: Sequence[StreamFrames]) -> Figures:
    """Return the figures of all streams together."""
    begun = [stream for stream in streams if stream.last >= 0]
    compared = bool(begun) and not any(stream.resets for stream in streams)
    whole = compared and len(begun) == len(streams)
    return Figures(
        event_count=_events(streams),
        missing_events=_total(streams, lambda stream: stream.missing),
        resets=sum(stream.resets for stream in streams),
        damaged_frames=_total(streams, _damaged),
        first_event=min(stream.first for stream in begun) if compared else None,
        last_event=max(stream.last for stream in begun) if compared else None,
        all_from=max(stream.first for stream in begun) if whole else None,
    )


def _damaged(stream: StreamFrames) -> int | None:
    found = (stream.torn or 0) + (stream.back or 0)
    return None if None in (stream.torn, stream.back) and not found else found


def _events(streams: Sequence[StreamFrames]) -> int | None:
    """Return how many events all streams have that have any; None where event numbers do not say so."""
    if any(stream.resets for stream in streams):
        return None
    begun = [stream for stream in streams if stream.last >= 0]
    if not begun:
        return 0
    return max(0, min(stream.last for stream in begun) - max(stream.first for stream in begun) + 1)


def _total(streams: Sequence[StreamFrames], count: Callable[[StreamFrames], int | None]) -> int | None:
    """Return a count of all streams; None if it is not known of each, and not bad anyway."""
    counts = [count(stream) for stream in streams]
    total = sum(filter(None, counts))
    return None if None in counts and not total else total


def is_bad(stream: StreamFrames) -> bool:
    """Return whether the merger would refuse or misread a run with these frames."""
    return bool(stream.torn or stream.back or stream.resets)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 event`, `4,812 events`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def times(count: int) -> str:
    """Return how often, in words."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def stream_text(stream: StreamFrames) -> str:
    """Return a line about one stream."""
    if stream.first < 0 and not stream.torn:
        return f"{stream.sender}: no frame"
    frames = "not all frames looked at" if stream.frames is None else counted(stream.frames, "frame")
    text = f"{stream.sender}: {frames}, {_events_text(stream)}"
    if stream.missing:
        text += f", {stream.missing:,} missing"
    if stream.resets:
        text += f", numbers begin anew {times(stream.resets)}"
    if stream.back:
        text += f", {stream.back} out of order"
    if stream.torn:
        text += f", {stream.torn} torn, first in {stream.torn_at}"
    return text


def _events_text(stream: StreamFrames) -> str:
    """Return the events of a stream, of each numbering in turn."""
    texts = [_range_text(*one) for one in stream.stretches or ((stream.first, stream.last),)]
    left_out = stream.resets + 1 - len(texts)
    if len(texts) == STRETCHES_MOST and left_out:
        texts.insert(-1, f"{left_out} more")
    one = len(texts) == 1 and stream.first == stream.last
    return f"event{'' if one else 's'} {', then '.join(texts)}"


def _range_text(first: int, last: int) -> str:
    if last < 0:
        return f"from {first}"
    return f"{first}" if first == last else f"{first} to {last}"


def frames_text(streams: Sequence[StreamFrames], differs: Sequence[str] = (), *, checked: bool) -> str:
    """Return what a run's record says of its frames: what is wrong, or what a check has found.

    `differs`: how senders differ from others.
    """
    same: dict[str, list[str]] = {}
    for text in (*(stream_text(stream) for stream in streams if is_bad(stream)), *differs):
        sender, _, what = text.partition(": ")
        same.setdefault(what, []).append(sender)
    if bad := [f"{', '.join(senders)}: {what}" for what, senders in same.items()]:
        more = f"; and {len(bad) - SHOWN} more, see `attpc-ioc files check`" if len(bad) > SHOWN else ""
        return f"frames: {'; '.join(bad[:SHOWN])}{more}"
    if not checked:
        return ""
    frames = sum(stream.frames or 0 for stream in streams)
    text = f"frames checked: {'the only one' if frames == 1 else f'all {frames:,}'} whole and in order"
    missing = sum(stream.missing or 0 for stream in streams)
    return text + (f", {counted(missing, 'event')} missing" if missing else "")
