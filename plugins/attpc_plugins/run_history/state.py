"""What the plugin keeps over restarts, also as commands and the start of an IOC read it from the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter

from attpc_ioc.eventlog import Kept
from attpc_ioc.eventlog.log import read_kept

T = TypeVar("T")


class Keeping(Protocol):
    """What gives rows that are kept across restarts, such as a plugin's context."""

    def kept(self, topic: str, adapter: TypeAdapter[T]) -> Kept[T]:
        """Return the rows of a topic."""
        ...


def on_disk(folder: Path, topic: str) -> dict[str, Any]:
    """Return what a topic of the plugin has on disk, as JSON values by key; even while an IOC runs.

    `folder` is the plugin's folder. Raises `OSError`, `sqlite3.Error` and `ValueError`.
    """
    return read_kept(folder.parents[1], f"{folder.name}/{topic}")
