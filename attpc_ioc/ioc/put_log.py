"""The put log: a line and a record for every put; refused ones only as long as there are not too many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Put, Who

log = get_logger(__name__)

WINDOW_S = 10.0
"""After this time the log says how many puts of a client were left out, and its count restarts."""

LINES_EACH = 50
"""Lines of one client in this time: more than anybody puts by hand, fewer than a script that runs wild."""

LINES_ALL = 300
"""The most lines of all clients in this time, for a script that makes a connection for every put."""

NAMED = 10
"""Clients that are named at the end of the time, those with most left out; the others share a line."""


REFUSED_S = 60.0
"""The time in which refused puts of a host are counted."""

REFUSED_EACH = 50
"""Refused puts of one host that are on record one by one in this time: a flood would fill the disk."""

REFUSED_ALL = 100
"""The same of all hosts together."""


@dataclass(slots=True)
class _Count:
    """The puts of one client in the present time, known as `who`."""

    who: Who
    written: int = 0
    left_out: int = 0
    refused: int = 0
    """Of those that were left out: refused or failed."""


@dataclass(slots=True)
class _Refused:
    """The refused puts of one host in the present time."""

    last: Put
    recorded: int = 0
    counted: int = 0


class Refusals:
    """Decides which refused puts are recorded one by one; the others are counted, and the counts recorded.

    A count is the record of a put as well: that of the last one, with the number in its reason and no values.
    The hosts with most have one each, the others share one.
    """

    def __init__(
        self, record: Callable[[Put], object], *, refused_s: float, each: int, all_hosts: int
    ) -> None:
        self._record = record
        self._refused_s = refused_s
        self._each = each
        self._all = all_hosts
        self._hosts: dict[str, _Refused] = {}
        self._recorded = 0
        self._timer: asyncio.TimerHandle | None = None

    def take(self, put: Put) -> bool:
        """Return whether this one is to be recorded; else it is counted."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._refused_s, self.record_counts)
        address = put.who.address
        host = self._hosts.setdefault(address.rpartition(":")[0] or address, _Refused(put))
        if host.recorded < self._each and self._recorded < self._all:
            host.recorded += 1
            self._recorded += 1
            return True
        host.counted += 1
        host.last = put
        return False

    def record_counts(self) -> None:
        """Log the counts up to now and reset them."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        counted = sorted((h for h in self._hosts.values() if h.counted), key=lambda host: -host.counted)
        self._hosts, self._recorded = {}, 0
        for host in counted[:NAMED]:
            self._record_count(host.last, f"{host.counted} more puts from this host")
        rest = counted[NAMED:]
        if rest:
            total = sum(host.counted for host in rest)
            self._record_count(rest[0].last, f"{total} more puts from {len(rest)} hosts")

    def _record_count(self, last: Put, which: str) -> None:
        reason = (
            f"{which} were refused within {self._refused_s:g} s and only counted; the last: {last.reason}"
        )
        self._record(replace(last, old="", new="", reason=reason))


class PutLog:
    """Logs puts and passes them on to `record`: all that were accepted, of refused ones what `Refusals` lets.

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
        refused_s: float = REFUSED_S,
        refused_each: int = REFUSED_EACH,
        refused_all: int = REFUSED_ALL,
    ) -> None:
        self._record = record
        self._refusals = Refusals(record, refused_s=refused_s, each=refused_each, all_hosts=refused_all)
        self._window_s = window_s
        self._lines_each = lines_each
        self._lines_all = lines_all
        self._counts: dict[str, _Count] = {}
        self._lines = 0
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, put: Put) -> asyncio.Future[Any] | None:
        """Log a put or count it, and pass it on; returns what `record` does, None for one that is counted."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._window_s, self._begin_anew)
        count = self._counts.get(put.who.address)
        if count is None:
            count = self._counts[put.who.address] = _Count(put.who)
        count.who = put.who
        recorded = put.ok or self._refusals.take(put)
        if recorded and count.written < self._lines_each and self._lines < self._lines_all:
            count.written += 1
            self._lines += 1
            _log(put)
        else:
            count.left_out += 1
            count.refused += not put.ok
        return self._record(put) if recorded else None

    def record_refused(self) -> None:
        """Record how many refused puts were counted until now; to be called while plugins still listen."""
        self._refusals.record_counts()

    def close(self) -> None:
        """Log and record what was left out until now."""
        self._refusals.record_counts()
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
