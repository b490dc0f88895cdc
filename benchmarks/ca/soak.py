"""A control room on a bad day: healthy clients beside some that stall, flood, and talk nonsense.

    python -m benchmarks.ca.soak [--seconds 600] [--clients 20] [--pvs 200] [--hz 20]

Server and clients share one process. Every line is a tenth of the time: memory, descriptors and tasks have to
stay flat, `lost` (updates that a healthy client did not get) has to stay 0.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from typing import Any

import caproto
import psutil
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, CAServer, Client, PVSpec, ServerLimits
from benchmarks.ca.fanout import Listener
from tests.ca.raw import raw_client
from tests.ca.test_fuzz import mutated, session
from tests.support.ca import LOOPBACK, eventually, free_port


class Soak:
    """One server, and everything that is done to it until `end`."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.end = time.monotonic() + args.seconds
        self.late_s: list[float] = []
        self.posts = 0
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
        """Take a little while for a put."""
        await asyncio.sleep(0.001)
        pv.post(value)

    async def change(self) -> None:
        """Change every PV, again and again."""
        while self.on:
            await asyncio.sleep(1 / self.args.hz)
            self.posts += 1
            for pv in self.pvs:
                pv.post(float(self.posts))

    async def stall(self) -> None:
        """Subscribe to everything and read nothing; come back when thrown out."""
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
        """Put as much as can be."""
        while self.on:
            async with raw_client(self.server.port, user="flood") as raw:
                chan = await raw.channel("T:longout")
                raw.send(
                    *(caproto.WriteNotifyRequest((n,), ChannelType.LONG, 1, chan.sid, n) for n in range(500))
                )
                for _ in range(500):
                    await raw.until(caproto.WriteNotifyResponse)

    async def babble(self) -> None:
        """Talk nonsense, and reconnect."""
        chance = random.Random(1)
        while self.on:
            _, writer = await asyncio.open_connection(LOOPBACK, self.server.port)
            writer.write(mutated(session(), chance))
            await asyncio.sleep(0.005)
            writer.transport.abort()

    async def report(self) -> None:
        """Print ten lines."""
        process = psutil.Process()
        events, posts = len(self.late_s), self.posts
        for _ in range(10):
            await asyncio.sleep(self.args.seconds / 10.5)
            found = sorted(self.late_s)
            self.late_s.clear()
            events += len(found)
            wanted = (self.posts - posts + 1) * len(self.pvs) * self.args.clients
            lost = max(0, wanted - events - 2 * len(self.pvs) * self.args.clients)
            stats = self.server.stats
            middle, worst = found[len(found) // 2] * 1e3, found[len(found) * 99 // 100] * 1e3
            print(
                f"resident {process.memory_info().rss / 1e6:6.1f} MB  descriptors {process.num_fds():3}"
                f"  late p50 {middle:5.1f} p99 {worst:5.1f} ms  events {events}  lost {lost}"
                f"  puts {stats.puts}  disconnected {stats.disconnected}  dropped {stats.dropped}",
                flush=True,
            )

    async def run(self) -> None:
        """Do it all."""
        await self.server.start()
        loop = asyncio.get_running_loop()
        listeners = []
        for _ in range(self.args.clients):
            made = await loop.create_connection(
                lambda: Listener(len(self.pvs), self.late_s), LOOPBACK, self.server.port
            )
            listeners.append(made[0])
        wanted = self.args.clients * len(self.pvs)
        await eventually(lambda: len(self.late_s) >= wanted, "connection of all clients", 60)
        async with asyncio.TaskGroup() as group:
            for work in (self.change, self.stall, self.flood, self.babble, self.report):
                group.create_task(work())
        for transport in listeners:
            transport.abort()
        await self.server.stop()
        print(f"tasks left: {len(asyncio.all_tasks()) - 1}")


def main() -> None:
    """Soak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--pvs", type=int, default=200)
    parser.add_argument("--hz", type=float, default=20)

    async def soak() -> None:
        await Soak(parser.parse_args()).run()

    asyncio.run(soak())


if __name__ == "__main__":
    main()
