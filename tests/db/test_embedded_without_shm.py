"""The plugin's own server where `/dev/shm` is closed, read-only or tiny, as in containers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from attpc_plugins.run_history.embedded.binaries import account_for, find_binaries

from tests.support.needs import skip
from tests.support.postgres import place, programs

ON_DISK = Path("/var/tmp")
"""Not in `/dev/shm`, where other tests have their files."""

SERVE = """
import asyncio, os, pathlib, sys
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from tests.support.embedded import running, tell
for _ in range(2):
    with running(pathlib.Path(sys.argv[1]), binaries=sys.argv[2] or None) as server:
        print(asyncio.run(tell(server, "SELECT count(*) FROM pg_class"))[0][0] > 0)
"""


def in_a_mount_namespace(mount: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with another `/dev/shm`; skips the test where this user may make no such place."""
    unshare = shutil.which("unshare") or skip("unshare")
    tried = subprocess.run([unshare, "-m", "sh", "-c", mount], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no other /dev/shm can be mounted here: {tried.stderr.strip()}")
    return subprocess.run(
        [unshare, "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(120)
@pytest.mark.parametrize("options", ["ro", "mode=0700", "mode=1777,size=4k"])
def test_it_is_made_and_comes_up_again(options: str) -> None:
    if "4k" in options and find_binaries(account_for(), programs()).major < 16:
        pytest.skip("initdb before 16 uses /dev/shm where it may, and cannot be told otherwise")
    with place(ON_DISK) as folder:
        ran = in_a_mount_namespace(
            f"mount -t tmpfs -o {options} none /dev/shm",
            *("env", f"TMPDIR={ON_DISK}", sys.executable, "-c", SERVE, str(folder / "db"), programs() or ""),
        )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["True", "True"]
