"""Writing a file that somebody has named: at once or not at all, and into the thing that is there.

A regular file is replaced as a whole, so that whoever reads it never sees half of it; it keeps its mode,
and its owner as far as this account may give it. What has the name may be something else, though: a pipe, a
device and the like are written into, and behind a symbolic link it is the file that the link leads to.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pwd
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

_STREAMS = (Path("/dev"), Path("/proc"))
"""Where a name may be that of an open file, such as `/dev/stdout`: replacing that would not reach it."""
_MEMORY = Path("/dev/shm")
"""Plain files in memory, although they are below `/dev`."""
_NEW = 0o666
"""Mode of a new file, less the umask."""
_PRIVATE = 0o600
_STEM = 100
"""Characters of the name that the passing name has too: with its own it must not become too long."""


@contextlib.contextmanager
def writing(path: Path, *, newline: str | None = None, mode: int = _NEW) -> Iterator[TextIO]:
    """Give a stream of UTF-8 to write what is to be at `path`; `mode` is a new file's, less the umask.

    Root writes with the rights of who can change the folder, see `reaching`. Raises `OSError` with the name
    `path` where it cannot be written. Whatever is raised before the end, a regular file that is there is as
    it was, and one that is not there is not made.
    """
    with _named(path), reaching(path):
        there = _status(path)
        if (there is not None and not stat.S_ISREG(there.st_mode)) or _is_stream(path):
            plain = path.open("w", encoding="utf-8", newline=newline)
            target = new = None
        else:
            target = Path(os.path.realpath(path))
            new = target.with_name(f".{target.name[:_STEM]}.{secrets.token_hex(4)}.part")
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            plain = os.fdopen(handle, "w", encoding="utf-8", newline=newline)
    if target is None or new is None:
        with plain:
            yield plain
        return
    try:
        with plain:
            yield plain
            with _named(path):
                plain.flush()
                os.fsync(plain.fileno())
                make_ours(plain.fileno())
                if there is not None:
                    _like(there, plain.fileno())
        with _named(path), reaching(path):
            new.replace(target)
    except BaseException:
        with contextlib.suppress(PermissionError), reaching(path):
            new.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a whole text, in UTF-8; raises as `writing` does."""
    with writing(path) as stream:
        stream.write(text)


def _status(path: Path) -> os.stat_result | None:
    """Return what is there, at the end of links; None where nothing is."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_stream(path: Path) -> bool:
    where = path.absolute()
    return not where.is_relative_to(_MEMORY) and any(where.is_relative_to(folder) for folder in _STREAMS)


def _like(there: os.stat_result, handle: int) -> None:
    """Give a new file owner and mode of the one that it replaces."""
    made = os.fstat(handle)
    if (made.st_uid, made.st_gid) != (there.st_uid, there.st_gid):
        # Only root may give files away: else it becomes this account's, as any file that is replaced.
        with contextlib.suppress(PermissionError):
            os.fchown(handle, there.st_uid, there.st_gid)
    os.fchmod(handle, stat.S_IMODE(there.st_mode))


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have an error name the file that was asked for, and not one under a passing name."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def private(path: str, flags: int) -> int:
    """Open a file of the IOC's own that its account alone may read, whatever the umask; for `open`.

    A link in its place is not followed. One that an older version has made for all to read is closed to them.
    """
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE)
    there = os.fstat(handle)
    if there.st_uid == os.geteuid() and stat.S_IMODE(there.st_mode) != _PRIVATE:
        os.fchmod(handle, _PRIVATE)
    return handle


def make_private(folder: Path) -> None:
    """Make a folder that its account alone may look into, whatever the umask; one that is there stays.

    So are the folders on the way that are missing. Others may pass one of root's: its database server runs as
    another account. They see no names, and its files are private. Raises `OSError`.
    """
    if not folder.is_dir():
        if folder.parent != folder:
            make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700 if os.geteuid() else 0o711)


def make_folders(folder: Path) -> None:
    """Make a folder and those on the way, as `mkdir -p` does; root with the rights that `as_owner` tells."""
    if not folder.is_dir():
        with as_owner(folder):
            folder.mkdir(parents=True, exist_ok=True)


def not_roots_own(path: Path) -> Path | None:
    """Return the first folder on the way to `path` that somebody but root can change; for root, else None.

    Root must not write there: whoever can change a folder can put a link in the place of what root writes
    into. A folder for all, such as `/tmp`, lets nobody change what is another's. What is not there yet does
    not count. Raises `OSError`.
    """
    if os.geteuid():
        return None
    path = path.absolute()
    for way in (path, path.resolve()):
        for folder in (*reversed(way.parents), way):
            try:
                if folder.lstat().st_uid and folder.is_symlink():
                    return folder
                info = folder.stat()
            except FileNotFoundError:
                break
            others = info.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if info.st_gid else 0))
            if info.st_uid or (others and not info.st_mode & stat.S_ISVTX):
                return folder
    return None


def refusal_for_root(path: Path) -> str:
    """Return why root may not write below `path`, and what to do; empty where it may. Raises `OSError`."""
    folder = not_roots_own(path)
    if folder is None:
        return ""
    try:
        owner = pwd.getpwuid(folder.lstat().st_uid).pw_name
    except KeyError:
        owner = ""
    advice = (
        f"run this as {owner} (sudo -u {owner} ...)" if owner not in ("", "root") else "close it to others"
    )
    return (
        f"{folder} can be changed by others than root, who could lead elsewhere what root writes there; "
        f"{advice}, or take a folder of root's"
    )


def read_theirs(path: Path, most: int) -> str:
    """Return the last `most` bytes of a regular file in a folder that another account can change, as text.

    A link, pipe or device in its place is neither followed nor waited for. What root shows of it has to be
    read with `as_owner`: a folder on the way may be a link. Bytes that are no UTF-8 become U+FFFD. Raises
    `OSError`.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(handle, "rb", buffering=0) as file:
        there = os.fstat(handle)
        if not stat.S_ISREG(there.st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        file.seek(max(0, there.st_size - most))
        return (file.read(most) or b"").decode("utf-8", "replace")


@contextlib.contextmanager
def as_owner(path: Path) -> Iterator[None]:
    """Have root reach and make files below `path` with no more rights than the owner of the way there has.

    What is made is the owner's. It holds for this thread, so nothing may be awaited meanwhile. Where all of
    the way is root's own, and for others than root, nothing changes. Raises `PermissionError` where a folder
    of the way is root's and others may write into it.
    """
    folder = not_roots_own(path)
    if folder is None:
        yield
        return
    info = folder.stat()
    if not info.st_uid:
        raise PermissionError(errno.EPERM, "others than root can change this folder", str(folder))
    system = ctypes.CDLL(None)
    system.setfsgid(info.st_gid)
    system.setfsuid(info.st_uid)
    try:
        yield
    finally:
        system.setfsuid(0)
        system.setfsgid(0)


@contextlib.contextmanager
def reaching(path: Path) -> Iterator[None]:
    """Have root make or replace `path` with the rights of who can change its folder, as `as_owner` does.

    In a folder for all, such as `/tmp`, a link of another account is refused. Raises `PermissionError`.
    """
    with as_owner(path.parent):
        if (
            not os.geteuid()
            and path.is_symlink()
            and path.lstat().st_uid
            and not_roots_own(path.parent) is None
        ):
            raise PermissionError(errno.EPERM, "a link that another account made", str(path))
        yield


def make_ours(handle: int) -> None:
    """Give this account a file that it made with the rights of another."""
    if os.fstat(handle).st_uid != os.geteuid():
        os.fchown(handle, os.geteuid(), os.getegid())
