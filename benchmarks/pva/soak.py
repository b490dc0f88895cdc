"""A control room on a bad day, over PVAccess: healthy clients beside some that stall, flood, or send garbage.

    python -m benchmarks.pva.soak [--seconds 600] [--clients 3] [--pvs 400] [--hz 30]

In 600 s it makes as many changes as 400 PVs make in an hour at 5 Hz. The server has a process of its own. See
`benchmarks.support.soak`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import psutil

from attpc_ioc.pva.peers import peers
from benchmarks.pva import fanout, wire
from benchmarks.pva.client import wait_for_channel
from benchmarks.support.served import served
from benchmarks.support.soak import Soak, soak
from tests.support.ca import LOOPBACK, ca_place

SILENT_S = 5
"""Time after which the server lets go of a client that sends nothing."""
PUTS = 100
"""Puts that the client that floods has running together."""


class Listener(fanout.Listener):
    """A healthy client: it has room for what the server sends while this process does something else."""

    request = wire.queued(100)
    missing = 0
    """Updates that did not come, of values that were between two others."""

    def heard(self, number: int, value: float | None, late_s: float) -> None:
        """Note what is missing."""
        if value is not None and self.last[number] >= 0:
            self.missing += int(value - self.last[number]) - 1
        super().heard(number, value, late_s)


class Peer:
    """A client that sends only what its caller writes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._rest = b""
        self._inbox: deque[tuple[int, bytes]] = deque()

    async def answer(self, command: int) -> bytes:
        """Return the payload of the next message of a kind; raises ConnectionError at the end."""
        while True:
            while self._inbox:
                found, payload = self._inbox.popleft()
                if found == command:
                    return payload
            data = await self._reader.read(1 << 16)
            if not data:
                raise ConnectionError("closed by the server")
            self._rest += data
            at = 0
            for found, payload, end in wire.messages(self._rest):
                self._inbox.append((found, payload))
                at = end
            self._rest = self._rest[at:]

    async def channel(self, number: int, name: str) -> int:
        """Return the server's number of a channel."""
        self.writer.write(wire.create(number, name))
        return wire.created(await self.answer(wire.CREATE_CHANNEL))[1]


@contextlib.asynccontextmanager
async def peer(port: int, receive_bytes: int = 0) -> AsyncIterator[Peer]:
    """Connect; hangs up by a reset."""
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (LOOPBACK, port))
    it = Peer(*await asyncio.open_connection(sock=sock))
    try:
        await it.answer(wire.VALIDATE)
        it.writer.write(wire.hello())
        yield it
    finally:
        it.writer.transport.abort()


class PvaSoak(Soak):
    """The PVAccess server and its clients."""

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args)
        self.puts = self.bad = 0
        self.healthy: list[Listener] = []
        self.wanted = f"B:{args.pvs}"
        """The PV that is put to; healthy clients do not monitor it."""
        self._place = ca_place()
        self._running = contextlib.ExitStack()

    @property
    def port(self) -> int:
        """The TCP port."""
        return self._place.pva_port

    @property
    def works(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """One bad client of each kind; and the healthy ones' signs of life."""
        return self.stay, self.stall, self.flood, self.come_and_go, self.babble

    @property
    def counts(self) -> str:
        """Puts, and how many bad clients there were."""
        return f"puts {self.puts}  bad clients {self.bad}"

    @property
    def missing(self) -> int:
        """The number of updates that the healthy clients missed: each is one more than the last."""
        return sum(one.missing for one in self.healthy)

    @property
    def changes(self) -> int:
        """How often some PV has changed, as a healthy client saw it."""
        return (self.tally.events + self.missing) // len(self.healthy)

    async def start(self) -> None:
        """Start the server, in a process of its own."""
        self._running.callback(self._place.close)
        server = served(
            *("both-coroutine", self._place, self.args.pvs + 1, self.args.hz),
            env={**self._place.env, "EPICS_PVA_CONN_TMO": str(SILENT_S)},
            wait=wait_for_channel,
        )
        process, _ = self._running.enter_context(server)
        self.process = psutil.Process(process.pid)

    async def stop(self) -> None:
        """Stop the server."""
        self._running.close()

    def listener(self) -> asyncio.Protocol:
        """Return a healthy client."""
        self.healthy.append(Listener(self.args.pvs, self.tally, "i"))
        return self.healthy[-1]

    async def stay(self) -> None:
        """Give signs of life for the healthy clients."""
        while self.on:
            for one in self.healthy:
                assert one.transport is not None
                one.transport.write(wire.message(wire.ECHO, b""))
            await asyncio.sleep(1.0)

    async def monitor_all(self, it: Peer) -> None:
        """Have a client monitor everything."""
        for number in range(self.args.pvs):
            sid = await it.channel(number, f"B:{number}")
            it.writer.write(wire.begin(wire.MONITOR, sid, number))
            it.writer.write(wire.go_on(wire.MONITOR, sid, number, wire.START))

    async def stall(self) -> None:
        """Monitor everything and read nothing; come again when the server has let go."""
        while self.on:
            self.bad += 1
            async with peer(self.port, receive_bytes=4096) as it:
                await self.monitor_all(it)
                transport = it.writer.transport
                assert isinstance(transport, asyncio.Transport)
                transport.pause_reading()
                host, port = it.writer.get_extra_info("sockname")
                connected = True
                while self.on and connected:
                    await asyncio.sleep(0.2)
                    connected = f"{host}:{port}" in await asyncio.to_thread(peers, self.port)

    async def flood(self) -> None:
        """Put as fast as possible."""
        value = 0
        while self.on:
            self.bad += 1
            async with peer(self.port) as it:
                sid = await it.channel(1, self.wanted)
                for number in range(PUTS):
                    it.writer.write(wire.begin(wire.PUT, sid, number))
                    await it.answer(wire.PUT)
                for _ in range(50):
                    for number in range(PUTS):
                        value += 1
                        data = wire.put_value(value)
                        it.writer.write(wire.go_on(wire.PUT, sid, number, wire.EXECUTE, data))
                    for _ in range(PUTS):
                        await it.answer(wire.PUT)
                    self.puts += PUTS
                    if not self.on:
                        return

    async def come_and_go(self) -> None:
        """Monitor everything, and hang up."""
        while self.on:
            self.bad += 1
            async with peer(self.port) as it:
                await self.monitor_all(it)
                await it.answer(wire.MONITOR)
            await asyncio.sleep(0.2)

    async def babble(self) -> None:
        """Send messages with bytes changed, and hang up."""
        chance = random.Random(1)
        messages = [wire.create(1, "B:0"), *(wire.begin(one, 1, one) for one in (wire.GET, wire.PUT))]
        messages += [wire.go_on(wire.PUT, 1, wire.PUT, wire.EXECUTE, wire.put_value(1))]
        while self.on:
            self.bad += 1
            async with peer(self.port) as it:
                data = bytearray(b"".join(chance.choices(messages, k=20)))
                for _ in range(chance.randrange(1, 20)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                if chance.random() < 0.3:  # a message that promises much
                    data += struct.pack("<BBBBI", 0xCA, 2, 0, wire.PUT, 0x7FFFFFFF) + chance.randbytes(50_000)
                it.writer.write(bytes(data))
                await asyncio.sleep(0.005)


if __name__ == "__main__":
    soak(PvaSoak, __doc__, "benchmarks.pva.soak", "soak", {"clients": 3, "pvs": 400, "hz": 30}, "p4p")
