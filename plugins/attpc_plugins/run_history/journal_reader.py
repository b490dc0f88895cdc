"""Reading the journal back: in order, from where the database has come to; damaged lines are kept aside."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from attpc_ioc.files import private
from attpc_ioc.log import get_logger

from .journal_files import (
    NEWER,
    REJECTED,
    WITHOUT_RUN,
    Line,
    Position,
    damaged_files,
    frame,
    put_aside,
    read_lines,
    save_cursor,
    segment_path,
    segments,
)
from .journal_segment import size_of
from .store.codec import decode, encode
from .store.records import Record, UnknownRecord

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records in the order in which they were appended; `end` is where the next batch begins."""

    records: tuple[Record, ...]
    end: Position


def read_batch(folder: Path, at: Position, committed: Position, limit: int) -> Batch:
    """Return the records from `at` on, at most `limit`, none from behind `committed`.

    Damaged lines are kept aside in a `.damaged` file and left out. Raises `OSError`.
    """
    found: list[Record] = []
    for number in [n for n in segments(folder) if at.segment <= n <= committed.segment]:
        offset = at.offset if number == at.segment else 0
        end = committed.offset if number == committed.segment else None
        at = Position(number, offset)
        for line in _lines(folder, number, offset, end):
            at = line.end
            if (record := _record(folder, line)) is not None:
                found.append(record)
            if len(found) >= limit:
                return Batch(tuple(found), at)
    return Batch(tuple(found), max(at, committed))


def _lines(folder: Path, number: int, offset: int, end: int | None) -> Iterable[Line]:
    with contextlib.suppress(FileNotFoundError):
        yield from read_lines(segment_path(folder, number), number, offset, end)


def _record(folder: Path, line: Line) -> Record | None:
    fault = line.fault
    if not fault:
        try:
            return decode(line.body)
        except ValueError as error:
            fault = str(error)
    path = put_aside(folder, line)
    log.error("journal line damaged", reason=fault, kept_in=path)
    return None


def save_applied(folder: Path, end: Position) -> int:
    """Keep where reading has come to, and delete segments before it; returns their size in bytes.

    Raises `OSError`.
    """
    save_cursor(folder, end)
    removed = 0
    for number in segments(folder):
        if number < end.segment:
            removed += size_of(folder, number)
            segment_path(folder, number).unlink(missing_ok=True)
    return removed


def keep_newer(folder: Path, records: Iterable[UnknownRecord]) -> None:
    """Keep records of a newer program for the next start; raises `OSError`."""
    _keep(folder / NEWER, [record.body.encode("utf-8", "replace") for record in records])


def keep_rejected(folder: Path, record: Record, reason: str) -> None:
    """Keep a record that the database will never take, with the reason; raises `OSError`."""
    note = reason.replace("\n", " ").encode("utf-8", "replace")
    _keep(folder / REJECTED, [encode(record).encode("utf-8", "replace"), b"# " + note])


def keep_without_run(folder: Path, record: Record) -> Path:
    """Keep a record of a run that the database does not have, and return the file; raises `OSError`."""
    path = folder / WITHOUT_RUN
    _keep(path, [encode(record).encode("utf-8", "replace")])
    return path


def _keep(path: Path, bodies: list[bytes]) -> None:
    if bodies:
        with open(path, "ab", opener=private) as stream:
            stream.write(b"".join(frame(body) for body in bodies))
            stream.flush()
            os.fsync(stream.fileno())


def kept_aside(folder: Path) -> list[str]:
    """Return the names of files with damaged or refused lines that nobody has removed yet.

    Records without a run are none of them: nothing is wrong with a database that was restored.
    """
    rejected = [REJECTED] if (folder / REJECTED).exists() else []
    return [*damaged_files(folder), *rejected]
