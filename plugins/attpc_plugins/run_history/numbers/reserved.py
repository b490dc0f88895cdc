"""The largest run number of each experiment that was ever given here, and the start that got it.

So a database that was emptied, replaced or restored from an older backup never gives a number twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from attpc_ioc.log import get_logger
from attpc_plugins.run_history.old_files import read_framed
from attpc_plugins.run_history.state import Keeping

log = get_logger(__name__)

TOPIC = "numbers"
ATTEMPTS = "attempts"

RECENT = 64
"""Reservations that are remembered, so that events can be matched to their start."""

OLD_FILE = "numbers"
"""The file of version 0.1: a line for each change, the last one of an experiment counts."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """A number that was given; `attempt` is the token of its start, `at_s` the Unix time."""

    experiment: str
    number: int
    attempt: str
    at_s: float


RESERVED = TypeAdapter(Reserved)


class ReservedNumbers:
    """The last reservation of each experiment, and the recent ones by their attempt; written soon."""

    def __init__(self, keeping: Keeping) -> None:
        self._last = keeping.kept(TOPIC, RESERVED)
        self._recent = keeping.kept(ATTEMPTS, RESERVED)
        self.fault = self._last.lost
        """Why numbers may be missing; empty if none are. It is shown once: the database has them too."""
        if self._last.bad:
            self.fault = f"the record of run numbers is damaged: {'; '.join(self._last.bad.values())}"
        self._last.lose("")

    def at_least(self, experiment: str) -> int:
        """Return the lowest number that may be given next."""
        last = self._last.values.get(experiment)
        return 0 if last is None else last.number + 1

    def last(self) -> tuple[Reserved, ...]:
        """Return the last reservation of each experiment; its attempt is empty if unknown."""
        return tuple(self._last.values.values())

    def attempt_of(self, experiment: str, number: int, at_s: float) -> str:
        """Return the token of the start that had this number at this time; empty if unknown."""
        found = [r for r in self._recent.values.values() if (r.experiment, r.number) == (experiment, number)]
        # The same number may have been given, released and given again within a moment.
        found.sort(key=lambda r: r.at_s)
        before = [r for r in found if r.at_s <= at_s]
        chosen = before or found[:1]
        return chosen[-1].attempt if chosen else ""

    def use(self, reserved: Reserved) -> None:
        """Mark a number as used."""
        before = self._last.values.get(reserved.experiment)
        last = reserved
        if before is not None and before.number > reserved.number:
            last = Reserved(reserved.experiment, before.number, "", before.at_s)
        self._last.keep(last.experiment, last)
        if reserved.attempt:
            self._recent.keep(reserved.attempt, reserved)
            for attempt in sorted(self._recent.values, key=lambda a: self._recent.values[a].at_s)[:-RECENT]:
                self._recent.drop(attempt)

    def give_back(self, experiment: str, number: int) -> None:
        """Mark a number as not used, if it is the last."""
        before = self._last.values.get(experiment)
        if before is not None and before.number == number:
            self._last.keep(experiment, Reserved(experiment, number - 1, "", before.at_s))

    def take_over(self, folder: Path) -> None:
        """Import the file of version 0.1 in the plugin's folder; the largest numbers count.

        Raises `OSError`.
        """
        for reserved in old_numbers(folder).values():
            if reserved.number >= self.at_least(reserved.experiment):
                self.use(reserved)


def old_numbers(folder: Path) -> dict[str, Reserved]:
    """Return the last reservation of each experiment in the file of version 0.1; raises `OSError`."""
    last: dict[str, Reserved] = {}
    for body in read_framed(folder / OLD_FILE):
        try:
            experiment, number, attempt, at_s = json.loads(body)
            entry = Reserved(str(experiment), int(number), str(attempt), float(at_s))
        except (ValueError, TypeError) as error:
            log.error("reserved number of version 0.1 damaged", folder=folder, reason=error)
        else:
            last[entry.experiment] = entry
    return {name: entry for name, entry in last.items() if entry.number >= 0}
