"""A reader of `*.graw` files, written from the description of the frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Seen:
    """One frame of a file: what its header says, and its items (none for a MuTAnT)."""

    offset: int
    length: int
    type: int
    event: int
    ticks: int
    cobo: int = -1
    asad: int = -1
    items: tuple[int, ...] = ()
    counters: tuple[int, ...] = ()


@dataclass(frozen=True)
class Graw:
    """The frames of a file up to its end or the first that is torn, and the number of bytes behind these."""

    frames: tuple[Seen, ...]
    rest: int

    @property
    def events(self) -> list[int]:
        return [frame.event for frame in self.frames]


def number(data: bytes, offset: int, size: int) -> int:
    """Return an unsigned big-endian number."""
    return int.from_bytes(data[offset : offset + size], "big")


def read_graw(path: Path, *, items: bool = False) -> Graw:
    """Read a file; with `items` the samples too."""
    data = path.read_bytes()
    found: list[Seen] = []
    offset = 0
    while offset < len(data):
        assert not data[offset] & 0x80, "little-endian"
        length = number(data, offset + 1, 3) << (data[offset] & 0x0F)
        if length == 0 or offset + length > len(data):
            break
        frame = data[offset : offset + length]
        found.append(_mutant(frame, offset) if number(frame, 5, 2) == 8 else _cobo(frame, offset, items))
        offset += length
    return Graw(tuple(found), len(data) - offset)


def _mutant(frame: bytes, offset: int) -> Seen:
    assert frame[0] & 0x40, "no blob"
    assert len(frame) == 64
    counters = tuple(number(frame, at, 4) for at in (24, 28, 32, 36))
    return Seen(offset, 64, 8, number(frame, 14, 4), number(frame, 8, 6), counters=counters)


def _cobo(frame: bytes, offset: int, items: bool) -> Seen:
    kind, header, item, count = (number(frame, at, size) for at, size in ((5, 2), (8, 2), (10, 2), (12, 4)))
    assert frame[0] == 8
    assert (kind, item) in ((1, 4), (2, 2))
    assert header == 1
    # The checks of the program that merges the files.
    assert len(frame) == 256 * (1 + -(-count * item // 256))
    assert all(number(frame, at, 2) < 512 for at in (79, 81, 83, 85))
    assert all(number(frame, at, 2) <= 68 for at in (67, 69, 71, 73))
    values = tuple(number(frame, 256 + i * item, item) for i in range(count)) if items else ()
    return Seen(
        offset,
        len(frame),
        kind,
        number(frame, 22, 4),
        number(frame, 16, 6),
        frame[26],
        frame[27],
        values,
    )
