"""Files of version 0.1 in the plugin's folder: reads their lines and moves them away."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from attpc_ioc.files import make_private
from attpc_ioc.log import get_logger

log = get_logger(__name__)

LINE_MAX = 4 * 2**20

OLD_NAMES = ("numbers", "sheet.json", "observables.json", "instance")
OLD_FILES = tuple(f"{name}{end}" for name in OLD_NAMES for end in ("", ".new"))
"""Files besides the journal; their contents are now in the state database."""


def aside(folder: Path) -> Path:
    """Return where files of version 0.1 are kept; `folder` is the plugin's own."""
    return folder.parents[1] / "before-0.2" / folder.name


def put_away(folder: Path, names: tuple[str, ...]) -> None:
    """Move files away whose contents were taken over; raises `OSError`."""
    there = [folder / name for name in names if (folder / name).exists()]
    there += [path for name in names for path in folder.glob(f"{name}.*.damaged")]
    if there:
        place = aside(folder)
        make_private(place.parent)
        make_private(place)
        for path in there:
            # A file of the same name may be there from before.
            ends = ("", *(f".{n}" for n in range(1, 1000)))
            path.rename(next(p for end in ends if not (p := place / f"{path.name}{end}").exists()))
        log.info("files of version 0.1 taken over", folder=folder, files=", ".join(p.name for p in there))


def read_framed(path: Path, offset: int = 0) -> Iterator[bytes]:
    """Yield the texts of framed lines whose checksum is right; nothing if there is no file.

    A last line without its end was never acknowledged.
    """
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return
    with stream:
        stream.seek(offset)
        while raw := stream.readline(LINE_MAX):
            text = raw.rstrip(b"\n")
            body = body_of(text)
            if body is not None:
                yield body
            elif text and raw.endswith(b"\n"):
                log.error("line of version 0.1 damaged", file=path)


def body_of(text: bytes) -> bytes | None:
    """Return the text of a line `CRC-32 in hexadecimal, space, text`; None if the checksum is wrong."""
    try:
        crc = int(text[:8], 16)
    except ValueError:
        return None
    body = text[9:]
    return body if crc == zlib.crc32(body) else None
