"""What the settings must know of the PV contract: reserved names and the length of PV names.

The PV table stands above the settings, so these facts are written down here; a test compares them with the
table.
"""

from __future__ import annotations

from collections.abc import Iterable

PV_NAME_MAX = 60
"""Longest full PV name, in characters (EPICS itself takes 60)."""

STRING_MAX = 39
"""Longest text of an EPICS string, in bytes of UTF-8 (40 with the closing zero)."""

RESERVED_NAMES = frozenset(
    {"Run", "Ecc", "IOC", "Obs", "History", "Log", "Data", "Plugin", "Control"},
)
"""Scopes of the contract, taken or kept for later, that no ECC server and no source may have as its name."""

SYSTEM_PV_NAMES = frozenset(
    {
        "Describe",
        "Prepare",
        "Configure",
        "Reset",
        "Abort",
        "GoTo",
        "RefreshConfigs",
        "State_RBV",
        "Alarm_RBV",
        "AlarmText_RBV",
        "Refused_RBV",
        "Busy_RBV",
        "Operation_RBV",
        "Progress_RBV",
        "Result_RBV",
        "ResultCount_RBV",
        "Message_RBV",
        "Allowed_RBV",
        "Online_RBV",
        "Enabled_RBV",
        "Count_RBV",
        "Config",
        "Config_RBV",
        "ConfigNames_RBV",
        "ConfigIndex",
    }
)
"""The PVs that stand directly behind the prefix."""

LONGEST_ECC_PART = "TransitionTime_RBV"
"""The longest part behind `$(P)Ecc:<ecc>:`."""

LONGEST_SOURCE_PART = "Router:TimeToFull_RBV"
"""The longest part behind `$(P)<source>:`."""

LONGEST_PLUGIN_PART = "Message_RBV"
"""The longest part behind `$(P)Plugin:<name>:` that every plugin has (its own PVs: see the PV table)."""

LONGEST_FIXED = "Run:DurationText_RBV"
"""The longest name behind the prefix that no name of the settings is part of."""

_TAKEN = {name.lower(): name for name in RESERVED_NAMES | SYSTEM_PV_NAMES}


def taken_by(name: str, *, behind_prefix: bool) -> str | None:
    """Return the reserved name or system PV that is in the way of `name`, or None.

    A name directly behind the prefix (a source's) must differ from them not only in upper and lower case.
    """
    taken = _TAKEN.get(name.lower())
    return taken if behind_prefix or taken == name else None


def longest_pv_name(
    prefix: str, eccs: Iterable[str] = (), sources: Iterable[str] = (), plugins: Iterable[str] = ()
) -> str:
    """Return the longest full PV name that these names of the settings make."""
    names = [f"{prefix}{LONGEST_FIXED}"]
    names += [f"{prefix}Ecc:{name}:{LONGEST_ECC_PART}" for name in eccs]
    names += [f"{prefix}{name}:{LONGEST_SOURCE_PART}" for name in sources]
    names += [f"{prefix}Plugin:{name}:{LONGEST_PLUGIN_PART}" for name in plugins]
    return max(names, key=len)
