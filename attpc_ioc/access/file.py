"""Reads the access security file from the disk."""

from __future__ import annotations

import stat
from pathlib import Path

from .parse import AccessFileError, parse_rules
from .rules import Rules

SIZE_MAX_BYTES = 1_000_000
"""No facility's file is larger: a larger one is the wrong file."""


def read_rules(file: Path) -> Rules:
    """Return the rules of a file; a slow disk takes long, so call it in a thread.

    Raises `AccessFileError` if it cannot be read or is faulty.
    """
    return parse_rules(_text(file), str(file))


def _text(file: Path) -> str:
    try:
        # Checked first: opening a pipe would wait for a writer.
        if not stat.S_ISREG(file.stat().st_mode):
            raise AccessFileError(str(file), ["is not a regular file"])
        with file.open("rb") as stream:
            raw = stream.read(SIZE_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise AccessFileError(str(file), [f"cannot be read: {reason}"]) from None
    if len(raw) > SIZE_MAX_BYTES:
        raise AccessFileError(
            str(file), [f"has more than {SIZE_MAX_BYTES} bytes: this is not an access security file"]
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise AccessFileError(
            str(file), [f"line {line}: is not UTF-8 (byte 0x{raw[error.start]:02x})"]
        ) from None
