"""The folder that root keeps for what another account must reach: the server's programs, and its data.

It is root's default state directory. Nothing in it is used unless it is root's alone to change, since root
runs programs from it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from attpc_plugins.run_history.errors import EmbeddedError

BASE = Path("/var/lib/attpc-ioc")
"""Where it is: below `/var/lib`, which any account can pass."""

VARIABLE = "ATTPC_IOC_ROOT_BASE"
"""The environment variable that names another place for it: an absolute path."""


def root_base() -> Path:
    """Return where the folder is; it need not exist. Raises `EmbeddedError` for a relative path."""
    told = os.environ.get(VARIABLE, "")
    if told and not Path(told).is_absolute():
        raise EmbeddedError(f"{VARIABLE} is {told}, which is no absolute path")
    return Path(told) if told else BASE


def made_root_base() -> Path:
    """Return the folder, made with mode 0755 where it is missing; an existing one's mode is left alone.

    Raises `EmbeddedError` where it cannot be made, or somebody but root can change what is in it.
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
