"""Operations on the folders of a data router, by system calls on this machine.

The agent (`agent_folders.pl`) does the same on another host, in the same order. Everything here blocks. Paths
are bytes, because a file name may have any. An operation that was interrupted ends the same when it is
repeated. Below the staging folder no link is followed, see `opened.py`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence

from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.hosts.entries import entry, folder_of
from attpc_plugins.data_routers.hosts.host import HostFault
from attpc_plugins.data_routers.hosts.names import LATE_MOST, late_name, spoils
from attpc_plugins.data_routers.hosts.words import (
    FaultKind,
    bytes_of,
    check_run,
    fault,
    fault_kind_of,
    folder_exists,
    grown,
    moved,
    name_fault,
    text_of,
    vanished,
    words,
)
from attpc_plugins.data_routers.model import GRAW, FileEntry, Moved, MoveOutcome, closing_folder

from .opened import CHUNK, Folder, kind_of, make_folder, opened, read, write_new

MANIFEST = b"manifest.json"
UNFINISHED = b".manifest.json.new"
MANIFEST_LIMIT = 16 << 20
"""More than the manifest of 50,000 files has."""
TAIL_LIMIT = 1 << 20

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
"""Errors of `link` where the file system has no hard links or forbids them for other users' files."""


class RunFolders:
    """The folders of one run on one host: the staging folder's path, and names below it.

    `experiment` is in the staging folder, `closing` and `closed` are in the experiment's.
    """

    def __init__(self, staging: bytes, run: RunRef) -> None:
        check_run(run)
        self.staging = staging
        self.experiment = bytes_of(run.experiment)
        self.closed = bytes_of(run.folder)
        self.closing = bytes_of(closing_folder(run))

    def names(self, *, closed: bool) -> tuple[bytes, bytes]:
        """Return the names that lead from the staging folder to the run's folder or its closing folder."""
        return self.experiment, self.closed if closed else self.closing


@contextlib.contextmanager
def _in_staging(path: bytes) -> Iterator[Folder]:
    """Open a staging folder; a system error in the block becomes a `HostFault` that names the folder."""
    with opened(path) as folder:
        try:
            yield folder
        except OSError as error:
            raise fault(fault_kind_of(error), path, error.strerror or "") from error


def data_files(folder: Folder, odd: Callable[[bytes, int], None]) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield the `*.graw` of a folder: regular files only, in the disk's order.

    `odd` is called with the name and mode of each other entry of such a name, and with the name and 0 of one
    that has the suffix inside its name. Raises `HostFault` if it cannot be read.
    """
    suffix = bytes_of(GRAW)
    try:
        with os.scandir(folder.number) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                if not name.endswith(suffix):
                    if suffix in name:
                        odd(name, 0)
                elif (status := folder.status(name)) is not None:
                    if stat.S_ISREG(status.st_mode):
                        yield name, status
                    else:
                        odd(name, status.st_mode)
    except OSError as error:
        raise fault(fault_kind_of(error), folder.path, error.strerror or "") from error


def listing(
    staging: bytes, *names: bytes, digest: Callable[[Folder, bytes], str] | None = None
) -> tuple[FileEntry, ...]:
    """Return the `*.graw` of the staging folder, or of one below it, by name, with `digest` as checksum."""
    with opened(staging, *names) as folder:
        found = sorted(data_files(folder, lambda _name, _mode: None), key=lambda one: one[0])
        return folder_of(
            (
                entry(name, status.st_size, status.st_mtime, digest(folder, name) if digest else "")
                for name, status in found
            ),
            repr(text_of(folder.path)),
        )


def poll(
    staging: bytes, next_run: RunRef | None, check: Callable[[], None]
) -> tuple[int, int, bool, list[tuple[bytes, str]]]:
    """Return the number of data files, their bytes, whether the folder of `next_run` exists, and odd entries.

    An odd entry has the name of a data file or of the experiment's folder but is none, or cannot be merged:
    its path and kind, see `words.odd_text`.
    `check` is called between two files and may raise.
    """
    count = size = 0
    odd: list[tuple[bytes, str]] = []
    with _in_staging(staging) as folder:

        def note(name: bytes, mode: int) -> None:
            if kind := kind_of(mode) if mode else spoils(text_of(name)):
                odd.append((folder.at(name), kind))

        for name, status in data_files(folder, note):
            note(name, 0)
            count += 1
            size += status.st_size
            check()
        exists = False
        if next_run is not None:
            run = RunFolders(staging, next_run)
            status_ = folder.status(run.experiment)
            if status_ is not None and not stat.S_ISDIR(status_.st_mode):
                exists = True
                odd.append((folder.at(run.experiment), kind_of(status_.st_mode)))
            elif status_ is not None:
                with contextlib.suppress(OSError):
                    exists = folder.status(os.path.join(*run.names(closed=True))) is not None
    return count, size, exists, odd


def sha256(folder: Folder, name: bytes, check: Callable[[], None]) -> str:
    """Return a file's SHA-256 in hexadecimal; `check` is called after each megabyte and may raise."""
    found = hashlib.sha256()
    with folder.file(name) as number:
        while data := os.read(number, CHUNK):
            found.update(data)
            check()
    return found.hexdigest()


