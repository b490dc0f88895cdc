"""The lock on the state directory: only one IOC uses it at a time."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from attpc_ioc.errors import StateDirBusy, StateDirError
from attpc_ioc.files import make_private, private, refusal_for_root

NAME = "lock"


class StateLock:
    """Holds the file `lock`, which names its owner: process, host and the IOC's prefix."""

    def __init__(self, folder: Path, prefix: str) -> None:
        """Store the folder and the IOC's `prefix`, which others see in their error message."""
        self._folder = folder
        self._prefix = prefix
        self._handle: int | None = None

    def take(self) -> None:
        """Make the folder and lock it; raises `StateDirError` if that fails."""
        try:
            if refusal := refusal_for_root(self._folder):
                raise StateDirError(f"state directory {self._folder}: {refusal}: ioc.state_dir")
            make_private(self._folder)
            handle = private(str(self._folder / NAME), os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StateDirError(
                f"state directory {self._folder}: {error.strerror}; make it writable, or set ioc.state_dir"
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _owner(os.pread(handle, 512, 0).decode(errors="replace"))
            os.close(handle)
            raise StateDirBusy(
                f"state directory {self._folder}: another IOC ({owner}) is using it; "
                "stop that one, or give this one an ioc.state_dir of its own"
            ) from error
        self._handle = handle
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()} {socket.gethostname()} {self._prefix}\n".encode(), 0)
        except OSError:
            # A full disk: the lock holds even without its owner's name.
            return

    def release(self) -> None:
        """Release the lock."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _owner(text: str) -> str:
    """Return the owner of the lock, from the text in the file."""
    process, host, prefix, *_ = [*text.split(), "", "", ""]
    words = f"process {process or 'unknown'}"
    # The lock works across network file systems and containers, where a process number alone says little.
    words += f" on {host}" if host else ""
    return words + (f", prefix {prefix}" if prefix else "")
