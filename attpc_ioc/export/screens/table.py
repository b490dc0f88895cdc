"""The PV table as the screens use it: which PVs and scopes exist."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from attpc_ioc.errors import AttpcError
from attpc_ioc.export.protocol import PVA
from attpc_ioc.model.command import ScopeKind
from attpc_ioc.pvs.row import Row
from attpc_ioc.pvs.table import PvEntry
from attpc_ioc.pvs.tables import TableEntry, tables

OBSERVABLES = "Obs:"
"""The prefix of the run sheet's name parts."""


class Pvs:
    """The PV table of one export; `served`: whether PVAccess serves its tables."""

    def __init__(self, table: Sequence[PvEntry], *, served: bool) -> None:
        if not table:
            raise AttpcError("there are no PVs to make screens of")
        self._table = table
        self._parts = {(entry.scope.kind, entry.row.part) for entry in table if entry.used}
        first = table[0]
        self.prefix = first.name.removesuffix(first.row.part)
        self._served = served

    @property
    def by_pva(self) -> bool:
        """Whether the names of the PVs are reached by PVAccess."""
        return self.prefix.startswith(PVA)

    @cached_property
    def tables(self) -> tuple[TableEntry, ...]:
        """The tables of PVAccess that rows make, those with a row for each module first."""
        found = tables(self._table) if self._served else ()
        return tuple(sorted(found, key=lambda entry: entry.rows is None))

    def has(self, kind: ScopeKind, *parts: str) -> bool:
        """Return whether the table has all these name parts, used in any scope of the kind."""
        return all((kind, part) in self._parts for part in parts)

    def scopes(self, kind: ScopeKind, part: str = "") -> tuple[str, ...]:
        """Return the names of all scopes of a kind, in the order of the settings.

        With `part` only those that use the row of that name part.
        """
        found = (e for e in self._table if e.scope.kind is kind and part in ("", e.row.part))
        return tuple(dict.fromkeys(e.scope.name for e in found if e.used or not part))

    @cached_property
    def observables(self) -> tuple[Row, ...]:
        """The rows of the run sheet."""
        return tuple(
            entry.row
            for entry in self._table
            if entry.scope.kind is ScopeKind.SYSTEM and entry.row.part.startswith(OBSERVABLES)
        )
