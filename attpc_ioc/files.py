"""Writing a file that somebody has named: at once or not at all, and into the thing that is there.

A regular file is replaced as a whole, so that whoever reads it never sees half of it; it keeps its mode,
and its owner as far as this account may give it. What has the name may be something else, though: a pipe, a
device and the like are written into, and behind a symbolic link it is the file that the link leads to.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

_STREAMS = (Path("/dev"), Path("/proc"))
"""Where a name may be that of an open file, such as `/dev/stdout`: replacing that would not reach it."""
_NEW = 0o666
"""Mode of a new file, less the umask."""
_STEM = 100
"""Characters of the name that the passing name has too: with its own it must not become too long."""


@contextlib.contextmanager
def writing(path: Path, *, newline: str | None = None) -> Iterator[TextIO]:
    """Give a stream of UTF-8 to write what is to be at `path`.

    Raises `OSError` with the name `path` where it cannot be written. Whatever is raised before the end, a
    regular file that is there is as it was, and one that is not there is not made.
    """
    with _named(path):
        there = _status(path)
        if (there is not None and not stat.S_ISREG(there.st_mode)) or _is_stream(path):
            plain = path.open("w", encoding="utf-8", newline=newline)
            target = new = None
        else:
            target = Path(os.path.realpath(path))
            new = target.with_name(f".{target.name[:_STEM]}.{secrets.token_hex(4)}.part")
            handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _NEW)
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
                if there is not None:
                    _like(there, plain.fileno())
        with _named(path):
            new.replace(target)
    except BaseException:
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
    return any(path.absolute().is_relative_to(folder) for folder in _STREAMS)


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
