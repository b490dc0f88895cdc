"""The rules for names, for the IOC and for commands; the names of a fleet's parts, and of values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum

_EXPERIMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


def experiment_fault(name: str) -> str:
    """Return why a text cannot be an experiment's name; empty if it can.

    An experiment's name is the name of a folder on every data host.
    """
    if _EXPERIMENT.fullmatch(name):
        return ""
    return (
        f"{name!r} cannot be an experiment's name, because it names a folder: "
        "letters, digits, '_', '-' and '.', 1 to 63 of them, a letter or digit first"
    )


class Labelled(IntEnum):
    """An enumeration whose values people read as words."""

    @property
    def label(self) -> str:
        """The word shown to people, such as `Ready`."""
        return self.name.capitalize()


@dataclass(frozen=True, slots=True)
class FleetNames:
    """The names of the fleet's parts in the settings: the context for validating plugins' sections."""

    sources: tuple[str, ...] = ()
    """Parts of the PV names, such as `CoBo0`."""
    ecc_servers: tuple[str, ...] = ()
