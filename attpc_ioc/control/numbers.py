"""Run numbers where no plugin owns them: kept in the state directory, never used twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attpc_ioc.errors import Refused, StateDirError
from attpc_ioc.model.command import RUN, CommandName
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.plan import Plan
from attpc_ioc.plugin import hookimpl

from .store import StateStore

DOCUMENT = "numbers"

NUMBERED = frozenset((CommandName.START, CommandName.ADOPT))


@dataclass(slots=True)
class _Numbers:
    """The file's content: the next number of each experiment.

    `lost` says what became of an earlier file that could not be read. It stays until the end of time: which
    experiments that file knew is not known, so one that is not in `next` may have used any number.
    """

    next: dict[str, int] = field(default_factory=dict)
    lost: str = ""

    def of(self, experiment: str, first: int) -> int | None:
        """Return the next number of an experiment; None where that cannot be known."""
        return self.next.get(experiment, None if self.lost else first)

    def dump(self) -> dict[str, Any]:
        return {"next": dict(self.next), "lost": self.lost}


def _read(store: StateStore) -> _Numbers:
    raw = store.load(DOCUMENT)
    if raw is None:
        return _Numbers(lost=store.damaged.get(DOCUMENT, ""))
    numbers, lost = raw.get("next", {}), raw.get("lost", "")
    if not isinstance(numbers, dict):
        return _Numbers(lost=store.set_aside(DOCUMENT, "it has no list of numbers"))
    good = {k: n for k, n in numbers.items() if isinstance(n, int) and not isinstance(n, bool) and n >= 0}
    faults = [f"next.{k} is {n!r}, not a number" for k, n in numbers.items() if k not in good]
    if not isinstance(lost, str):
        faults.append(f"lost is {lost!r}, not a text")
        lost = ""
    if faults:
        text = store.set_aside(DOCUMENT, "; ".join(faults), in_part=True)
        # What an earlier loss was explained with tells where that file is.
        lost = lost or text
        store.save(DOCUMENT, _Numbers(good, lost).dump())
    return _Numbers(good, lost)


class StateDirNumbers:
    """The built-in owner of run numbers, one sequence for each experiment.

    A number is on disk as used before anything is sent to a module. It is given back only when the core says
    that no module was, or may have been, Running under it, and only while it is still the newest.
    """

    attpc_veto_alike = True

    def __init__(self, first_number: int) -> None:
        self._first = first_number
        self._store: StateStore | None = None
        self._numbers = _Numbers()
        self._is_owner: Callable[[], bool] = lambda: True

    def use(self, store: StateStore, is_owner: Callable[[], bool] = lambda: True) -> None:
        """Read and keep the numbers in a state directory; `is_owner` tells that no plugin owns them."""
        self._numbers = _read(store)
        self._store = store
        self._is_owner = is_owner

    @hookimpl
    def attpc_veto(self, plan: Plan, fleet: Fleet) -> str | None:
        """Veto what needs a number where none can be given, so that the checklist shows it."""
        needs_one = plan.command.scope == RUN and plan.command.name in NUMBERED
        if needs_one and self._is_owner() and self.attpc_next_number(fleet.run.experiment) is None:
            return self._refusal()
        return None

    @hookimpl(trylast=True)
    def attpc_next_number(self, experiment: str) -> int | None:
        """Return the number that the next run would get; None where it is not known."""
        return self._numbers.of(experiment, self._first)

    @hookimpl(trylast=True)
    async def attpc_run_number(self, experiment: str) -> int:
        """Reserve the next number; raises `Refused` where none can be given.

        It is written before the run that it is for, and nothing is sent before that one is on disk: one wait
        for the disk serves both.
        """
        number = self._numbers.of(experiment, self._first)
        if number is None:
            raise Refused(self._refusal())
        self._numbers.next[experiment] = number + 1
        self._save()
        return number

    @hookimpl(trylast=True)
    async def attpc_release_number(self, experiment: str, number: int) -> None:
        """Give a number back, if it is still the newest."""
        if self._numbers.next.get(experiment) == number + 1:
            self._numbers.next[experiment] = number
            self._save()
            if self._store is not None:
                await self._store.flush()

    def note(self, experiment: str, number: int) -> None:
        """Take note of a number that another owner gave, so that none is used twice when this one owns them.

        It is written soon; nothing waits for it.
        """
        known = self._numbers.next.get(experiment)
        if known is None or known <= number:
            self._numbers.next[experiment] = number + 1
            self._save()

    def unnote(self, experiment: str, number: int) -> None:
        """Take back `note` for a number that was given back, if it is still the newest."""
        if self._numbers.next.get(experiment) == number + 1:
            self._numbers.next[experiment] = number
            self._save()

    def floor(self, experiment: str) -> int:
        """Return the least number that a run of this experiment may get from any owner; 0: any."""
        return self._numbers.next.get(experiment, 0)

    def recall(self, experiment: str, number: int) -> None:
        """Take note of the run on record, where the list of numbers can be trusted at all."""
        if not self._numbers.lost:
            self.note(experiment, number)

    def _refusal(self) -> str:
        advice = "give the next number with `attpc-ioc next-number` while the IOC is stopped"
        return f"{self._numbers.lost}; {advice}"

    def _save(self) -> None:
        if self._store is not None:
            self._store.save(DOCUMENT, self._numbers.dump())


async def set_next_number(folder: Path, experiment: str, number: int) -> int:
    """Set the next number of an experiment while no IOC runs; returns the one before (0: there was none).

    Raises `StateDirError` where an IOC is using the folder, it cannot be written, or the number is lower than
    the one before: a number is never used twice.
    """
    store = StateStore(folder)
    store.open()
    writer = asyncio.get_running_loop().create_task(store.run())
    try:
        numbers = _read(store)
        old = numbers.next.get(experiment, 0)
        if number < old:
            raise StateDirError(
                f"the next run of {experiment} gets number {old}, and lower ones may have "
                f"been used: give {old} or more"
            )
        numbers.next[experiment] = number
        store.save(DOCUMENT, numbers.dump())
        await store.flush()
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await store.close()
    return old
