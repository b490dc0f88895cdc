"""The rules for names, for the IOC and for commands."""

from __future__ import annotations

import re
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class FleetNames:
    """The names of the fleet's parts in the settings: the context for validating plugins' sections."""

    sources: tuple[str, ...] = ()
    """Parts of the PV names, such as `CoBo0`."""
    ecc_servers: tuple[str, ...] = ()
