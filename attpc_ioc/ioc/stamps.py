"""Time stamps of records: wall clock, made strictly increasing (rule 21 of the rules of operation)."""

from __future__ import annotations

import time
from collections.abc import Callable

NS_PER_S = 1_000_000_000
TICK_NS = 1_000
"""Least difference of two stamps: distinct even for clients that keep a stamp as a double."""
MAX_LEAD_S = 30.0


class StampClock:
    """Returns stamps in Unix time, each later than the one before.

    While the wall clock is behind because it was set back, stamps advance in steps of a microsecond, up to a
    lead of `max_lead_s` over the clock. Beyond that one stamp goes back to the clock, and `step_s` is the
    step in seconds (0.0 if there was none).
    """

    def __init__(self, now_ns: Callable[[], int] = time.time_ns, max_lead_s: float = MAX_LEAD_S) -> None:
        self._now_ns = now_ns
        self._max_lead_ns = int(max_lead_s * NS_PER_S)
        self._last_ns: int | None = None
        self.step_s = 0.0

    def __call__(self) -> float:
        """Return the next stamp in seconds since 1970."""
        now = self._now_ns()
        last = self._last_ns
        if last is None or now >= last + TICK_NS:
            stamp = now
        elif last + TICK_NS - now <= self._max_lead_ns:
            stamp = last + TICK_NS
        else:
            self.step_s = (last - now) / NS_PER_S
            stamp = now
        self._last_ns = stamp
        return stamp / NS_PER_S
