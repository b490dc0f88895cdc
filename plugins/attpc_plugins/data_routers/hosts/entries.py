"""Checks what a host reports of data files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from attpc_ioc.model import outside
from attpc_plugins.data_routers.model import FileEntry

from .host import HostFault
from .words import name_fault, text_of

MOST_FILES = 100_000
"""The most files of a folder. A part has 1 GiB, so these are 100 TB."""

_SHA256 = re.compile(r"([0-9a-f]{64})?")


def entry(name: bytes, size: object, changed: object, checksum: str) -> FileEntry:
    """Return a file of a listing. Raises a `HostFault` that names it if its values are impossible."""
    shown = text_of(name)
    if reason := name_fault(shown):
        raise HostFault(reason)
    try:
        if not _SHA256.fullmatch(checksum):
            raise ValueError(f"{outside.shown(checksum)} is not a SHA-256")
        return FileEntry(shown, outside.count(size), outside.time_s(changed), checksum)
    except ValueError as error:
        raise HostFault(f"size or time of the file {shown!r} is impossible: {error}") from error


def folder_of(entries: Iterable[FileEntry], where: str) -> tuple[FileEntry, ...]:
    """Return the files of a folder, named by `where`. Raises `HostFault` if the listing is impossible."""
    files = tuple(entries)
    if len(files) > MOST_FILES:
        raise HostFault(f"{where} has more than {MOST_FILES} data files")
    if sum(file.size for file in files) > outside.MOST:
        raise HostFault(f"the data files of {where} together have more than 2^63 bytes")
    names = Counter(file.name for file in files)
    if len(names) < len(files):
        raise HostFault(f"{where} has {names.most_common(1)[0][0]!r} more than once")
    return files
