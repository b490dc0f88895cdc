"""Where the files of a run go: `run_0042/mm0` to `mm10`, one folder for each CoBo, as the merger wants them.

The merger refuses a run without one of these folders, and takes from each the files whose path names the
CoBo and an AsAd, in the order of bytes. Nothing here touches a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attpc_ioc.errors import AttpcError
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.hosts.names import (
    SPOILING,
    board_of,
    is_of_mutant,
    spoils,
    spoils_the_search,
)
from attpc_plugins.data_routers.model import FileEntry

BOARDS = 11
"""The merger reads CoBo 0 to 10."""

MUTANT = "mutant"
OTHER = "other"
MANIFESTS = "manifests"
"""Folders beside those of the CoBos, which the merger ignores."""


class GatherError(AttpcError):
    """A run cannot be gathered; nothing was overwritten."""


class Unfinished(GatherError):
    """Some files have not come; the others are kept. `again`: repeating is all that is needed."""

    def __init__(self, faults: Sequence[str], *, again: bool) -> None:
        super().__init__("\n".join(faults))
        self.again = again


@dataclass(frozen=True, slots=True)
class Part:
    """One data router's share of a run: its files, and its manifest where it has one.

    `bad`: what is known to be wrong in its frames.
    """

    label: str
    files: tuple[FileEntry, ...]
    manifest: bytes | None
    bad: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """A file, and the folder in the run's to which it goes."""

    file: FileEntry
    folder: str

    @property
    def place(self) -> str:
        """Its path in the run's folder."""
        return f"{self.folder}/{self.file.name}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A run as it is to be: `items` by data router, and the manifests' texts."""

    run: RunRef
    items: Mapping[str, tuple[Item, ...]]
    manifests: Mapping[str, bytes]
    folders: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def empty(self) -> tuple[str, ...]:
        """The boards' folders without a file, in order."""
        used = {item.folder for items in self.items.values() for item in items}
        return tuple(name for name in map("mm{}".format, range(BOARDS)) if name not in used)

    @property
    def data_bytes(self) -> int:
        """The size of all files together."""
        return sum(item.file.size for items in self.items.values() for item in items)


def folder_for(name: str, label: str) -> str:
    """Return the folder of a file by its name; `label` is its data router's name."""
    board = board_of(name)
    if board is not None:
        return f"mm{board}"
    return MUTANT if is_of_mutant(name) else f"{OTHER}_{label}"


def plan_of(run: RunRef, parts: Sequence[Part]) -> Plan:
    """Return where everything goes. Raises `GatherError` if two files would have one place."""
    items: dict[str, tuple[Item, ...]] = {}
    owners: dict[str, str] = {}
    warnings: list[str] = []
    for part in parts:
        warnings += [f"{part.label}: the merger will not merge this run: {text}" for text in part.bad]
        items[part.label] = tuple(Item(file, folder_for(file.name, part.label)) for file in part.files)
        for item in items[part.label]:
            other = owners.setdefault(item.place, part.label)
            if other != part.label:
                raise GatherError(f"{other} and {part.label} both have {item.file.name!r}")
            if text := _warning(item):
                warnings.append(f"{part.label}: {item.file.name!r}: {text}")
    used = {item.folder for found in items.values() for item in found}
    folders = {f"mm{board}" for board in range(BOARDS)} | used | {MANIFESTS}
    manifests = {part.label: part.manifest for part in parts if part.manifest is not None}
    return Plan(run, items, manifests, tuple(sorted(folders)), tuple(warnings))


def _warning(item: Item) -> str:
    reason = SPOILING.get(spoils(item.file.name), "")
    if item.folder.startswith(OTHER):
        return f"goes to {item.folder}/, which the merger does not read: it {reason or 'names no board'}"
    if item.folder.startswith("mm") and int(item.folder[2:]) >= BOARDS:
        return f"goes to {item.folder}/, but the merger reads mm0 to mm{BOARDS - 1} only"
    return f"the merger cannot read the run: it {reason}" if reason else ""


def destination_fault(folder: Path, stagings: Mapping[str, str]) -> str:
    """Return why no runs may be gathered in a folder; empty if they may be.

    `stagings`: the staging folders by data router.
    """
    path = str(folder)
    for label, staging in stagings.items():
        if folder.is_relative_to(staging):
            return (
                f"{path!r} is in {staging}, the staging folder of the data router {label}, which is for what "
                "it writes and for its own runs. Use another folder"
            )
    if spoils_the_search(path):
        return (
            f"{path!r} has 'CoBo<k>_AsAd<a>' or '.graw' in it: the merger would take every file there for a "
            "data file. Use another folder"
        )
    try:
        path.encode()
    except UnicodeEncodeError:
        return f"{path!r} is not UTF-8: the merger cannot read it. Use another folder"
    return ""
