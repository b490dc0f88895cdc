"""Which group (ASG) of the access security file each PV belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from attpc_ioc.pvs.row import AccessGroup
from attpc_ioc.pvs.table import PvEntry
from attpc_ioc.settings import AccessSettings


def group_of(entry: PvEntry, settings: AccessSettings, prefix: str) -> str:
    """Return the group of a PV: that of the first matching pattern of the settings, else its row's."""
    name = entry.name.removeprefix(prefix)
    for pattern, group in settings.rows.items():
        if fnmatchcase(name, pattern):
            return group
    return {
        AccessGroup.OBSERVER: settings.observer,
        AccessGroup.OPERATOR: settings.operator,
        AccessGroup.EXPERT: settings.expert,
    }[entry.row.access_group]


def groups_of(entries: Iterable[PvEntry], settings: AccessSettings, prefix: str) -> dict[str, str]:
    """Return the groups of all PVs by their full names."""
    return {entry.name: group_of(entry, settings, prefix) for entry in entries}


def unused_patterns(entries: Iterable[PvEntry], settings: AccessSettings, prefix: str) -> list[str]:
    """Return the patterns of the settings that match no PV: most are misspelt."""
    names = [entry.name.removeprefix(prefix) for entry in entries]
    return [p for p in settings.rows if not any(fnmatchcase(name, p) for name in names)]
