"""The tables of PVAccess: which PVs their columns are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from attpc_ioc.errors import SettingsError
from attpc_ioc.model.command import ScopeKind

from .row import Record, Row
from .table import PvEntry

NAME, SEVERITY = "Name", "Severity"
"""The first columns of a table with a row for each module: its name, and the worst alarm of its cells."""

ALARMS = "Alarms"
"""The table of the PVs in alarm; it is made of the alarm tree, not of rows that name it."""

ALARM_COLUMNS = (SEVERITY, "PV", "Status", "Since", "Reason")

ARRAYS = frozenset({Record.STRINGS, Record.NUMBERS})
"""What a table of arrays is made of."""

_OF = {
    ScopeKind.ECC: "A row for each ECC server",
    ScopeKind.SOURCE: "A row for each data source",
    ScopeKind.PLUGIN: "A row for each plugin",
}

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, its row in the PV table, and the PV of each module; None where one does not use it.

    In a table of arrays it is one PV, whose elements are the rows.
    """

    name: str
    row: Row
    entries: tuple[PvEntry | None, ...]


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A table: its full name, and the names of its rows, which are None in a table of arrays."""

    name: str
    desc: str
    rows: tuple[str, ...] | None
    columns: tuple[Column, ...]

    @property
    def entries(self) -> tuple[PvEntry, ...]:
        """All its PVs."""
        return tuple(entry for column in self.columns for entry in column.entries if entry is not None)


def column_name(part: str) -> str:
    """Return the name of a row's column: the last part of its name."""
    return part.rpartition(":")[2]


def tables(table: Sequence[PvEntry]) -> tuple[TableEntry, ...]:
    """Return the tables that the rows of the PV table name, in the order in which they are first named.

    Raises `SettingsError` with everything that is wrong with these rows.
    """
    if faults := list(_faults(table)):
        raise SettingsError("PV table", faults)
    found = []
    for part, entries in _by_table(table).items():
        kinds = {entry.scope.kind for entry in entries}
        name = _prefix(table) + part
        if kinds == {ScopeKind.SYSTEM}:
            columns = tuple(
                Column(column_name(entry.row.part), entry.row, (entry if entry.used else None,))
                for entry in entries
            )
            found.append(TableEntry(name, "A row for each element of its arrays", None, columns))
        else:
            found.append(_of_modules(name, _OF[next(iter(kinds))], entries))
    return tuple(found)


def _of_modules(name: str, desc: str, entries: list[PvEntry]) -> TableEntry:
    rows = tuple(dict.fromkeys(entry.scope.name for entry in entries if entry.used))
    shown = {(entry.row.part, entry.scope.name): entry for entry in entries if entry.used}
    by_part = {entry.row.part: entry.row for entry in entries}
    columns = tuple(
        Column(column_name(part), row, tuple(shown.get((part, name)) for name in rows))
        for part, row in by_part.items()
    )
    return TableEntry(name, desc, rows, columns)


def _faults(table: Sequence[PvEntry]) -> Iterator[str]:
    names = {entry.name for entry in table}
    for part, entries in _by_table(table).items():
        owner = next((f" (plugin {entry.row.plugin})" for entry in entries if entry.row.plugin), "")
        if part == ALARMS or _prefix(table) + part in names:
            yield f"{part}: is not free for a table{owner}"
        kinds = {entry.scope.kind for entry in entries}
        if len(kinds) > 1 or kinds <= {ScopeKind.RUN, ScopeKind.IOC}:
            yield f"table {part}: rows of all ECC servers, of all sources, or arrays of the system{owner}"
        arrays = kinds == {ScopeKind.SYSTEM}
        rows = {entry.row.part: entry.row for entry in entries}.values()
        columns: set[str] = {NAME, SEVERITY}
        for row in rows:
            column = column_name(row.part)
            if column in columns or not _IDENTIFIER.fullmatch(column):
                yield f"table {part}: {row.part} gives no column of its own: {column}{owner}"
            columns.add(column)
            if row.command is not None or (row.record in ARRAYS) != arrays:
                kind = "arrays" if arrays else "values, no arrays or commands"
                yield f"table {part}: {row.part} cannot be a column; its columns are {kind}{owner}"


def _by_table(table: Iterable[PvEntry]) -> dict[str, list[PvEntry]]:
    found: dict[str, list[PvEntry]] = {}
    for entry in table:
        if entry.row.table:
            found.setdefault(entry.row.table, []).append(entry)
    return found


def _prefix(table: Sequence[PvEntry]) -> str:
    first = table[0]
    return first.name.removesuffix(first.row.part)
