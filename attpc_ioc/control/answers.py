"""The live answers: a start's checklist and the commands that would be accepted now, kept true in slices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from attpc_ioc.log import get_logger
from attpc_ioc.model.fleet import FleetChange
from attpc_ioc.plugin.host import PluginHost

from .decide import Decider
from .state import FleetState

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

    They follow the news as soon as it is published; `tick` comes about once a second, for vetoes on outside
    conditions.
    """

    def __init__(self, state: FleetState, decider: Decider, host: PluginHost) -> None:
        self._state = state
        self._decider = decider
        self._host = host
        self._timer: asyncio.TimerHandle | None = None
        self._not_before_s = 0.0
        self._steps: Iterator[None] | None = None
        self._worked_out = -1
        """The news that the answers know."""
        self._closed = False
        state.subscribe(self._follow)

    def close(self) -> None:
        """Work nothing out any more."""
        self._closed = True
        self._state.unsubscribe(self._follow)
        self._cancel()

    def tick(self) -> None:
        """Work them out anew, whether there is news or not."""
        if self._steps is None:
            self._slice(SLICE_S)

    def again(self) -> None:
        """Work them out anew soon, without any news of the fleet."""
        self._worked_out = -1
        if self._timer is None and self._steps is None and not self._closed:
            self._again_in(max(0.0, self._not_before_s - time.monotonic()))

    def work_out(self) -> None:
        """Work them out and publish them: before this returns, in all but huge fleets.

        Who was answered that a command has ended is to find the new answers.
        """
        if news := self._worked_out != self._state.news:
            self._steps = None
        if news or self._steps is not None:
            self._slice(AT_ONCE_S)
        self._state.publish()

    def _follow(self, change: FleetChange) -> None:
        """Work them out soon where there is news: after the other listeners, and after a rest."""
        if self._worked_out != change.fleet.news and self._timer is None and self._steps is None:
            self._again_in(max(0.0, self._not_before_s - time.monotonic()))

    def _slice(self, limit_s: float) -> None:
        """Begin to work them out, or go on, for some time of the processor; then rest and go on."""
        self._cancel()
        if self._closed:
            return
        if self._steps is None:
            self._worked_out = self._state.news
            self._steps = self._work()
        began = time.thread_time()
        try:
            for _ in self._steps:
                if time.thread_time() - began >= limit_s:
                    self._again_in(REST * (time.thread_time() - began))
                    return
        except Exception:  # a fault of the program: the next change tries again
            log.exception("live answers failed")
        self._steps = None
        rest_s = max(DERIVE_PERIOD_S, REST * (time.thread_time() - began))
        self._not_before_s = time.monotonic() + rest_s
        if self._worked_out != self._state.news:
            self._again_in(rest_s)

    def _again_in(self, wait_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._slice, SLICE_S)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _work(self) -> Iterator[None]:
        """Yield between the steps; all of it is about one snapshot."""
        fleet = self._state.fleet
        next_number = self._host.next_number(fleet.run.experiment)
        checklist = self._decider.checklist(fleet)
        yield
        for allowed in self._decider.allowed(fleet):
            if allowed is not None:
                self._state.set_answers(allowed, checklist, -1 if next_number is None else next_number)
            yield
