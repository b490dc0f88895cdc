"""What some tests need beside Python. Where it is missing, the end of the run says so in one line.

`python3 tests/support/needs.py` prints the Debian packages that are missing; Python alone runs it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import pytest

PACKAGES = {
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "curl": "curl",
    "perl": "perl-base",
    "pgbouncer": "pgbouncer",
    "PostgreSQL of the system": "postgresql",
    "docker compose": "docker-compose",
    "systemd-analyze": "systemd",
    "openssl": "openssl",
    "chattr": "e2fsprogs",
    "unshare": "util-linux",
    "chromium": "chromium-headless-shell",
    "nginx": "nginx-light",
}
"""What is needed, and Debian's package that has it."""


def found(program: str) -> str | None:
    """Return the path of a program, of those for administrators too."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin")


def compose_command() -> list[str] | None:
    """Return the command that is `docker compose`: the program of that name, or Docker's plugin."""
    if alone := found("docker-compose"):
        return [alone]
    docker = found("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        return None
    return [docker, "compose"]


def browser() -> str | None:
    """Return the browser without a screen, which takes half the processor time, or else the whole one."""
    return found("chromium-headless-shell") or found("chromium")


FOUND: dict[str, Callable[[], object]] = {
    "chromium": browser,
    "docker compose": compose_command,
    "PostgreSQL of the system": lambda: list(Path("/usr/lib/postgresql").glob("*/bin/postgres")),
}
"""How those are looked for that are no program of their name."""


def missing(what: str) -> bool:
    """Tell whether something of `PACKAGES` is missing."""
    return not (FOUND[what]() if what in FOUND else found(what))


def reason(what: str) -> str:
    """Return why a test is skipped for want of something, and what to do."""
    return f"no {what} (apt-get install {PACKAGES[what]})"


def needs(what: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test where something of `PACKAGES` is missing."""
    import pytest

    return pytest.mark.skipif(missing(what), reason=reason(what))


def as_root() -> pytest.MarkDecorator:
    """Return a mark that skips a test where it is not run as root."""
    import pytest

    return pytest.mark.skipif(os.geteuid() != 0, reason="not root")


def skip(what: str) -> NoReturn:
    """Skip a test for want of something of `PACKAGES`."""
    import pytest

    pytest.skip(reason(what))


if __name__ == "__main__":
    print(*sorted({package for what, package in PACKAGES.items() if missing(what)}))
