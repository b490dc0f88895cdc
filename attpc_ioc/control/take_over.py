"""The state directory of version 0.1, JSON files, taken over into the state database once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attpc_ioc.eventlog import EventLog
from attpc_ioc.eventlog.database import Earlier
from attpc_ioc.files import make_private
from attpc_ioc.log import get_logger
from attpc_ioc.model.boards import BoardFault
from attpc_ioc.model.config import ConfigName, Loaded
from attpc_ioc.model.fleet import Sent
from attpc_ioc.model.states import Operation, State

from .modules.kept import KEPT_MODULE, KeptModule
from .runs.kept import KEPT_RUN

log = get_logger(__name__)

BEFORE = "before-0.2"
"""The folder, in the state directory, that the files of version 0.1 are kept in."""

_FILES = ("run.json", "modules.json", "numbers.json")


def open_event_log(folder: Path, prefix: str = "") -> EventLog:
    """Return the opened log of a state directory, which has what version 0.1 left there.

    Raises `StateDirError` where it cannot be opened.
    """
    event_log = EventLog(folder, prefix, take_over=read_before)
    event_log.open()
    try:
        _put_away(folder)
    except OSError as error:
        # They are taken over: all that is wrong is that they are still in sight.
        log.warning("files of version 0.1 not moved", folder=folder, reason=error)
    return event_log


def read_before(folder: Path) -> Earlier:
    """Return what the files of version 0.1 kept; nothing is changed. Damaged ones are reported as lost."""
    kept: list[tuple[str, str, str]] = []
    lost: dict[str, str] = {}
    for name, read in (("run", _run), ("modules", _modules), ("numbers", _numbers)):
        path = folder / f"{name}.json"
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(document, dict):
                raise TypeError("it holds no JSON object")
            rows = list(read(document, lost))
        except FileNotFoundError:
            aside = sorted(folder.glob(f"{name}.damaged-*"))
            if aside:
                lost[name] = f"{path} was damaged and is kept as {BEFORE}/{aside[-1].name}"
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            lost[name] = f"{path} is damaged ({error}); it is kept as {BEFORE}/{path.name}"
        else:
            kept += [(name, key, value) for key, value in rows]
    return Earlier(kept, lost)


def _put_away(folder: Path) -> None:
    """Move the files of version 0.1 into `before-0.2/`, once the state database has what they kept."""
    files = [path for name in _FILES for path in (folder / name, *folder.glob(f"{name[:-5]}.damaged-*"))]
    files = [path for path in files if path.exists()]
    if not files:
        return
    make_private(folder / BEFORE)
    for path in files:
        path.rename(folder / BEFORE / path.name)
    log.info("state of version 0.1 taken over", folder=folder, files=", ".join(p.name for p in files))


def _run(document: dict[str, Any], _lost: dict[str, str]) -> Iterator[tuple[str, str]]:
    # The row has the fields that the file had.
    adapter = KEPT_RUN
    yield "", json.dumps(adapter.dump_python(adapter.validate_python(document), mode="json"))


def _modules(document: dict[str, Any], _lost: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, raw in document["modules"].items():
        try:
            module = _module(raw)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("state of a module is damaged", module=name, reason=error)
        else:
            yield name, json.dumps(KEPT_MODULE.dump_python(module, mode="json"))


def _module(raw: dict[str, Any]) -> KeptModule:
    fault, sent = raw.get("board_fault"), raw.get("unseen_end")
    return KeptModule(
        url=str(raw["url"]),
        enabled=raw.get("enabled") is not False,
        selected=ConfigName.parse(raw["selected"]) if raw.get("selected") else None,
        loaded=Loaded(**(raw.get("loaded") or {})),
        clock_stale=raw.get("clock_stale") is True,
        unclocked=raw.get("unclocked") is True,
        board_fault=BoardFault(str(fault["text"]), State[fault["back_to"].upper()]) if fault else None,
        unseen_end=Sent(Operation(sent["operation"]), State(sent["target"])) if sent else None,
    )


def _numbers(document: dict[str, Any], lost: dict[str, str]) -> Iterator[tuple[str, str]]:
    numbers = document.get("next", {})
    good = {e: n for e, n in numbers.items() if isinstance(n, int) and not isinstance(n, bool) and n >= 0}
    faults = [f"next.{e} is {n!r}, not a number" for e, n in numbers.items() if e not in good]
    before = document.get("lost", "")
    if not isinstance(before, str):
        faults.append(f"lost is {before!r}, not a text")
        before = ""
    if before or faults:
        # The first explanation of a loss tells where that file is.
        lost["numbers"] = before or f"numbers.json is damaged ({'; '.join(faults)}); it is kept in {BEFORE}"
    for experiment, number in good.items():
        yield experiment, json.dumps(number)
