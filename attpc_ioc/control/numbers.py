"""Run numbers where no plugin owns them: kept in the state directory, never used twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

from attpc_ioc.errors import Refused
from attpc_ioc.plugin import hookimpl

from .store import StateStore

DOCUMENT = "numbers"


class StateDirNumbers:
    """The built-in owner of run numbers, one sequence for each experiment.

    A number is on disk as used before it is handed out. It is given back only when the core says that no
    module was, or may have been, Running under it, and only while it is still the newest.
    """

    def __init__(self, first_number: int) -> None:
        self._first = first_number
        self._store: StateStore | None = None
        self._next: dict[str, int] = {}
        self._fault = "run numbers have no state directory yet"

    def use(self, store: StateStore) -> None:
        """Read the numbers of a state directory and keep them there from now on."""
        loaded = store.load(DOCUMENT)
        self._store = store
        self._fault = store.damaged.get(DOCUMENT, "")
        for experiment, number in (loaded or {}).get("next", {}).items():
            if isinstance(number, int) and number >= 0:
                self._next[experiment] = number
            else:
                self._fault = f"{store.folder}/{DOCUMENT}.json: next.{experiment} is {number!r}, no number"

    @property
    def fault(self) -> str:
        """Why no number can be given out; empty when it can."""
        return self._fault

    @hookimpl(trylast=True)
    def attpc_next_number(self, experiment: str) -> int | None:
        """Return the number that the next run would get."""
        return self._next.get(experiment, self._first)

    @hookimpl(trylast=True)
    async def attpc_run_number(self, experiment: str) -> int:
        """Reserve the next number; raises `Refused` or `StateDirError` where it cannot be kept."""
        if self._fault or self._store is None:
            raise Refused(
                f"{self._fault}; give the next number with `attpc-ioc next-number EXPERIMENT NUMBER` "
                "while the IOC is stopped"
            )
        number = self._next.get(experiment, self._first)
        self._next[experiment] = number + 1
        await self._keep()
        return number

    @hookimpl(trylast=True)
    async def attpc_release_number(self, experiment: str, number: int) -> None:
        """Give a number back, if it is still the newest."""
        if self._next.get(experiment) == number + 1:
            self._next[experiment] = number
            await self._keep()

    async def _keep(self) -> None:
        if self._store is not None:
            self._store.save(DOCUMENT, {"next": dict(self._next)})
            await self._store.flush()


async def set_next_number(folder: Path, experiment: str, number: int) -> int:
    """Set the next number of an experiment while no IOC runs; returns the one before.

    Raises `StateDirError` where an IOC is using the folder or it cannot be written.
    """
    store = StateStore(folder)
    store.open()
    writer = asyncio.get_running_loop().create_task(store.run())
    try:
        document = store.load(DOCUMENT) or {"next": {}}
        numbers = dict(document.get("next", {}))
        old = int(numbers.get(experiment, 0))
        numbers[experiment] = number
        store.save(DOCUMENT, {"next": numbers})
        await store.flush()
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await store.close()
    return old
