"""What was in the staging folders when a run began, kept so that a restarted IOC counts the run rightly."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from attpc_ioc.files import private
from attpc_ioc.log import get_logger

from .flow import Count
from .model import RunKey

log = get_logger(__name__)

FILE = "baselines.json"


def save(folder: Path, run: RunKey, counts: Mapping[str, Count]) -> None:
    """Write what each router had when the run began; a failure is logged: only counters suffer."""
    document = {
        "experiment": run.experiment,
        "number": run.number,
        "routers": {label: [count.files, count.data_bytes] for label, count in counts.items()},
    }
    part = folder / f"{FILE}.part"
    try:
        with open(part, "w", encoding="utf-8", opener=private) as stream:
            json.dump(document, stream)
        os.replace(part, folder / FILE)
    except OSError as error:
        log.warning("what was there before the run cannot be kept", run=run, reason=error)


def load(folder: Path, run: RunKey) -> dict[str, Count]:
    """Return what `save` kept of this run; nothing where there is nothing of it, or it cannot be read."""
    try:
        document = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if RunKey(document["experiment"], document["number"]) != run:
            return {}
        return {label: Count(int(files), int(size)) for label, (files, size) in document["routers"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("what was there before the run cannot be read", run=run, reason=error)
        return {}
