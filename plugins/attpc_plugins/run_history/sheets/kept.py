"""The sheet of the IOC's experiment as the database had it last, kept in the plugin's state folder.

The IOC's PVs are fixed when it starts, and its database may come up later: observables that were added by
command are PVs because the next start finds them here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from attpc_ioc.log import get_logger
from attpc_plugins.run_history.exchange.faults import Bad
from attpc_plugins.run_history.exchange.plain import from_plain, to_plain
from attpc_plugins.run_history.journal_files import replace_file
from attpc_plugins.run_history.store.model import Observable

from .names import observable_fault
from .settings import ObservableSettings

log = get_logger(__name__)

FILE = "observables.json"

UNITS_MAX = 15
"""What an EGU field holds."""

COMMENT_MAX = 1000


@dataclass(frozen=True, slots=True)
class KeptSheet:
    """The observables of one experiment, in the order of its sheet."""

    experiment: str = ""
    observables: tuple[Observable, ...] = ()


def load_kept(folder: Path) -> KeptSheet:
    """Return what was kept; nothing where there is no file, or none that can be read (which is logged)."""
    try:
        raw: Any = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return from_plain(KeptSheet, raw)
    except FileNotFoundError:
        return KeptSheet()
    except (OSError, ValueError, RecursionError, Bad) as error:
        log.warning("kept run sheet cannot be read", file=folder / FILE, reason=error)
        return KeptSheet()


def save_kept(folder: Path, kept: KeptSheet) -> None:
    """Keep a sheet; blocks. Raises `OSError`."""
    text = json.dumps(to_plain(kept), ensure_ascii=False)
    replace_file(folder / FILE, text.encode("utf-8", "replace"), sync=True)


def declared(
    own: tuple[ObservableSettings, ...], kept: KeptSheet, prefix: str
) -> tuple[ObservableSettings, ...]:
    """Return the observables that are PVs of an IOC that starts now: the settings' own, and those kept.

    What cannot be a PV, such as an observable of an imported table with spaces in its name, is left out.
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
