"""Which processes of a program run on this machine."""

from __future__ import annotations

import threading
import time

import psutil

from attpc_ioc.log import get_logger

log = get_logger(__name__)

KERNEL_LETTERS = 15
"""Linux truncates a program's name to this length."""

SCAN_LASTS_S = 1.5
"""The routers of this machine share one scan of all processes for this long."""


def is_named(found: str, wanted: str) -> bool:
    """Return whether a process's name, which may be a path or truncated, is the wanted one."""
    base = found.rsplit("/", 1)[-1]
    return base == wanted or (len(base) == KERNEL_LETTERS and wanted.startswith(base))


class Processes:
    """The processes of this machine; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, ...], list[psutil.Process]] = {}
        self._scan: tuple[psutil.Process, ...] = ()
        self._names: tuple[str, ...] = ()
        self._scanned = 0.0

    def running(self, *names: str) -> tuple[int, ...]:
        """Return the numbers of processes that have one of these names; zombies do not count.

        As long as one of those found last runs, no others are looked for: that costs a hundredth of a scan.
        """
        with self._lock:
            alive = [process for process in self._found.get(names, ()) if _lives(process, names)]
            if not alive:
                if time.monotonic() - self._scanned > SCAN_LASTS_S:
                    self._scan_all()
                named = zip(self._scan, self._names, strict=True)
                alive = [
                    process for process, name in named if _is_one(name, names) and _lives(process, names)
                ]
            self._found[names] = alive
            return tuple(process.pid for process in alive)

    def _scan_all(self) -> None:
        seen = [(process, process.info["name"] or "") for process in psutil.process_iter(["name"])]
        self._scan = tuple(process for process, _name in seen)
        self._names = tuple(name for _process, name in seen)
        self._scanned = time.monotonic()


def _is_one(found: str, names: tuple[str, ...]) -> bool:
    return any(is_named(found, name) for name in names)


def _lives(process: psutil.Process, names: tuple[str, ...]) -> bool:
    try:
        return (
            process.is_running()
            and process.status() != psutil.STATUS_ZOMBIE
            and _is_one(process.name(), names)
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied as error:
        log.warning("process cannot be inspected", pid=process.pid, reason=str(error))
        return False


PROCESSES = Processes()
"""The processes of this machine, for all routers on it."""
