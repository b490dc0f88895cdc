"""Whether an answer of an ECC server is young enough to send something on it (rule 1)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from attpc_ioc.ecc.client import Observation
from attpc_ioc.errors import EccError, EccStale
from attpc_ioc.model.rules import STOP_ASKS_S
from attpc_ioc.model.states import Operation

JUST_NOW_S = 0.05
"""An observation this young needs no other one before something is sent."""


class Freshness:
    """Asks one server until an answer is young enough. `last` is the last one, None while it is Offline."""

    def __init__(self, ask: Callable[[], Awaitable[Observation]], freshness_s: float) -> None:
        self._ask = ask
        self._freshness_s = freshness_s
        self.last: Observation | None = None

    async def before(self, operation: Operation, limit_s: float) -> None:
        """Return when `operation` may be sent, as far as the age of what is known goes.

        Raises `EccStale` where that is not so within `limit_s`, and `EccError` where a poll failed. A fleet
        whose servers answer slowly must be stopped too: Stop never waits for long and never raises.
        """
        if operation is Operation.STOP:
            with contextlib.suppress(EccError):
                await self.fresh(min(limit_s, STOP_ASKS_S))
        else:
            await self.fresh(limit_s)

    async def fresh(self, limit_s: float) -> Observation:
        """Return a `GetState` that is as good as asked now; raises as `before` does.

        While a command is running the module is polled at the moving pace, and what was seen a moment ago
        will do; otherwise the server is asked. A poll that fails is no answer, but one that is less than
        `freshness_s` old still is. Where the loop was held up the server is asked again.
        """
        if self.last is not None and _age_s(self.last) < min(JUST_NOW_S, self._freshness_s):
            return self.last
        took = "GetState was not answered"
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    try:
                        seen = await self._ask()
                    except EccError:
                        if self.last is not None and _age_s(self.last) < self._freshness_s:
                            return self.last
                        raise
                    age_s = _age_s(seen)
                    if age_s < self._freshness_s:
                        return seen
                    took = (
                        f"answers to GetState take {age_s:.2g} s, limits.freshness_s is "
                        f"{self._freshness_s:g} s"
                    )
        except TimeoutError:
            raise EccStale(took) from None


def _age_s(seen: Observation) -> float:
    """Return how long ago this was certainly true, in seconds."""
    return time.monotonic() - seen.asked_at_s
