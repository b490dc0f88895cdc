"""Copies for the backup folder, kept by the IOC until they are written there.

The backup folder may be a share that is not mounted: nothing is lost, and the folder itself is never made,
because it would be on the wrong disk. Other users may write there: below it no link is followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from attpc_ioc.errors import StateDirError
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.hosts.host import HostFault
from attpc_plugins.data_routers.hosts.local.opened import Folder, make_folder, opened, read, write_new
from attpc_plugins.data_routers.hosts.words import bytes_of
from attpc_plugins.data_routers.state import Records, WaitingFiles

PART = ".part"


class BackupFault(Exception):
    """The backup folder cannot be written; the text names it and says what to do."""


class Spool:
    """The files that are still to be copied to `backup`."""

    def __init__(self, records: Records, backup: Path) -> None:
        self._records = records
        self._backup = backup

    async def put(self, run: RunRef, files: dict[str, bytes]) -> None:
        """Keep a run's files on the IOC's disk until they are copied. Raises `StateDirError`."""
        self._records.waiting.keep(str(run), WaitingFiles(run, files))
        try:
            await self._records.state.flush()
        except StateDirError:
            self._records.waiting.drop(str(run))
            raise

    def waiting(self) -> list[RunRef]:
        """Return the runs whose files are still to be copied, in order."""
        return sorted(waiting.run for waiting in self._records.waiting.values.values())

    async def flush(self) -> list[str]:
        """Copy all waiting files; returns a text for each file that got another name.

        Raises `BackupFault` if the backup folder cannot be written; the files then stay.
        """
        renamed: list[str] = []
        kept = self._records.waiting
        for run in self.waiting():
            waiting = kept.values[str(run)]
            renamed += await asyncio.to_thread(copy, waiting, self._backup)
            if kept.values.get(str(run)) is waiting:
                kept.drop(str(run))
        return renamed


def copy(waiting: WaitingFiles, backup: Path) -> list[str]:
    """Copy a run's files; blocking, see `Spool.flush`."""
    run, renamed = waiting.run, []
    if not backup.is_dir():
        raise BackupFault(f"the backup folder {str(backup)!r} does not exist: make it, or mount its disk")
    target = backup / run.experiment / run.folder
    try:
        with _made(backup, run) as place:
            for wanted, content in sorted(waiting.files.items()):
                if (name := _copy(content, place, wanted)) != wanted:
                    renamed.append(f"{target / wanted} was another file: the run's is {name}")
            place.sync()
    except (OSError, HostFault) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or error
        raise BackupFault(f"the files of {run} cannot be copied to {str(target)!r}: {reason}") from error
    return renamed


@contextlib.contextmanager
def _made(backup: Path, run: RunRef) -> Iterator[Folder]:
    """Open the folder of a run in the backup folder; make it if it does not exist."""
    experiment, name = bytes_of(run.experiment), bytes_of(run.folder)
    with opened(bytes(backup)) as top:
        make_folder(top, experiment)
        with top.folder(experiment) as parent:
            make_folder(parent, name)
            with parent.folder(name) as made:
                yield made


def _copy(content: bytes, folder: Folder, wanted: str) -> str:
    """Write a file unless it exists already, and return its name; never over a different file."""
    name, count = wanted, 0
    while True:
        place, part = bytes_of(name), bytes_of(f".{name}{PART}")
        if folder.status(place) is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part, dir_fd=folder.number)  # of an interrupted attempt
            write_new(folder, part, content)
            # No other program writes under these names; still, a file that appeared since is not replaced.
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
    except HostFault:  # it is larger, or not a file
        return False
