"""The texts of a host's errors: the same for every kind of access."""

from __future__ import annotations

import errno
from enum import StrEnum

from attpc_ioc.model import outside
from attpc_ioc.model.names import experiment_fault
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.model import GRAW

from .host import HostFault, RunFolderExists
from .names import SPOILING


class FaultKind(StrEnum):
    """The kind of an error, by the word that the agent on a host sends; errno differs between systems."""

    NO_ENTRY = "noent"
    NOT_FOLDER = "notdir"
    NOT_REGULAR = "notreg"
    DENIED = "denied"
    FULL = "full"
    READ_ONLY = "readonly"
    TOO_LARGE = "toolarge"
    OTHER_DISK = "otherdisk"
    BROKEN = "broken"
    EXISTS = "exists"
    OTHER = "other"


_OF_NUMBER = {
    errno.ENOENT: FaultKind.NO_ENTRY,
    errno.ENOTDIR: FaultKind.NOT_FOLDER,
    errno.EACCES: FaultKind.DENIED,
    errno.EPERM: FaultKind.DENIED,
    errno.ENOSPC: FaultKind.FULL,
    errno.EDQUOT: FaultKind.FULL,
    errno.EROFS: FaultKind.READ_ONLY,
    errno.EFBIG: FaultKind.TOO_LARGE,
    errno.EXDEV: FaultKind.OTHER_DISK,
    errno.EIO: FaultKind.BROKEN,
    errno.EEXIST: FaultKind.EXISTS,
}

_WORDS = {
    FaultKind.NO_ENTRY: "there is no {path}",
    FaultKind.NOT_FOLDER: "{path} is not a folder",
    FaultKind.NOT_REGULAR: "{path} is not a regular file",
    FaultKind.DENIED: "permission denied: {path}",
    FaultKind.FULL: "the disk is full: {path} cannot be written",
    FaultKind.READ_ONLY: "the disk is read-only: {path} cannot be written",
    FaultKind.TOO_LARGE: "{path} is larger than is allowed",
    FaultKind.OTHER_DISK: "{path} is on another file system than the staging folder",
    FaultKind.BROKEN: "the disk fails (input/output error): {path}",
    FaultKind.EXISTS: "{path} exists already",
    FaultKind.OTHER: "{path}: {detail}",
}


KINDS = {
    "link": "a symbolic link",
    "folder": "a folder",
    "file": "a file",
    "pipe": "a pipe",
    "socket": "a socket",
    "device": "a device",
}
"""Kinds of directory entries, by the word that the agent sends."""


def fault_kind_of(error: OSError) -> FaultKind:
    """Return the kind of a system error on this machine."""
    return _OF_NUMBER.get(error.errno or 0, FaultKind.OTHER)


def text_of(path: bytes) -> str:
    """Return a name or path as text, with invalid UTF-8 as surrogate escapes."""
    return path.decode("utf-8", "surrogateescape")


def bytes_of(path: str) -> bytes:
    """Return the bytes of a text made by `text_of`."""
    return path.encode("utf-8", "surrogateescape")


def words(kind: FaultKind, path: bytes, detail: str = "") -> str:
    """Return an error as text for operators, with special characters of the path escaped."""
    if kind in (FaultKind.NOT_FOLDER, FaultKind.NOT_REGULAR) and detail in KINDS:
        detail = f"{_WORDS[kind].format(path=repr(text_of(path)))} but {KINDS[detail]}"
        return outside.text(detail)
    return outside.text(_WORDS[kind].format(path=repr(text_of(path)), detail=detail or "it cannot be done"))


def fault(kind: FaultKind, path: bytes, detail: str = "") -> HostFault:
    """Return the exception for an error of a host."""
    return HostFault(words(kind, path, detail))


def folder_exists(path: bytes) -> RunFolderExists:
    """Return the exception for a run's folder that exists already."""
    return RunFolderExists(f"the run's folder {text_of(path)!r} exists already")


def check_run(run: RunRef) -> None:
    """Raise `HostFault` if a run cannot name a folder, so that no path leads out of the staging folder."""
    if reason := experiment_fault(run.experiment):
        raise HostFault(reason)
    if run.number < 0:
        raise HostFault(f"a run's number cannot be {run.number}")


def name_fault(name: str) -> str:
    """Return why a text cannot be the name of a data file; empty if it can."""
    if "/" in name or "\0" in name or not name.endswith(GRAW):
        return f"{name!r} cannot be the name of a '*{GRAW}'"
    return ""


def odd_text(path: bytes, kind: str, count: int) -> str:
    """Return the message on an entry that is no data file, or cannot be merged; `count` in total."""
    more = f", and {count - 1} more like it" if count > 1 else ""
    if kind in SPOILING:
        return outside.text(f"{text_of(path)!r} {SPOILING[kind]}: the merger will refuse its run{more}")
    return outside.text(f"{text_of(path)!r} is {KINDS.get(kind, 'no file')} and is left alone{more}")


def vanished(path: bytes) -> str:
    """Return the message on a file that was listed and has vanished."""
    return outside.text(f"{text_of(path)!r} no longer exists")


def grown(now: int, listed: int) -> str:
    """Return the message on a file whose size differs from the listed one."""
    return f"it has {now} bytes now, and was listed with {listed}"


def moved(now: int, listed: int) -> str:
    """Return the message on a moved file; empty if its size is the listed one."""
    return "" if now == listed else f"it has {now} bytes there, and was listed with {listed}"
