"""Whether a program runs on this machine."""

from __future__ import annotations

import threading
import time

import psutil

from attpc_ioc.log import get_logger

log = get_logger(__name__)

KERNEL_LETTERS = 15
"""Linux keeps so many letters of a program's name."""

SCAN_LASTS_S = 1.5
"""A look through all processes is shared by the routers of this machine for this long."""


def is_named(found: str, wanted: str) -> bool:
    """Tell whether a process's name as the system gives it, a path or cut short, is the wanted one."""
    base = found.rsplit("/", 1)[-1]
    return base == wanted or (len(base) == KERNEL_LETTERS and wanted.startswith(base))


class Processes:
    """The processes of this machine. May be asked from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, psutil.Process] = {}
        self._scan: tuple[psutil.Process, ...] = ()
        self._names: tuple[str, ...] = ()
        self._scanned = 0.0

    def runs(self, name: str) -> bool:
        """Tell whether a process of this name runs; one that has ended and is not yet buried does not count.

        The one found the last time is asked first: that costs a hundredth of a look through all.
        """
        with self._lock:
            known = self._found.get(name)
            if known is not None and _lives(known, name):
                return True
            self._found.pop(name, None)
            if time.monotonic() - self._scanned > SCAN_LASTS_S:
                self._look_through()
            for process, found in zip(self._scan, self._names, strict=True):
                if is_named(found, name) and _lives(process, name):
                    self._found[name] = process
                    return True
            return False

    def _look_through(self) -> None:
        seen = [(process, process.info["name"] or "") for process in psutil.process_iter(["name"])]
        self._scan = tuple(process for process, _name in seen)
        self._names = tuple(name for _process, name in seen)
        self._scanned = time.monotonic()


def _lives(process: psutil.Process, name: str) -> bool:
    try:
        return (
            process.is_running()
            and process.status() != psutil.STATUS_ZOMBIE
            and is_named(process.name(), name)
        )
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied as error:
        log.warning("process cannot be looked at", pid=process.pid, reason=str(error))
        return False


PROCESSES = Processes()
"""The ones of this machine, for all routers on it."""
