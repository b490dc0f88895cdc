"""The journal that version 0.1 of the run history kept, as it stands on the disk."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

BOOT = "boot of 0.1"


def line(seq: int, kind: str, time_s: float, ioc: str = "ATTPC:", **fields: Any) -> bytes:
    """Return a record; fields that have their default were left out."""
    head = {"v": 1, "kind": kind, "ioc": ioc, "boot": BOOT, "seq": seq, "time_s": time_s}
    return json.dumps(head | fields, separators=(",", ":")).encode()


def frame(body: bytes) -> bytes:
    return b"\n%08x %s\n" % (zlib.crc32(body), body)


def write_journal(folder: Path, segments: dict[int, list[bytes]], cursor: tuple[int, int] | None) -> None:
    """Write segments by number, and where reading had come to."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, bodies in segments.items():
        (folder / f"{number:012d}.jsonl").write_bytes(b"".join(frame(body) for body in bodies))
    if cursor is not None:
        (folder / "cursor").write_bytes(frame(json.dumps(cursor).encode()))
