"""The texts of a host's errors: the same for every kind of access."""

from __future__ import annotations

import errno
from enum import StrEnum

from attpc_ioc.model import outside
from attpc_ioc.model.names import experiment_fault
from attpc_plugins.data_routers.model import GRAW, RunKey

from .host import HostFault, RunFolderExists


class Trouble(StrEnum):
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
    errno.ENOENT: Trouble.NO_ENTRY,
    errno.ENOTDIR: Trouble.NOT_FOLDER,
    errno.EACCES: Trouble.DENIED,
    errno.EPERM: Trouble.DENIED,
    errno.ENOSPC: Trouble.FULL,
    errno.EDQUOT: Trouble.FULL,
    errno.EROFS: Trouble.READ_ONLY,
    errno.EFBIG: Trouble.TOO_LARGE,
    errno.EXDEV: Trouble.OTHER_DISK,
    errno.EIO: Trouble.BROKEN,
    errno.EEXIST: Trouble.EXISTS,
}

_WORDS = {
    Trouble.NO_ENTRY: "there is no {path}",
    Trouble.NOT_FOLDER: "{path} is no folder",
    Trouble.NOT_REGULAR: "{path} is no regular file",
    Trouble.DENIED: "permission denied: {path}",
    Trouble.FULL: "the disk is full: {path} cannot be written",
    Trouble.READ_ONLY: "the disk is read-only: {path} cannot be written",
    Trouble.TOO_LARGE: "{path} is larger than is allowed",
    Trouble.OTHER_DISK: "{path} is on another file system than the staging folder",
    Trouble.BROKEN: "the disk fails (input/output error): {path}",
    Trouble.EXISTS: "{path} exists already",
    Trouble.OTHER: "{path}: {detail}",
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


def trouble_of(error: OSError) -> Trouble:
    """Return the kind of a system error on this machine."""
    return _OF_NUMBER.get(error.errno or 0, Trouble.OTHER)


def text_of(path: bytes) -> str:
    """Return a name or path as text, with invalid UTF-8 as surrogate escapes."""
    return path.decode("utf-8", "surrogateescape")


def bytes_of(path: str) -> bytes:
    """Return the bytes of a text made by `text_of`."""
    return path.encode("utf-8", "surrogateescape")


def words(trouble: Trouble, path: bytes, detail: str = "") -> str:
    """Return an error as text for operators, with special characters of the path escaped."""
    if trouble in (Trouble.NOT_FOLDER, Trouble.NOT_REGULAR) and detail in KINDS:
        detail = f"{_WORDS[trouble].format(path=repr(text_of(path)))} but {KINDS[detail]}"
        return outside.text(detail)
    return outside.text(
        _WORDS[trouble].format(path=repr(text_of(path)), detail=detail or "it cannot be done")
    )


def fault(trouble: Trouble, path: bytes, detail: str = "") -> HostFault:
    """Return the exception for an error of a host."""
    return HostFault(words(trouble, path, detail))


def folder_exists(path: bytes) -> RunFolderExists:
    """Return the exception for a run's folder that exists already."""
    return RunFolderExists(f"the run's folder {text_of(path)!r} exists already")


def check_run(run: RunKey) -> None:
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
    """Return the message on an entry with the name of a data file that is none; `count` of them in all."""
    more = f", and {count - 1} more like it" if count > 1 else ""
    return outside.text(f"{text_of(path)!r} is {KINDS.get(kind, 'no file')} and is left alone{more}")


def vanished(path: bytes) -> str:
    """Return the message on a file that was listed and has vanished."""
    return outside.text(f"{text_of(path)!r} is not there any more")


def grown(now: int, listed: int) -> str:
    """Return the message on a file whose size differs from the listed one."""
    return f"it has {now} bytes now, and was listed with {listed}"


def moved(now: int, listed: int) -> str:
    """Return the message on a moved file; empty if its size is the listed one."""
    return "" if now == listed else f"it has {now} bytes there, and was listed with {listed}"
