"""By which protocol the exported names are reached: Channel Access, or PVAccess with `pva://` before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from attpc_ioc.pvs.table import PvEntry

PVA = "pva://"
"""What Phoebus and the Archiver Appliance read as: by PVAccess (`PVNames.V4_PREFIX` of the latter)."""


def over_pva(table: Sequence[PvEntry]) -> tuple[PvEntry, ...]:
    """Return a PV table whose names are to be reached by PVAccess."""
    return tuple(replace(entry, name=PVA + entry.name) for entry in table)


def bare(name: str) -> str:
    """Return a name or prefix without its protocol."""
    return name.removeprefix(PVA)
