"""The trigger that is common to a fleet, and its clock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from attpc_ioc.simulator.boards import Board

from .frames import TICKS_S


@dataclass(frozen=True, slots=True)
class Burst:
    """Events of one tick: `count` of them, the first with the number `first`.

    They are `step_ticks` (of 10 ns) apart, from `began_ticks` of the common clock on. `zeroed` counts how
    often numbers and clock were set to zero; `sent_s` is the time at which the boards begin to send them, in
    seconds of a clock that is never set back.
    """

    zeroed: int
    first: int
    count: int
    began_ticks: int
    step_ticks: int
    sent_s: float

    def until(self, time_s: float) -> tuple[Burst, Burst]:
        """Return what was sent until a time of that clock, and the rest; either can have no event."""
        step_s = self.step_ticks / TICKS_S
        count = int((time_s - self.sent_s) / step_s + 1e-6) if step_s else self.count
        count = min(max(count, 0), self.count)
        rest = replace(
            self,
            first=self.first + count,
            count=self.count - count,
            began_ticks=self.began_ticks + count * self.step_ticks,
            sent_s=self.sent_s + count * step_s,
        )
        return replace(self, count=count), rest

    def events(self) -> Iterable[tuple[int, int]]:
        """Return the event numbers, and their times in ticks."""
        for i in range(self.count):
            yield self.first + i, self.began_ticks + i * self.step_ticks


def apart_ticks(count: int, length_s: float) -> int:
    """Return how far apart so many events are that come in so many seconds."""
    return int(length_s * TICKS_S / count) if count else 0


class Due:
    """Counts events of a constant rate, and keeps the parts of events for the next time."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._owed = 0.0

    def take(self, passed_s: float) -> int:
        """Return how many come in so many seconds."""
        self._owed += passed_s * self._rate_hz
        count = int(self._owed)
        self._owed -= count
        return count


class Trigger:
    """Gives all boards the same events, `rate_hz` of them in a second.

    The MuTAnT triggers while it is Running, and its Configure sets event numbers and clock to zero. A fleet
    without a MuTAnT is triggered while a board is Running, from zero after each time that none was.
    """

    def __init__(self, boards: Iterable[Board], rate_hz: float) -> None:
        self.now_s = 0.0
        """Time since it was made."""
        self._boards = tuple(boards)
        self._master = next((board for board in self._boards if board.clock_master), None)
        self._configures = 0
        self._ran = False
        self._zeroed = 0
        self._clock_s = 0.0
        self._next = 0
        self._due = Due(rate_hz)

    def advance(self, passed_s: float) -> Burst:
        """Let time pass, and return the events that came."""
        runs = self._master.running if self._master else any(board.running for board in self._boards)
        if self._has_zeroed(runs):
            self._zeroed += 1
            self._clock_s = 0.0
            self._next = 0
        self._ran = runs
        count = self._due.take(passed_s if runs else 0.0)
        began_ticks = int(self._clock_s * TICKS_S)
        burst = Burst(self._zeroed, self._next, count, began_ticks, apart_ticks(count, passed_s), self.now_s)
        self._next += burst.count
        self._clock_s += passed_s
        self.now_s += passed_s
        return burst

    def _has_zeroed(self, runs: bool) -> bool:
        if self._master is None:
            return runs and not self._ran
        was, self._configures = self._configures, self._master.configures
        return was != self._configures
