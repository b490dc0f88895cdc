"""A folder in which nothing may be changed, for root as well."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.needs import skip


@contextlib.contextmanager
def denied(folder: Path) -> Iterator[None]:
    """Let nothing be changed in a folder; root is denied by the immutable flag only."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    chattr = shutil.which("chattr") or skip("chattr")
    if subprocess.run([chattr, "+i", folder], capture_output=True).returncode != 0:
        pytest.skip("root is denied nothing on this file system")
    try:
        yield
    finally:
        subprocess.run([chattr, "-i", folder], check=True)
