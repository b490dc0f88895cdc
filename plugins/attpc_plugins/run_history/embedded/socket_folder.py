"""The folder of the embedded server's socket: a short path that nobody else can enter."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from attpc_plugins.run_history.errors import EmbeddedError

from .binaries import Account, barrier
from .cluster import guarded_folder, own_folder

PORT = 5432
"""The port number in the socket's name; no TCP port is opened."""

LONGEST = 107
"""Maximum bytes of a Unix socket's path: `sun_path` of Linux has 108 with its closing zero."""


def fits(folder: Path) -> bool:
    """Return whether the path of the server's socket in this folder is short enough."""
    return len(os.fsencode(folder / f".s.PGSQL.{PORT}.lock")) <= LONGEST


def socket_folder(folder: Path, account: Account) -> Path:
    """Return the socket's folder for the server of `folder`, made and private to the account.

    It is `folder/run`; if that path is too long, or has a comma, which PostgreSQL takes as the end of a
    name, a folder in `/run` or the folder for temporary files, named after `folder` and the user. Raises
    `EmbeddedError` if somebody else's folder has that name.
    """
    inside = folder / "run"
    if fits(inside) and not set(str(inside)) & set(',"\\'):
        return _cleared(_private(inside, account))
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    name = f"attpc-ioc-{account.uid}-{digest}"
    runtime = Path("/run")
    if account.other and os.access(runtime, os.W_OK) and barrier(runtime, account) is None:
        return _cleared(_outside(runtime / name, account))
    place = Path(tempfile.gettempdir()) / name
    return _cleared(_outside(place if fits(place / "run") else Path("/tmp") / name, account))


def _outside(folder: Path, account: Account) -> Path:
    """Return a private folder outside the server's own, which guards the files of a shared account."""
    if not account.shared:
        return _private(folder, account)
    try:
        return _private(guarded_folder(folder, account) / "run", account)
    except OSError as error:
        raise EmbeddedError(f"folder for the database's socket {folder}: {error.strerror}") from error


def _private(folder: Path, account: Account) -> Path:
    try:
        with contextlib.suppress(FileExistsError):
            own_folder(folder, account)
        info = folder.lstat()
    except OSError as error:
        raise EmbeddedError(f"folder for the database's socket {folder}: {error.strerror}") from error
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != account.uid or info.st_mode & 0o077:
        raise EmbeddedError(
            f"{folder}, the folder for the database's socket, is not a folder of {account.name} alone; "
            "remove it, or give a shorter plugins.run_history.data_dir"
        )
    return folder


def _cleared(folder: Path) -> Path:
    """Remove what a dead server left there; the number in its lock file is not trusted either."""
    for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
        (folder / name).unlink(missing_ok=True)
    return folder
