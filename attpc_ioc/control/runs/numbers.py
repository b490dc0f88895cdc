"""Run numbers where no plugin owns them: kept in the state directory, never used twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from attpc_ioc.control.take_over import open_event_log
from attpc_ioc.errors import Refused, StateDirError
from attpc_ioc.eventlog import EventLog
from attpc_ioc.model.command import NUMBERED, CommandName, ScopeKind
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.run import RunInfo
from attpc_ioc.plugin import hookimpl
from attpc_ioc.plugin.contract import RunNumbers

TOPIC = "numbers"

_NUMBER: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(strict=True, ge=0)])


class Numbers:
    """The next number of each experiment, as the state database has it.

    `lost` says why numbers may be missing. That stays for ever: which experiments the lost part had is not
    known, so one that has no number here may have used any.
    """

    def __init__(self, event_log: EventLog) -> None:
        self._kept = event_log.kept(TOPIC, _NUMBER)
        if self._kept.bad and not self._kept.lost:
            faults = "; ".join(f"the next number of {e}: {why}" for e, why in self._kept.bad.items())
            self._kept.lose(f"{event_log.path} is damaged ({faults})")
        self.known = self._kept.values
        """The next number by experiment."""

    @property
    def lost(self) -> str:
        """Why numbers may be missing; empty when none are."""
        return self._kept.lost

    def set(self, experiment: str, number: int) -> None:
        """Have the next number of an experiment written soon."""
        self._kept.keep(experiment, number)


class StateDirNumbers:
    """The built-in owner of run numbers, one sequence for each experiment.

    A number is on disk as used before anything is sent to a module. It is given back only when the core says
    that no module was, or may have been, Running under it, and only while it is still the newest.
    """

    def __init__(self, first_number: int) -> None:
        self._first = first_number
        self._log: EventLog | None = None
        self._numbers: Numbers | None = None
        self._is_owner: Callable[[], bool] = lambda: True

    def use(self, event_log: EventLog, is_owner: Callable[[], bool] = lambda: True) -> None:
        """Read and keep the numbers in the state database; `is_owner` tells that no plugin owns them."""
        self._log = event_log
        self._numbers = Numbers(event_log)
        self._is_owner = is_owner

    @property
    def numbers(self) -> Numbers:
        """The numbers of an IOC that runs."""
        assert self._numbers is not None, "the state database was not given"
        return self._numbers

    @hookimpl
    def attpc_veto(self, scope_kind: ScopeKind, command_name: CommandName, fleet: Fleet) -> str | None:
        """Veto what needs a number where none can be given, so that the checklist shows it."""
        needs_one = scope_kind is ScopeKind.RUN and command_name in NUMBERED
        if needs_one and self._is_owner() and self.next(fleet.run.experiment) is None:
            return self._refusal()
        return None

    @hookimpl(trylast=True)
    def attpc_run_numbers(self) -> RunNumbers:
        """Own the run numbers where no other plugin does."""
        return self

    def next(self, experiment: str) -> int | None:
        """Return the number that the next run would get; None where it is not known."""
        if self._numbers is None:
            return None
        return self._numbers.known.get(experiment, None if self._numbers.lost else self._first)

    async def reserve(self, experiment: str) -> int:
        """Reserve the next number; raises `Refused` where none can be given.

        It is written before the run that it is for, and nothing is sent before that one is on disk: one wait
        for the disk serves both.
        """
        number = self.next(experiment)
        if number is None:
            raise Refused(self._refusal())
        self.numbers.set(experiment, number + 1)
        return number

    async def release(self, experiment: str, number: int) -> None:
        """Give a number back, if it is still the newest."""
        if self.numbers.known.get(experiment) == number + 1:
            self.numbers.set(experiment, number)
            if self._log is not None:
                await self._log.flush()

    async def open_run(self) -> RunInfo | None:
        """Return None: what the state database knows of a run is the core's own record."""
        return None

    def note(self, experiment: str, number: int) -> None:
        """Take note of a number that another owner gave, so that none is used twice when this one owns them.

        It is written soon; nothing waits for it.
        """
        known = self.numbers.known.get(experiment)
        if known is None or known <= number:
            self.numbers.set(experiment, number + 1)

    def unnote(self, experiment: str, number: int) -> None:
        """Take back `note` for a number that was given back, if it is still the newest."""
        if self.numbers.known.get(experiment) == number + 1:
            self.numbers.set(experiment, number)

    def floor(self, experiment: str) -> int:
        """Return the least number that a run of this experiment may get from any owner."""
        return self.numbers.known.get(experiment, self._first)

    def recall(self, experiment: str, number: int) -> None:
        """Take note of the run on record, where the list of numbers can be trusted at all."""
        if not self.numbers.lost:
            self.note(experiment, number)

    def _refusal(self) -> str:
        advice = "give the next number with `attpc-ioc next-number` while the IOC is stopped"
        return f"{self.numbers.lost}; {advice}"


async def set_next_number(folder: Path, experiment: str, number: int) -> int:
    """Set the next number of an experiment while no IOC runs; returns the one before (0: there was none).

    Raises `StateDirError` where an IOC is using the folder, it cannot be written, or the number is lower than
    the one before: a number is never used twice.
    """
    event_log = open_event_log(folder)
    writer = asyncio.get_running_loop().create_task(event_log.run())
    try:
        numbers = Numbers(event_log)
        old = numbers.known.get(experiment, 0)
        if number < old:
            raise StateDirError(
                f"the next run of {experiment} gets number {old}, and lower ones may have "
                f"been used: give {old} or more"
            )
        numbers.set(experiment, number)
        await event_log.flush()
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await event_log.close()
    return old
