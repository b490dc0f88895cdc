"""Recognises files made by an export: those are replaced, others only on request."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from attpc_ioc.errors import AttpcError

from .protocol import bare
from .saveset import COLUMNS

MARK = "Made by attpc-ioc export screens"
"""The start of the comment at the top of each screen: a file without it was not made by an export."""

_HEAD_BYTES = 400
"""The first bytes, in which the mark must be."""
_REQUEST_KEYS = {"pv", "samplingmethod", "samplingperiod"}

IsOurs = Callable[[Path], bool]
"""Returns whether an export made a regular file."""


def is_screen(path: Path) -> bool:
    """Return whether a file has the mark of `export screens`."""
    return MARK.encode() in _head(path)


def is_alarms(path: Path) -> bool:
    """Return whether a file has the mark of `export alarms`."""
    return b"made by attpc-ioc export alarms" in _head(path)


def is_archiver(path: Path, prefix: str) -> bool:
    """Return whether a file requests only PVs of this prefix, in the form of `export archiver`.

    JSON has no comments, so it has no mark.
    """
    try:
        asked = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    if not isinstance(asked, list) or not asked:
        return False
    return all(isinstance(one, dict) and set(one) == _REQUEST_KEYS for one in asked) and _all_of(
        (one["pv"] for one in asked), prefix
    )


def is_saveset(path: Path, prefix: str) -> bool:
    """Return whether a file has only setpoints of this prefix, in the form of `export saveset`.

    Every line of such a file is a PV, so it has no mark.
    """
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines(), strict=True))
    except (ValueError, csv.Error):
        return False
    return (
        bool(lines)
        and tuple(lines[0]) == COLUMNS
        and _all_of((line[0] for line in lines[1:] if line), prefix)
    )


def refuse_foreign(folder: Path, files: Iterable[tuple[str, IsOurs]], *, force: bool) -> None:
    """Raise `AttpcError` if one of these names in a folder is a file that no export made.

    With `force` only if it is a folder. Raises `OSError` for a file that cannot be read.
    """
    taken, foreign = [], []
    for name, is_ours in files:
        path = folder / name
        if path.is_dir():
            taken.append(name)
        elif path.exists() and not force and not (path.is_file() and is_ours(path)):
            foreign.append(name)
    if taken:
        raise AttpcError(f"{folder}: {', '.join(taken)}: a folder has that name; nothing is written")
    if foreign:
        raise AttpcError(
            f"{folder}: {', '.join(foreign)}: not made by this command and left unchanged; "
            "nothing is written; give another directory, or --force to replace"
        )


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def _all_of(names: Iterable[object], prefix: str) -> bool:
    return all(isinstance(name, str) and bare(name).startswith(bare(prefix)) for name in names)
