"""The put log: a line and a record for every put; refused ones only as long as there are not too many."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Put
from attpc_ioc.ratelimit import Counted, RateLimit

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


class PutLog:
    """Logs puts and passes them on to `record`: all accepted ones, and refused ones up to a limit.

    Lines are limited for each client, known by its address, and records of refused puts for each host. Puts
    beyond a limit are counted, and their numbers logged or recorded at the end of the time. Used from the
    event loop's thread only.
    """

    def __init__(
        self,
        record: Callable[[Put], asyncio.Future[Any] | None],
        *,
        window_s: float = WINDOW_S,
        refused_s: float = REFUSED_S,
    ) -> None:
        self._record = record
        self._refused_s = refused_s
        self._lines = RateLimit(self._log_left_out, window_s=window_s, each=LINES_EACH, in_all=LINES_ALL)
        self._left_out_refused: Counter[str] = Counter()
        """Of the puts without a line: those that were refused or failed, by address."""
        self._refused = RateLimit(
            self._record_counts, window_s=refused_s, each=REFUSED_EACH, in_all=REFUSED_ALL
        )

    def tell(self, put: Put) -> asyncio.Future[Any] | None:
        """Log a put or count it, and pass it on; returns what `record` does, None for one that is counted."""
        address = put.who.address
        recorded = put.ok or self._refused.passes(address.rpartition(":")[0] or address, put)
        if self._lines.passes(address, put, count_only=not recorded):
            _log(put)
        elif not put.ok:
            self._left_out_refused[address] += 1
        return self._record(put) if recorded else None

    def record_refused(self) -> None:
        """Record how many refused puts were counted until now; to be called while plugins still listen."""
        self._refused.end()

    def close(self) -> None:
        """Log and record what was left out until now."""
        self._refused.end()
        self._lines.end()

    def _record_counts(self, hosts: list[Counted[Put]]) -> None:
        """Record the number of a host as its last refused put: with that number as reason, without values."""
        for host in hosts[:NAMED]:
            self._record_count(host.last, f"{host.number} more puts from this host")
        rest = hosts[NAMED:]
        if rest:
            total = sum(host.number for host in rest)
            self._record_count(rest[0].last, f"{total} more puts from {len(rest)} hosts")

    def _record_count(self, last: Put, which: str) -> None:
        reason = (
            f"{which} were refused within {self._refused_s:g} s and only counted; the last: {last.reason}"
        )
        self._record(replace(last, old="", new="", reason=reason))

    def _log_left_out(self, clients: list[Counted[Put]]) -> None:
        refused, self._left_out_refused = self._left_out_refused, Counter()
        for client in clients[:NAMED]:
            who = client.last.who
            log.warning(
                "puts left out of the log",
                who=who,
                address=who.address,
                puts=client.number,
                refused=refused[who.address],
            )
        rest = clients[NAMED:]
        if rest:
            log.warning(
                "puts left out of the log",
                clients=len(rest),
                puts=sum(client.number for client in rest),
                refused=sum(refused[client.last.who.address] for client in rest),
            )


def _log(put: Put) -> None:
    report = log.info if put.ok else log.warning
    keys = {"reason": put.reason} if put.reason else {}
    report(
        "put", pv=put.pv, who=put.who, address=put.who.address, old=put.old, new=put.new, ok=put.ok, **keys
    )
