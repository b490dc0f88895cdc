"""Finds who uses a folder: by locks of the kernel, and the processes of a server that lost its IOC.

A process number in a file proves nothing: after a reboot it may belong to another program. So none is read
here. A lock (`flock`) ends with the processes that hold it, and a server is recognised by its program, its
working directory, and the lock file that it inherited; all three are read from the live process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SERVER_PROGRAMS = ("postgres", "postmaster")
PROGRAMS = (*SERVER_PROGRAMS, "initdb")
"""Programs of processes that inherited the lock; one just forked may not run its program yet."""

_POLL_S = 0.01


class FolderLock:
    """An exclusive lock on a file, held until `release` or the end of every process that inherited it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd: int | None = None

    def take(self) -> bool:
        """Take the lock; False if another process holds it. `OSError` if the file cannot be opened."""
        if self.fd is not None:
            return True
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError:
            os.close(fd)
            raise
        self.fd = fd
        return True

    def wait(self, limit_s: float) -> bool:
        """Take the lock, waiting for at most `limit_s`; False if it was not free."""
        end = time.monotonic() + limit_s
        while not self.take():
            if time.monotonic() >= end:
                return False
            time.sleep(_POLL_S)
        return True

    def write(self, text: str) -> None:
        """Write into the file who holds the lock, for people."""
        if self.fd is not None:
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, text.encode(), 0)

    def read(self) -> str:
        """Return what the holder wrote; empty if nothing can be read."""
        with contextlib.suppress(OSError):
            return self.path.read_text(encoding="utf-8", errors="replace").strip()[:200]
        return ""

    def close(self) -> None:
        """Close this process's descriptor; processes that inherited the lock still hold it."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def release(self) -> None:
        """Release the lock, also for processes that inherited it."""
        if self.fd is not None:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
            self.close()


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A live process of PostgreSQL; `ours`: it inherited the server's lock."""

    pid: int
    ppid: int
    ours: bool


def servers_in(data: Path, lock: Path) -> tuple[ServerProcess, ...]:
    """Return the processes of PostgreSQL that hold `lock` or work in the folder `data`, the oldest first.

    Only this user's processes are visible, for root all; those in another container are not.
    """
    place, file = _stat(data), _stat(lock)
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            program = os.readlink(f"/proc/{entry.name}/exe").removesuffix(" (deleted)")
            if os.path.basename(program) not in PROGRAMS:
                continue
            ours = file is not None and _has_open(int(entry.name), file)
            if not ours and not (place and os.path.samestat(os.stat(f"/proc/{entry.name}/cwd"), place)):
                continue
            found.append(ServerProcess(int(entry.name), _parent(int(entry.name)), ours))
        except OSError:
            continue  # it has ended, or is another user's
    pids = {process.pid for process in found}
    return tuple(sorted(found, key=lambda process: (process.ppid in pids, process.pid)))


def end(processes: Iterable[ServerProcess], data: Path, lock: Path, *, fast_s: float, quick_s: float) -> bool:
    """End a server: by SIGINT (fast), then SIGQUIT (immediate), then SIGKILL; False if it is still alive.

    Each process is held by a pidfd and checked again after opening that, so that a number reused by another
    program is never signalled.
    """
    handles = _open_all(processes, data, lock)
    try:
        postmaster = handles[:1]
        for number, targets, limit_s in (
            (signal.SIGINT, postmaster, fast_s),
            (signal.SIGQUIT, handles, quick_s),
            (signal.SIGKILL, handles, quick_s),
        ):
            for fd in targets:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, number)
            if _gone(handles, limit_s):
                return True
        return False
    finally:
        for fd in handles:
            os.close(fd)


def _open_all(processes: Iterable[ServerProcess], data: Path, lock: Path) -> list[int]:
    handles = []
    for process in processes:
        try:
            fd = os.pidfd_open(process.pid)
        except ProcessLookupError:
            continue
        if any(now.pid == process.pid for now in servers_in(data, lock)):
            handles.append(fd)
        else:
            os.close(fd)
    return handles


def _gone(handles: list[int], limit_s: float) -> bool:
    """Wait until every process has ended; then its pidfd is readable."""
    end_at = time.monotonic() + limit_s
    poller = select.poll()
    for fd in handles:
        poller.register(fd, select.POLLIN)
    left = len(handles)
    while left:
        rest_s = end_at - time.monotonic()
        if rest_s <= 0:
            return False
        for fd, _ in poller.poll(rest_s * 1000):
            poller.unregister(fd)
            left -= 1
    return True


def _stat(path: Path) -> os.stat_result | None:
    with contextlib.suppress(FileNotFoundError):
        return path.stat()
    return None


def _has_open(pid: int, file: os.stat_result) -> bool:
    return any(os.path.samestat(info, file) for info in _open_files(pid))


def _open_files(pid: int) -> Iterator[os.stat_result]:
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            yield os.stat(f"/proc/{pid}/fd/{name}")


def _parent(pid: int) -> int:
    # The name in parentheses may contain anything; the fields after the last one are numbers.
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return int(text.rpartition(")")[2].split()[1])
