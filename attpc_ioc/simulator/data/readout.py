"""The frames that the boards behind one data router send, and the faults of these."""

from __future__ import annotations

import random
from dataclasses import dataclass, fields

from attpc_ioc.simulator.boards import Board

from .frames import (
    BLOCK_BYTES,
    FULL_ITEMS,
    MUTANT_BYTES,
    PARTIAL_ITEM_BYTES,
    TICKS_S,
    Frame,
    cobo_frame,
    mutant_frame,
)
from .options import DataOptions
from .trigger import Burst

_OTHER_CLOCK_COBO = 10
_OTHER_CLOCK_TICKS = 86_400 * TICKS_S
"""How far the clock of CoBo 10 is ahead of the others'."""

_SPREAD = 0.3
"""Frames have different lengths, by up to this fraction."""


@dataclass(slots=True)
class DataFaults:
    """The faults of one host's data; its access has its own."""

    stopped: bool = False
    """Nothing is written, although everything runs; the events are lost."""
    factor: float = 1.0
    """Factor of the length of frames, and so of the rate."""
    endless: bool = False
    """Files keep growing after Stop."""
    disk_full: bool = False
    """Nothing can be written."""
    late_s: float = 0.0
    """All events come later by so much."""
    pace: float = 1.0
    """Seconds of data that come in a second: below 1 the board falls behind more and more."""
    lost: float = 0.0
    """Fraction of the events that are missing, of each AsAd board by itself."""
    reset: bool = False
    """The event number began at 0 again during the run; ends when the numbers are set to zero."""
    shift: int = 0
    """What is added to the event number."""
    clock_s: float = 0.0
    """What is added to the event's time."""
    full: bool = False
    """Full readout."""
    torn: bool = False
    """The next frame is written in part; ends then."""

    def clear(self) -> None:
        """Switch all off."""
        for field in fields(self):
            setattr(self, field.name, field.default)


class Readout:
    """Makes the frames of one CoBo, or of the MuTAnT.

    `streams` are the names of their senders in file names. `bytes_s` is the mean of all frames together in
    bytes per second.
    """

    def __init__(self, board: Board, options: DataOptions, dice: random.Random) -> None:
        self._options = options
        self._dice = dice
        self._is_mutant = board.clock_master
        self._cobo = 0
        if self._is_mutant:
            self.streams = ("MuTanT",)
            self.bytes_s = MUTANT_BYTES * options.trigger_hz
        else:
            instance = board.id.partition("[")[2].rstrip("]")
            self._cobo = int(instance) & 0xFF
            self.streams = tuple(f"CoBo{instance}_AsAd{asad}" for asad in range(options.asads))
            self.bytes_s = options.cobo_bytes_s * dice.uniform(1 - options.spread, 1 + options.spread)
        self._offset = self._cobo + (_OTHER_CLOCK_TICKS if self._cobo == _OTHER_CLOCK_COBO else 0)
        self._was_reset: tuple[int, int] | None = None

    def frames(self, burst: Burst, faults: DataFaults) -> list[list[Frame]]:
        """Return the frames of a burst for each stream."""
        less = self._subtracted(burst, faults) - faults.shift
        later = self._offset + round(faults.clock_s * TICKS_S)
        events = [(event - less, ticks + later) for event, ticks in burst.events() if event >= less]
        found = [self._of(asad, events, faults) for asad in range(len(self.streams))]
        if faults.torn and found[0]:
            found[0][0] = found[0][0].torn()
            faults.torn = False
        return found

    def _of(self, asad: int, events: list[tuple[int, int]], faults: DataFaults) -> list[Frame]:
        if faults.lost:
            events = [event for event in events if self._dice.random() >= faults.lost]
        if self._is_mutant:
            return [mutant_frame(event, ticks) for event, ticks in events]
        samples = self._options.real_bytes
        return [
            cobo_frame(event, ticks, self._cobo, asad, self._items(faults), full=faults.full, samples=samples)
            for event, ticks in events
        ]

    def _items(self, faults: DataFaults) -> int:
        """Return the number of items of the next frame, so that the mean of all frames gives the rate."""
        mean = self.bytes_s * faults.factor / (len(self.streams) * self._options.trigger_hz)
        wanted = (
            (mean - 1.5 * BLOCK_BYTES) / PARTIAL_ITEM_BYTES * self._dice.uniform(1 - _SPREAD, 1 + _SPREAD)
        )
        return min(max(0, int(wanted)), FULL_ITEMS)

    def _subtracted(self, burst: Burst, faults: DataFaults) -> int:
        """Return the event at which a counter was reset in this run, else 0."""
        if not faults.reset:
            self._was_reset = None
        elif self._was_reset is None:
            self._was_reset = burst.zeroed, burst.first
        elif self._was_reset[0] != burst.zeroed:
            self._was_reset, faults.reset = None, False
        return 0 if self._was_reset is None else self._was_reset[1]
