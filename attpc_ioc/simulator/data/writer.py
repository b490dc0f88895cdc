"""The `*.graw` files that one data router writes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .frames import Frame

_SPARSE_BYTES = 4096
"""Frames of at most this length have no holes: a hole would save no block of the disk."""


@dataclass(slots=True)
class _Stream:
    """What a router knows of one sender of frames, such as an AsAd board."""

    name: str
    began: str = ""
    part: int = 0
    last: int = -1
    torn: bool = False
    """Whether the disk is full, and a torn frame was left."""
    path: str = ""

    def begin(self, folder: Path) -> None:
        """Begin anew, now."""
        self.began = datetime.now().astimezone().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        self.go_on(folder, 0)

    def go_on(self, folder: Path, part: int) -> None:
        """Continue with a part."""
        self.part = part
        self.path = str(folder / f"{self.name}_{self.began}_{part:04d}.graw")


class GrawWriter:
    """Writes the frames of one data router, a file for each AsAd board (or the MuTAnT) at a time.

    - Files are `CoBo0_AsAd1_2026-11-22T04:00:00.000_0000.graw`: the sender, when the stream began (local
      time), and the part. A stream begins anew when an event number is not larger than the one before.
    - A file is opened by its name, appended to and closed again for each frame, so a file that was moved
      away is followed by a new one of the same name. Frames that come at once (in one tick) share an
      opening.
    - A part ends with the frame that takes it above `file_limit_bytes`; the next is made at once, empty.
    - A frame whose writing fails stays in part, and later frames are appended behind it.

    `on_made` is called with each file that is made.
    """

    def __init__(
        self, folder: Path, streams: Sequence[str], file_limit_bytes: int, on_made: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.disk_full = False
        """Whether to write as if no space was left."""
        self.written_bytes = 0
        """Over all files, since it was made."""
        self._limit = file_limit_bytes
        self._on_made = on_made
        self._names = tuple(streams)
        self._streams: list[_Stream] = []
        self.forget()

    def forget(self) -> None:
        """Begin as a new process: with new streams."""
        self._streams = [_Stream(name) for name in self._names]

    def write(self, number: int, frames: Sequence[Frame]) -> None:
        """Append frames of the stream `number`; raises `OSError`, and those that follow are lost."""
        stream = self._streams[number]
        batch: list[Frame] = []
        for frame in frames:
            if frame.event <= stream.last or not stream.began:
                self._append(stream, batch)
                batch = []
                stream.begin(self.folder)
            stream.last = frame.event
            batch.append(frame)
        self._append(stream, batch)

    def _append(self, stream: _Stream, frames: Sequence[Frame]) -> None:
        done = 0
        while done < len(frames):
            fd = self._open(stream.path)
            size = begin = os.lseek(fd, 0, os.SEEK_END)
            try:
                fitting = []
                while done < len(frames) and size <= self._limit:
                    fitting.append(frames[done])
                    size += frames[done].length
                    done += 1
                if self.disk_full:
                    _put(fd, begin, [] if stream.torn else [fitting[0].torn()])
                    stream.torn = True
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                stream.torn = False
                _put(fd, begin, fitting)
            finally:
                self.written_bytes += os.fstat(fd).st_size - begin
                os.close(fd)
            if size > self._limit:
                stream.go_on(self.folder, stream.part + 1)
                os.close(self._open(stream.path))

    def _open(self, path: str) -> int:
        try:
            return os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            pass  # it was moved away, or is the first
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._on_made(path)
        return fd


def _put(fd: int, end: int, frames: Sequence[Frame]) -> None:
    """Write frames from the offset `end` on, with holes where they are zero and long."""
    run: list[bytes] = []
    begin = end
    for frame in frames:
        end += frame.length
        if frame.length - len(frame.head) < _SPARSE_BYTES:
            run.append(frame.head.ljust(frame.length, b"\0"))
        else:
            run.append(frame.head)
            _put_bytes(fd, begin, b"".join(run))
            run, begin = [], end
    if run:
        _put_bytes(fd, begin, b"".join(run))
    elif frames:
        os.ftruncate(fd, end)


def _put_bytes(fd: int, begin: int, data: bytes) -> None:
    done = os.pwrite(fd, data, begin)
    while done < len(data):
        done += os.pwrite(fd, data[done:], begin + done)
