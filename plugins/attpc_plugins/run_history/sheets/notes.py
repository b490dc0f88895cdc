"""What was entered on the run sheet, kept on disk: values for the next run are there after a crash too."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from attpc_ioc.model.command import Who
from attpc_plugins.run_history.exchange.faults import Bad
from attpc_plugins.run_history.exchange.plain import from_plain, to_plain
from attpc_plugins.run_history.journal_files import replace_file
from attpc_plugins.run_history.store.model import Value
from attpc_plugins.run_history.store.records import RunRef

FILE = "sheet.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """A value that somebody entered at `time_s` (Unix time); `pending` until a run has it.

    It is for runs of one experiment; of any, where that is empty.
    """

    value: Value
    time_s: float
    who: Who = Who()
    pending: bool = False
    experiment: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """An entry with its observable's name."""

    name: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Page:
    """All that is kept: the entries, and the run that was begun last."""

    notes: tuple[Note, ...] = ()
    begun: RunRef | None = None


@dataclass(slots=True)
class Notes:
    """The entries by experiment and name; `save` before anybody is told that an entry was taken."""

    folder: Path
    entries: dict[tuple[str, str], Entry] = field(default_factory=dict)
    begun: RunRef | None = None

    def load(self) -> str:
        """Read what was kept; returns why it cannot be read, and then begins anew."""
        try:
            raw: Any = json.loads((self.folder / FILE).read_text(encoding="utf-8"))
            page = from_plain(Page, raw)
        except FileNotFoundError:
            return ""
        except (OSError, ValueError, RecursionError, Bad) as error:
            return f"{self.folder / FILE} cannot be read: {error}"
        self.entries = {(note.entry.experiment, note.name): note.entry for note in page.notes}
        self.begun = page.begun
        return ""

    def of(self, experiment: str, name: str) -> Entry | None:
        """Return what was entered last for an observable of an experiment, None where nothing was."""
        return self.entries.get((experiment, name)) or self.entries.get(("", name))

    def put(self, name: str, entry: Entry) -> None:
        """Take an entry in the place of an earlier one."""
        self.entries.pop(("", name), None)
        self.entries[entry.experiment, name] = entry

    def take(self, experiment: str, name: str) -> None:
        """Note that a run of an experiment has its entry."""
        if (entry := self.of(experiment, name)) is not None:
            self.put(name, replace(entry, pending=False, experiment=experiment))

    def text(self) -> str:
        """Return the page as `save` writes it."""
        notes = tuple(Note(name, entry) for (_, name), entry in self.entries.items())
        return json.dumps(to_plain(Page(notes, self.begun)), ensure_ascii=False)

    def save(self, text: str) -> None:
        """Put a page on disk; blocks. Raises `OSError`."""
        replace_file(self.folder / FILE, text.encode("utf-8", "replace"), sync=True)
