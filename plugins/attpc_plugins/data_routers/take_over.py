"""Takes over, once, the files of version 0.1 into the state database."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from attpc_ioc.errors import StateDirError
from attpc_ioc.files import make_private
from attpc_ioc.log import get_logger
from attpc_ioc.model.run import RunRef

from .closing.closings import CLOSING, Closing
from .state import ONLY, Baseline, ConfigsRead, LoadedFile, Records, WaitingFiles
from .watch.flow import Count

log = get_logger(__name__)

T = TypeVar("T")

BEFORE = "before-0.2"
"""The folder in the state directory to which the files of version 0.1 are moved."""

_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


async def take_over(records: Records, folder: Path) -> None:
    """Take over the files of version 0.1 in `folder`, the plugin's own, and move them away.

    After a kill in the middle, or while the database cannot be written, the files stay and are read again;
    values that are already in the database count.
    """
    target = _free(folder.parents[1] / BEFORE / folder.name)
    if not _has_files(folder):
        return
    _take_over_closings(records, folder / "closing", target / "closing")
    _take_over_files(records, folder)
    try:
        await records.state.flush()
        _put_away(folder, target)
    except (StateDirError, OSError) as error:
        # Their contents are taken over; they only remain visible.
        log.warning("files of version 0.1 not moved", folder=folder, reason=error)
    else:
        log.info("files of version 0.1 taken over", folder=folder, kept_in=target)


def _has_files(folder: Path) -> bool:
    """Return whether the folder has files; remove an empty folder."""
    if not folder.is_dir():
        return False
    if any(folder.iterdir()):
        return True
    folder.rmdir()
    return False


def _put_away(folder: Path, target: Path) -> None:
    make_private(target.parent)
    folder.rename(target)


def _take_over_closings(records: Records, folder: Path, target: Path) -> None:
    faults: list[str] = []
    for path in sorted(folder.glob("*.json")):
        if (closing := _read(path, _entry, faults)) and records.closings.find(
            closing.run, closing.router
        ) is None:
            records.closings.keep(closing)
    faults += [f"{path.name} was damaged" for path in sorted(folder.glob("*.damaged-*"))]
    if faults:
        records.closings.lose(f"{'; '.join(faults)}; kept in {target}")


def _take_over_files(records: Records, folder: Path) -> None:
    """Take over the files whose loss costs only counters or copies."""
    faults: list[str] = []
    baseline = _read(folder / "baselines.json", _baseline, faults)
    if baseline is not None and not records.baseline.values:
        records.baseline.keep(ONLY, baseline)
    read = _read(folder / "configs-last.json", _configs_read, faults)
    if read is not None and not records.configs_read.values:
        records.configs_read.keep(ONLY, read)
    for path in sorted((folder / "loaded").glob("*.*")):
        loaded = _read(path, _loaded, faults) if path.suffix != ".part" else None
        if loaded is not None and path.name not in records.loaded.values:
            records.loaded.keep(path.name, loaded)
    for path in sorted((folder / "configs").glob("*/run_*")):
        waiting = _read(path, _waiting, faults) if path.suffix != ".part" else None
        if waiting is not None and str(waiting.run) not in records.waiting.values:
            records.waiting.keep(str(waiting.run), waiting)
    for fault in faults:
        log.warning("file of version 0.1 cannot be read and is ignored", reason=fault)


def _read(path: Path, read: Callable[[Path], T], faults: list[str]) -> T | None:
    try:
        return read(path)
    except FileNotFoundError:
        return None
    except _DAMAGED as error:
        faults.append(f"{path.name} is damaged ({' '.join(str(error).split())})")
        log.error("file of version 0.1 damaged", file=path, reason=error)
        return None


def _document(path: Path) -> dict[str, Any]:
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise TypeError("it holds no JSON object")
    return document


def _entry(path: Path) -> Closing:
    document = _document(path)
    if document.pop("version") != 1:
        raise ValueError("it is of another version")
    run = {"experiment": document.pop("experiment"), "number": document.pop("number")}
    return CLOSING.validate_python({**document, "run": run})


def _baseline(path: Path) -> Baseline:
    document = _document(path)
    counts = {label: Count(int(files), int(size)) for label, (files, size) in document["routers"].items()}
    return Baseline(_run(document), counts)


def _configs_read(path: Path) -> ConfigsRead:
    document = _document(path)
    return ConfigsRead(_run(document), tuple(map(str, document["faults"])))


def _run(document: dict[str, Any]) -> RunRef:
    return RunRef(str(document["experiment"]), int(document["number"]))


def _loaded(path: Path) -> LoadedFile:
    name, _, content = path.read_bytes().partition(b"\n")
    return LoadedFile(name.decode("utf-8"), content)


def _waiting(path: Path) -> WaitingFiles:
    run = RunRef(path.parent.name, int(path.name.removeprefix("run_")))
    return WaitingFiles(run, {file.name: file.read_bytes() for file in sorted(path.iterdir())})


def _free(path: Path) -> Path:
    """Return the path, with a number added if it exists already."""
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found
