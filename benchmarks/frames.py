"""What the look at frames costs: 12 hosts that write 20 MB/s each, and a return after 1 TB.

    python -m benchmarks.frames [--hosts 12] [--mb-s 20] [--seconds 20]

The hosts are folders reached over a real SSH server on loopback, each by its own connection and agent.
Each has the files of four AsAd boards, to which another process appends frames of 6 kB. Every host is looked
at each 2 s, and all boards are judged after each look, as the plugin does. Printed are the processor time of
an agent and of this process as parts of a core, and the age of the figures.

Then a file of 256 MiB is hopped over by the agent and by this process, in the page cache. The peer is reading
all of it, which takes no time there but needs a hundred times the bytes from a disk. Last, a first look at
1000 parts of 1 GB each.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import psutil
from attpc_plugins.data_routers.events.streams import Stream, take_all
from attpc_plugins.data_routers.events.sync import SyncJudge
from attpc_plugins.data_routers.hosts.frames import FRAMES_MOST, JUMP_BYTES, Cursor
from attpc_plugins.data_routers.hosts.host import FrameHost
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.local.host import LocalHost
from attpc_plugins.data_routers.hosts.ssh.host import SshHost
from attpc_plugins.data_routers.hosts.ssh.link import Target
from attpc_plugins.data_routers.hosts.ssh.station import Stations
from attpc_plugins.data_routers.settings import Access, EventsSettings, RouterSettings

from attpc_ioc.simulator.data.frames import cobo_frame
from tests.support.sshd import Sshd, sshd

LIMITS = CallLimits(poll_s=30, read_s=30, files_s=60, checksums_s=60)
PERIOD_S = 2.0
BOARDS = 4
ITEMS = 1500
PART_BYTES = 1 << 30
AGENT_GOAL, IOC_GOAL, AGE_GOAL_S, RETURN_GOAL_S = 0.01, 0.03, 3.0, 2.0
"""An agent's part of a core, this process's, the age of the figures, and the time of a return."""


def path_of(folder: Path, cobo: int, asad: int, part: int = 0) -> Path:
    """Return the path of a file as data routers name it."""
    return folder / f"CoBo{cobo}_AsAd{asad}_2026-03-01T12:00:00.000_{part:04d}.graw"


def append(path: Path, cobo: int, asad: int, first: int, count: int) -> None:
    """Append frames, with holes for their samples."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    end = os.lseek(number, 0, os.SEEK_END)
    for event in range(first, first + count):
        frame = cobo_frame(event, event * 1000, cobo, asad, ITEMS)
        os.pwrite(number, frame.head, end)
        end += frame.length
    os.ftruncate(number, end)
    os.close(number)


def write(folders: list[Path], bytes_s: float) -> None:
    """Append to the files of all hosts for ever."""
    rate = bytes_s / BOARDS / cobo_frame(0, 0, 0, 0, ITEMS).length
    began_s, event = time.monotonic(), 0
    while True:
        time.sleep(0.2)
        now = int((time.monotonic() - began_s) * rate)
        for cobo, folder in enumerate(folders):
            for asad in range(BOARDS):
                append(path_of(folder, cobo, asad), cobo, asad, event, now - event)
        event = now


def ssh_host(folder: Path, server: Sshd) -> SshHost:
    """Return a host with a connection of its own."""
    router = RouterSettings(access=Access.SSH, host="127.0.0.1", sources=("CoBo0",), staging=str(folder))
    target = Target("127.0.0.1", server.port, server.user, str(server.config), str(server.known_hosts))
    return SshHost(router, target, LIMITS, Stations())


def agents_s() -> float:
    """Return the processor time that all agents have taken."""
    found = [process for process in psutil.process_iter(["name"]) if process.info["name"] == "perl"]
    return sum(sum(process.cpu_times()[:2]) for process in found)


class Looking:
    """Looks at all hosts, and judges them."""

    def __init__(self, hosts: list[SshHost]) -> None:
        self._hosts = hosts
        self._streams: list[dict[str, Stream]] = [{} for _ in hosts]
        self._judge = SyncJudge(EventsSettings())
        self.frames = 0
        self.oldest_s = 0.0

    async def once(self, number: int) -> None:
        """Look at one host."""
        began_s = time.monotonic()
        cursors = [stream.cursor for stream in self._streams[number].values()]
        pieces = await self._hosts[number].look(cursors, 4096)
        self._streams[number] = take_all(self._streams[number], pieces)
        self.frames += sum(piece.frames for piece in pieces)
        together = {sender: stream for streams in self._streams for sender, stream in streams.items()}
        self._judge.judge(time.monotonic(), together)
        self.oldest_s = max(self.oldest_s, PERIOD_S + time.monotonic() - began_s)

    async def watch(self, number: int, count: int) -> None:
        """Look at one host every 2 s."""
        await asyncio.sleep(PERIOD_S * number / len(self._hosts))
        for _ in range(count):
            began_s = time.monotonic()
            await self.once(number)
            await asyncio.sleep(began_s + PERIOD_S - time.monotonic())


