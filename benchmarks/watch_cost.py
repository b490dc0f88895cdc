"""CPU of watching the data routers: the cost of polling 12 hosts every 2 s.

    python benchmarks/watch_cost.py [--hosts 12] [--period 2] [--seconds 20] [--files 50]

Each host is a folder of this machine with some files, reached in each way: `local`, `ssh` (a real `sshd` in a
process of its own; each host has a connection of its own) and `sentry` (HTTP, in a process of its own). Only
this process's CPU is counted, as a fraction of one core, and that of an idle event loop is subtracted and
printed. The polls are spread over the period, as the plugin's are. The goal is less than 2 % of a core. The
machine should be otherwise idle. Also printed: the cost of moving 1,000 files over SSH.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
from attpc_plugins.data_routers.hosts.host import Host
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.local.host import LocalHost
from attpc_plugins.data_routers.hosts.sentry import HttpSentryHost
from attpc_plugins.data_routers.hosts.ssh.host import SshHost
from attpc_plugins.data_routers.hosts.ssh.link import Target
from attpc_plugins.data_routers.hosts.ssh.station import Stations
from attpc_plugins.data_routers.settings import Access, RouterSettings

from attpc_ioc.model.run import RunRef

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.support.sshd import Sshd, sshd

GOAL = 0.02
RUN = RunRef("bench", 1)
LIMITS = CallLimits(poll_s=30, read_s=30, files_s=60, checksums_s=60)
PROCESS = psutil.Process().name()


def serve(pipe: Connection) -> None:
    """Answer every request like a sentry."""
    status = {
        "disk": "Macintosh HD",
        "process": PROCESS,
        "data_path": "/data",
        "data_written_gb": 1.5,
        "data_path_files": 50,
        "disk_avail_gb": 900.0,
        "disk_total_gb": 1000.0,
    }
    body = json.dumps(status).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(head + body)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@contextlib.asynccontextmanager
async def sentry_port() -> AsyncIterator[int]:
    """Run a sentry in a separate process."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield await asyncio.to_thread(ours.recv)
    finally:
        process.terminate()
        process.join()


def hosts_of(access: Access, folders: list[Path], server: Sshd, port: int) -> list[Host]:
    """Return a host for each folder, reached in one way; nothing is shared between them."""
    made: list[Host] = []
    for folder in folders:
        router = RouterSettings(
            access=access,
            host="" if access is Access.LOCAL else "127.0.0.1",
            port=port if access is Access.SENTRY else None,
            sources=("CoBo0",),
            staging=str(folder),
            process=PROCESS,
        )
        if access is Access.LOCAL:
            made.append(LocalHost(router, LIMITS))
        elif access is Access.SENTRY:
            made.append(HttpSentryHost(router, LIMITS))
        else:
            target = Target(
                "127.0.0.1", server.port, server.user, str(server.config), str(server.known_hosts)
            )
            made.append(SshHost(router, target, LIMITS, Stations()))
    return made


async def watch(host: Host, first_s: float, period_s: float, count: int) -> None:
    """Poll a host this many times."""
    await asyncio.sleep(first_s)
    for _ in range(count):
        await host.poll(RUN)
        await asyncio.sleep(period_s)


async def share_of_a_core(hosts: list[Host], period_s: float, seconds: float) -> float:
    """Return the CPU of polling hosts."""
    for host in hosts:
        await host.poll(RUN)
    count = max(1, round(seconds / period_s))
    began, used = time.monotonic(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for number, host in enumerate(hosts):
            group.create_task(watch(host, period_s * number / len(hosts), period_s, count))
        group.create_task(asyncio.sleep(seconds))
    return (time.process_time() - used) / (time.monotonic() - began)


def fill(folder: Path, count: int) -> None:
    """Make a folder with this many files."""
    folder.mkdir()
    for number in range(count):
        (folder / f"CoBo{number:04d}.graw").write_bytes(b"x" * 1000)


async def move_thousand(folder: Path, server: Sshd) -> float:
    """Return the seconds of moving 1,000 files over SSH, without connecting."""
    fill(folder, 1000)
    (host,) = hosts_of(Access.SSH, [folder], server, 0)
    assert isinstance(host, SshHost)
    await host.poll(RUN)
    began = time.monotonic()
    files = await host.list_staging()
    await host.begin(RUN)
    moved = await host.move(RUN, files)
    await host.finish(RUN, b"{}")
    took_s = time.monotonic() - began
    assert len(moved) == 1000
    await host.disconnect()
    return took_s


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=12)
    parser.add_argument("--period", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--files", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        base = Path(made)
        folders = [base / f"host{number}" for number in range(options.hosts)]
        for folder in folders:
            fill(folder, options.files)
        async with sshd(base / "sshd") as server, sentry_port() as port:
            idle = await share_of_a_core([], options.period, options.seconds)
            print(f"idle event loop: {idle:.3%} of a core")
            for access in (Access.LOCAL, Access.SSH, Access.SENTRY):
                hosts = hosts_of(access, folders, server, port)
                share = await share_of_a_core(hosts, options.period, options.seconds) - idle
                look_ms = share * options.period / options.hosts * 1000
                verdict = "within" if share < GOAL else "OVER"
                every = f"{options.hosts} hosts every {options.period:g} s"
                print(
                    f"{access.value:7} {every}: {share:.2%} of a core"
                    f" ({look_ms:.2f} ms a poll), {verdict} the goal of {GOAL:.0%}"
                )
                for host in hosts:
                    await host.disconnect()
            took_s = await move_thousand(base / "many", server)
            print(f"1,000 files listed, moved and finished over ssh: {took_s:.2f} s")


if __name__ == "__main__":
    asyncio.run(main())
