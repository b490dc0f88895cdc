"""A control room on a bad day: healthy clients beside some that stall, flood, or send garbage.

    python -m benchmarks.ca.soak [--seconds 600] [--clients 20] [--pvs 200] [--hz 20]

Server and clients share one process. Every line is a tenth of the time: memory and descriptors must stay
flat. Ends with exit code 1 if they grew, a healthy client missed an update, or a task was left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import time
from pathlib import Path
from typing import Any

import caproto
import psutil
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, CAServer, Client, PVSpec, ServerLimits
from attpc_ioc.log import set_up_logging
from benchmarks.ca.fanout import Listener, Tally
from benchmarks.support.page import about, command, write_between_marks
from tests.ca.raw import raw_client
from tests.ca.test_fuzz import mutated, session
from tests.support.ca import LOOPBACK, eventually, free_port

LINES = 10
SAMPLE = 50
"""One in this many updates is timed: otherwise the notes would use most of the memory."""
LEAST_GROWTH_MB = 8.0
"""Memory that the allocator may take in any case."""
MORE_FILES = 4
"""Descriptors that connecting and leaving clients may have open at the moment."""


class Soak:
    """One server and its clients until `end`."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.end = time.monotonic() + args.seconds
        self.tally = Tally(every=SAMPLE)
        self.posts = 0
        self.seen: list[tuple[float, int]] = []
        self.lines: list[str] = []
        self.good = False
        names = [f"B:{i}" for i in range(args.pvs)]
        self.pvs = [PV(PVSpec(name, "ai", ChannelType.DOUBLE), 0.0) for name in names]
        wanted = PVSpec("T:longout", "longout", ChannelType.LONG, writable=True)
        text = PVSpec("T:title", "lsi", ChannelType.CHAR, max_elements=1024, writable=True)
        self.server = CAServer(
            [*self.pvs, PV(wanted, 0), PV(text, "")],
            put=self.put,
            limits=ServerLimits(stall_s=3),
            interfaces=[LOOPBACK],
            port=free_port(),
        )

    @property
    def on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.end

    @property
    def stalling(self) -> bool:
        """Whether the client that stalls is connected."""
        return any(info.client.user == "stall" for info in self.server.clients())

    async def put(self, pv: PV, value: Any, _: Client) -> None:
        """Take a little time for a put."""
        await asyncio.sleep(0.001)
        pv.post(value)

    async def change(self) -> None:
        """Change every PV repeatedly."""
        while self.on:
            await asyncio.sleep(1 / self.args.hz)
            self.posts += 1
            for pv in self.pvs:
                pv.post(float(self.posts))

    async def stall(self) -> None:
        """Subscribe to everything and read nothing; reconnect when disconnected."""
        while self.on:
            async with raw_client(self.server.port, user="stall", receive_bytes=4096) as raw:
                for number, pv in enumerate(self.pvs):
                    chan = await raw.channel(pv.name)
                    raw.send(
                        caproto.EventAddRequest(ChannelType.TIME_DOUBLE, 1, chan.sid, number, 0, 0, 0, 5)
                    )
                raw.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await eventually(lambda: not self.on or not self.stalling, "its end", self.args.seconds)

    async def flood(self) -> None:
        """Put as fast as possible."""
        while self.on:
            async with raw_client(self.server.port, user="flood") as raw:
                chan = await raw.channel("T:longout")
                raw.send(
                    *(caproto.WriteNotifyRequest((n,), ChannelType.LONG, 1, chan.sid, n) for n in range(500))
                )
                for _ in range(500):
                    await raw.until(caproto.WriteNotifyResponse, 60)

    async def babble(self) -> None:
        """Send garbage, and reconnect."""
        chance = random.Random(1)
        while self.on:
            _, writer = await asyncio.open_connection(LOOPBACK, self.server.port)
            writer.write(mutated(session(), chance))
            await asyncio.sleep(0.005)
            writer.transport.abort()

    @property
    def missing(self) -> int:
        """The number of updates that the healthy clients missed; the first of each PV comes on connection."""
        return (self.posts + 1) * len(self.pvs) * self.args.clients - self.tally.events

    async def report(self) -> None:
        """Print ten lines."""
        process = psutil.Process()
        for _ in range(LINES):
            await asyncio.sleep(self.args.seconds / (LINES + 0.5))
            found = sorted(self.tally.late_s)
            self.tally.late_s.clear()
            stats = self.server.stats
            middle, worst = found[len(found) // 2] * 1e3, found[len(found) * 99 // 100] * 1e3
            self.seen.append((process.memory_info().rss / 1e6, process.num_fds()))
            line = (
                f"resident {self.seen[-1][0]:6.1f} MB  descriptors {self.seen[-1][1]:3}"
                f"  late p50 {middle:5.1f} p99 {worst:5.1f} ms  events {self.tally.events}"
                f"  puts {stats.puts}  disconnected {stats.disconnected}  dropped {stats.dropped}"
            )
            self.lines.append(line)
            print(line, flush=True)

    def verdict(self, tasks: int) -> bool:
        """Print and return whether the server passed."""
        first, last = self.seen[LINES // 3], self.seen[-1]
        grown_mb, files = last[0] - first[0], last[1] - first[1]
        good = self.missing == 0 and tasks == 0 and grown_mb < LEAST_GROWTH_MB and files <= MORE_FILES
        line = (
            f"updates that healthy clients missed: {self.missing} of {self.tally.events + self.missing}; "
            f"after the first third {grown_mb:+.1f} MB and {files:+} descriptors; tasks left: {tasks}"
        )
        self.lines.append(line)
        print(line)
        return good

    async def run(self) -> bool:
        """Run everything; returns whether the server passed."""
        await self.server.start()
        loop = asyncio.get_running_loop()
        listeners = []
        for _ in range(self.args.clients):
            made = await loop.create_connection(
                lambda: Listener(len(self.pvs), self.tally), LOOPBACK, self.server.port
            )
            listeners.append(made[0])
        wanted = self.args.clients * len(self.pvs)
        await eventually(lambda: self.tally.events >= wanted, "connection of all clients", 60)
        async with asyncio.TaskGroup() as group:
            for work in (self.change, self.stall, self.flood, self.babble, self.report):
                group.create_task(work())
        with contextlib.suppress(TimeoutError):  # the missing ones are reported
            await eventually(lambda: self.missing == 0, "the last updates", 10)
        for transport in listeners:
            transport.abort()
        await self.server.stop()
        return self.verdict(len(asyncio.all_tasks()) - 1)


def main() -> None:
    """Soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--pvs", type=int, default=200)
    parser.add_argument("--hz", type=float, default=20)
    parser.add_argument("--page", type=Path, help="write the lines into this page, between its marks")
    args = parser.parse_args()
    set_up_logging(level="ERROR")

    async def soak() -> Soak:
        it = Soak(args)
        it.good = await it.run()
        return it

    it = asyncio.run(soak())
    if args.page:
        text = "\n".join(("```text", *it.lines, "```"))
        write_between_marks(args.page, "ca-soak", f"{about(command('benchmarks.ca.soak'))}\n\n{text}")
    raise SystemExit(0 if it.good else 1)


if __name__ == "__main__":
    main()
