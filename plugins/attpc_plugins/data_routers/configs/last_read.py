"""Which run's configuration files were read last: they may change, so a restart does not read them anew."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from attpc_ioc.files import private
from attpc_ioc.log import get_logger

log = get_logger(__name__)

FILE = "configs-last.json"


@dataclass(frozen=True, slots=True)
class LastRead:
    """The run, and what could not be had of it."""

    experiment: str
    number: int
    faults: tuple[str, ...] = ()

    @classmethod
    def load(cls, folder: Path) -> LastRead | None:
        """Read the file of a folder; None where there is none that can be read, which is logged."""
        try:
            raw = json.loads((folder / FILE).read_text(encoding="utf-8"))
            return cls(str(raw["experiment"]), int(raw["number"]), tuple(map(str, raw["faults"])))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("file cannot be read and does not count", file=str(folder / FILE), reason=error)
            return None

    def save(self, folder: Path) -> None:
        """Replace the file of a folder; raises `OSError`."""
        part = folder / f"{FILE}.part"
        with open(part, "w", encoding="utf-8", opener=private) as stream:
            json.dump(asdict(self), stream)
        part.replace(folder / FILE)
