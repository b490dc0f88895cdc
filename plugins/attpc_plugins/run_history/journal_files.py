"""The journal's files: how a line is written, how segments are named and read, where reading has come to.

A segment is `000000000001.jsonl`, numbered in order. A line is `CRC-32 in hexadecimal, space, record`, with a
line end before and after it: a line end that is damaged spoils its own line and not its neighbour's.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from attpc_ioc.files import private

SUFFIX = ".jsonl"
DAMAGED = ".damaged"

NEWER = "newer.records"
"""Records of a newer program: they are put back into the journal at each start, until one knows them."""

REJECTED = "rejected.records"
"""Records that the database will never take."""

WITHOUT_RUN = "without-run.records"
"""Records of runs that the database does not have, because it was restored from an older backup."""

LINE_MAX = 4 * 2**20
"""No record is longer, in bytes; what seems to be is damage."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the journal: everything before it has been read. Segments are numbered from 1."""

    segment: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was read: its record's text, or None and the reason for one that is damaged."""

    body: bytes
    end: Position
    fault: str = ""


def frame(body: bytes) -> bytes:
    """Return a record's text as it stands in a segment; it has no line end in it."""
    return b"\n%08x %s\n" % (zlib.crc32(body), body)


def segment_path(folder: Path, number: int) -> Path:
    """Return the path of a segment."""
    return folder / f"{number:012d}{SUFFIX}"


def segments(folder: Path) -> list[int]:
    """Return the numbers of the segments that are there, in order; `OSError` where nobody can look."""
    names = (name.removesuffix(SUFFIX) for name in os.listdir(folder) if name.endswith(SUFFIX))
    return sorted(int(name) for name in names if len(name) == 12 and name.isascii() and name.isdigit())


def damaged_files(folder: Path) -> list[str]:
    """Return the names of the files with lines that were kept aside."""
    with contextlib.suppress(OSError):
        return sorted(name for name in os.listdir(folder) if name.endswith(DAMAGED))
    return []


def read_lines(path: Path, number: int, offset: int, end: int | None) -> Iterator[Line]:
    """Yield the lines of a segment from `offset` on, up to `end` (None: the whole file).

    A last line without its end is what a program that was killed had begun to write: nobody was told that it
    is kept, so it is left out unless it is whole. Raises `OSError`.
    """
    with path.open("rb") as stream:
        stream.seek(offset)
        at = offset
        while end is None or at < end:
            raw = stream.readline(LINE_MAX if end is None else min(LINE_MAX, end - at))
            if not raw:
                return
            at += len(raw)
            text = raw.rstrip(b"\n")
            if not text:
                continue
            body = _body(text)
            if body is not None:
                yield Line(body, Position(number, at))
            elif raw.endswith(b"\n") or len(raw) == LINE_MAX:
                yield Line(text, Position(number, at), "its checksum is wrong")


def _body(text: bytes) -> bytes | None:
    head, space, body = text[:8], text[8:9], text[9:]
    if space != b" " or head.lower() != head:
        return None
    try:
        crc = int(head, 16)
    except ValueError:
        return None
    return body if crc == zlib.crc32(body) else None


def put_aside(folder: Path, line: Line) -> Path:
    """Append a damaged line to the `.damaged` file of its segment and return that; raises `OSError`.

    A line that is there already, because it is read for the second time, is not written again.
    """
    path = segment_path(folder, line.end.segment).with_suffix(DAMAGED)
    kept = path.read_bytes() if path.exists() else b""
    if line.body + b"\n" not in kept:
        with open(path, "ab", opener=private) as stream:
            stream.write(line.body + b"\n")
    return path


def load_cursor(folder: Path) -> Position:
    """Return where reading had come to; the very beginning where that is not known.

    Reading too much again is harmless, because the database knows the stamps of what it was given.
    """
    try:
        body = _body((folder / "cursor").read_bytes().strip())
        segment, offset = json.loads(body or b"")
    except (OSError, ValueError):
        return Position()
    return Position(segment, offset)


def save_cursor(folder: Path, position: Position) -> None:
    """Replace the cursor file; raises `OSError`."""
    body = json.dumps([position.segment, position.offset]).encode()
    replace_file(folder / "cursor", frame(body), sync=False)


def replace_file(path: Path, content: bytes, *, sync: bool) -> None:
    """Replace a file at once, on disk when this returns with `sync`; raises `OSError`."""
    new = path.with_name(path.name + ".new")
    fd = private(str(new), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(fd, content)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(new, path)
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have a folder's list of names on disk; raises `OSError`."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
