"""Hops over the frames of growing data files of this machine; `agent_frames.pl` does the same elsewhere.

Everything here blocks. Only headers are read, or small blocks where frames are small.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from attpc_plugins.data_routers.hosts.frames import (
    AFTER,
    FRAMES_MOST,
    JUMP_BYTES,
    PIECES_MOST,
    SAMPLES_MOST,
    Cursor,
    Piece,
    by_sender,
    order_of,
)
from attpc_plugins.data_routers.hosts.words import bytes_of, text_of

from .folders import data_files
from .opened import opened

HEAD = 64
"""A header's first bytes, which are all that is looked at; a MuTAnT's frame has no more."""

BLOCK = 1 << 16
"""Frames shorter than `SMALL` are read by blocks of this size."""
SMALL = 2048

LONGEST = 1 << 23
"""No frame has more bytes: one of full readout has 278,784."""

SEARCHED = 1 << 20
"""A look searches for the next frame in this many bytes."""
SEARCHED_FIRST = 1 << 15

CHAIN = 3
"""So many headers one after the other are frames, not data that look like one."""

NONE = -1
UNDECIDED = -2
"""No frame was found: up to the end of what was searched, or up to where the file ends so far."""

EVENTS_MOST = 1 << 32
"""Event numbers are smaller."""

CHECK_EVERY = 1000

_PARTIAL, _FULL, _TOPOLOGY, _MUTANT = 1, 2, 7, 8
_TOPOLOGY_BYTES = 12
_START = re.compile(
    rb"(?=.{5}(?:(?:\x00[\x01\x02]|[\x01\x02]\x00).(?:\x00\x01|\x01\x00)|\x00\x08|\x08\x00))", re.DOTALL
)
"""Where a header may begin: at the types of frames and, for a CoBo's, the size of the header."""


class Head(NamedTuple):
    """What a header says: the frame's length in bytes, its type, event number and time in ticks."""

    length: int
    kind: int
    event: int
    ticks: int


def head_of(data: bytes) -> Head | None:
    """Return what the first `HEAD` bytes of a frame, or fewer, say; None if they are not of a frame."""
    if len(data) < _TOPOLOGY_BYTES:
        return None
    first = data[0]
    order = "little" if first & 0x80 else "big"
    length = int.from_bytes(data[1:4], order) << (first & 15)
    kind = int.from_bytes(data[5:7], order)
    if kind == _TOPOLOGY and length == _TOPOLOGY_BYTES:
        return Head(length, kind, -1, -1)
    if kind == _MUTANT and HEAD <= length <= SMALL and len(data) >= 40:
        return Head(length, kind, int.from_bytes(data[14:18], order), int.from_bytes(data[8:14], order))
    if (
        kind in (_PARTIAL, _FULL)
        and 256 <= length <= LONGEST
        and len(data) >= 28
        and int.from_bytes(data[8:10], order) == 1
        and int.from_bytes(data[10:12], order) in (2, 4)
    ):
        return Head(length, kind, int.from_bytes(data[22:26], order), int.from_bytes(data[16:22], order))
    return None


class _File:
    """An open data file, of which small frames are read by blocks."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.size = os.fstat(number).st_size
        self._block = b""
        self._begin = 0

    def head(self, offset: int, small: bool) -> Head | None:
        """Return what the header at an offset says; None if there is none."""
        at = offset - self._begin
        if not 0 <= at <= len(self._block) - HEAD:
            self._block, self._begin = os.pread(self._number, BLOCK if small else HEAD, offset), offset
            at = 0
        return head_of(self._block[at : at + HEAD])

    def is_chain(self, offset: int, grows: bool) -> bool | None:
        """Return whether frames follow one another from here on, or to the end of the file.

        None if it `grows`, and what is still to come decides.
        """
        for left in reversed(range(CHAIN)):
            if (head := self.head(offset, small=False)) is None:
                return None if grows and offset + HEAD > self.size else False
            offset += head.length
            if offset > self.size or (offset == self.size and left):
                return None if grows else offset == self.size
        return True

    def triggers(self, offset: int) -> tuple[int, ...]:
        """Return the counters of a MuTAnT's frame."""
        data = os.pread(self._number, HEAD, offset)
        order = "little" if data[0] & 0x80 else "big"
        return tuple(int.from_bytes(data[at : at + 4], order) for at in range(24, 40, 4))

    def find(self, begin: int, end: int, grows: bool) -> int:
        """Return the offset of the first frame between two offsets, `NONE` or `UNDECIDED`."""
        data = os.pread(self._number, end - begin + HEAD, begin)
        for match in _START.finditer(data):
            if begin + match.start() >= end:
                break
            if (chain := self.is_chain(begin + match.start(), grows)) is None:
                return UNDECIDED
            if chain:
                return begin + match.start()
        return UNDECIDED if end + (HEAD if grows else 1) > self.size else NONE


