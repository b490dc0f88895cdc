"""The status of a plugin: the worst of its faults, by cause."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol


class PluginStatus(IntEnum):
    """The values of `Plugin:<name>:Status_RBV`."""

    OFF = 0
    OK = 1
    DEGRADED = 2
    FAILED = 3


@dataclass(slots=True)
class Health:
    """The faults of a plugin. Each stays until its cause is cleared, so that none hides another."""

    off: str = ""
    """Why it is switched off; empty when it is not."""
    note: str = ""
    """What is shown while there is no fault."""
    _faults: dict[str, tuple[PluginStatus, str]] = field(default_factory=dict)

    @property
    def status(self) -> PluginStatus:
        """The worst of all faults."""
        if self.off:
            return PluginStatus.OFF
        return max((status for status, _ in self._faults.values()), default=PluginStatus.OK)

    @property
    def message(self) -> str:
        """Every fault, worst first, equal texts once; the note if there is none."""
        if self.off:
            return self.off
        worst_first = sorted(self._faults.values(), key=lambda fault: -fault[0])
        return "; ".join(dict.fromkeys(text for _, text in worst_first)) or self.note

    def fault(self, cause: str, status: PluginStatus, text: str) -> bool:
        """Add a fault, replacing one of the same cause; returns whether anything changed."""
        if self._faults.get(cause) == (status, text):
            return False
        self._faults[cause] = (status, text)
        return True

    def clear(self, cause: str) -> bool:
        """Remove the fault of a cause; returns whether there was one."""
        return self._faults.pop(cause, None) is not None


class PluginStatuses(Protocol):
    """Holds the health of every plugin, by name; the registry implements it."""

    def fault(self, name: str, cause: str, text: str, status: PluginStatus = PluginStatus.DEGRADED) -> None:
        """Report a fault of a plugin; it stands until `clear` is called for the same cause."""

    def clear(self, name: str, cause: str) -> None:
        """Report that a fault is over."""

    def note(self, name: str, text: str) -> None:
        """Set what a plugin shows while it has no fault."""
