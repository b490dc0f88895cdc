"""Run numbers where no plugin owns them: kept in the state directory, never used twice."""

from __future__ import annotations

from attpc_ioc.errors import Refused
from attpc_ioc.plugin import hookimpl

from .store import StateStore

DOCUMENT = "numbers"


class StateDirNumbers:
    """The built-in owner of run numbers, one sequence for each experiment.

    A number is on disk as used before it is handed out. It is given back only when the core says that no
    module was, or may have been, Running under it, and only while it is still the newest.
    """

    def __init__(self, store: StateStore, first_number: int) -> None:
        self._store = store
        self._first = first_number
        loaded = store.load(DOCUMENT)
        self._next: dict[str, int] = {}
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

    def at_least(self, experiment: str, number: int) -> None:
        """Make sure that the next number is at least `number`."""
        if self._next.get(experiment, self._first) < number:
            self._next[experiment] = number

    @hookimpl(trylast=True)
    def attpc_next_number(self, experiment: str) -> int | None:
        """Return the number that the next run would get."""
        return self._next.get(experiment, self._first)

    @hookimpl(trylast=True)
    async def attpc_run_number(self, experiment: str) -> int:
        """Reserve the next number; raises `Refused` or `StateDirError` where it cannot be kept."""
        if self._fault:
            raise Refused(
                f"{self._fault}; give the next number with `attpc-ioc next-number EXPERIMENT NUMBER` "
                "while the IOC is stopped"
            )
        number = self._next.get(experiment, self._first)
        self._next[experiment] = number + 1
        self._save()
        await self._store.flush()
        return number

    @hookimpl(trylast=True)
    async def attpc_release_number(self, experiment: str, number: int) -> None:
        """Give a number back, if it is still the newest."""
        if self._next.get(experiment) == number + 1:
            self._next[experiment] = number
            self._save()
            await self._store.flush()

    def _save(self) -> None:
        self._store.save(DOCUMENT, {"next": dict(self._next)})
