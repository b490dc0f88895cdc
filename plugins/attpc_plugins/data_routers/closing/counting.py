"""Counts the frames in the files of one run, by sender: all of them, or from where a look has ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from attpc_ioc.printable import visible
from attpc_plugins.data_routers.events.streams import STRETCHES_MOST, Stream, bounded
from attpc_plugins.data_routers.hosts.frames import FRAMES_MOST, JUMP_BYTES, NEAR_END, Piece
from attpc_plugins.data_routers.hosts.names import parts_of
from attpc_plugins.data_routers.model import FileEntry

from .manifest import StreamFrames

FRAMES_AT_ONCE = 200_000
"""Frames of one request: less than a second, or the time to read 1 GiB from a slow disk."""

FILES_MOST = 16
"""More files of a sender are not looked at one by one at a closing."""

REST_BYTES = 1 << 20
"""What is left of a file is not passed over if it is less than this."""

Read = Callable[[str, int, int, int], Awaitable[Piece]]
"""Hops over frames: of a file, from an offset on, over at most so many; raises `HostError`.

Last comes what is before the offset, see `Piece`; -1 if it is not known.
"""

Follow = Callable[[str, Piece, int], None]
"""Is called with each piece: its sender, and the event number before it, -1 if there is none."""

Order = tuple[str, str, int, str]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a sender's files up to an offset of the file `name`, the last of `files` in order.

    `last`: the event number before that place, -1 if there is none in the stream of that file; `before`: see
    `Piece`, -1 if it is not known.
    """

    stream: StreamFrames
    name: str = ""
    offset: int = 0
    files: int = 0
    last: int = -1
    before: int = -1


def known_of(stream: Stream) -> Known:
    """Return what the looks in a run have found."""
    # After a jump the ends of earlier numberings are not known.
    earlier = tuple((first, -1 if stream.jumped else last) for first, last in stream.earlier)
    now = ((stream.first, stream.last),) if stream.last >= 0 else ()
    found = StreamFrames(
        stream.sender,
        None if stream.jumped else stream.frames,
        stream.begin,
        stream.last if stream.last >= 0 else stream.reset_at,
        stream.missing,
        stream.back,
        stream.resets,
        stream.torn,
        stream.torn_at,
        bounded((*earlier, *now)) if stream.resets else (),
    )
    return Known(found, stream.name, stream.offset, stream.files, stream.last, stream.before)


def known_all(streams: Sequence[StreamFrames], files: Sequence[FileEntry]) -> dict[str, Known]:
    """Return what is known of these files, all of which were counted."""
    by_sender = _by_sender(files)
    known = {}
    for stream in streams:
        if own := by_sender.get(stream.sender):
            time = _time(own[-1])
            last = stream.last if any(file.size for file in own if _time(file) == time) else -1
            known[stream.sender] = Known(stream, own[-1].name, own[-1].size, len(own), last)
    return known


def _time(file: FileEntry) -> str:
    return order_of(file.name)[1]


def order_of(name: str) -> Order:
    """Return the key by which files are in order: the sender, the stream's time, the part, late data."""
    parts = parts_of(name)
    return (parts.sender, parts.time, parts.part, parts.late) if parts is not None else (name, "", 0, "")


def _by_sender(files: Sequence[FileEntry]) -> dict[str, list[FileEntry]]:
    """Return files by sender, as it is shown, each sender's in order."""
    found: defaultdict[str, list[FileEntry]] = defaultdict(list)
    for file in sorted(files, key=lambda one: order_of(one.name)):
        found[visible(order_of(file.name)[0])].append(file)
    return found


async def count_all(
    read: Read, files: Sequence[FileEntry], progress: Callable[[int], None], follow: Follow
) -> tuple[StreamFrames, ...]:
    """Return what is in all frames of all files, by sender; `progress` is called with the bytes passed."""
    found = {
        sender: await _Count(read, progress, follow).of(Known(StreamFrames(sender)), own)
        for sender, own in _by_sender(files).items()
    }
    return tuple(found[sender] for sender in sorted(found))


async def count_on(
    read: Read, files: Sequence[FileEntry], known: Mapping[str, Known]
) -> tuple[StreamFrames, ...]:
    """Return the same from what is known, with a few requests for each sender.

    Where more has come than a look hops over, only its beginning and its end are looked at, and how many
    frames there are is unknown.
    """
    found = {}
    for sender, own in _by_sender(files).items():
        begin = known.get(sender)
        if begin is None or not _holds(begin, own):
            begin = Known(StreamFrames(sender))
        found[sender] = await _Count(read, most=FRAMES_MOST).of(begin, own)
    return tuple(found[sender] for sender in sorted(found))


def _holds(known: Known, own: Sequence[FileEntry]) -> bool:
    """Return whether what is known is of these files: those before its place are all that were looked at."""
    before = [file for file in own if order_of(file.name) <= order_of(known.name)]
    if not before or before[-1].name != known.name or before[-1].size < known.offset:
        return False
    return known.stream.frames is None or len(before) == known.files


