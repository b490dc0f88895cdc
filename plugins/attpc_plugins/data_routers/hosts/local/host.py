"""Folders of this machine: for tests, single-machine set-ups, and shared folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from attpc_ioc.model import outside
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.hosts.frames import SAMPLES_MOST, Cursor, Piece
from attpc_plugins.data_routers.hosts.host import HostFault
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.words import (
    bytes_of,
    check_run,
    fault,
    fault_kind_of,
    odd_text,
    text_of,
)
from attpc_plugins.data_routers.hosts.worker import Deadline, Worker
from attpc_plugins.data_routers.model import FileEntry, Moved, Polled
from attpc_plugins.data_routers.settings import EccHostSettings, HostPath, RouterSettings

from . import folders, frames, sending
from .folders import RunFolders
from .opened import opened, read
from .processes import PROCESSES

CONFIG_LIMIT = 16 << 20


class LocalHost:
    """A data router of this machine. Implements `FileHost`."""

    def __init__(self, router: RouterSettings, limits: CallLimits) -> None:
        if router.staging is None:
            raise ValueError("a local router has a staging folder")
        self._staging = bytes_of(router.staging)
        self._processes = router.processes
        self._log = router.log
        self._label = router.label
        self._limits = limits
        self._worker = Worker(f"the folder {router.staging!r}")
        self._looker = Worker(f"a look at the frames in {router.staging!r}")

    async def connect(self) -> None:
        """Do nothing: each call connects for itself."""

    async def poll(self, next_run: RunRef | None) -> Polled:
        """Return the state of the router, its staging folder and its disk."""
        if next_run is not None:
            check_run(next_run)
        return await self._worker.run(self._limits.poll_s, lambda deadline: self._poll(next_run, deadline))

    def _poll(self, next_run: RunRef | None, deadline: Deadline) -> Polled:
        count, size, exists, odd = folders.poll(self._staging, next_run, deadline.check)
        try:
            disk = os.statvfs(self._staging)
        except OSError as error:
            raise fault(fault_kind_of(error), self._staging, error.strerror or "") from error
        pids = PROCESSES.running(*self._processes) if self._processes else ()
        try:
            return Polled(
                process=not self._processes or bool(pids),
                files=outside.count(count, outside.MOST_SHOWN),
                data_bytes=outside.count(size),
                disk_free_bytes=outside.count(disk.f_bavail * disk.f_frsize),
                disk_total_bytes=outside.count(disk.f_blocks * disk.f_frsize),
                next_exists=exists,
                pids=pids,
                odd=odd_text(*min(odd), len(odd)) if odd else "",
            )
        except ValueError as error:
            raise HostFault(f"impossible values for {text_of(self._staging)!r}: {error}") from error

    async def list_staging(self) -> tuple[FileEntry, ...]:
        """Return the `*.graw` of the staging folder, by name; regular files only, no links."""
        return await self._worker.run(self._limits.files_s, lambda _: folders.listing(self._staging))

    async def begin(self, run: RunRef) -> None:
        """Make the run's closing folder, or find the one of an earlier attempt."""
        where = RunFolders(self._staging, run)
        await self._worker.run(self._limits.files_s, lambda _: folders.begin(where))

    async def move(
        self, run: RunRef, files: Sequence[FileEntry], *, closed: bool = False, late: bool = True
    ) -> tuple[Moved, ...]:
        """Move files from the staging to the closing folder; never over another file, never partly."""
        where = RunFolders(self._staging, run)
        return await self._worker.run(
            self._limits.files_s,
            lambda deadline: folders.move(where, files, deadline.check, closed=closed, late=late),
        )

    async def gathered(
        self, run: RunRef, *, closed: bool, checksums: bool, known: Collection[str] = ()
    ) -> tuple[FileEntry, ...]:
        """Return the `*.graw` of the run's folder (`closed`) or of its closing folder, by name."""
        where = RunFolders(self._staging, run)
        names = where.names(closed=closed)

        def work(deadline: Deadline) -> tuple[FileEntry, ...]:
            if not checksums:
                return folders.listing(self._staging, *names)
            return folders.listing(
                self._staging,
                *names,
                digest=lambda folder, name: (
                    "" if text_of(name) in known else folders.sha256(folder, name, deadline.check)
                ),
            )

        return await self._worker.run(self._limits.checksums_s if checksums else self._limits.files_s, work)

    async def finish(self, run: RunRef, manifest: bytes) -> None:
        """Write the manifest into the closing folder, sync it, and rename the folder to the run's folder."""
        where = RunFolders(self._staging, run)
        await self._worker.run(self._limits.files_s, lambda _: folders.finish(where, manifest))

    async def amend(self, run: RunRef, manifest: bytes) -> None:
        """Replace the manifest of a closed run, in one step, and sync the run's folder."""
        where = RunFolders(self._staging, run)
        await self._worker.run(self._limits.files_s, lambda _: folders.amend(where, manifest))

    async def manifest(self, run: RunRef) -> bytes | None:
        """Return the manifest of a closed run; None if the run's folder or its manifest does not exist."""
        where = RunFolders(self._staging, run)
        return await self._worker.run(self._limits.files_s, lambda _: folders.read_manifest(where))

    async def look(self, cursors: Sequence[Cursor], step: int) -> tuple[Piece, ...]:
        """Hop over the new frames of the staging folder's files, each sender's from its cursor on."""
        return await self._looker.run(
            self._limits.poll_s, lambda deadline: frames.look(self._staging, cursors, step, deadline.check)
        )

    async def send(self, run: RunRef, file: FileEntry, sink: Callable[[bytes], None]) -> None:
        """Read a file of a closed run; `sink` is called with each piece, in a thread."""
        where = RunFolders(self._staging, run)
        await self._worker.run(
            self._limits.copy_s(file.size), lambda deadline: sending.send(where, file, sink, deadline.check)
        )

    async def frames(
        self,
        run: RunRef,
        name: str,
        offset: int,
        most: int,
        before: int = -1,
        *,
        closed: bool = True,
        samples: int = SAMPLES_MOST,
    ) -> Piece:
        """Hop over at most so many frames of a file of a closed run, or of its closing folder."""
        where = RunFolders(self._staging, run)
        return await self._looker.run(
            self._limits.files_s,
            lambda _: sending.frames_of(where, name, offset, most, before, samples, closed=closed),
        )

    async def link(self, run: RunRef, file: FileEntry, to: Path) -> bool:
        """Make a hard link to a file of a closed run, and return whether that is possible."""
        where = RunFolders(self._staging, run)
        return await self._worker.run(self._limits.files_s, lambda _: sending.link(where, file, to))

    async def tail(self, lines: int) -> bytes:
        """Return the last `lines` lines of the router's log; at most 1 MiB."""
        return await _tail(self._worker, self._limits, self._log, self._label, lines)

    async def disconnect(self) -> None:
        """Do nothing: no connection is kept."""


