"""The segment of the journal that is being written."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from attpc_ioc.files import make_private, private

from .journal_files import Position, load_cursor, segment_path, segments, sync_folder


class Segment:
    """One open segment after the other. One thread may `sync` while another writes; all raise `OSError`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1
        self._number = 0
        self._size = 0

    @property
    def open(self) -> bool:
        """Whether there is a segment to write to."""
        return self._fd >= 0

    @property
    def end(self) -> Position:
        """Where the next record will be."""
        return Position(self._number, self._size)

    def first_unread(self) -> Position:
        """Return where reading had come to before this program began."""
        make_private(self._folder)
        present = segments(self._folder)
        cursor = load_cursor(self._folder)
        # A cursor outside of what is there belongs to files that are gone: what is there is to be read.
        if present and present[0] <= cursor.segment <= present[-1]:
            return cursor
        return Position(min(present, default=0), 0)

    def begin(self) -> int:
        """Begin a new segment after all that are there; returns how many bytes those have."""
        self.close()
        make_private(self._folder)
        present = segments(self._folder)
        number = max([*present, self._number]) + 1
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._fd = private(str(segment_path(self._folder, number)), flags)
        self._number, self._size = number, 0
        sync_folder(self._folder)
        return sum(size_of(self._folder, n) for n in present)

    def write(self, data: bytes) -> None:
        """Give bytes to the system: from now on they survive the end of this program."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        # Only now: whoever looks at the end meanwhile sees the end of a record.
        self._size += len(data)

    def sync(self) -> None:
        """Have everything on disk that was written before."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close it; one without records is removed."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            os.close(fd)
            if not self._size:
                segment_path(self._folder, self._number).unlink()


def size_of(folder: Path, number: int) -> int:
    """Return how many bytes a segment has; 0 where it is gone."""
    with contextlib.suppress(FileNotFoundError):
        return segment_path(folder, number).stat().st_size
    return 0
