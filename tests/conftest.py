"""What holds for all tests."""

from __future__ import annotations

import functools
import gc
import importlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import setuptools_dso.runtime
import typer.main
import typer.testing
from attpc_plugins.run_history.embedded.root_base import VARIABLE

from attpc_ioc.log import JsonFormatter, KeyValueFormatter
from tests.support.alone import sitecustomize
from tests.support.thorough import examples

ALONE = Path(__file__).parent / "support" / "alone"


# No example is too slow: on a busy machine each may be.
hypothesis.settings.register_profile("tests", deadline=None, max_examples=examples(60, 400))
hypothesis.settings.load_profile("tests")

_make_command = functools.cache(lambda app, *_: _get_command(app))
_get_command = typer.main.get_command


def _command(app: typer.Typer) -> object:
    return _make_command(app, len(app.registered_commands), len(app.registered_groups))


# Typer makes all commands anew each time one is called: 30 ms of each of some hundreds of tests' calls.
typer.main.get_command = typer.testing._get_command = _command


# It reads the source of all callers to find the name of a module: a second of the start of each worker.
setuptools_dso.runtime._auto_pkg = lambda: sys._getframe(2).f_globals["__name__"]

MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30


def pytest_configure() -> None:
    """Keep temporary files in memory, and hide plugins that are installed beside the project.

    Those are not to change what is tested. On a disk, the hundreds of databases and state directories
    that are made and synced take a quarter of all processor time.
    """
    if "TMPDIR" not in os.environ and _roomy(MEMORY):
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None
    if hidden := sitecustomize.beside():
        os.environ[sitecustomize.HIDDEN] = ",".join(hidden)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ALONE), os.environ.get("PYTHONPATH"))))
        importlib.reload(sitecustomize)


def _roomy(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize > ROOM_BYTES and not found.f_flag & os.ST_NOEXEC


WORKERS_PER_CORE = 4
"""Most tests wait most of their time: for a period, a limit, a process."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Say how many workers `-n auto` starts."""
    return WORKERS_PER_CORE * len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the slow tests, an equal part for each worker: none of them is to be the last alone."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    slow = [item for item in items if item.get_closest_marker("slow")]
    quick = [item for item in items if not item.get_closest_marker("slow")]
    items[:] = []
    for worker in range(workers):
        part = slice(len(quick) * worker // workers, len(quick) * (worker + 1) // workers)
        items += slow[worker::workers] + quick[part]


def pytest_collection_finish() -> None:
    """Leave what the collection has made out of garbage collections: they took a tenth of the tests' time."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """Say in one line what could not be tried here, and what to install."""
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = sorted({str(report.longrepr[2]).removeprefix("Skipped: ") for report in skipped})
    if reasons:
        terminalreporter.write_line(f"NOT TRIED HERE, {len(skipped)} tests: {'; '.join(reasons)}")


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
