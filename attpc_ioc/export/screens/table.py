"""The PV table as the screens use it: which PVs and scopes exist."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from attpc_ioc.errors import AttpcError
from attpc_ioc.model.command import ScopeKind
from attpc_ioc.pvs.row import Row
from attpc_ioc.pvs.table import PvEntry

OBSERVABLES = "Obs:"
"""The prefix of the run sheet's name parts."""


class Pvs:
    """The PV table of one export."""

    def __init__(self, table: Sequence[PvEntry]) -> None:
        if not table:
            raise AttpcError("there are no PVs to make screens of")
        self._table = table
        self._parts = {(entry.scope.kind, entry.row.part) for entry in table if entry.used}
        first = table[0]
        self.prefix = first.name.removesuffix(first.row.part)

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
