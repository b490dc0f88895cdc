"""The largest run number of each experiment that was ever handed out here, and of which start it is.

A database that was emptied, restored from an older backup or exchanged never gives a number twice.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from attpc_ioc.files import private

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
    """One file in the plugin's folder: a line for each change, the last one of an experiment counts.

    `load`, `write`, `use` and `give_back` block for the disk and raise `OSError`.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._last: dict[str, Reserved] = {}
        self._recent: list[Reserved] = []
        self.fault = ""
        """What became of a file that could not be read; empty when nothing is wrong."""

    def load(self) -> None:
        """Read the file; a damaged one is kept aside under another name, and `fault` says so.

        What can be read of a damaged one counts. A last line without its end is of a number that nobody got.
        """
        last, damaged = _read(self._path)
        if damaged:
            aside = self._path.with_name(f"{NAME}.{time.time_ns()}.damaged")
            self._path.rename(aside)
            self.fault = f"the record of run numbers was damaged and is kept as {aside}"
        self._last = last
        self._recent = list(self._last.values())
        replace_file(self._path, b"".join(_line(entry) for entry in self._last.values()), sync=True)

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

    def note(self, reserved: Reserved) -> Reserved:
        """Take a number as used from now on; returns what is to be given to `write`."""
        before = self._last.get(reserved.experiment)
        if before is not None and before.number > reserved.number:
            reserved = Reserved(reserved.experiment, before.number, "", before.at_s)
        self._last[reserved.experiment] = reserved
        self._recent.append(reserved)
        del self._recent[:-RECENT]
        return reserved

    def write(self, reserved: Reserved) -> None:
        """Have on disk what was noted; raises `OSError`, and then it may not be there."""
        self._append(reserved)

    def use(self, reserved: Reserved) -> None:
        """Have a number on disk as used; raises `OSError`, and then it may not be there."""
        self.write(self.note(reserved))

    def give_back(self, experiment: str, number: int) -> None:
        """Have a number on disk as not used, if it is the last; raises `OSError`, and then it is used."""
        before = self._last.get(experiment)
        if before is None or before.number != number:
            return
        now = Reserved(experiment, number - 1, "", before.at_s)
        self._append(now)
        self._last[experiment] = now

    def _append(self, entry: Reserved) -> None:
        """Add a line: one small write and one fsync, many times quicker than a new file."""
        with open(self._path, "ab", opener=private) as stream:
            stream.write(_line(entry))
            stream.flush()
            os.fdatasync(stream.fileno())


def last_numbers(folder: Path) -> dict[str, int]:
    """Return each experiment's largest number by the file in the plugin's folder, which stays as it is.

    For commands beside an IOC. Raises `OSError`.
    """
    return {name: entry.number for name, entry in _read(folder / NAME)[0].items()}


def _read(path: Path) -> tuple[dict[str, Reserved], bool]:
    """Return the last reservation of each experiment, and whether the file is damaged; raises `OSError`."""
    lines = list(read_lines(path, 0, 0, None)) if path.exists() else []
    entries = [None if line.fault else _entry(line.body) for line in lines]
    damaged = None in entries
    last: dict[str, Reserved] = {}
    for entry in entries:
        before = last.get(entry.experiment) if entry else None
        # A number may have been given back; where lines are missing, the largest is the safe one.
        if entry and (before is None or not damaged or entry.number > before.number):
            last[entry.experiment] = entry
    return {name: entry for name, entry in last.items() if entry.number >= 0}, damaged


def _entry(body: bytes) -> Reserved | None:
    try:
        experiment, number, attempt, at_s = json.loads(body)
        return Reserved(str(experiment), int(number), str(attempt), float(at_s))
    except (ValueError, TypeError):
        return None


def _line(entry: Reserved) -> bytes:
    return frame(json.dumps([entry.experiment, entry.number, entry.attempt, entry.at_s]).encode())
