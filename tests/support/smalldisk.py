"""A disk that is soon full, for tests that may mount one."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, size: str = "64k") -> Iterator[None]:
    """Mount a disk of this size on a folder; who may mount none skips the test."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs root and the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def make_larger(folder: Path, size: str = "16m") -> None:
    """Make room on the disk of a folder."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
