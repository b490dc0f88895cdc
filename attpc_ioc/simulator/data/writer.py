"""The `*.graw` files that one data router writes."""

from __future__ import annotations

import contextlib
import os
import random
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

_HEADER_BYTES = 512
_BLOCK_BYTES = 4096
_CHUNK_BYTES = 1 << 20


@dataclass(slots=True)
class _File:
    """A file being written; `fd` stays valid when it is moved."""

    path: Path
    fd: int
    size: int = 0
    solid: int = 0
    """End of the last random block."""


class GrawWriter:
    """Writes the files of one data router, one stream for each AsAd board (or the MuTAnT).

    A stream's file is named as GET names it, `CoBo0_AsAd1_2026-11-22T04:00:00.000_0000.graw`: the board, when
    the run started (local time), and a number that counts up when a file has reached its limit. As with the
    real router a file that is moved while it is written goes on growing in its new place.
    """

    def __init__(
        self,
        folder: Path,
        streams: tuple[str, ...],
        *,
        file_limit_bytes: int,
        block_every_bytes: int,
        real_bytes: bool,
        dice: random.Random,
    ) -> None:
        self.folder = folder
        self.streams = streams
        self._limit = max(file_limit_bytes, _HEADER_BYTES + 1)
        self._block_every = block_every_bytes
        self._real = real_bytes
        self._dice = dice
        self._began = ""
        self._numbers: list[int] = []
        self._files: list[_File | None] = []
        self._owed = 0.0

    @property
    def is_open(self) -> bool:
        """Whether files are being written."""
        return bool(self._files)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return where the files that are open were made."""
        return tuple(file.path for file in self._files if file is not None)

    def begin(self) -> None:
        """Begin the files of a run, closing those of the run before; raises `OSError`."""
        self.close()
        self._began = datetime.now().astimezone().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
        self._numbers = [0] * len(self.streams)
        self._files = [None] * len(self.streams)
        self._owed = 0.0
        for stream in range(len(self.streams)):
            self._open(stream)

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            if file is not None:
                os.close(file.fd)
        self._files = []

    def write(self, amount: float) -> int:
        """Write so many bytes over all streams; returns how many there were.

        Parts of bytes are kept for the next time. Raises `OSError`.
        """
        if not self._files:
            return 0
        self._owed += amount / len(self._files)
        each = int(self._owed)
        self._owed -= each
        for stream in range(len(self._files)):
            self._grow(stream, each)
        return each * len(self._files)

    def _grow(self, stream: int, amount: int) -> None:
        while amount > 0:
            file = self._files[stream]
            if file is None or file.size >= self._limit:
                file = self._open(stream)
            part = min(amount, self._limit - file.size)
            if self._real:
                self._fill(file, part)
            else:
                self._stretch(file, part)
            file.size += part
            amount -= part

    def _stretch(self, file: _File, part: int) -> None:
        end = file.size + part
        os.ftruncate(file.fd, end)
        if file.solid == 0 or end - file.solid >= self._block_every:
            size = min(_BLOCK_BYTES if file.solid else _HEADER_BYTES, part)
            os.pwrite(file.fd, self._dice.randbytes(size), file.size)
            file.solid = file.size + size

    def _fill(self, file: _File, part: int) -> None:
        done = 0
        while done < part:
            data = os.urandom(min(part - done, _CHUNK_BYTES))
            done += os.pwrite(file.fd, data, file.size + done)

    def _open(self, stream: int) -> _File:
        """Begin the next file of a stream, under a name that nothing else has."""
        old = self._files[stream]
        if old is not None:
            self._files[stream] = None
            os.close(old.fd)
        while True:
            name = f"{self.streams[stream]}_{self._began}_{self._numbers[stream]:04d}.graw"
            self._numbers[stream] += 1
            with contextlib.suppress(FileExistsError):
                path = self.folder / name
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                file = self._files[stream] = _File(path, fd)
                return file
