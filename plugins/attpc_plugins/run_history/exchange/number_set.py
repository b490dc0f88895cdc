"""A set of run numbers that takes little memory: 128 kB for a million consecutive ones."""

from __future__ import annotations

from collections.abc import Iterator

CHUNK = 1 << 16
"""Numbers in a chunk; each is one bit."""


class NumberSet:
    """Run numbers; iterates in ascending order."""

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}
        self._count = 0

    def add(self, number: int) -> bool:
        """Add a number; returns whether it is new."""
        if number in self:
            return False
        at = number % CHUNK
        self._chunks.setdefault(number // CHUNK, bytearray(CHUNK // 8))[at // 8] |= 1 << at % 8
        self._count += 1
        return True

    def __contains__(self, number: int) -> bool:
        chunk = self._chunks.get(number // CHUNK)
        at = number % CHUNK
        return chunk is not None and bool(chunk[at // 8] & 1 << at % 8)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        for key in sorted(self._chunks):
            for place, byte in enumerate(self._chunks[key]):
                if byte:
                    first = key * CHUNK + place * 8
                    yield from (first + bit for bit in range(8) if byte & 1 << bit)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the numbers as ranges, first and last, in ascending order."""
        first = last = -2
        for number in self:
            if number == last + 1:
                last = number
                continue
            if last >= 0:
                yield first, last
            first = last = number
        if last >= 0:
            yield first, last
