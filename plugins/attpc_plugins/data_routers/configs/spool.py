"""Copies for the backup folder, on the IOC's own disk until they are there; blocking, for a thread.

`<state>/configs/<experiment>/run_0042/` has the files of a run that are still to be copied. The backup folder
may be a share that is not mounted: nothing is lost, and a folder that does not exist is never made, because
it would be made on the wrong disk. Others may write there: below it no link is followed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from attpc_ioc.files import private
from attpc_plugins.data_routers.hosts.host import HostFault
from attpc_plugins.data_routers.hosts.opened import Folder, make_folder, opened, read, write_new
from attpc_plugins.data_routers.hosts.words import bytes_of
from attpc_plugins.data_routers.model import RunKey

PART = ".part"


class BackupFault(Exception):
    """The backup folder cannot be written; the text names it and says what to do."""


class Spool:
    """The files that are still to be copied to `backup`."""

    def __init__(self, folder: Path, backup: Path) -> None:
        self._folder = folder
        self._backup = backup

    def put(self, run: RunKey, files: dict[str, bytes]) -> None:
        """Take a run's files; all of them are on the disk when this returns. Raises `OSError`."""
        target = self._folder / run.experiment / run.folder
        # A run's folder appears whole: one that is not was never told to anybody, and is made again.
        making = target.with_name(f"{target.name}{PART}")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        for name, content in files.items():
            _write(making / name, content)
        _sync(making)
        if target.exists():
            shutil.rmtree(target)
        making.rename(target)
        _sync(target.parent)

    def waiting(self) -> list[RunKey]:
        """Return the runs whose files are still to be copied, in their order."""
        return sorted(key for key, _ in self._runs())

    def flush(self) -> list[str]:
        """Copy everything that waits; returns which files had to take another name, as texts.

        Raises `BackupFault` where the backup folder cannot be written; what waits goes on waiting.
        """
        renamed: list[str] = []
        for key, folder in sorted(self._runs()):
            if not self._backup.is_dir():
                raise BackupFault(
                    f"the backup folder {str(self._backup)!r} does not exist: make it, or mount its disk"
                )
            target = self._backup / key.experiment / key.folder
            try:
                with _made(self._backup, key) as place:
                    for file in sorted(folder.iterdir()):
                        if (name := _copy(file.read_bytes(), place, file.name)) != file.name:
                            renamed.append(f"{target / file.name} was another file: the run's is {name}")
                    place.sync()
            except (OSError, HostFault) as error:
                reason = (error.strerror if isinstance(error, OSError) else "") or error
                raise BackupFault(
                    f"the files of {key} cannot be copied to {str(target)!r}: {reason}"
                ) from error
            shutil.rmtree(folder)
            with contextlib.suppress(OSError):  # another run of the experiment waits
                folder.parent.rmdir()
        return renamed

    def _runs(self) -> Iterator[tuple[RunKey, Path]]:
        if not self._folder.is_dir():
            return
        for folder in self._folder.glob("*/run_*"):
            digits = folder.name.removeprefix("run_")
            if digits.isdigit() and folder.is_dir():
                yield RunKey(folder.parent.name, int(digits)), folder


@contextlib.contextmanager
def _made(backup: Path, run: RunKey) -> Iterator[Folder]:
    """Open the folder of a run in the backup folder, made where it is not there."""
    experiment, name = bytes_of(run.experiment), bytes_of(run.folder)
    with opened(bytes(backup)) as top:
        make_folder(top, experiment)
        with top.folder(experiment) as parent:
            make_folder(parent, name)
            with parent.folder(name) as made:
                yield made


def _copy(content: bytes, folder: Folder, wanted: str) -> str:
    """Write a file that is not there, or is there already, and return its name; never over another."""
    name, count = wanted, 0
    while True:
        place, part = bytes_of(name), bytes_of(f".{name}{PART}")
        if folder.status(place) is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder.number)  # of an attempt that did not come to its end
            write_new(folder, part, content)
            # No other program writes here under these names; what came between is still never replaced.
            if folder.status(place) is None:
                os.rename(part, place, src_dir_fd=folder.number, dst_dir_fd=folder.number)
                return name
            os.unlink(part, dir_fd=folder.number)
        elif _has(folder, place, content):
            return name
        count += 1
        stem, suffix = os.path.splitext(wanted)
        name = f"{stem}.{count}{suffix}"


def _has(folder: Folder, name: bytes, content: bytes) -> bool:
    try:
        return read(folder, name, len(content)) == content
    except HostFault:  # it is larger, or no file
        return False


def _write(place: Path, content: bytes) -> None:
    """Write a file of ours anew; what has its name is of an attempt that did not come to its end."""
    place.unlink(missing_ok=True)
    with open(place, "xb", opener=private) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
