"""What version 0.1 left in the plugin's folder: a journal, and files with numbers and the run sheet.

All of it is taken over once and then put into `before-0.2/run_history` of the state directory. The journal
goes into the database before the first event of the core's log: its records count once each by their stamps,
so that a kill in the middle of it does no harm.
"""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from attpc_ioc.files import make_private
from attpc_ioc.log import get_logger
from attpc_ioc.model.stamp import Stamp
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.connections import moment, utc
from attpc_plugins.run_history.store.model.config_name import config_name_of
from attpc_plugins.run_history.store.model.history import Module
from attpc_plugins.run_history.store.model.records import Phase, Record, RunRecord

from .translate import own_record

log = get_logger(__name__)

BATCH = 500
LINE_MAX = 4 * 2**20

JOURNAL = "journal"
OLD_NAMES = ("numbers", "sheet.json", "observables.json", "instance")
OLD_FILES = tuple(f"{name}{end}" for name in OLD_NAMES for end in ("", ".new"))
"""Files besides the journal; what they kept is in the state database."""


def aside(folder: Path) -> Path:
    """Return where files of version 0.1 are kept; `folder` is the plugin's own."""
    return folder.parents[1] / "before-0.2" / folder.name


def put_away(folder: Path, names: tuple[str, ...]) -> None:
    """Move files that were taken over; raises `OSError`."""
    there = [folder / name for name in names if (folder / name).exists()]
    there += [path for name in names for path in folder.glob(f"{name}.*.damaged")]
    if there:
        place = aside(folder)
        make_private(place.parent)
        make_private(place)
        for path in there:
            # One that has the name of an earlier one is put beside it.
            ends = ("", *(f".{n}" for n in range(1, 1000)))
            path.rename(next(p for end in ends if not (p := place / f"{path.name}{end}").exists()))
        log.info("files of version 0.1 taken over", folder=folder, files=", ".join(p.name for p in there))


class OldJournal:
    """The journal of version 0.1, if there is one: `drain` puts it into the database."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal = folder / JOURNAL
        self.drained = not self._journal.exists()

    async def drain(self, store: Store, limit_s: float) -> None:
        """Apply what is left in the journal, and put it away; raises `StoreError` and `OSError`."""
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
    """Yield what stands in the journal's lines from where reading had come to; raises `OSError`."""
    segments = sorted(n for n in os.listdir(folder) if n.endswith(".jsonl") and n[:12].isdigit())
    segment, offset = _cursor(folder)
    if f"{segment:012d}.jsonl" not in segments:
        segment, offset = 0, 0
    yield from _lines(folder / "newer.records", 0)
    for name in segments:
        if int(name[:12]) >= segment:
            yield from _lines(folder / name, offset if int(name[:12]) == segment else 0)


def read_framed(path: Path) -> Iterator[bytes]:
    """Yield the texts of a file of framed lines, as the journal's; none where there is no file."""
    yield from _lines(path, 0)


def _cursor(folder: Path) -> tuple[int, int]:
    """Return segment and offset that reading had come to; the beginning, which is harmless, if not known."""
    try:
        segment, offset = json.loads(_body((folder / "cursor").read_bytes().strip()) or b"")
        return int(segment), int(offset)
    except (OSError, ValueError, TypeError):
        return 0, 0


def _lines(path: Path, offset: int) -> Iterator[bytes]:
    """Yield what has a right checksum. A last line without its end was promised to nobody."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return
    with stream:
        stream.seek(offset)
        while raw := stream.readline(LINE_MAX):
            text = raw.rstrip(b"\n")
            body = _body(text)
            if body is not None:
                yield body
            elif text and raw.endswith(b"\n"):
                log.error("line of version 0.1 damaged", file=path)


def _body(text: bytes) -> bytes | None:
    """Return what stands in a line `CRC-32 in hexadecimal, space, text`; None where the checksum is wrong."""
    try:
        crc = int(text[:8], 16)
    except ValueError:
        return None
    body = text[9:]
    return body if crc == zlib.crc32(body) else None


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


def old_record(line: bytes) -> Record:
    """Return the record of a journal's line; raises `ValueError`."""
    try:
        body = json.loads(line)
        kind, version = body.pop("kind"), body.pop("v")
        stamp = Stamp(str(body.pop("ioc")), str(body.pop("boot")), int(body.pop("seq")))
        if version != 1:
            raise ValueError(f"{kind} of version {version} is not a record that this program knows")
        if kind == RunRecord.KIND:
            body |= _run(body)
        return own_record(kind, body, stamp)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a record: {error!r}") from error
