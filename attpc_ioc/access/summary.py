"""What `attpc-ioc check` says about access security: in force or not, and probable mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attpc_ioc.pvs.table import PvEntry
from attpc_ioc.settings import Settings

from .file import read_rules
from .fit import faults_of_fit, notes_of_fit
from .groups import groups_of, unused_patterns
from .parse import AccessFileError

OPEN = "no file: everybody may write"


def access_summary(settings: Settings, entries: Sequence[PvEntry]) -> str:
    """Return a few lines about the access security file.

    Raises `AccessFileError` if the IOC would not start with it.
    """
    if settings.access.file is None:
        return OPEN
    rules = read_rules(Path(settings.access.file))
    prefix = settings.ioc.prefix
    groups = groups_of(entries, settings.access, prefix)
    if faults := faults_of_fit(rules, groups):
        raise AccessFileError(settings.access.file, faults)
    lines = [
        f"{settings.access.file}: {', '.join(sorted(rules.groups))}",
        *notes_of_fit(rules, groups, unused_patterns(entries, settings.access, prefix)),
    ]
    return ("\n" + " " * 19).join(lines)
