"""What is done to the folders of a data router, by this machine's own system calls.

The agent (`agent.pl`) does the same on another host, in the same order. All of it blocks; paths are bytes,
because a file's name may be any. Whatever is interrupted here and repeated ends the same.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence

from attpc_plugins.data_routers.model import GRAW, FileEntry, Moved, MoveOutcome, RunKey

from .host import HostFault
from .words import (
    Trouble,
    bytes_of,
    check_run,
    fault,
    folder_exists,
    grown,
    moved,
    name_fault,
    text_of,
    trouble_of,
    vanished,
    words,
)

MANIFEST = b"manifest.json"
MANIFEST_LIMIT = 64 << 20
TAIL_LIMIT = 1 << 20
CHUNK = 1 << 20

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
"""What `link` says where a file system, or its rules for other people's files, has no hard links."""


class RunFolders:
    """Where one run's files are on one host."""

    def __init__(self, staging: bytes, run: RunKey) -> None:
        check_run(run)
        self.staging = staging
        self.experiment = os.path.join(staging, bytes_of(run.experiment))
        self.closed = os.path.join(self.experiment, bytes_of(run.folder))
        self.closing = os.path.join(self.experiment, bytes_of(run.closing_folder))


def data_files(folder: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    """Give the `*.graw` of a folder: regular files only, links are not followed, in the disk's order.

    Raises `HostFault` where the folder cannot be read.
    """
    suffix = bytes_of(GRAW)
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(suffix):
                    with contextlib.suppress(FileNotFoundError):  # it went between the two calls
                        status = entry.stat(follow_symlinks=False)
                        if stat.S_ISREG(status.st_mode):
                            yield entry.name, status
    except OSError as error:
        raise fault(trouble_of(error), folder, error.strerror or "") from error


def listing(folder: bytes, digest: Callable[[bytes], str] | None = None) -> tuple[FileEntry, ...]:
    """Return the `*.graw` of a folder by name, with what `digest` says of each path."""
    return tuple(
        FileEntry(
            text_of(name),
            status.st_size,
            status.st_mtime,
            digest(os.path.join(folder, name)) if digest is not None else "",
        )
        for name, status in sorted(data_files(folder), key=lambda found: found[0])
    )


def sha256(path: bytes, check: Callable[[], None]) -> str:
    """Return a file's SHA-256 in hexadecimal; `check` is called between two megabytes and may raise."""
    found = hashlib.sha256()
    try:
        with _opened(path, os.O_NOFOLLOW) as number:
            while data := os.read(number, CHUNK):
                found.update(data)
                check()
    except OSError as error:
        raise fault(trouble_of(error), path, error.strerror or "") from error
    return found.hexdigest()


def begin(folders: RunFolders) -> None:
    """Make the closing folder, or find an earlier attempt's. Raises `RunFolderExists`, `HostFault`."""
    if os.path.lexists(folders.closed):
        raise folder_exists(folders.closed)
    _need_folder(folders.staging)
    for path in (folders.experiment, folders.closing):
        try:
            os.mkdir(path)
        except FileExistsError:
            _need_folder(path)
        except OSError as error:
            raise fault(trouble_of(error), path, error.strerror or "") from error


def _need_folder(path: bytes) -> None:
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        raise fault(trouble_of(error), path, error.strerror or "") from error
    if not is_folder:
        raise fault(Trouble.NOT_FOLDER, path)


def move(folders: RunFolders, files: Sequence[FileEntry], check: Callable[[], None]) -> tuple[Moved, ...]:
    """Move each file that still is as it was listed; `check` is called between two and may raise."""
    _need_folder(folders.closing)
    done: list[Moved] = []
    for file in files:
        check()
        if reason := name_fault(file.name):
            done.append(Moved(file.name, MoveOutcome.FAILED, reason))
            continue
        name = bytes_of(file.name)
        here, there = os.path.join(folders.staging, name), os.path.join(folders.closing, name)
        try:
            outcome, text = _move_one(here, there, file.size)
        except OSError as error:
            outcome, text = MoveOutcome.FAILED, words(trouble_of(error), here, error.strerror or "")
        done.append(Moved(file.name, outcome, text))
    return tuple(done)


def _status(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _move_one(here: bytes, there: bytes, size: int) -> tuple[MoveOutcome, str]:
    found, gathered = _status(here), _status(there)
    if found is None:
        if gathered is None:
            return MoveOutcome.VANISHED, vanished(here)
        return MoveOutcome.MOVED, moved(gathered.st_size, size)
    if not stat.S_ISREG(found.st_mode):
        return MoveOutcome.FAILED, words(Trouble.NOT_REGULAR, here)
    if gathered is not None:
        if (gathered.st_dev, gathered.st_ino) != (found.st_dev, found.st_ino):
            return MoveOutcome.EXISTS, words(Trouble.EXISTS, there)
        with contextlib.suppress(FileNotFoundError):  # that attempt may be still at it
            os.unlink(here)  # an earlier attempt ended between its two steps
        return MoveOutcome.MOVED, ""
    if found.st_size != size:
        return MoveOutcome.GROWN, grown(found.st_size, size)
    try:
        os.link(here, there, follow_symlinks=False)
    except FileExistsError:
        return MoveOutcome.EXISTS, words(Trouble.EXISTS, there)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if os.path.lexists(there):
            return MoveOutcome.EXISTS, words(Trouble.EXISTS, there)
        os.rename(here, there)
        return MoveOutcome.MOVED, ""
    now = os.lstat(there).st_size
    if now != size:
        os.unlink(there)
        return MoveOutcome.GROWN, grown(now, size)
    try:
        os.unlink(here)
    except FileNotFoundError:
        return MoveOutcome.MOVED, ""  # another hand took the name away; the data is in its place
    except OSError:
        os.unlink(there)
        raise
    return MoveOutcome.MOVED, ""


def finish(folders: RunFolders, manifest: bytes) -> None:
    """Write the manifest and give the closing folder its name. Raises `RunFolderExists`, `HostFault`."""
    if os.path.lexists(folders.closed):
        # An earlier attempt may have come to its end with nobody left to be told.
        if not os.path.lexists(folders.closing) and read_manifest(folders) == manifest:
            return
        raise folder_exists(folders.closed)
    path = os.path.join(folders.closing, MANIFEST)
    unfinished = os.path.join(folders.closing, b".manifest.json.new")
    try:
        with open(unfinished, "wb") as file:
            file.write(manifest)
            file.flush()
            os.fsync(file.fileno())
        os.rename(unfinished, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # what failed is said; the name is written over the next time
            os.unlink(unfinished)
        raise fault(trouble_of(error), path, error.strerror or "") from error
    try:
        _sync(folders.closing)
        # Nothing is ever written over: `rename` replaces a folder only when it is empty.
        if os.path.lexists(folders.closed):
            raise folder_exists(folders.closed)
        os.rename(folders.closing, folders.closed)
        _sync(folders.experiment)
        _sync(folders.staging)
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}:
            raise folder_exists(folders.closed) from error
        raise fault(trouble_of(error), folders.closed, error.strerror or "") from error


def _sync(folder: bytes) -> None:
    """Bring a folder's names to the disk; a file system that knows no such thing does it in its own time."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(number)


def read_manifest(folders: RunFolders) -> bytes | None:
    """Return a closed run's manifest; None where there is none."""
    path = os.path.join(folders.closed, MANIFEST)
    try:
        return read(path, MANIFEST_LIMIT)
    except HostFault:
        if os.path.lexists(path):
            raise
        return None


def read(path: bytes, limit: int) -> bytes:
    """Return a regular file's bytes. Raises `HostFault`, also where it has more than `limit`."""
    try:
        with _opened(path) as number:
            # One more than allowed is asked for: a file may be longer than its size says, as in /proc.
            data = bytearray()
            while len(data) <= limit and (more := os.read(number, min(CHUNK, limit + 1 - len(data)))):
                data += more
    except OSError as error:
        raise fault(trouble_of(error), path, error.strerror or "") from error
    if len(data) > limit:
        raise fault(Trouble.TOO_LARGE, path)
    return bytes(data)


def tail(path: bytes, lines: int) -> bytes:
    """Return the last lines of a file, at most 1 MiB of them, and read no more than that.

    Raises `HostFault`.
    """
    try:
        with _opened(path) as number:
            end = os.lseek(number, 0, os.SEEK_END)
            os.lseek(number, max(0, end - TAIL_LIMIT), os.SEEK_SET)
            data = bytearray()
            while len(data) < TAIL_LIMIT and (more := os.read(number, TAIL_LIMIT - len(data))):
                data += more
    except OSError as error:
        raise fault(trouble_of(error), path, error.strerror or "") from error
    return last_lines(bytes(data), lines)


@contextlib.contextmanager
def _opened(path: bytes, flags: int = 0) -> Iterator[int]:
    """Open a regular file for reading; a pipe or a folder of that name is a `HostFault`, and no wait."""
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise fault(Trouble.NOT_REGULAR, path)
        yield number
    finally:
        os.close(number)


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