class LocalConfigHost:
    """A folder of this machine with configuration files. Implements `ConfigHost`."""

    def __init__(self, ecc: EccHostSettings, limits: CallLimits) -> None:
        self._folder = ecc.xcfg
        self._log = ecc.log
        self._limits = limits
        self._worker = Worker(f"the folder {ecc.xcfg!r}")

    async def read(self, name: str) -> bytes:
        """Return one file of the folder, at most 16 MiB; raises `HostFault` where it is not there."""
        file = config_name(name)

        def work(_deadline: Deadline) -> bytes:
            with opened(bytes_of(self._folder)) as folder:
                return read(folder, file, CONFIG_LIMIT)

        return await self._worker.run(self._limits.read_s, work)

    async def tail(self, lines: int) -> bytes:
        """Return the last `lines` lines of the ECC server's log; at most 1 MiB."""
        return await _tail(self._worker, self._limits, self._log, "the ECC server", lines)

    async def disconnect(self) -> None:
        """Do nothing: no connection is kept."""


def config_name(name: str) -> bytes:
    """Return the name of a file of a folder; raises `HostFault` for a name that leads out of it."""
    if not name or "/" in name or "\0" in name or name in {".", ".."}:
        raise HostFault(f"{name!r} cannot be the name of a file")
    return bytes_of(name)


def log_path(log: HostPath | None, whose: str) -> bytes:
    """Return the path of a log; raises `HostFault` where the settings name none."""
    if log is None:
        raise HostFault(f"the settings name no log of {whose}: set 'log' in its table")
    return bytes_of(log)


async def _tail(worker: Worker, limits: CallLimits, log: HostPath | None, whose: str, lines: int) -> bytes:
    path = log_path(log, whose)
    return await worker.run(limits.read_s, lambda _: folders.tail(path, lines))
