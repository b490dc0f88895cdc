"""What holds for all tests."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from attpc_plugins.run_history.root_base import VARIABLE

from attpc_ioc.log import JsonFormatter, KeyValueFormatter


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


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Undo what a shell command that ran in this process has set of the logs, which are one for all tests."""
    loggers = [logging.getLogger(name) for name in ("", "attpc_ioc", "attpc_plugins")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    root = loggers[0]
    for handler in list(root.handlers):
        if isinstance(handler.formatter, KeyValueFormatter | JsonFormatter):
            root.removeHandler(handler)
