"""The frames of the GET electronics, as a data router receives them: big-endian, a header and the samples.

The length of a frame in bytes is the unsigned 24 bits at offset 1, shifted left by the low 4 bits of byte 0.
"""

from __future__ import annotations

import functools
import random
import struct
from array import array
from typing import NamedTuple

BLOCK_BYTES = 256
"""A CoBo's frame has whole blocks, the first of which is the header."""

AGETS, CHANNELS, BUCKETS = 4, 68, 512
FULL_ITEMS = AGETS * CHANNELS * BUCKETS
TICKS_S = 100_000_000
"""Ticks of `eventTime` in a second: one has 10 ns."""

MUTANT_BYTES = 64
PARTIAL_ITEM_BYTES, FULL_ITEM_BYTES = 4, 2

_PARTIAL, _FULL, _MUTANT = 1, 2, 8
_METATYPE = 8
_MUTANT_METATYPE = 0x41  # a blob, in units of 2 bytes
_COBO_REVISION = 5
_ALL_CHANNELS = b"\x0f" + b"\xff" * 8
_COBO_HEADER = struct.Struct(">B3sBHBHHI6sIBBHB36s4HI4H")
_MUTANT_FRAME = struct.Struct(">B3sBHB6sI6x10I")
_POOL_ITEMS = 1 << 15


class Frame(NamedTuple):
    """A frame: its first bytes, and its whole `length` in bytes; what `head` leaves open is zero.

    `event` is its event number.
    """

    event: int
    head: bytes
    length: int

    def torn(self) -> Frame:
        """Return what is left of it when its writing fails: somewhat more than half."""
        length = self.length // 2 + 1
        return Frame(self.event, self.head[:length], length)


def cobo_frame(
    event: int, ticks: int, cobo: int, asad: int, items: int, *, full: bool = False, samples: bool = False
) -> Frame:
    """Return a CoBo's frame: of partial readout with so many items, or of full readout.

    `ticks` is `eventTime`. Without `samples` only the header has bytes, and all items are zero.
    """
    if full:
        items = FULL_ITEMS
    item_bytes = FULL_ITEM_BYTES if full else PARTIAL_ITEM_BYTES
    blocks = 1 + -(-items * item_bytes // BLOCK_BYTES)
    cell = event % BUCKETS
    head = _COBO_HEADER.pack(
        _METATYPE,
        blocks.to_bytes(3, "big"),
        0,
        _FULL if full else _PARTIAL,
        _COBO_REVISION,
        1,
        item_bytes,
        items,
        (ticks & 0xFFFF_FFFF_FFFF).to_bytes(6, "big"),
        event,
        cobo,
        asad,
        0,
        0,
        _ALL_CHANNELS * AGETS if full else bytes(36),
        *((CHANNELS if full else 0,) * AGETS),
        BUCKETS,
        *((cell,) * AGETS),
    )
    if samples:
        body = _full_samples() if full else _partial_samples(items, event)
        head = head.ljust(BLOCK_BYTES, b"\0") + body
    return Frame(event, head, blocks * BLOCK_BYTES)


def mutant_frame(event: int, ticks: int) -> Frame:
    """Return a MuTAnT's frame, whose trigger counters count the events; `ticks` is `eventTime`."""
    count = event + 1
    frame = _MUTANT_FRAME.pack(
        _MUTANT_METATYPE,
        (MUTANT_BYTES // 2).to_bytes(3, "big"),
        0,
        _MUTANT,
        0,
        (ticks & 0xFFFF_FFFF_FFFF).to_bytes(6, "big"),
        event,
        *(count, count, count, count),
        *(0, 0, 0, 0, 0),
        0,
    )
    return Frame(event, frame, MUTANT_BYTES)


def _partial_samples(items: int, event: int) -> bytes:
    """Return items with random samples, another choice for each event."""
    pool = _pool()
    start = event * 4099 % _POOL_ITEMS
    needed = -(-(start + items) // _POOL_ITEMS)
    data = pool if needed <= 1 else pool * needed
    size = items * PARTIAL_ITEM_BYTES
    taken = data[start * PARTIAL_ITEM_BYTES :][:size]
    return taken.ljust(-(-size // BLOCK_BYTES) * BLOCK_BYTES, b"\0")


@functools.cache
def _pool() -> bytes:
    dice = random.Random("partial readout")
    items = (
        dice.randrange(AGETS) << 30
        | dice.randrange(CHANNELS) << 23
        | dice.randrange(BUCKETS) << 14
        | dice.randrange(1 << 12)
        for _ in range(_POOL_ITEMS)
    )
    return struct.pack(f">{_POOL_ITEMS}I", *items)


@functools.cache
def _full_samples() -> bytes:
    """Return the items of a full readout: by time bucket, by pairs of channels, by AGET."""
    noise = array("H", random.Random("full readout").randbytes(FULL_ITEMS * FULL_ITEM_BYTES))
    order = (aget << 14 for _ in range(BUCKETS * CHANNELS // 2) for aget in range(AGETS) for _ in range(2))
    items = array("H", (aget | sample & 0xFFF for aget, sample in zip(order, noise, strict=True)))
    if struct.pack("=H", 1) != struct.pack(">H", 1):
        items.byteswap()
    return items.tobytes()