def begin(folders: RunFolders) -> None:
    """Make the closing folder, or find an earlier attempt's. Raises `RunFolderExists`, `HostFault`."""
    with _in_staging(folders.staging) as staging:
        make_folder(staging, folders.experiment)
        with staging.folder(folders.experiment) as experiment:
            if experiment.status(folders.closed) is not None:
                raise folder_exists(experiment.at(folders.closed))
            make_folder(experiment, folders.closing)


def move(
    folders: RunFolders,
    files: Sequence[FileEntry],
    check: Callable[[], None],
    *,
    closed: bool = False,
    late: bool = True,
) -> tuple[Moved, ...]:
    """Move each file that still has its listed size; `check` is called between two and may raise.

    They go to the closing folder, or to the run's own (`closed`). With `late`, a file whose name is taken
    there by another is kept beside it, see `names.late_name`.
    """
    done: list[Moved] = []
    with (
        _in_staging(folders.staging) as staging,
        staging.folder(folders.experiment) as experiment,
        experiment.folder(folders.names(closed=closed)[1]) as closing,
    ):
        for file in files:
            check()
            if reason := name_fault(file.name):
                done.append(Moved(file.name, MoveOutcome.FAILED, reason))
                continue
            name = bytes_of(file.name)
            try:
                to = _target(staging, closing, name) if late else name
                outcome, text = _move_one(staging, closing, name, to, file.size)
            except OSError as error:
                to, outcome = name, MoveOutcome.FAILED
                text = words(fault_kind_of(error), staging.at(name), error.strerror or "")
            kept_as = text_of(to) if to != name and outcome is MoveOutcome.MOVED else ""
            done.append(Moved(file.name, outcome, text, kept_as))
    return tuple(done)


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _target(staging: Folder, closing: Folder, name: bytes) -> bytes:
    """Return the name under which a file is to be kept: a late name where another file has its own."""
    found, gathered = staging.status(name), closing.status(name)
    if found is None or gathered is None or _same(gathered, found):
        return name
    free = 1
    for count in range(1, LATE_MOST + 1):
        taken = closing.status(late_name(name, count))
        if taken is not None and _same(taken, found):
            return late_name(name, count)  # an earlier attempt ended between its two steps
        if taken is not None:
            free = count + 1  # behind the last, so that the order is right also if one was removed
    return late_name(name, free) if free <= LATE_MOST else name


def _move_one(staging: Folder, closing: Folder, name: bytes, to: bytes, size: int) -> tuple[MoveOutcome, str]:
    found, gathered = staging.status(name), closing.status(to)
    here, there = staging.number, closing.number
    if found is None:
        if gathered is None:
            return MoveOutcome.VANISHED, vanished(staging.at(name))
        return MoveOutcome.MOVED, moved(gathered.st_size, size)
    if not stat.S_ISREG(found.st_mode):
        return MoveOutcome.FAILED, words(FaultKind.NOT_REGULAR, staging.at(name), kind_of(found.st_mode))
    exists = MoveOutcome.EXISTS, words(FaultKind.EXISTS, closing.at(to))
    if gathered is not None:
        if not _same(gathered, found):
            return exists
        with contextlib.suppress(FileNotFoundError):  # the earlier attempt may still be running
            os.unlink(name, dir_fd=here)  # an earlier attempt ended between its two steps
        return MoveOutcome.MOVED, ""
    if found.st_size != size:
        return MoveOutcome.GROWN, grown(found.st_size, size)
    try:
        os.link(name, to, src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False)
    except FileExistsError:
        return exists
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if closing.status(to) is not None:
            return exists
        os.rename(name, to, src_dir_fd=here, dst_dir_fd=there)
        return MoveOutcome.MOVED, ""
    now = os.lstat(to, dir_fd=there).st_size
    if now != size:
        os.unlink(to, dir_fd=there)
        return MoveOutcome.GROWN, grown(now, size)
    try:
        os.unlink(name, dir_fd=here)
    except FileNotFoundError:
        return MoveOutcome.MOVED, ""  # another process removed the name; the data is in the closing folder
    except OSError:
        os.unlink(to, dir_fd=there)
        raise
    return MoveOutcome.MOVED, ""


