"""Write a file that a person named: whole or not at all.

A regular file is replaced as a whole, so that nobody reads half of it. It keeps its mode, and its owner as
far as this account may set it. A pipe or device is written into. A symbolic link is followed to its file.
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
"""Where names may stand for open files, such as `/dev/stdout`, which must not be replaced."""
_MEMORY = Path("/dev/shm")
"""Regular files in memory, although below `/dev`."""
_NEW = 0o666
"""Mode of a new file, less the umask."""
_PRIVATE = 0o600
_STEM = 100
"""Characters of the name that its temporary name begins with; more might make that too long."""


@contextlib.contextmanager
def writing(path: Path, *, newline: str | None = None, mode: int = _NEW) -> Iterator[TextIO]:
    """Open a UTF-8 stream for the new contents of `path`; `mode` is for a new file, less the umask.

    Root writes with the rights of the folder's owner, see `reaching`. Raises `OSError` with the name `path`
    if it cannot be written. After any exception a regular file is unchanged, and a new one does not exist.
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
    """Write a whole text in UTF-8; raises as `writing` does."""
    with writing(path) as stream:
        stream.write(text)


def _status(path: Path) -> os.stat_result | None:
    """Return the status of the file behind any links; None if there is none."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_stream(path: Path) -> bool:
    where = path.absolute()
    return not where.is_relative_to(_MEMORY) and any(where.is_relative_to(folder) for folder in _STREAMS)


def _like(there: os.stat_result, handle: int) -> None:
    """Give a new file the owner and mode of the file that it replaces."""
    made = os.fstat(handle)
    if (made.st_uid, made.st_gid) != (there.st_uid, there.st_gid):
        # Only root may change owners; otherwise the file becomes this account's.
        with contextlib.suppress(PermissionError):
            os.fchown(handle, there.st_uid, there.st_gid)
    os.fchmod(handle, stat.S_IMODE(there.st_mode))


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Make errors name the requested file instead of a temporary one."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def private(path: str, flags: int) -> int:
    """Open a file of the IOC that only its account may read, whatever the umask; for `open`.

    A link is not followed. A file that an older version made readable for all becomes private.
    """
    handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE)
    there = os.fstat(handle)
    if there.st_uid == os.geteuid() and stat.S_IMODE(there.st_mode) != _PRIVATE:
        os.fchmod(handle, _PRIVATE)
    return handle


def make_private(folder: Path) -> None:
    """Make a folder that only its account may read, whatever the umask; an existing one stays.

    Missing parent folders are made the same way. Others may pass through root's, because its database server
    runs as another account; they see no names, and its files are private. Raises `OSError`.
    """
    if not folder.is_dir():
        if folder.parent != folder:
            make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700 if os.geteuid() else 0o711)


def make_folders(folder: Path) -> None:
    """Make a folder and its parents, as `mkdir -p` does; root does it by the rights of `as_owner`."""
    if not folder.is_dir():
        with as_owner(folder):
            folder.mkdir(parents=True, exist_ok=True)


def not_roots_own(path: Path) -> Path | None:
    """For root, return the first folder of `path` that others can change; None for other accounts.

    Root must not write there: who can change a folder can replace what root writes to with a link. A sticky
    folder, such as `/tmp`, lets nobody change files of others. Missing folders do not count. Raises
    `OSError`.
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
    """Return why root may not write below `path`, and what to do; empty if it may. Raises `OSError`."""
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
        f"{folder} can be changed by others than root, who could redirect what root writes there; "
        f"{advice}, or use a folder of root's"
    )


def read_theirs(path: Path, most: int) -> str:
    """Return the last `most` bytes of a regular file in a folder that another account can change, as text.

    A link is not followed, and a pipe or device is not waited for. Root must call this inside `as_owner`,
    because a parent folder may be a link. Bytes that are not UTF-8 become U+FFFD. Raises `OSError`.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(handle, "rb", buffering=0) as file:
        there = os.fstat(handle)
        if not stat.S_ISREG(there.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        file.seek(max(0, there.st_size - most))
        return (file.read(most) or b"").decode("utf-8", "replace")


@contextlib.contextmanager
def as_owner(path: Path) -> Iterator[None]:
    """Let root use files below `path` with no more rights than the owner of its folders has.

    New files belong to that owner. It applies to the thread, so await nothing inside. Nothing changes for
    other accounts, and where all folders are root's own. Raises `PermissionError` if a folder is root's and
    others may write into it.
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
    """Let root make or replace `path` with the rights of its folder's owner, as `as_owner` does.

    In a sticky folder, such as `/tmp`, a link of another account is refused. Raises `PermissionError`.
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
    """Make this account the owner of a file that it made with the rights of another."""
    if os.fstat(handle).st_uid != os.geteuid():
        os.fchown(handle, os.geteuid(), os.getegid())
