"""Which file system calls the event loop makes itself: on a slow disk each holds up polls and clients."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

AUDITED = frozenset(
    (
        "open",
        "os.listdir",
        "os.scandir",
        "os.mkdir",
        "os.rename",
        "os.remove",
        "os.rmdir",
        "os.chmod",
        "os.chown",
    )
)
"""Calls that Python reports to audit hooks, with the path first."""

UNREPORTED = ("stat", "lstat", "access", "statvfs", "readlink")
"""Calls that it does not: these are replaced while they are watched."""

PRODUCT = ("/attpc_ioc/", "/attpc_plugins/")
BESIDE = ("/tests/", "/attpc_ioc/simulator/")
"""What shares the loop with the product in a test, and not in life."""


class LoopFiles:
    """Keeps the calls on paths below `roots` that the product makes in the thread of the loop."""

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self.found: set[str] = set()
        self._roots = tuple(str(root) for root in roots)
        self._thread = threading.get_ident()

    def note(self, call: str, path: Any) -> None:
        """Take a call; of interest where the loop itself is what runs."""
        if threading.get_ident() != self._thread or asyncio._get_running_loop() is None:
            return
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if not name.startswith(self._roots):
            return
        if where := _caller():
            self.found.add(f"{call} {name} by {where}")


def _caller() -> str:
    """Return the functions of the product that called, the innermost first; empty for a test's doing."""
    found = []
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if any(part in file for part in BESIDE):
            return ""
        if any(part in file for part in PRODUCT):
            found.append(f"{file.rpartition('/')[2]}:{frame.f_lineno} {frame.f_code.co_name}")
        if file.endswith("asyncio/events.py") and frame.f_code.co_name == "_run":
            break
        frame = frame.f_back
    return " < ".join(found)


_watching: list[LoopFiles] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in AUDITED and arguments:
        for watch in _watching:
            watch.note(event, arguments[0])


_hooked = False


@contextlib.contextmanager
def loop_files(*roots: Path) -> Iterator[LoopFiles]:
    """Watch the calls on paths below `roots` for the length of a block, in the loop of the caller."""
    global _hooked
    if not _hooked:
        # There is no way to take a hook away again; it does nothing while nobody watches.
        sys.addaudithook(_hook)
        _hooked = True
    watch = LoopFiles(roots)
    kept = {name: getattr(os, name) for name in UNREPORTED}

    def watched(name: str) -> Any:
        def call(path: Any, *arguments: Any, **more: Any) -> Any:
            watch.note(f"os.{name}", path)
            return kept[name](path, *arguments, **more)

        return call

    for name in UNREPORTED:
        setattr(os, name, watched(name))
    _watching.append(watch)
    try:
        yield watch
    finally:
        _watching.remove(watch)
        for name, real in kept.items():
            setattr(os, name, real)
