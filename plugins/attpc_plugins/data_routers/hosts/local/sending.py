"""Files of closed runs on this machine: their bytes, links to them, their frames. Everything here blocks."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from attpc_plugins.data_routers.hosts.frames import NEAR_END, Cursor, Piece
from attpc_plugins.data_routers.hosts.host import HostFault
from attpc_plugins.data_routers.hosts.words import bytes_of, fault, fault_kind_of, text_of
from attpc_plugins.data_routers.model import FileEntry

from .folders import NO_LINKS, RunFolders
from .frames import hop
from .opened import CHUNK, opened


def send(
    folders: RunFolders, file: FileEntry, sink: Callable[[bytes], None], check: Callable[[], None]
) -> None:
    """Read a file of a closed run; raises `HostFault`, also where it has another size."""
    name = bytes_of(file.name)
    with opened(folders.staging, *folders.names(closed=True)) as folder, folder.file(name) as number:
        if (size := os.fstat(number).st_size) != file.size:
            raise HostFault(f"{text_of(folder.at(name))!r} has {size} bytes, not {file.size}")
        while data := os.read(number, CHUNK):
            sink(data)
            check()


def frames_of(
    folders: RunFolders, name: str, offset: int, most: int, before: int, samples: int, *, closed: bool
) -> Piece:
    """Hop over at most so many frames of a file of a closed run, or of its closing folder."""
    begin, jump = Cursor(name, name, max(0, offset), before=before), offset == NEAR_END
    with (
        opened(folders.staging, *folders.names(closed=closed)) as folder,
        folder.file(bytes_of(name)) as number,
    ):
        return hop(number, name, begin, step=1, most=most, last=False, jump=jump, thin=samples)


def link(folders: RunFolders, file: FileEntry, to: Path) -> bool:
    """Make a hard link to a file of a closed run; False where the file systems do not allow it."""
    name = bytes_of(file.name)
    with opened(folders.staging, *folders.names(closed=True)) as folder:
        try:
            os.link(name, to, src_dir_fd=folder.number, follow_symlinks=False)
        except OSError as error:
            if error.errno in NO_LINKS or error.errno == errno.EXDEV:
                return False
            raise fault(fault_kind_of(error), folder.at(name), error.strerror or "") from error
    return True
