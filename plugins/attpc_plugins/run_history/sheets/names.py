"""The rule for observables' names, in the settings file, commands and PVs."""

from __future__ import annotations

import re

from attpc_ioc.pvs.table import MAX_NAME

PREFIX = "Obs:"
"""The prefix of the observables' PVs, after the IOC's own prefix."""

NAME_MAX = 40

_NAME = re.compile(rf"[A-Za-z][A-Za-z0-9_-]{{0,{NAME_MAX - 1}}}")


def observable_fault(name: str, prefix: str = "") -> str:
    """Return why a text cannot be an observable's name; empty if it can.

    `prefix` is the IOC's: with it the length of the whole PV name is checked too.
    """
    if not _NAME.fullmatch(name):
        return (
            f"{name[:100]!r} cannot be an observable's name, because it is part of a PV's name: "
            f"letters, digits, '_' and '-', 1 to {NAME_MAX} characters, a letter first"
        )
    whole = f"{prefix}{PREFIX}{name}"
    if len(whole) > MAX_NAME:
        return f"{name!r} is too long: the PV {whole} has {len(whole)} characters, at most {MAX_NAME}"
    return ""
