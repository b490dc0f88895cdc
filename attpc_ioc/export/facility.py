"""Everything that a control room connects to the IOC, in one directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attpc_ioc.files import write_text
from attpc_ioc.pvs.table import PvEntry

from .alarms import alarm_tree, default_config, fragment_text, prefix_of, whole_text
from .archiver import archiver_text
from .saveset import saveset_text
from .screens import screens, write_screens

SCREENS = "screens"
ALARMS = "alarms.xml"
FRAGMENT = "alarms-fragment.xml"
ARCHIVER = "archiver.json"
SAVESET = "saveset.csv"
"""What is in the directory."""


@dataclass(frozen=True, slots=True)
class FacilityFiles:
    """The texts of all exports; `screens` by file name."""

    screens: dict[str, str]
    others: dict[str, str]


def facility_files(table: Sequence[PvEntry], where: str) -> FacilityFiles:
    """Return every export; `where` is the place of the screens as the alarm clients see it.

    Raises `AttpcError` where that is no place.
    """
    tree = alarm_tree(table, where)
    config = default_config(prefix_of(table))
    others = {
        ALARMS: whole_text(tree, config),
        FRAGMENT: fragment_text(tree, config),
        ARCHIVER: archiver_text(table),
        SAVESET: saveset_text(table),
    }
    return FacilityFiles(screens(table), others)


def write_facility(folder: Path, files: FacilityFiles, *, force: bool = False) -> None:
    """Write them; raises what `write_screens` raises, and `OSError`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_screens(folder / SCREENS, files.screens, force=force)
    for name, text in files.others.items():
        write_text(folder / name, text)
