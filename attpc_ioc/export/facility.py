"""Everything that connects a control room to the IOC, in one directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from attpc_ioc.files import make_folders, write_text
from attpc_ioc.pvs.table import PvEntry

from .alarms import alarm_tree, default_config, fragment_text, prefix_of, whole_text
from .archiver import archiver_text
from .owned import IsOurs, is_alarms, is_archiver, is_saveset, refuse_foreign
from .saveset import saveset_text
from .screens import check_screens, screens, write_screens

SCREENS = "screens"
ALARMS = "alarms.xml"
FRAGMENT = "alarms-fragment.xml"
ARCHIVER = "archiver.json"
SAVESET = "saveset.csv"
"""The names in the directory."""


@dataclass(frozen=True, slots=True)
class FacilityFiles:
    """The texts of all exports, by file name; `prefix` is that of all PVs."""

    prefix: str
    screens: dict[str, str]
    others: dict[str, str]


def facility_files(table: Sequence[PvEntry], where: str, *, tables: bool = False) -> FacilityFiles:
    """Return every export; `where` is the location of the screens for alarm clients, `tables`: see `screens`.

    Raises `AttpcError` if it is not a valid location: see `screens_fault`.
    """
    tree = alarm_tree(table, where)
    prefix = prefix_of(table)
    config = default_config(prefix)
    others = {
        ALARMS: whole_text(tree, config),
        FRAGMENT: fragment_text(tree, config),
        ARCHIVER: archiver_text(table),
        SAVESET: saveset_text(table),
    }
    return FacilityFiles(prefix, screens(table, tables=tables), others)


def write_facility(folder: Path, files: FacilityFiles, *, force: bool = False) -> tuple[str, ...]:
    """Write the files, and return the names of deleted screens, as `write_screens` does.

    Raises `AttpcError`, with nothing written, if a file of one of these names was not made by an export,
    unless `force` is given: JSON and CSV count as exports if all their PVs have the prefix. Raises `OSError`
    too.
    """
    is_ours: dict[str, IsOurs] = {
        ALARMS: is_alarms,
        FRAGMENT: is_alarms,
        ARCHIVER: partial(is_archiver, prefix=files.prefix),
        SAVESET: partial(is_saveset, prefix=files.prefix),
    }
    check_screens(folder / SCREENS, files.screens, force=force)
    refuse_foreign(folder, ((name, is_ours[name]) for name in files.others), force=force)
    make_folders(folder)
    gone = write_screens(folder / SCREENS, files.screens, force=force)
    for name, text in files.others.items():
        write_text(folder / name, text)
    return gone
