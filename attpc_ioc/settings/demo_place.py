"""Finds the settings of a demo, and whether one is running: for messages about a missing settings file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from .sections import default_state_directory

VARIABLE = "ATTPC_IOC_SETTINGS"


def demo_directory() -> Path:
    """Return the state directory of this user's demo."""
    return default_state_directory() / "demo"


def demo_file() -> Path:
    """Return the settings file of this user's demo, whether it is running or not."""
    return demo_directory() / "demo.toml"


def demo_hint() -> str:
    """Return the settings file of the running demo and how to use it; empty if no demo is running."""
    file = demo_file()
    if not _held(demo_directory() / "lock") or not file.is_file():
        return ""
    return f"a demo is running with the settings {file}: give that file, or export {VARIABLE}={file}"


def _held(lock: Path) -> bool:
    """Return whether an IOC holds the lock of its state directory."""
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False
