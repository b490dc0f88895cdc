"""Writing a file at once or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_MODE = 0o644


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 in the place of one that is there.

    Raises `OSError`, and that one is as it was.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    new = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        new.chmod(_MODE)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
