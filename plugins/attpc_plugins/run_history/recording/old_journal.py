"""The journal that version 0.1 left in the plugin's folder.

It goes into the database before the first event of the core's log: its records count once each by their
stamps, so that a kill in between does no harm.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from attpc_ioc.log import get_logger
from attpc_ioc.model.events import Origin
from attpc_ioc.model.stamp import Stamp
from attpc_ioc.model.states import State, Transition
from attpc_plugins.run_history.old_files import aside, body_of, put_away, read_framed
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.connections import moment, utc
from attpc_plugins.run_history.store.model.config_name import config_name_of
from attpc_plugins.run_history.store.model.history import Module
from attpc_plugins.run_history.store.model.records import EVENTS, Phase, Record, RunRecord

from .translate import own_record, record_of

log = get_logger(__name__)

BATCH = 500

JOURNAL = "journal"


class OldJournal:
    """The journal of version 0.1, if there is one: `drain` puts it into the database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal = folder / JOURNAL
        self.drained = not self._journal.exists()

    async def drain(self, store: Store, limit_s: float) -> None:
        """Apply the rest of the journal, and move it away; raises `StoreError` and `OSError`."""
        if self.drained:
            return
        count = damaged = 0
        lines = read_journal(self._journal)
        while part := await asyncio.to_thread(lambda: list(islice(lines, BATCH))):
            records = []
            for line in part:
                try:
                    records.append(old_record(line))
                except ValueError as error:
                    damaged += 1
                    log.error("line of the old journal not recorded", reason=error)
            applied = await store.apply_many(records, limit_s=limit_s)
            count += applied.new
            for rejected in applied.rejected:
                log.error("record of the old journal refused by the database", reason=rejected.reason)
        await asyncio.to_thread(put_away, self._folder, (JOURNAL,))
        self.drained = True
        log.info(
            "journal of version 0.1 recorded", records=count, damaged=damaged, kept_in=aside(self._folder)
        )


def read_journal(folder: Path) -> Iterator[bytes]:
    """Yield the contents of the journal's unread lines; raises `OSError`."""
    segments = sorted(n for n in os.listdir(folder) if n.endswith(".jsonl") and n[:12].isdigit())
    segment, offset = _cursor(folder)
    if f"{segment:012d}.jsonl" not in segments:
        segment, offset = 0, 0
    yield from read_framed(folder / "newer.records")
    for name in segments:
        if int(name[:12]) >= segment:
            yield from read_framed(folder / name, offset if int(name[:12]) == segment else 0)


def _cursor(folder: Path) -> tuple[int, int]:
    """Return segment and offset of the first unread line; the beginning, which is harmless, if unknown."""
    try:
        segment, offset = json.loads(body_of((folder / "cursor").read_bytes().strip()) or b"")
        return int(segment), int(offset)
    except (OSError, ValueError, TypeError):
        return 0, 0


_TIMES = {
    "start_commanded_s": "start_commanded_at",
    "started_s": "started_at",
    "last_running_s": "last_running_at",
    "stopped_s": "stopped_at",
}


def _run(body: dict[str, Any]) -> dict[str, Any]:
    """Return the run, attempt and modules of a run's record, as version 0.1 wrote them in one."""
    facts, phase = dict(body["run"]), Phase(body["phase"])
    attempt, modules = facts.pop("attempt", ""), facts.pop("modules", ())
    run = {**facts.pop("ref"), **facts.pop("texts", {}), "stage": phase.stage}
    run["started_by"] = facts.pop("who", {})
    run |= {new: utc(facts.pop(old, None)) for old, new in _TIMES.items()}
    if phase is Phase.STOPPING:
        run["stop_commanded_at"] = moment(body["time_s"])
    run["config_name"] = config_name_of(TypeAdapter(tuple[Module, ...]).validate_python(modules))
    return {"run": run | facts, "attempt": attempt, "modules": modules}


def _state(body: dict[str, Any]) -> dict[str, Any]:
    """Return a change of state with what version 0.1 wrote in words."""
    return {
        "old": State[body["old"].upper()],
        "new": State[body["new"].upper()],
        "transition": Transition[(body.get("transition") or "None").upper()],
        "origin": Origin.EXTERNAL if body.get("external") else Origin.OURS,
    }


def _files(body: dict[str, Any]) -> dict[str, Any]:
    return {"sources": (), "files": 0, "data_bytes": 0} | body | body["run"]


def _configs(body: dict[str, Any]) -> dict[str, Any]:
    """Return configuration files with their texts, which version 0.1 wrote once each."""
    texts = body.get("texts", ())
    used = ({**c, "text": "" if c.get("text") is None else texts[c["text"]]} for c in body.get("configs", ()))
    return {**body["run"], "configs": tuple(used)}


_CHANGED = {RunRecord.KIND: _run, "state": _state, "files": _files, "configs": _configs}
"""How records of version 0.1 differ from those of today, by their kind."""


def old_record(line: bytes) -> Record:
    """Return the record of a journal's line; raises `ValueError`."""
    try:
        body = json.loads(line)
        kind, version = body.pop("kind"), body.pop("v")
        stamp = Stamp(str(body.pop("ioc")), str(body.pop("boot")), int(body.pop("seq")))
        if version != 1:
            raise ValueError(f"{kind} of version {version} is not a record that this program knows")
        if kind in _CHANGED:
            body |= _CHANGED[kind](body)
        return record_of(EVENTS[kind], body, stamp) if kind in EVENTS else own_record(kind, body, stamp)
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a record: {error!r}") from error
