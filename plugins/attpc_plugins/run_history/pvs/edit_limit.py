"""Limits how often clients may change the permanent entries of a run."""

from __future__ import annotations

import time
from collections import Counter

from attpc_ioc.errors import Refused
from attpc_ioc.model.command import Who

WINDOW_S = 60.0

CHANGES_EACH = 120
"""Changes of one PV from one host in this time: a script may have two a second."""

CHANGES_ALL = 240
"""The same for all hosts together; beyond it each host has its first."""


class EditLimit:
    """Counts the changes of comment, quality and observables: edits of a run are never deleted."""

    def __init__(self) -> None:
        self._began_s = 0.0
        self._changes: dict[str, Counter[str]] = {}

    def take(self, pv: str, who: Who) -> None:
        """Count a change; raises `Refused` if there were too many."""
        now_s = time.monotonic()
        if now_s - self._began_s >= WINDOW_S:
            self._began_s, self._changes = now_s, {}
        changes = self._changes.setdefault(pv, Counter())
        host = who.address.rpartition(":")[0] or who.address
        if changes[host] >= CHANGES_EACH or (changes[host] and changes.total() >= CHANGES_ALL):
            raise Refused(
                f"{pv}: too many changes, {changes[host]} from this host and {changes.total()} in all within "
                f"{WINDOW_S:g} s; wait {WINDOW_S - (now_s - self._began_s):.0f} s"
            )
        changes[host] += 1
