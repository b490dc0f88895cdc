"""`attpc-ioc files gather` over a real SSH server on loopback, compared with `rsync`, `scp` and `ssh cat`.

    python -m benchmarks.gather [megabytes] [files] [rounds]

One host with a run of so many files, read through the page cache. In each round all copy the same files from
the same server, so that they see the same machine; each uses the cipher that it takes by itself. The
processors are the limit. Goal: at least 80 % of `rsync`, in the median of the rounds.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from attpc_plugins.data_routers.gathering.copying import Gathering
from attpc_plugins.data_routers.gathering.layout import Part, plan_of
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.ssh.dial import Target
from attpc_plugins.data_routers.hosts.ssh.host import SshHost
from attpc_plugins.data_routers.settings import Access, RouterSettings

from attpc_ioc.model.run import RunRef
from benchmarks.support.system import verdict
from tests.support.sshd import Sshd, sshd_server

GOAL = 0.8
RUN = RunRef("e20009", 42)


def fill(folder: Path, megabytes: int, files: int) -> None:
    """Write a closed run of so many files."""
    folder.mkdir(parents=True)
    piece = os.urandom(1 << 20)
    for number in range(files):
        with (folder / f"CoBo0_AsAd{number % 4}_2026-03-01T12:00:00.1_{number // 4:04d}.graw").open(
            "wb"
        ) as file:
            for _ in range(megabytes // files):
                file.write(piece)


async def gathered(server: Sshd, staging: Path, to: Path) -> None:
    """Gather the run as the command does."""
    router = RouterSettings(access=Access.SSH, host="127.0.0.1", sources=("CoBo0",), staging=str(staging))
    target = Target("127.0.0.1", server.port, server.user, str(server.config), str(server.known_hosts))
    host = SshHost(router, target, CallLimits())
    try:
        files = await host.gathered(RUN, closed=True, checksums=False)
        await Gathering(plan_of(RUN, [Part("CoBo0", files, b"{}")]), to, {"CoBo0": host}).carry_out()
    finally:
        await host.disconnect()


def others(server: Sshd, run: Path) -> dict[str, Callable[[Path], list[str]]]:
    """Return the commands that copy the run to a folder, by the name of their program."""
    options = ["-F", str(server.config), "-o", f"UserKnownHostsFile={server.known_hosts}"]
    ssh = ["ssh", *options, "-p", str(server.port)]
    place = f"{server.user}@127.0.0.1"
    found: dict[str, Callable[[Path], list[str]]] = {
        "rsync": lambda to: ["rsync", "-a", "--whole-file", "-e", " ".join(ssh), f"{place}:{run}/", f"{to}/"],
        "scp": lambda to: [
            *("scp", "-O", "-q", "-r", *options, "-P", str(server.port)),
            *(f"{place}:{run}", str(to)),
        ],
        "ssh": lambda to: [
            "sh",
            "-c",
            f"{' '.join(ssh)} {place} 'cat {run}/*' > {to}/all",
        ],
    }
    return {name: command for name, command in found.items() if shutil.which(name)}


def timed(work: Callable[[], object]) -> float:
    """Return how long something takes, in seconds."""
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def main(megabytes: int, files: int, rounds: int, folder: Path) -> bool:
    """Measure, print, and return whether the goal is met."""
    staging, to = folder / "staging", folder / "to"
    fill(staging / str(RUN), megabytes, files)
    size = sum(path.stat().st_size for path in (staging / str(RUN)).iterdir())
    taken: dict[str, list[float]] = {}
    with sshd_server(folder / "sshd") as server:
        commands = others(server, staging / str(RUN))

        def once(name: str) -> None:
            to.mkdir()
            if name == "gather":
                work: Callable[[], object] = lambda: asyncio.run(gathered(server, staging, to))  # noqa: E731
            else:
                command = commands[name](to)
                work = lambda: subprocess.run(command, check=True, stdin=subprocess.DEVNULL)  # noqa: E731
            taken.setdefault(name, []).append(timed(work))
            shutil.rmtree(to)

        for _ in range(rounds):
            for name in ("gather", *commands):
                once(name)
    print(f"{size / 1e6:.0f} MB in {files} files, {rounds} rounds")
    for name, times in taken.items():
        median, best = (size / taken_s / 1e6 for taken_s in (statistics.median(times), min(times)))
        print(f"{name:<7} median {median:.0f} MB/s, best {best:.0f} MB/s")
    if "rsync" not in taken:
        print("rsync is not installed (apt-get install rsync): no comparison")
        return True
    ratios = [rsync_s / own_s for own_s, rsync_s in zip(taken["gather"], taken["rsync"], strict=True)]
    ratio = statistics.median(ratios)
    print(
        f"gather has {ratio:.0%} of the speed of rsync in the same round ({min(ratios):.0%} to "
        f"{max(ratios):.0%}); goal {GOAL:.0%}: {verdict(GOAL, ratio)}"
    )
    return ratio >= GOAL


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:4]]
    amount, count, turns = (*numbers, *(1024, 8, 5)[len(numbers) :])
    with tempfile.TemporaryDirectory(prefix="attpc-gather-") as place:
        good = main(amount, count, turns, Path(place))
    sys.exit(0 if good else 1)
