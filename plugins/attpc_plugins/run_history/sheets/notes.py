"""Entries of the run sheet, kept across restarts: values for the next run survive a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Who
from attpc_plugins.run_history.state import Keeping
from attpc_plugins.run_history.store.model.records import RunRef
from attpc_plugins.run_history.store.model.values import Value, value_in

log = get_logger(__name__)

ENTRIES = "sheet"
BEGUN = "sheet begun"

OLD_FILE = "sheet.json"
"""The file of version 0.1."""


@dataclass(frozen=True, slots=True)
class Entered:
    """A value entered at `time_s` (Unix time); `pending` until a run has it.

    It is for runs of one experiment, or of any if that is empty.
    """

    value: Value
    time_s: float
    who: Who = Who()
    pending: bool = False
    experiment: str = ""


ENTERED = TypeAdapter(Entered)
RUN_REF = TypeAdapter(RunRef)


class Notes:
    """The entries by experiment and name, and the run that began last; written soon."""

    def __init__(self, keeping: Keeping) -> None:
        self._entries = keeping.kept(ENTRIES, ENTERED)
        self._begun = keeping.kept(BEGUN, RUN_REF)
        if self._entries.bad or self._entries.lost:
            reason = self._entries.lost or "; ".join(self._entries.bad.values())
            log.warning("run sheet starts empty", reason=reason)
            self._entries.lose("")

    @property
    def begun(self) -> RunRef | None:
        """The run that began last."""
        return self._begun.values.get("")

    def begin(self, run: RunRef) -> None:
        """Note that a run has begun."""
        self._begun.keep("", run)

    def of(self, experiment: str, name: str) -> Entered | None:
        """Return the last entry for an observable of an experiment, or None."""
        values = self._entries.values
        return values.get(_key(experiment, name)) or values.get(_key("", name))

    def put(self, name: str, entry: Entered) -> None:
        """Store an entry, replacing an earlier one."""
        self._entries.drop(_key("", name))
        self._entries.keep(_key(entry.experiment, name), entry)

    def take(self, experiment: str, name: str) -> None:
        """Note that a run of an experiment has its entry."""
        if (entry := self.of(experiment, name)) is not None:
            self.put(name, replace(entry, pending=False, experiment=experiment))

    def forget(self, experiment: str, name: str, before: Entered | None) -> None:
        """Restore an earlier entry."""
        self._entries.drop(_key(experiment, name))
        if before is not None:
            self.put(name, before)

    def take_over(self, folder: Path) -> None:
        """Import the file of version 0.1 in the plugin's folder, if nothing is kept yet."""
        path = folder / OLD_FILE
        try:
            raw: Any = json.loads(path.read_text(encoding="utf-8"))
            notes = list(_old_notes(raw))
            begun = RUN_REF.validate_python(raw["begun"]) if raw.get("begun") else None
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.warning("run sheet starts empty", reason=f"{path} cannot be read: {error}")
            return
        for name, entry in notes:
            if _key(entry.experiment, name) not in self._entries.values:
                self.put(name, entry)
        if begun is not None and self.begun is None:
            self.begin(begun)


def _key(experiment: str, name: str) -> str:
    return f"{experiment}/{name}"


def _old_notes(raw: dict[str, Any]) -> Iterator[tuple[str, Entered]]:
    for note in raw.get("notes", ()):
        entry = note["entry"]
        yield note["name"], ENTERED.validate_python({**entry, "value": value_in(entry["value"])})
