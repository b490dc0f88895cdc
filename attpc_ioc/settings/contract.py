"""The settings' part of the PV contract: reserved names, and the length of PV names."""

from __future__ import annotations

from collections.abc import Iterable

from attpc_ioc.model.command import IOC, RUN, SYSTEM, ScopeKind
from attpc_ioc.pvs.row import full_name
from attpc_ioc.pvs.table import CORE_ROWS

PV_NAME_MAX = 60
"""Longest full PV name, in characters (EPICS itself takes 60)."""

STRING_MAX = 39
"""Longest text of an EPICS string, in bytes of UTF-8 (40 with the closing zero)."""

RESERVED_NAMES = frozenset(
    {"Run", "Ecc", "IOC", "Obs", "History", "Log", "Data", "Plugin", "Control"}
    | {"Fleet", "Routers", "Alarms", "Sources", "PVI"},
)
"""Scopes and tables of the contract: names that no ECC server and no data source may have."""

SYSTEM_PV_NAMES = frozenset(row.part for row in CORE_ROWS[ScopeKind.SYSTEM])
"""The PVs directly after the prefix."""


def _longest(kind: ScopeKind) -> str:
    return max((row.part for row in CORE_ROWS[kind]), key=len)


LONGEST_ECC_PART = _longest(ScopeKind.ECC)
"""The longest part after `$(P)Ecc:<ecc>:`."""

LONGEST_SOURCE_PART = "Router:TimeToFull_RBV"
"""The longest part after `$(P)<source>:`; the PV belongs to the data routers' plugin."""

LONGEST_PLUGIN_PART = _longest(ScopeKind.PLUGIN)
"""The longest part after `$(P)Plugin:<name>:` that every plugin has (its own PVs: see the PV table)."""

LONGEST_FIXED = max((full_name("", scope, _longest(scope.kind)) for scope in (SYSTEM, RUN, IOC)), key=len)
"""The longest name after the prefix that contains no name from the settings."""

_TAKEN = {name.lower(): name for name in RESERVED_NAMES | SYSTEM_PV_NAMES}


def taken_by(name: str, *, behind_prefix: bool) -> str | None:
    """Return the reserved name or system PV that `name` collides with, or None.

    A name directly after the prefix (a source's) must differ from them in more than upper and lower case.
    """
    taken = _TAKEN.get(name.lower())
    return taken if behind_prefix or taken == name else None


def longest_pv_name(
    prefix: str, eccs: Iterable[str] = (), sources: Iterable[str] = (), plugins: Iterable[str] = ()
) -> str:
    """Return the longest full PV name that results from these names of the settings."""
    names = [f"{prefix}{LONGEST_FIXED}"]
    names += [f"{prefix}Ecc:{name}:{LONGEST_ECC_PART}" for name in eccs]
    names += [f"{prefix}{name}:{LONGEST_SOURCE_PART}" for name in sources]
    names += [f"{prefix}Plugin:{name}:{LONGEST_PLUGIN_PART}" for name in plugins]
    return max(names, key=len)
