"""Folders and files by descriptor: below a folder that the settings name, no link is followed.

Anyone who can write into a staging folder can put a link, a pipe or a device there under any name, at any
moment. So everything below it is opened relative to its parent folder, one name at a time, and checked after
it is open. Paths are for messages only. Everything here blocks.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from attpc_plugins.data_routers.hosts.host import HostFault
from attpc_plugins.data_routers.hosts.words import FaultKind, fault, fault_kind_of

CHUNK = 1 << 20

NO_LINK_FOLLOWED = {errno.ELOOP, errno.EMLINK, errno.ENOTDIR, errno.ENXIO, errno.EOPNOTSUPP}
"""Errors of `open` for links and sockets, on several systems."""


def kind_of(mode: int) -> str:
    """Return the word for what a file is, one of `words.KINDS`."""
    tests = {
        "link": stat.S_ISLNK,
        "folder": stat.S_ISDIR,
        "file": stat.S_ISREG,
        "pipe": stat.S_ISFIFO,
        "socket": stat.S_ISSOCK,
    }
    return next((word for word, test in tests.items() if test(mode)), "device")


@dataclass(frozen=True, slots=True)
class Folder:
    """An open folder, and its path for messages."""

    number: int
    path: bytes

    def at(self, name: bytes) -> bytes:
        """Return the path of a name in it, for messages."""
        return os.path.join(self.path, name)

    def status(self, name: bytes) -> os.stat_result | None:
        """Return the status of an entry, without following a link; None if it does not exist."""
        try:
            return os.lstat(name, dir_fd=self.number)
        except FileNotFoundError:
            return None

    def not_as_expected(self, name: bytes, kind: FaultKind, error: OSError) -> HostFault:
        """Return the fault for an entry that could not be opened, with its kind if that is the reason."""
        if error.errno in NO_LINK_FOLLOWED:
            with contextlib.suppress(OSError):
                if (status := self.status(name)) is not None:
                    return fault(kind, self.at(name), kind_of(status.st_mode))
        return fault(fault_kind_of(error), self.at(name), error.strerror or "")

    @contextlib.contextmanager
    def folder(self, name: bytes) -> Iterator[Folder]:
        """Open a folder in it. Raises `HostFault`, also for a link to a folder."""
        try:
            number = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self.number)
        except OSError as error:
            raise self.not_as_expected(name, FaultKind.NOT_FOLDER, error) from error
        try:
            yield Folder(number, self.at(name))
        finally:
            os.close(number)

    @contextlib.contextmanager
    def file(self, name: bytes) -> Iterator[int]:
        """Open a regular file in it for reading; raises `HostFault` for any other entry, without waiting."""
        try:
            number = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=self.number)
        except OSError as error:
            raise self.not_as_expected(name, FaultKind.NOT_REGULAR, error) from error
        try:
            mode = os.fstat(number).st_mode
            if not stat.S_ISREG(mode):
                raise fault(FaultKind.NOT_REGULAR, self.at(name), kind_of(mode))
            yield number
        except OSError as error:
            raise fault(fault_kind_of(error), self.at(name), error.strerror or "") from error
        finally:
            os.close(number)

    def sync(self) -> None:
        """Sync the folder; on file systems without such a call do nothing."""
        try:
            os.fsync(self.number)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
                raise


@contextlib.contextmanager
def opened(path: bytes, *names: bytes) -> Iterator[Folder]:
    """Open a folder, whose path may contain links, and then the folder below it by `names`.

    Raises `HostFault`.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise fault(fault_kind_of(error), path, error.strerror or "") from error
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, number)
        folder = Folder(number, path)
        for name in names:
            folder = stack.enter_context(folder.folder(name))
        yield folder


def make_folder(parent: Folder, name: bytes) -> None:
    """Make a folder, or find one. Raises `HostFault`, also for a link to a folder."""
    try:
        os.mkdir(name, dir_fd=parent.number)
    except FileExistsError as error:
        status = parent.status(name)
        if status is None or not stat.S_ISDIR(status.st_mode):
            kind = kind_of(status.st_mode) if status is not None else ""
            raise fault(FaultKind.NOT_FOLDER, parent.at(name), kind) from error
    except OSError as error:
        raise fault(fault_kind_of(error), parent.at(name), error.strerror or "") from error


def read(folder: Folder, name: bytes, limit: int) -> bytes:
    """Return a regular file's bytes. Raises `HostFault`, also where it has more than `limit`."""
    with folder.file(name) as number:
        # Reads one byte more than allowed: a file may be longer than its size says, as in /proc.
        data = bytearray()
        while len(data) <= limit and (more := os.read(number, min(CHUNK, limit + 1 - len(data)))):
            data += more
    if len(data) > limit:
        raise fault(FaultKind.TOO_LARGE, folder.at(name))
    return bytes(data)


def write_new(folder: Folder, name: bytes, data: bytes) -> None:
    """Write a file that must not exist yet, and sync it. Raises `OSError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(name, flags, 0o666, dir_fd=folder.number), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