def hop(
    number: int,
    name: str,
    cursor: Cursor | None,
    *,
    step: int,
    most: int,
    last: bool,
    jump: bool = False,
    thin: int = 0,
) -> Piece:
    """Hop over the frames of an open file from a cursor on, or from its beginning; over `most` at most.

    `last`: this sender has no later file, so that this one may still grow. `jump`:
    begin near the end. `thin`: samples are thinned evenly to at most so many, else the first and the
    last ones count.
    """
    file = _File(number)
    offset = cursor.offset if cursor is not None else 0
    still = not last or (cursor is not None and file.size == cursor.size)
    if jump:
        offset = _near_end(file)
    begin, kind, small = offset, 0, False
    if cursor is not None and not jump and 0 <= cursor.before < offset:
        begin = cursor.before
    frames, first, event, ticks = 0, -1, -1, -1
    missing, back, torn, torn_at, torn_first, torn_near = 0, 0, 0, -1, -1, -1
    samples: list[tuple[int, int]] = []
    gaps: list[tuple[int, int]] = []
    while offset < file.size and frames < most:
        head = file.head(offset, small)
        if offset + (head.length if head is not None else HEAD if last else 0) > file.size:
            torn_at = offset if still else torn_at
            break
        if head is None:
            # This frame is damaged; or the one before was torn, and this is inside of the next.
            end = min(file.size, offset + SEARCHED)
            found = file.find(begin + (begin < offset), end, grows=last)
            if found == UNDECIDED:
                torn_at = offset if still else torn_at
                break
            torn, torn_at = torn + 1, begin if NONE < found < offset else offset
            if torn == 1:
                torn_first, torn_near = torn_at, event
            if found == NONE:
                begin, offset, kind = end, end, 0
                break
            begin = offset = found
            continue
        begin, kind, small = offset, head.kind, head.length < SMALL
        offset += head.length
        if head.event < 0:
            continue
        if event >= 0:
            back += head.event <= event
            if (left_out := head.event - event - 1) > 0:
                missing += left_out
                if len(gaps) < SAMPLES_MOST:
                    gaps.append((event + 1, left_out))
        event, ticks = head.event, head.ticks
        first = event if first < 0 else first
        frames += 1
        if event % step == 0:
            samples.append((event, ticks))
            if thin and len(samples) > thin and step < EVENTS_MOST:
                step *= 2
                samples = [sample for sample in samples if sample[0] % step == 0]
    # The first too: it is what all boards have in common, and their clocks are compared from there on.
    del samples[1 : max(1, len(samples) - (thin or SAMPLES_MOST) + 1)]
    return Piece(
        name,
        file.size,
        offset,
        frames,
        first,
        event if frames else -1,
        ticks,
        missing,
        back,
        torn,
        torn_at,
        begin,
        jump,
        tuple(samples),
        file.triggers(begin) if kind == _MUTANT else (),
        tuple(gaps) if thin else (),
        torn_first,
        torn_near,
    )


def _near_end(file: _File) -> int:
    """Return the offset of a frame near the end of a file; its end if none is found."""
    for span in (SEARCHED_FIRST, SEARCHED):
        if (found := file.find(max(0, file.size - span), file.size, grows=False)) >= 0:
            return found
    return file.size


def look(
    staging: bytes, cursors: Sequence[Cursor], step: int, check: Callable[[], None] = lambda: None
) -> tuple[Piece, ...]:
    """Look at the data files of a staging folder, each sender's from its cursor on; return what is found.

    `step`: samples are of events whose number is a multiple of it. `check` is called between two files and
    may raise. Raises `HostFault`.
    """
    known = {cursor.sender: cursor for cursor in cursors}
    pieces: list[Piece] = []
    with opened(staging) as folder:
        sizes = {text_of(name): status.st_size for name, status in data_files(folder, lambda _n, _m: None)}
        senders = by_sender(list(sizes))
        for sender, names in senders.items():
            left = FRAMES_MOST // len(senders)
            cursor = known.get(sender)
            for name, most, jump in _to_look_at(names, sizes, cursor):
                check()
                if left <= 0 or len(pieces) >= PIECES_MOST:
                    break
                if folder.status(bytes_of(name)) is None:
                    continue  # it was moved away meanwhile
                here = cursor if cursor is not None and cursor.name == name else None
                with folder.file(bytes_of(name)) as number:
                    piece = hop(
                        number, name, here, step=step, most=min(most, left), last=name == names[-1], jump=jump
                    )
                left -= piece.frames
                pieces.append(piece)
    return tuple(pieces)


def _to_look_at(
    names: Sequence[str], sizes: dict[str, int], cursor: Cursor | None
) -> list[tuple[str, int, bool]]:
    """Return the files of one sender to look at, of each the most frames, and whether to begin near its end.

    Where more has come since the last look than `JUMP_BYTES`, these are the first frame of each new stream,
    and the end of the last file that has any.
    """
    inside, there = "", 0
    if cursor is not None:
        begin = order_of(cursor.name)
        names = [
            name
            for name in names
            if order_of(name) > begin or (name == cursor.name and cursor.offset != AFTER)
        ]
        if cursor.name in names:
            inside, there = cursor.name, cursor.offset
    if sum(sizes[name] for name in names) - there <= JUMP_BYTES:
        return [(name, FRAMES_MOST, False) for name in names]
    begun = [name for name in names if order_of(name)[1] == 0 and name != inside]
    filled = [name for name in names if sizes[name]]
    return [*((name, 1, False) for name in begun), (filled[-1], FRAMES_MOST, True)]
