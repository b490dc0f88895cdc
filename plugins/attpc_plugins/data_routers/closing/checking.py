"""Reads the headers of all frames of a closed run, file by file, on the host that has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.hosts.frames import Piece
from attpc_plugins.data_routers.hosts.host import SourceHost
from attpc_plugins.data_routers.hosts.names import parts_of
from attpc_plugins.data_routers.model import FileEntry

from .closings import ClosingStore
from .manifest import StreamFrames

FRAMES_AT_ONCE = 200_000
"""Frames of one request: less than a second, or the time to read 1 GiB from a slow disk."""

LOCK_S = 5.0
GOOD = "frames checked: "
BAD = "frames: "
"""Beginnings of a remark on checked frames; the run history finds runs by the second."""


def order_of(name: str) -> tuple[str, str, int, str]:
    """Return the key by which files are in order: the sender, the stream's time, the part, late data."""
    parts = parts_of(name)
    return (parts.sender, parts.time, parts.part, parts.late) if parts is not None else (name, "", 0, "")


async def check_files(
    host: SourceHost, run: RunRef, files: Sequence[FileEntry], progress: Callable[[int], None]
) -> tuple[StreamFrames, ...]:
    """Return what is in the frames of all files, by sender; `progress` is called with the bytes passed.

    Raises `HostError`.
    """
    found: dict[str, StreamFrames] = {}
    began: dict[str, str] = {}
    for file in sorted(files, key=lambda one: order_of(one.name)):
        sender, time, _part, _late = order_of(file.name)
        before = found.get(sender, StreamFrames(sender))
        anew = began.get(sender, time) != time
        began[sender] = time
        offset, last = 0, -1 if anew else before.last
        stream = replace(before, resets=before.resets + anew)
        while offset < file.size:
            piece = await host.frames(run, file.name, offset, FRAMES_AT_ONCE)
            stream = _with(stream, piece, last)
            last = piece.last if piece.frames else last
            progress(piece.offset - offset)
            if piece.offset <= offset or piece.torn_at >= piece.offset:
                progress(file.size - piece.offset)
                break
            offset = piece.offset
        found[sender] = stream
    return tuple(found[sender] for sender in sorted(found))


def _with(stream: StreamFrames, piece: Piece, last: int) -> StreamFrames:
    """Return a stream with another piece; `last`: the event number before it, -1 if there is none."""
    missing, back = piece.after(last)
    torn = piece.torn + (piece.torn_at >= piece.offset)
    place = f"{piece.name} at byte {max(piece.torn_at, 0)}"
    return replace(
        stream,
        frames=stream.frames + piece.frames,
        first=piece.first if stream.first < 0 else stream.first,
        last=piece.last if piece.frames else stream.last,
        missing=stream.missing + missing,
        back=stream.back + back,
        torn=stream.torn + torn,
        torn_at=stream.torn_at or (place if torn else ""),
    )


def is_bad(stream: StreamFrames) -> bool:
    """Return whether the merger would refuse or misread a run with these frames."""
    return bool(stream.torn or stream.back or stream.resets)


def times(count: int) -> str:
    """Return how often, in words."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def stream_text(stream: StreamFrames) -> str:
    """Return a line about one stream."""
    if not stream.frames and not stream.torn:
        return f"{stream.sender}: no frame"
    text = f"{stream.sender}: {stream.frames} frames, events {stream.first} to {stream.last}"
    if stream.missing:
        text += f", {stream.missing} missing"
    if stream.resets:
        text += f", numbers begin anew {times(stream.resets)}"
    if stream.back:
        text += f", {stream.back} out of order"
    if stream.torn:
        text += f", {stream.torn} torn, first in {stream.torn_at}"
    return text


def remark_of(streams: Sequence[StreamFrames]) -> str:
    """Return what a run's record says of its checked frames."""
    bad = [stream_text(stream) for stream in streams if is_bad(stream)]
    missing = sum(stream.missing for stream in streams)
    if bad:
        return BAD + "; ".join(bad)
    text = f"{GOOD}all {sum(stream.frames for stream in streams)} whole and in order"
    return text + (f", {missing} events missing" if missing else "")


async def remark_check(store: ClosingStore, run: RunRef, remarks: Mapping[str, str]) -> bool:
    """Keep the results of a check, by router, in the closings of a run; return whether all are on record."""
    all_known = True
    for label, text in remarks.items():
        async with store.locked(label, LOCK_S):
            closing = store.find(run, label)
            if closing is None or closing.open:
                all_known = False
                continue
            others = tuple(remark for remark in closing.remarks if not remark.startswith((GOOD, BAD)))
            await store.save(replace(closing, remarks=(*others, text)))
    return all_known
