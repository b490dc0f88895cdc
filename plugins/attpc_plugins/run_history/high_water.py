"""The largest run number of each experiment that was ever handed out here, on disk before it is handed out.

A database that was emptied, restored from an older backup or exchanged never gives a number twice.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from .journal_files import frame, read_lines, replace_file

NAME = "numbers"

RECENT = 64
"""Reservations that are remembered, so that late events find the start that they are of."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """A number that was handed out; `attempt` is the token of its start, `at_s` the Unix time."""

    experiment: str
    number: int
    attempt: str
    at_s: float


class HighWater:
    """One file in the plugin's folder. `load` and `use` block for the disk and raise `OSError`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._last: dict[str, Reserved] = {}
        self._recent: list[Reserved] = []
        self.fault = ""
        """What became of a file that could not be read; empty when nothing is wrong."""

    def load(self) -> None:
        """Read the file; a damaged one is kept aside under another name, and `fault` says so."""
        if not self._path.exists():
            return
        entries = _entries(self._path)
        if entries is None:
            aside = self._path.with_name(f"{NAME}.{time.time_ns()}.damaged")
            self._path.rename(aside)
            self.fault = f"the record of run numbers was damaged and is kept as {aside}"
            return
        self._last = {entry.experiment: entry for entry in entries}
        self._recent = list(entries)

    def at_least(self, experiment: str) -> int:
        """Return the smallest number that may be given next."""
        last = self._last.get(experiment)
        return 0 if last is None else last.number + 1

    def last(self) -> tuple[Reserved, ...]:
        """Return the last reservation of each experiment; its attempt is empty where that is not known."""
        return tuple(self._last.values())

    def attempt_of(self, experiment: str, number: int, at_s: float) -> str:
        """Return the token of the start that had this number at this time; empty where it is not known."""
        found = [r for r in self._recent if r.experiment == experiment and r.number == number]
        # The same number may have been given, given back and given again within a moment.
        before = [r for r in found if r.at_s <= at_s]
        chosen = before or found[:1]
        return chosen[-1].attempt if chosen else ""

    def use(self, reserved: Reserved) -> None:
        """Have a number on disk as used; raises `OSError`, and then it is not."""
        before = self._last.get(reserved.experiment)
        if before is not None and before.number > reserved.number:
            reserved = Reserved(reserved.experiment, before.number, "", before.at_s)
        self._last[reserved.experiment] = reserved
        try:
            self._write()
        except OSError:
            self._restore(reserved.experiment, before)
            raise
        self._remember(reserved)

    def give_back(self, experiment: str, number: int) -> None:
        """Have a number on disk as not used, if it is the last; raises `OSError`, and then it is used."""
        before = self._last.get(experiment)
        if before is None or before.number != number:
            return
        if number == 0:
            del self._last[experiment]
        else:
            self._last[experiment] = Reserved(experiment, number - 1, "", before.at_s)
        try:
            self._write()
        except OSError:
            self._restore(experiment, before)
            raise

    def _restore(self, experiment: str, before: Reserved | None) -> None:
        if before is None:
            self._last.pop(experiment, None)
        else:
            self._last[experiment] = before

    def _remember(self, reserved: Reserved) -> None:
        self._recent.append(reserved)
        del self._recent[:-RECENT]

    def _write(self) -> None:
        entries = [[r.experiment, r.number, r.attempt, r.at_s] for r in self._last.values()]
        replace_file(self._path, frame(json.dumps(entries).encode()), sync=True)


def _entries(path: Path) -> list[Reserved] | None:
    """Return what the file holds; None where it is damaged. Raises `OSError`."""
    lines = [line for line in read_lines(path, 0, 0, None) if not line.fault]
    if len(lines) != 1:
        return None
    return [Reserved(*entry) for entry in json.loads(lines[0].body)]