def finish(folders: RunFolders, manifest: bytes) -> None:
    """Write the manifest and rename the closing folder. Raises `RunFolderExists`, `HostFault`."""
    with _in_staging(folders.staging) as staging, staging.folder(folders.experiment) as experiment:
        path = experiment.at(folders.closed)
        if experiment.status(folders.closed) is not None:
            # An earlier attempt may have finished without its answer being received.
            if experiment.status(folders.closing) is None and _is_closed_with(folders, manifest):
                return
            raise folder_exists(path)
        with experiment.folder(folders.closing) as closing:
            _write_manifest(closing, manifest)
            try:
                closing.sync()
                # This never overwrites data: `rename` replaces a folder only if it is empty.
                if experiment.status(folders.closed) is not None:
                    raise folder_exists(path)
                os.rename(
                    folders.closing,
                    folders.closed,
                    src_dir_fd=experiment.number,
                    dst_dir_fd=experiment.number,
                )
                experiment.sync()
                staging.sync()
            except OSError as error:
                if error.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
                    raise folder_exists(path) from error
                raise fault(fault_kind_of(error), path, error.strerror or "") from error


def amend(folders: RunFolders, manifest: bytes) -> None:
    """Replace the manifest of a closed run. Raises `HostFault`, also where there is none."""
    with (
        _in_staging(folders.staging) as staging,
        staging.folder(folders.experiment) as experiment,
        experiment.folder(folders.closed) as closed,
    ):
        if closed.status(MANIFEST) is None:
            raise fault(FaultKind.NO_ENTRY, closed.at(MANIFEST))
        _write_manifest(closed, manifest)
        closed.sync()


def _is_closed_with(folders: RunFolders, manifest: bytes) -> bool:
    try:
        return read_manifest(folders) == manifest
    except HostFault:
        return False


def _write_manifest(closing: Folder, manifest: bytes) -> None:
    """Write the manifest into a folder; it replaces an earlier one in one step."""
    try:
        for name in (UNFINISHED, MANIFEST):
            status = closing.status(name)
            if status is not None and not stat.S_ISREG(status.st_mode):
                raise fault(FaultKind.NOT_REGULAR, closing.at(name), kind_of(status.st_mode))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(UNFINISHED, dir_fd=closing.number)
        try:
            write_new(closing, UNFINISHED, manifest)
            os.rename(UNFINISHED, MANIFEST, src_dir_fd=closing.number, dst_dir_fd=closing.number)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is raised; the next attempt removes the file
                os.unlink(UNFINISHED, dir_fd=closing.number)
            raise
    except OSError as error:
        raise fault(fault_kind_of(error), closing.at(MANIFEST), error.strerror or "") from error


def read_manifest(folders: RunFolders) -> bytes | None:
    """Return a closed run's manifest; None where there is none."""
    with _in_staging(folders.staging) as staging:
        if staging.status(folders.experiment) is None:
            return None
        with staging.folder(folders.experiment) as experiment:
            if experiment.status(folders.closed) is None:
                return None
            with experiment.folder(folders.closed) as closed:
                return read(closed, MANIFEST, MANIFEST_LIMIT) if closed.status(MANIFEST) else None


def tail(path: bytes, lines: int) -> bytes:
    """Return the last lines of a file; at most its last 1 MiB is read.

    The path of its folder may contain links; the file itself must not be one. Raises `HostFault`.
    """
    folder_path, name = os.path.split(path)
    with opened(folder_path) as folder, folder.file(name) as number:
        end = os.lseek(number, 0, os.SEEK_END)
        os.lseek(number, max(0, end - TAIL_LIMIT), os.SEEK_SET)
        data = bytearray()
        while len(data) < TAIL_LIMIT and (more := os.read(number, TAIL_LIMIT - len(data))):
            data += more
    return last_lines(bytes(data), lines)


def last_lines(data: bytes, lines: int) -> bytes:
    """Return the last lines of some bytes; the last one need not have its newline."""
    if lines <= 0:
        return b""
    at = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(lines):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            return data
    return data[at + 1 :]
