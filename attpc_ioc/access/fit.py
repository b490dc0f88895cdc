"""Compares the groups of an access security file with those of the PVs: faults, and probable mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from .rules import DEFAULT, Right, Rules


def faults_of_fit(rules: Rules, groups: Mapping[str, str]) -> list[str]:
    """Return why these rules cannot be meant for PVs in these groups (`groups_of`), one per line.

    Without a `DEFAULT`, PVs in a group that the file does not have are closed to everybody, for reading too:
    the file is for another IOC, or a name is misspelt. To close them on purpose, write the group without
    rules.
    """
    if DEFAULT in rules.groups:
        return []
    return [
        f"there is no {group} and no {DEFAULT} in its place: nobody could even read {_pvs(count)}"
        for group, count in sorted(Counter(groups.values()).items())
        if group not in rules.groups
    ]


def notes_of_fit(rules: Rules, groups: Mapping[str, str], unused: Iterable[str]) -> list[str]:
    """Return what is probably a mistake, a line each.

    `unused` are the patterns of `access.rows` that match no PV.
    """
    notes = []
    for group, count in sorted(Counter(groups.values()).items()):
        if group not in rules.groups and DEFAULT in rules.groups:
            have = "has" if count == 1 else "have"
            notes.append(f"{group} is not in it: {_pvs(count)} {have} the rules of {DEFAULT}")
        given = rules.groups.get(group, rules.groups.get(DEFAULT, ()))
        if all(rule.right is Right.NONE for rule in given):
            notes.append(f"{group} lets nobody read: {_pvs(count)}")
    return [*notes, *(f"access.rows: no PV fits {pattern!r}" for pattern in unused)]


def _pvs(count: int) -> str:
    return f"{count} PV{'' if count == 1 else 's'}"
