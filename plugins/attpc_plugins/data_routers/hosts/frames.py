"""What a look at the frames of growing data files asks and finds; `local/frames.py` and the agent do it.

A look hops from header to header, from where the last one ended. It reads headers only, takes no lock and
writes nothing.

However a file grows between looks, they find together what one look at the whole file finds: a look decides
nothing that the bytes still to come could change, and a cursor has all that the next decision needs. This
does not hold where a look jumps, or leaves a part of which 1 MiB has no frame because the next one is there:
this is bounded work, and a `Stream` says then that its counts are not all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attpc_ioc.model import outside
from attpc_ioc.printable import visible

from .names import growing_parts

FRAMES_MOST = 60_000
"""The most frames of all streams of a host that one look hops over."""

JUMP_BYTES = 256 << 20
"""A stream that has grown by more since the last look is looked at near its end only."""

SAMPLES_MOST = 8
"""The most samples, and gaps, of one file that a look returns."""

SAMPLES_OF_ALL = 4096
"""The most samples of one request where all frames of a closed file are looked at."""

PIECES_MOST = 256
"""The most files that one look tells of."""

NUMBERS = 14
"""The numbers that an agent tells of a piece: those of `Piece` from `size` to `jumped`, and the last two."""

PARTS_MOST = 10**9
"""No stream has so many parts."""

AFTER = -1
"""The offset of a cursor that stands behind the whole file."""

NEAR_END = -1
"""The offset of a request to look at a closed file near its end only."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a look goes on in the files of one sender, such as `CoBo0_AsAd1`.

    `offset` is in the file `name`, `AFTER`: only later files are the run's; `size` is what the file had then;
    `before`: see `Piece`, -1 if it is not known.
    """

    sender: str
    name: str
    offset: int = AFTER
    size: int = -1
    before: int = -1


def after_stream(name: str) -> Cursor:
    """Return a cursor behind all parts of the stream that a file is of, also those that are still to come."""
    parts = growing_parts(name)
    assert parts is not None
    return Cursor(parts.sender, f"{parts.sender}_{parts.time}_{PARTS_MOST}.graw")


@dataclass(frozen=True, slots=True)
class Piece:
    """What a look has found in one file: from the cursor, or the file's beginning, to `offset`.

    - `frames`: hopped over; `first` and `last`: their event numbers; `ticks`: `eventTime` of the last one, in
      10 ns. They are -1 where there was no frame.
    - `missing`: event numbers left out between two of these frames; `back`: frames whose number is not
      larger than the one before.
    - `torn`: frames of which only a part is in the file, and which others follow; `torn_at`: the offset of
      the last one, or of one at the end of the file that has not grown since the last look; -1 for none.
    - `torn_first`: the offset of the first of them, and `torn_near` the event number of the frame before, or
      its own; -1 if there is none in this piece.
    - `before`: where the frame before `offset` begins, `offset` itself if none does: if no frame follows, the
      frame before may be torn, and the next one inside of what it says is its own.
    - `jumped`: the look began near the end of the file, so what was before it is not known.
    - `samples`: event number and `eventTime` at multiples of the number that was asked for.
      Of a closed file they are thinned: of the smallest power of two that leaves no more than were asked for.
    - `triggers`: the MuTAnT's counters L0, L1A, L1B and L2 in the last frame.
    - `gaps`: of a closed file, the first `SAMPLES_MOST` gaps: the first number left out, and how many are.
    """

    name: str
    size: int
    offset: int
    frames: int = 0
    first: int = -1
    last: int = -1
    ticks: int = -1
    missing: int = 0
    back: int = 0
    torn: int = 0
    torn_at: int = -1
    before: int = -1
    jumped: bool = False
    samples: tuple[tuple[int, int], ...] = ()
    triggers: tuple[int, ...] = ()
    gaps: tuple[tuple[int, int], ...] = ()
    torn_first: int = -1
    torn_near: int = -1

    def after(self, last: int) -> tuple[int, int]:
        """Return `missing` and `back` with what is between it and the event before, -1 if that is unknown."""
        if not self.frames or last < 0:
            return self.missing, self.back
        return self.missing + max(0, self.first - last - 1), self.back + (self.first <= last)

    def torn_place(self, last: int) -> str:
        """Return where the first torn frame is, for a message; `last`: as in `after`."""
        if self.torn:
            offset, event = self.torn_first, last if self.torn_near < 0 else self.torn_near
        else:
            offset, event = self.torn_at, self.last if self.frames else last
        return f"{visible(self.name)} at byte {offset}" + (f" near event {event}" if event >= 0 else "")


def piece_of(name: bytes, numbers: bytes, samples: bytes, triggers: bytes) -> Piece:
    """Return a piece from the fields of an agent's answer; raises `ValueError` if they are not possible."""
    text = name.decode("ascii", "replace")
    if growing_parts(text) is None:
        raise ValueError(f"{outside.shown(text)} is not the name of a data file")
    return piece_named(text, numbers, samples, triggers)


def piece_named(
    text: str,
    numbers: bytes,
    samples: bytes,
    triggers: bytes,
    gaps: bytes = b"",
    *,
    samples_most: int = SAMPLES_MOST,
) -> Piece:
    """Return a piece of the file that was asked for; raises `ValueError` as `piece_of`."""
    values = [_number(word) for word in numbers.split()]
    if len(values) != NUMBERS:
        raise ValueError(f"a file has {len(values)} numbers")
    *counts, jumped, torn_first, torn_near = values
    pairs, left_out = ([_pair(word) for word in words.split()] for words in (samples, gaps))
    for found, most, what in ((pairs, samples_most, "samples"), (left_out, SAMPLES_MOST, "gaps")):
        if len(found) > most:
            raise ValueError(f"a file has {len(found)} {what}")
    counters = tuple(outside.count(word) for word in triggers.split())
    if len(counters) not in (0, 4):
        raise ValueError(f"a file has {len(counters)} trigger counters")
    return Piece(
        text,
        *counts,
        jumped=bool(jumped),
        samples=tuple(pairs),
        triggers=counters,
        gaps=tuple(left_out),
        torn_first=torn_first,
        torn_near=torn_near,
    )


def _number(word: bytes) -> int:
    return -1 if word == b"-1" else outside.count(word)


def _pair(word: bytes) -> tuple[int, int]:
    event, _, ticks = word.partition(b":")
    return outside.count(event), outside.count(ticks)


def order_of(name: str) -> tuple[str, int]:
    """Return the key by which the files of one sender are in order: the stream's time, and the part."""
    parts = growing_parts(name)
    assert parts is not None
    return parts.time, parts.part


def by_sender(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of data files by sender, each list in order; names of another form are left out."""
    found: dict[str, list[str]] = {}
    for name in names:
        if (parts := growing_parts(name)) is not None:
            found.setdefault(parts.sender, []).append(name)
    return {sender: sorted(found[sender], key=order_of) for sender in sorted(found)}
