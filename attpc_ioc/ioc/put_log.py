"""The put log: a log line and an event for every put; refused puts up to a limit."""

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
"""After this time the log says how many puts of a client it left out, and the count restarts."""

LINES_EACH = 50
"""Lines of one client in this time: more than anybody puts by hand, fewer than a runaway script."""

LINES_ALL = 300
"""Lines of all clients in this time, against a script that makes a connection for every put."""

NAMED = 10
"""Clients named at the end of the time, those with the most left out; the others share a line."""

REFUSED_S = 60.0
"""Time over which refused puts of a host are counted."""

REFUSED_EACH = 50
"""Refused puts of one host recorded singly in this time: a flood would fill the disk."""

REFUSED_ALL = 100
"""The same for all hosts together."""


class PutLog:
    """Logs puts and passes them to `record`: all accepted ones, and refused ones up to a limit.

    Log lines are limited per client address, recorded refused puts per host. Puts beyond a limit are counted,
    and the counts are logged or recorded at the end of the time. Used from the event loop's thread only.
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
        """Puts without a line that were refused or failed, by address."""
        self._refused = RateLimit(
            self._record_counts, window_s=refused_s, each=REFUSED_EACH, in_all=REFUSED_ALL
        )

    def add(self, put: Put) -> asyncio.Future[Any] | None:
        """Log a put or count it, and pass it on; returns the result of `record`, None if only counted."""
        address = put.who.address
        recorded = put.ok or self._refused.passes(address.rpartition(":")[0] or address, put)
        if self._lines.passes(address, put, count_only=not recorded):
            _log(put)
        elif not put.ok:
            self._left_out_refused[address] += 1
        return self._record(put) if recorded else None

    def record_refused(self) -> None:
        """Record how many refused puts were counted; call it while plugins still get events."""
        self._refused.end()

    def close(self) -> None:
        """Log and record what was left out so far."""
        self._refused.end()
        self._lines.end()

    def _record_counts(self, hosts: list[Counted[Put]]) -> None:
        """Record a host's count as its last refused put, with the count as reason and without values."""
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
    keys = {"via": put.who.via} if put.who.via else {}
    keys |= {"reason": put.reason} if put.reason else {}
    report(
        "put", pv=put.pv, who=put.who, address=put.who.address, old=put.old, new=put.new, ok=put.ok, **keys
    )
