"""How a plugin is."""

from __future__ import annotations

from enum import IntEnum


class PluginStatus(IntEnum):
    """The values of `Plugin:<name>:Status_RBV`."""

    OFF = 0
    OK = 1
    DEGRADED = 2
    FAILED = 3