async def share(hosts: list[SshHost], seconds: float) -> tuple[float, float, Looking]:
    """Return the parts of a core that the agents together and this process take."""
    looking = Looking(hosts)
    for number in range(len(hosts)):
        await looking.once(number)
    looking.frames, looking.oldest_s = 0, 0.0
    began_s, used_s, agents = time.monotonic(), time.process_time(), agents_s()
    async with asyncio.TaskGroup() as group:
        for number in range(len(hosts)):
            group.create_task(looking.watch(number, round(seconds / PERIOD_S)))
    took_s = time.monotonic() - began_s
    return (agents_s() - agents) / took_s, (time.process_time() - used_s) / took_s, looking


def report(what: str, value: float, goal: float, form: str) -> None:
    """Print a figure, and whether its goal is met."""
    print(f"{what}: {value:{form}} (goal {goal:{form}}: {'met' if value <= goal else 'MISSED'})")


async def rates(base: Path, server: Sshd) -> None:
    """Print how fast a part is hopped over, against reading it."""
    folder = base / "part"
    folder.mkdir()
    path = path_of(folder, 0, 0)
    frame = cobo_frame(0, 0, 0, 0, ITEMS).length
    append(path, 0, 0, 0, JUMP_BYTES // frame)
    router = RouterSettings(access=Access.LOCAL, sources=("CoBo0",), staging=str(folder))
    hosts: dict[str, FrameHost] = {"agent": ssh_host(folder, server), "Python": LocalHost(router, LIMITS)}
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass
        file.seek(0)
        began_s = time.monotonic()
        while file.read(1 << 20):
            pass
        reading_s = time.monotonic() - began_s
    for name, host in hosts.items():
        await host.look([], 4096)
        cursor, count, began_s = Cursor("CoBo0_AsAd0", path.name, 0, 0), 0, time.monotonic()
        while True:
            (piece,) = await host.look([cursor], 4096)
            count += piece.frames
            if piece.frames < FRAMES_MOST:
                break
            cursor = Cursor("CoBo0_AsAd0", path.name, piece.offset, piece.size, piece.before)
        took_s = time.monotonic() - began_s
        print(
            f"{name}: {count / took_s:,.0f} frames a second, 256 MiB in {took_s:.3f} s, "
            f"{took_s / reading_s:.2f} times as long as reading it"
        )
        await host.disconnect()


async def after_long(base: Path, server: Sshd) -> None:
    """Print how long the first look at 1 TB takes."""
    folder = base / "long"
    folder.mkdir()
    for part in range(1000):
        path = path_of(folder, 0, 0, part)
        path.touch()
        if part == 0:
            append(path, 0, 0, 0, 1)
        if part < 999:
            os.truncate(path, PART_BYTES)
    append(path_of(folder, 0, 0, 999), 0, 0, 10**8, 100_000)
    host = ssh_host(folder, server)
    await host.look([Cursor("CoBo0_AsAd0", path_of(folder, 0, 0, 999).name)], 4096)  # connects
    began_s = time.monotonic()
    pieces = await host.look([], 4096)
    took_s = time.monotonic() - began_s
    assert pieces[0].first == 0
    assert pieces[-1].last == 10**8 + 99_999
    report("first look at 1000 parts of 1 GB, in seconds", took_s, RETURN_GOAL_S, ".2f")
    await host.disconnect()


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=12)
    parser.add_argument("--mb-s", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="attpc-frames-") as made:
        base = Path(made)
        folders = [base / f"host{number}" for number in range(options.hosts)]
        for cobo, folder in enumerate(folders):
            folder.mkdir()
            for asad in range(BOARDS):
                append(path_of(folder, cobo, asad), cobo, asad, 0, 1)
        async with sshd(base / "sshd") as server:
            hosts = [ssh_host(folder, server) for folder in folders]
            writer = multiprocessing.get_context("spawn").Process(
                target=write, args=(folders, options.mb_s * 1e6), daemon=True
            )
            writer.start()
            try:
                agents, ioc, looking = await share(hosts, options.seconds)
            finally:
                writer.terminate()
                writer.join()
            frames_s = looking.frames / options.seconds
            mb_s = frames_s * cobo_frame(0, 0, 0, 0, ITEMS).length / options.hosts / 1e6
            print(f"{options.hosts} hosts of {mb_s:.1f} MB/s, {frames_s:,.0f} frames a second in all")
            report("agent on each host, of a core", agents / options.hosts, AGENT_GOAL, ".2%")
            report("IOC, of a core", ioc, IOC_GOAL, ".2%")
            report("age of the figures in seconds", looking.oldest_s, AGE_GOAL_S, ".2f")
            for host in hosts:
                await host.disconnect()
            await rates(base, server)
            await after_long(base, server)


if __name__ == "__main__":
    asyncio.run(main())