class _Count:
    """Counts the frames of one sender; `most`: about so many at most, None for all."""

    def __init__(
        self,
        read: Read,
        progress: Callable[[int], None] = lambda _bytes: None,
        follow: Follow = lambda _sender, _piece, _last: None,
        most: int | None = None,
    ) -> None:
        self._read = read
        self._progress = progress
        self._follow = follow
        self._most = most
        self._seen = 0

    async def of(self, known: Known, own: Sequence[FileEntry]) -> StreamFrames:
        """Return the stream with what is behind the known place; `own` are all of the sender's files."""
        at = order_of(known.name)
        rest = [
            (file, known.offset if file.name == known.name else 0)
            for file in own
            if not known.name or order_of(file.name) >= at
        ]
        before = _with_counts(known.stream)
        # While it is counted the only numbering is kept too.
        now = before.stretches or (((before.first, before.last),) if before.first >= 0 else ())
        before = replace(before, resets=len(set(map(_time, own))) - 1, stretches=now)
        if self._most is not None and _is_much(rest):
            stream = _unknown(await self._ends(before, rest, at[1], known.last))
        else:
            stream = await self._all(before, rest, at[1], known)
            stream = stream if known.stream.frames is not None else _unknown(stream)
        return stream if stream.resets else replace(stream, stretches=())

    async def _all(
        self, stream: StreamFrames, rest: Sequence[tuple[FileEntry, int]], time: str, known: Known
    ) -> StreamFrames:
        """Return the stream with the rest, which is behind the known place; `time`: of the file there."""
        last = known.last
        for index, (file, offset) in enumerate(rest):
            if _time(file) != time:
                last, time = -1, _time(file)
            before = known.before if file.name == known.name else -1
            while offset < file.size:
                if self._is_enough(rest[index:], offset):
                    left = [(file, offset), *rest[index + 1 :]]
                    return _unknown(await self._ends(stream, left, time, last))
                most = min(FRAMES_AT_ONCE, self._most or FRAMES_AT_ONCE)
                piece = await self._read(file.name, offset, most, before)
                self._seen += piece.frames
                stream = _with(stream, piece, last, anew=last < 0)
                self._follow(stream.sender, piece, last)
                last = piece.last if piece.frames else last
                self._progress(piece.offset - offset)
                # Of a piece that found a frame inside of a torn one the end may be before its beginning.
                is_on = (before, offset) < (piece.before, piece.offset) and piece.before <= piece.offset
                if not is_on or piece.torn_at >= piece.offset:
                    self._progress(file.size - piece.offset)
                    break
                before, offset = piece.before, piece.offset
        return stream

    def _is_enough(self, rest: Sequence[tuple[FileEntry, int]], offset: int) -> bool:
        left = sum(file.size for file, _ in rest) - offset
        return self._most is not None and self._seen >= self._most and left > REST_BYTES

    async def _ends(
        self, stream: StreamFrames, rest: Sequence[tuple[FileEntry, int]], time: str, last: int
    ) -> StreamFrames:
        """Return the stream with the first event of each numbering in the rest, and what is near its end."""
        begun = [list(files) for _, files in groupby((file for file, _ in rest if file.size), _time)]
        for files in begun if len(begun) <= STRETCHES_MOST else (*begun[: STRETCHES_MOST - 1], begun[-1]):
            anew = last < 0 or _time(files[0]) != time
            if anew:
                head = await self._read(files[0].name, 0, 1, -1)
                first = Piece(head.name, 0, 0, head.frames, head.first, head.last)
                stream, anew = _with(stream, first, -1, anew=True), not head.frames
            end = await self._read(files[-1].name, NEAR_END, FRAMES_MOST, -1)
            stream, last = _with(stream, end, -1, anew=anew), -1
        return stream


def _is_much(rest: Sequence[tuple[FileEntry, int]]) -> bool:
    sizes = [file.size - offset for file, offset in rest if file.size > offset]
    return len(sizes) > FILES_MOST or sum(sizes) > JUMP_BYTES


def _with(stream: StreamFrames, piece: Piece, last: int, *, anew: bool) -> StreamFrames:
    """Return a stream with another piece; `last`: the event number before it, -1 if there is none.

    `anew`: the piece has the first frames of a numbering, if it has any.
    """
    missing, back = piece.after(last)
    torn = piece.torn + (piece.torn_at >= piece.offset)
    stretches = stream.stretches
    if piece.frames:
        anew = anew or not stretches
        begin, earlier = (piece.first, stretches) if anew else (stretches[-1][0], stretches[:-1])
        stretches = bounded((*earlier, (begin, piece.last)))
    return replace(
        stream,
        stretches=stretches,
        frames=(stream.frames or 0) + piece.frames,
        first=piece.first if stream.first < 0 else stream.first,
        last=piece.last if piece.frames else stream.last,
        missing=(stream.missing or 0) + missing,
        back=(stream.back or 0) + back,
        torn=(stream.torn or 0) + torn,
        torn_at=stream.torn_at or (piece.torn_place(last) if torn else ""),
    )


def _with_counts(stream: StreamFrames) -> StreamFrames:
    """Return a stream with 0 for what is not known."""
    return replace(
        stream,
        frames=stream.frames or 0,
        missing=stream.missing or 0,
        back=stream.back or 0,
        torn=stream.torn or 0,
    )


def _unknown(stream: StreamFrames) -> StreamFrames:
    """Return a stream of which not all was looked at: what was not found may be there."""
    return replace(
        stream,
        frames=None,
        missing=stream.missing or None,
        back=stream.back or None,
        torn=stream.torn or None,
    )
