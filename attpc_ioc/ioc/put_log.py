"""The put log: a line in the log for every put, as long as its client does not put too often."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Put, Who

log = get_logger(__name__)

WINDOW_S = 10.0
"""After so long a client that was left out is told of, and begins anew."""

LINES_EACH = 50
"""Lines of one client in this time: more than anybody puts by hand, fewer than a script that runs wild."""

LINES_ALL = 300
"""Lines of all clients together in this time, for a script that connects anew for every put."""

NAMED = 10
"""Clients that are named at the end of the time, those with most left out; the others share a line."""


@dataclass(slots=True)
class _Count:
    """The puts of one client in the present time, known as `who`."""

    who: Who
    told: int = 0
    left_out: int = 0
    refused: int = 0
    """Of those that were left out: refused or failed."""


class PutLog:
    """Logs puts and passes every one on to `record`.

    What is too much of one client, known by its address, or of all together, is counted, and the counts are
    logged when the time is over. Used from the event loop's thread only.
    """

    def __init__(
        self,
        record: Callable[[Put], asyncio.Future[Any] | None],
        *,
        window_s: float = WINDOW_S,
        lines_each: int = LINES_EACH,
        lines_all: int = LINES_ALL,
    ) -> None:
        self._record = record
        self._window_s = window_s
        self._lines_each = lines_each
        self._lines_all = lines_all
        self._counts: dict[str, _Count] = {}
        self._lines = 0
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, put: Put) -> asyncio.Future[Any] | None:
        """Log a put or count it, and pass it on; returns what `record` does."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._window_s, self._begin_anew)
        count = self._counts.get(put.who.address)
        if count is None:
            count = self._counts[put.who.address] = _Count(put.who)
        count.who = put.who
        if count.told < self._lines_each and self._lines < self._lines_all:
            count.told += 1
            self._lines += 1
            _log(put)
        else:
            count.left_out += 1
            count.refused += not put.ok
        return self._record(put)

    def close(self) -> None:
        """Log what was left out until now."""
        if self._timer is not None:
            self._timer.cancel()
            self._begin_anew()

    def _begin_anew(self) -> None:
        self._timer = None
        self._lines = 0
        counts = sorted(self._counts.values(), key=lambda count: -count.left_out)
        self._counts = {}
        for count in counts[:NAMED]:
            if count.left_out:
                log.warning(
                    "puts left out of the log",
                    who=count.who,
                    address=count.who.address,
                    puts=count.left_out,
                    refused=count.refused,
                )
        rest = [count for count in counts[NAMED:] if count.left_out]
        if rest:
            log.warning(
                "puts left out of the log",
                clients=len(rest),
                puts=sum(count.left_out for count in rest),
                refused=sum(count.refused for count in rest),
            )


def _log(put: Put) -> None:
    report = log.info if put.ok else log.warning
    keys = {"reason": put.reason} if put.reason else {}
    report(
        "put", pv=put.pv, who=put.who, address=put.who.address, old=put.old, new=put.new, ok=put.ok, **keys
    )
