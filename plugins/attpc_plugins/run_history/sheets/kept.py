"""The last sheet of the IOC's experiment from the database, kept across restarts.

The IOC's PVs are fixed when it starts, and its database may come up later: observables added by command
become PVs because the next start finds them here.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from attpc_ioc.log import get_logger
from attpc_plugins.run_history.state import on_disk
from attpc_plugins.run_history.store.model.history import Observable

from .names import observable_fault
from .settings import ObservableSettings

log = get_logger(__name__)

TOPIC = "observables"

OLD_FILE = "observables.json"
"""The file of version 0.1."""

UNITS_MAX = 15
"""Maximum bytes of an EGU field."""

COMMENT_MAX = 1000


@dataclass(frozen=True, slots=True)
class KeptSheet:
    """The observables of one experiment, in the order of its sheet."""

    experiment: str = ""
    observables: tuple[Observable, ...] = ()


KEPT_SHEET = TypeAdapter(KeptSheet)


def load_kept(folder: Path) -> KeptSheet:
    """Return the sheet on disk; an empty one if none can be read (which is logged)."""
    try:
        found = on_disk(folder, TOPIC)
        return KEPT_SHEET.validate_python(found[""]) if "" in found else old_kept(folder)
    except (OSError, sqlite3.Error, ValueError, RecursionError) as error:
        log.warning("kept run sheet cannot be read", folder=folder, reason=error)
        return KeptSheet()


def old_kept(folder: Path) -> KeptSheet:
    """Return the contents of version 0.1's file; raises `OSError`, `ValueError` and `RecursionError`."""
    try:
        raw: Any = json.loads((folder / OLD_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return KeptSheet()
    return KEPT_SHEET.validate_python(raw)


def declared(
    own: tuple[ObservableSettings, ...], kept: KeptSheet, prefix: str
) -> tuple[ObservableSettings, ...]:
    """Return the observables that are PVs of a starting IOC: those of the settings, and those kept.

    One that cannot be a PV, such as one with spaces in its name from an imported table, is left out.
    """
    names = {item.name for item in own}
    found = list(own)
    for observable in kept.observables:
        if observable.name in names or observable.removed or observable_fault(observable.name, prefix):
            continue
        names.add(observable.name)
        try:
            found.append(
                ObservableSettings(
                    name=observable.name,
                    type=observable.kind,
                    units=observable.units[:UNITS_MAX],
                    comment=observable.comment[:COMMENT_MAX],
                    experiment=kept.experiment,
                )
            )
        except ValidationError as error:
            log.warning("observable cannot be a PV", name=observable.name, reason=error)
    return tuple(found)
