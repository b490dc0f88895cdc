"""Who this IOC is in the database, over its restarts."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

from .journal_files import replace_file


def instance_of(folder: Path) -> str:
    """Return a name that stays the same over restarts and is nobody else's; empty where none can be kept.

    The state directory is locked, so that one process at a time has it. The host's name is in it, because a
    folder may have been copied.
    """
    path = folder / "instance"
    try:
        text = path.read_text(encoding="ascii").strip() if path.exists() else ""
        if not text:
            text = uuid.uuid4().hex
            replace_file(path, text.encode(), sync=True)
    except (OSError, ValueError):
        return ""
    return f"{text}@{socket.gethostname()}"
