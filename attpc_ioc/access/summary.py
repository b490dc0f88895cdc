"""What `attpc-ioc check` says of the access security: in force or not, and what was probably not meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attpc_ioc.pvs.table import PvEntry
from attpc_ioc.settings import Settings

from .file import read_rules
from .groups import groups_of, unused_patterns
from .rules import DEFAULT

OPEN = "no file: everybody may write"


def access_summary(settings: Settings, entries: Sequence[PvEntry]) -> str:
    """Return some lines about the access security file; raises `AccessFileError` where it is wrong."""
    if settings.access.file is None:
        return OPEN
    rules = read_rules(Path(settings.access.file))
    prefix = settings.ioc.prefix
    groups = groups_of(entries, settings.access, prefix)
    lines = [f"{settings.access.file}: {', '.join(sorted(rules.groups))}"]
    for group in sorted({*groups.values()} - {*rules.groups}):
        count = sum(of == group for of in groups.values())
        have = f"{count} PV has" if count == 1 else f"{count} PVs have"
        then = "the rules of DEFAULT" if DEFAULT in rules.groups else "no rules: nobody may even read"
        lines.append(f"{group} is not in it: {have} {then}")
    lines += [
        f"access.rows: no PV fits {pattern!r}"
        for pattern in unused_patterns(entries, settings.access, prefix)
    ]
    return ("\n" + " " * 19).join(lines)
