"""How many changes of a state are reported one by one: a faulty server may show another with each poll."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from attpc_ioc.model.states import State

WINDOW_S = 60.0

MOST = 60
"""Changes of one module in this time that no command of this IOC explains."""


class ChangeLimit:
    """Passes the first `MOST` changes in `WINDOW_S`, and counts the rest.

    At the end of the time `report` gets how many those were, and the state before the first of them.
    """

    def __init__(self, report: Callable[[int, State], None]) -> None:
        self._report = report
        self._passed = 0
        self._counted = 0
        self._before = State.OFFLINE
        self._timer: asyncio.TimerHandle | None = None

    def passes(self, before: State) -> bool:
        """Return whether a change is to be reported by itself; else it is counted."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WINDOW_S, self.end)
        if self._passed < MOST:
            self._passed += 1
            return True
        if not self._counted:
            self._before = before
        self._counted += 1
        return False

    def end(self) -> None:
        """Report what was counted until now, and begin anew."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        counted, self._passed, self._counted = self._counted, 0, 0
        if counted:
            self._report(counted, self._before)
