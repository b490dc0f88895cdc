"""The live answers: a start's checklist and the commands that would be accepted now, kept true in slices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from attpc_ioc.log import get_logger
from attpc_ioc.model.fleet import FleetChange, without_diagnostics

from .fleet_state import FleetState
from .judge import Judge
from .run_record import RunRecord

log = get_logger(__name__)

DERIVE_PERIOD_S = 0.02
"""The live answers are worked out at most this often."""

SLICE_S = 0.004
"""Working them out holds up polls and clients for this long at a time, however large the fleet is."""

AT_ONCE_S = 0.02
"""For this long at most where somebody waits for them."""

REST = 3.0
"""And rests for this many times what it took, so that it takes a quarter of the time at most."""


class LiveAnswers:
    """Keeps checklist and allowed commands in the snapshot true, without holding up the event loop.

    `on_change` hears every change of the fleet, `tick` comes about once a second; `work_out` is for those who
    have something to tell that the answers depend on.
    """

    def __init__(self, state: FleetState, judge: Judge, record: RunRecord) -> None:
        self._state = state
        self._judge = judge
        self._record = record
        self._handle: asyncio.TimerHandle | None = None
        self._not_before_s = 0.0
        self._steps: Iterator[None] | None = None
        self._again = False
        self._fresh = False
        self._own_change = False
        self._essences: dict[str, object] = {}
        self._situation = 0
        self._closed = False

    def close(self) -> None:
        """Work nothing out any more."""
        self._closed = True
        self._cancel()

    def on_change(self, change: FleetChange) -> None:
        """Work them out soon where the change tells anything new."""
        news = not change.modules
        for name in change.modules:
            essence = without_diagnostics(change.fleet.modules[name])
            if self._essences.get(name) != essence:
                self._essences[name] = essence
                news = True
        if news:
            self._situation += 1
        if news and not self._own_change:
            self.work_out_soon()

    def tick(self) -> None:
        """Follow what no change of the fleet tells: the time, and vetoes on outside conditions."""
        if self._steps is None:
            self._fresh = True
            self._slice()

    def work_out(self) -> None:
        """Work them out: before this returns, in all but huge fleets.

        Who was answered that a command has ended is to find the new answers.
        """
        self._steps = None
        self._slice(AT_ONCE_S)

    def show_run(self) -> None:
        """Put the run as it is now into the snapshot, with its checklist; the rest is worked out soon."""
        if self._closed:
            return
        self._show_run(self._judge.checklist(self._state.fleet, self._situation))
        self.work_out_soon()

    def work_out_soon(self) -> None:
        """Work them out, together with whatever else changes until then."""
        if self._steps is not None:
            self._again = True
        elif self._handle is None and not self._closed:
            wait_s = max(0.0, self._not_before_s - time.monotonic())
            self._handle = asyncio.get_running_loop().call_later(wait_s, self._slice)

    def _slice(self, limit_s: float = SLICE_S) -> None:
        """Begin to work them out, or go on, for some time; then rest and go on."""
        self._cancel()
        if self._closed:
            return
        if self._steps is None:
            self._again = False
            self._steps = self._work()
        began = time.monotonic()
        try:
            for _ in self._steps:
                if time.monotonic() - began >= limit_s:
                    pause_s = REST * (time.monotonic() - began)
                    self._handle = asyncio.get_running_loop().call_later(pause_s, self._slice)
                    return
        except Exception:  # a fault of the program: the next change tries again
            log.exception("live answers failed")
        self._steps = None
        now = time.monotonic()
        self._not_before_s = now + max(DERIVE_PERIOD_S, REST * (now - began))
        if self._again:
            self.work_out_soon()

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _work(self) -> Iterator[None]:
        """Yield between the steps; what it changes itself asks for no other round."""
        fresh, self._fresh = self._fresh, False
        self._show_run(self._judge.checklist(self._state.fleet, self._situation))
        yield
        for allowed in self._judge.allowed(lambda: self._state.fleet, lambda: self._situation, fresh=fresh):
            if allowed is not None:
                self._own_change = True
                try:
                    self._state.set_allowed(allowed)
                finally:
                    self._own_change = False
            yield

    def _show_run(self, checklist: tuple[str, ...]) -> None:
        self._own_change = True
        try:
            self._state.set_run(self._record.view(checklist))
        finally:
            self._own_change = False
