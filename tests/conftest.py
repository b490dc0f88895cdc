"""What holds for all tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attpc_plugins.run_history.root_base import VARIABLE


@pytest.fixture(scope="session", autouse=True)
def root_base() -> Iterator[Path]:
    """Have all that root keeps for the database's account in a folder of the tests, not in `/var/lib`."""
    base = Path(tempfile.mkdtemp(prefix="attpc-root-"))
    base.chmod(0o755)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(base)
    yield base
    if before is None:
        del os.environ[VARIABLE]
    else:
        os.environ[VARIABLE] = before
    shutil.rmtree(base)
