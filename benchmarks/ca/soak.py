"""A control room on a bad day: healthy clients beside some that stall, flood, or send garbage.

    python -m benchmarks.ca.soak [--seconds 600] [--clients 20] [--pvs 200] [--hz 20]

Server and clients share one process. See `benchmarks.support.soak`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import caproto
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, CAServer, Client, PVSpec, ServerLimits
from benchmarks.ca.fanout import Listener
from benchmarks.support.soak import Soak, soak
from tests.ca.raw import raw_client
from tests.ca.test_fuzz import mutated, session
from tests.support.ca import LOOPBACK, eventually, free_port


class CaSoak(Soak):
    """The Channel Access server and its clients."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args)
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
    def port(self) -> int:
        """The TCP port."""
        return self.server.port

    @property
    def works(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """One bad client of each kind, and changes."""
        return self.change, self.stall, self.flood, self.babble

    @property
    def missing(self) -> int:
        """The number of updates that the healthy clients missed; the first of each PV comes on connection."""
        return (self.posts + 1) * len(self.pvs) * self.args.clients - self.tally.events

    @property
    def changes(self) -> int:
        """How often some PV has changed."""
        return self.posts * len(self.pvs)

    @property
    def counts(self) -> str:
        """Puts, and what became of the clients that stall."""
        stats = self.server.stats
        return f"puts {stats.puts}  disconnected {stats.disconnected}  dropped {stats.dropped}"

    async def start(self) -> None:
        """Start the server."""
        await self.server.start()

    async def stop(self) -> None:
        """Stop the server."""
        await self.server.stop()

    def listener(self) -> asyncio.Protocol:
        """Return a healthy client."""
        return Listener(len(self.pvs), self.tally)

    async def change(self) -> None:
        """Change every PV repeatedly."""
        while self.on:
            await asyncio.sleep(1 / self.args.hz)
            self.posts += 1
            for pv in self.pvs:
                pv.post(float(self.posts))

    @property
    def stalling(self) -> bool:
        """Whether the client that stalls is connected."""
        return any(info.client.user == "stall" for info in self.server.clients())

    async def put(self, pv: PV, value: Any, _: Client) -> None:
        """Take a little time for a put."""
        await asyncio.sleep(0.001)
        pv.post(value)

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


if __name__ == "__main__":
    soak(CaSoak, __doc__, "benchmarks.ca.soak", "ca-soak", {"clients": 20, "pvs": 200, "hz": 20})
