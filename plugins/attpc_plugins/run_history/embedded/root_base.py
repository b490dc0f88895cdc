"""Root's folder for what another account must reach: the server's programs and data.

It is root's default state directory. Nothing in it is used unless only root can change it, since root
runs programs from it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from attpc_plugins.run_history.errors import EmbeddedError

BASE = Path("/var/lib/attpc-ioc")
"""Its default: below `/var/lib`, which any account can pass."""

VARIABLE = "ATTPC_IOC_ROOT_BASE"
"""The environment variable for another place: an absolute path."""


def root_base() -> Path:
    """Return the path of the folder; it need not exist. Raises `EmbeddedError` for a relative path."""
    told = os.environ.get(VARIABLE, "")
    if told and not Path(told).is_absolute():
        raise EmbeddedError(f"{VARIABLE} is {told}, which is not an absolute path")
    return Path(told) if told else BASE


def made_root_base() -> Path:
    """Return the folder, made with mode 0755 if missing; an existing folder's mode is not changed.

    Raises `EmbeddedError` if it cannot be made, or others than root can change its contents.
    """
    base = root_base()
    try:
        if not base.exists():
            base.mkdir(mode=0o755)
            base.chmod(0o755)
        info = base.stat()
    except OSError as error:
        raise EmbeddedError(f"{base} cannot be made: {error.strerror}") from error
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
        raise EmbeddedError(f"{base} is not a folder that root alone can change")
    return base
