"""Closing 1,000 files of one host over a real SSH server on loopback, compared with a plain `mv`.

    python -m benchmarks.close_files [files] [rounds]

Measures the whole closing without the quiet time: listing, moving, listing the moved files,
manifest, fsync, and renaming the folder. Rounds of both alternate, so that they see the same machine.
Then again with a delay of 50 ms in each direction, where a round trip for each file would take
100 s. Goal: under 2 s, and under 3 s with the delay.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from attpc_plugins.data_routers.closing.closings import Closing, ClosingStore, Phase
from attpc_plugins.data_routers.closing.steps import close_files
from attpc_plugins.data_routers.closing.summary import Summary
from attpc_plugins.data_routers.hosts.host import Source
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.ssh.host import SshHost
from attpc_plugins.data_routers.hosts.ssh.link import Target
from attpc_plugins.data_routers.model import CloseState
from attpc_plugins.data_routers.settings import Access, RouterSettings

from attpc_ioc.model.run import RunRef
from attpc_ioc.simulator.data.gate import Gate
from tests.support.closings import closings_in
from tests.support.sshd import Sshd, sshd_server

GOAL_S = 2.0
SLOW_GOAL_S = 3.0
DELAY_S = 0.05
SIZE = 4096

T = TypeVar("T")


def fill(folder: Path, files: int) -> None:
    """Write this many small files: their size does not matter for renaming."""
    folder.mkdir(parents=True)
    for number in range(files):
        (folder / f"CoBo0_AsAd{number % 4}_{number:04d}.graw").write_bytes(bytes(SIZE))


def made(server: Sshd, staging: Path, folder: Path, gate: Gate) -> SshHost:
    """Return the host behind the gate."""
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{gate.port} {server.host_key.with_suffix('.pub').read_text()}")
    router = RouterSettings(access=Access.SSH, host="127.0.0.1", sources=("CoBo0",), staging=str(staging))
    target = Target("127.0.0.1", gate.port, server.user, str(server.config), str(known))
    return SshHost(router, target, CallLimits())


async def closed(host: Source, staging: Path, closings: ClosingStore, number: int) -> None:
    """Close a run as the IOC does once its files are quiet."""
    entry = Closing(RunRef("e20009", number), "CoBo0", ("CoBo0",), Phase.CLOSING, settled=True)

    present = await host.list_staging()
    entry = await close_files(
        host,
        entry,
        present,
        str(staging),
        keep=closings.save,
        checksums=False,
        summary=Summary("CoBo0", host),
        now_s=time.time(),
    )
    await closings.save(entry)
    assert entry.state is CloseState.DONE, entry.message


async def timed(work: Awaitable[T]) -> float:
    """Return how long something takes, in seconds."""
    began_s = time.perf_counter()
    await work
    return time.perf_counter() - began_s


def plain(staging: Path, target: Path) -> None:
    """Move all files with `mv`."""
    target.mkdir(parents=True)
    subprocess.run(["sh", "-c", 'mv -- "$1"/*.graw "$2"/', "sh", str(staging), str(target)], check=True)


async def main(files: int, rounds: int, folder: Path) -> bool:
    """Measure, print, and return whether the goals are met."""
    with sshd_server(folder / "sshd") as server:
        async with closings_in(folder / "state") as closings:
            gate = Gate("127.0.0.1")
            await gate.lead_to("127.0.0.1", server.port)
            staging = folder / "staging"
            host = made(server, staging, folder, gate)
            ours: list[float] = []
            theirs: list[float] = []
            try:
                for number in range(rounds):
                    fill(staging, files)
                    ours.append(await timed(closed(host, staging, closings, number)))
                    await asyncio.to_thread(shutil.rmtree, staging)
                    fill(staging, files)
                    theirs.append(await timed(asyncio.to_thread(plain, staging, staging / "moved")))
                    await asyncio.to_thread(shutil.rmtree, staging)
                fill(staging, files)
                gate.delay_s = DELAY_S
                slow_s = await timed(closed(host, staging, closings, rounds))
            finally:
                await host.disconnect()
                await gate.close()
    ours_s, theirs_s = statistics.median(ours), statistics.median(theirs)
    print(
        f"{files} files over SSH: median {ours_s:.3f} s, worst {max(ours):.3f} s; plain mv: median "
        f"{theirs_s:.3f} s; ratio {ours_s / theirs_s:.1f}; goal: under {GOAL_S:g} s"
    )
    print(f"{2 * DELAY_S * 1000:.0f} ms for each way and back: {slow_s:.2f} s; goal: under {SLOW_GOAL_S:g} s")
    return max(ours) < GOAL_S and slow_s < SLOW_GOAL_S


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    turns = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory(prefix="attpc-close-") as place:
        good = asyncio.run(main(count, turns, Path(place)))
    sys.exit(0 if good else 1)
