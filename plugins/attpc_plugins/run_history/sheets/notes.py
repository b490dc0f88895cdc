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
    """A value that somebody entered at `time_s` (Unix time); `pending` until a run has it."""

    value: Value
    time_s: float
    who: Who = Who()
    pending: bool = False


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
    """The entries by name; `save` before anybody is told that an entry was taken."""

    folder: Path
    entries: dict[str, Entry] = field(default_factory=dict)
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
        self.entries = {note.name: note.entry for note in page.notes}
        self.begun = page.begun
        return ""

    def take(self, name: str) -> None:
        """Note that a run has an entry."""
        self.entries[name] = replace(self.entries[name], pending=False)

    def text(self) -> str:
        """Return the page as `save` writes it."""
        notes = tuple(Note(name, entry) for name, entry in self.entries.items())
        return json.dumps(to_plain(Page(notes, self.begun)), ensure_ascii=False)

    def save(self, text: str) -> None:
        """Put a page on disk; blocks. Raises `OSError`."""
        replace_file(self.folder / FILE, text.encode("utf-8", "replace"), sync=True)
