"""Many clients that monitor everything: updates delivered, latency, and the server's cost of an event.

    python -m benchmarks.ca.fanout [--clients 20] [--pvs 400] [--hz 5] [--seconds 5]

The clients are raw sockets in a separate process, so that they cost less than the servers. Every change
increments a PV, so delivered updates are counted exactly: of the changes that are due in
`--seconds` after a mark, how many reached each client for each PV, until `GRACE_S` after the end. A server
that changes its PVs too slowly also falls short. Latency is from the time stamp of an update to its
arrival.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import struct
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from benchmarks.ca.bench import SERVERS, search, served
from tests.support.ca import LOOPBACK, CaPlace, ca_place

_EPICS_EPOCH_S = 631152000
_TIME_DOUBLE, _VALUE = 20, 1
_EVENT = struct.Struct(">HHHHIIhhIIid")

GRACE_S = 1.0
"""The longest delay of an update that counts: more than two periods, the same for every server."""


class Tally:
    """What all clients received: updates, the latency of one in `every`, and how many are `due`."""

    def __init__(self, every: int = 1) -> None:
        self.late_s: list[float] = []
        self.events = 0
        self._every = every
        self.delivered = 0
        self.due = 0
        self.complete = asyncio.Event()

    def expect(self, due: int) -> None:
        """Count from now up to `due`."""
        self.late_s.clear()
        self.events = 0
        self.delivered, self.due = 0, due
        self.complete.clear()

    def update(self, late_s: float) -> None:
        """Take an update."""
        self.events += 1
        if self.events % self._every == 0:
            self.late_s.append(late_s)

    def count(self) -> None:
        """Take a due update."""
        self.delivered += 1
        if self.delivered == self.due:
            self.complete.set()


class Listener(asyncio.Protocol):
    """One client: subscribes to every PV as TIME_DOUBLE, notes how late each update is, and counts."""

    def __init__(self, count: int, tally: Tally, code: str = "") -> None:  # noqa: ARG002 - of the protocol
        self._count = count
        self._tally = tally
        self._last = [-1.0] * count
        self._end = [-1.0] * count
        self._rest = b""
        self._sids = 0
        self.transport: asyncio.Transport | None = None

    def begin(self, changes: int) -> None:
        """Count each PV's next `changes` from now on."""
        self._end = [last + changes for last in self._last]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Request every channel."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(struct.pack(">HHHHII", 0, 0, 0, 13, 0, 0))
        for number in range(self._count):
            name = f"B:{number}".encode() + b"\0"
            name += bytes(-len(name) % 8)
            transport.write(struct.pack(">HHHHII", 18, len(name), 0, 0, number, 13) + name)

    def data_received(self, data: bytes) -> None:
        """Subscribe when a channel is there; note updates."""
        assert self.transport is not None
        data = self._rest + data
        now = time.time() - _EPICS_EPOCH_S
        offset = 0
        while len(data) - offset >= 16:
            command, size, _, _, p1, p2 = struct.unpack_from(">HHHHII", data, offset)
            if len(data) - offset < 16 + size:
                break
            if command == 18:
                # The subscription has the number of its PV.
                request = struct.pack(">HHHHII", 1, 16, _TIME_DOUBLE, 1, p2, p1)
                self.transport.write(request + struct.pack(">fffHH", 0, 0, 0, _VALUE, 0))
            elif command == 1:
                fields = _EVENT.unpack_from(data, offset)
                self._tally.update(now - fields[8] - fields[9] / 1e9)
                if self._last[p2] < fields[11] <= self._end[p2]:
                    self._tally.count()
                self._last[p2] = fields[11]
            offset += 16 + size
        self._rest = data[offset:]


@dataclass(frozen=True)
class Protocol:
    """What differs between protocols: see `CHANNEL_ACCESS`.

    `module` runs the clients with `--listen PORT`, `listener` makes one of them; `wait` waits for a PV.
    `codes` is the type of the values of a kind of server, if it is not the usual one.
    """

    module: str
    listener: Callable[[int, Tally, str], Any]
    port: Callable[[CaPlace], int]
    wait: Callable[[CaPlace, str], None]
    codes: Mapping[str, str] = field(default_factory=dict)


CHANNEL_ACCESS = Protocol("benchmarks.ca.fanout", Listener, lambda place: place.port, search)


async def listen(args: argparse.Namespace, protocol: Protocol) -> None:
    """Run the clients; prints what they received and the latencies."""
    clients, count, hz, seconds = args.clients, args.pvs, args.hz, args.seconds
    tally = Tally()
    loop = asyncio.get_running_loop()
    listeners = [protocol.listener(count, tally, args.code) for _ in range(clients)]
    for listener in listeners:
        await loop.create_connection(lambda listener=listener: listener, LOOPBACK, args.listen)
    for _ in range(600):
        if tally.events >= clients * count:
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)
    changes = max(1, round(hz * seconds))
    tally.expect(clients * count * changes)
    for listener in listeners:
        listener.begin(changes)
    print("ready", flush=True)
    with contextlib.suppress(TimeoutError):  # then updates are missing, which is the result
        await asyncio.wait_for(tally.complete.wait(), changes / hz + GRACE_S)
    found = sorted(tally.late_s)
    if not found:
        raise TimeoutError("no update came")
    told = {
        "events": tally.events,
        "delivered": tally.delivered,
        "due": tally.due,
        "p50": found[len(found) // 2] * 1e3,
        "p99": found[int(len(found) * 0.99)] * 1e3,
    }
    print(json.dumps(told), flush=True)


async def measure(
    kind: str, args: argparse.Namespace, protocol: Protocol = CHANNEL_ACCESS
) -> dict[str, float]:
    """Measure one server."""
    with (
        contextlib.closing(ca_place()) as place,
        served(kind, place, args.pvs, args.hz, wait=protocol.wait) as (process, _),
    ):
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", protocol.module, "--listen", str(protocol.port(place))),
            *("--clients", str(args.clients), "--pvs", str(args.pvs)),
            *("--hz", str(args.hz), "--seconds", str(args.seconds)),
            *("--code", protocol.codes.get(kind, "i")),
            env={**place.env, "PYTHONPATH": os.getcwd()},
            stdout=asyncio.subprocess.PIPE,
        )
        assert client.stdout is not None
        await client.stdout.readline()
        server = psutil.Process(process.pid)
        before = sum(server.cpu_times()[:2])
        result = json.loads(await client.stdout.readline())
        cpu_s = sum(server.cpu_times()[:2]) - before
        await client.wait()
        return {
            "delivered, %": 100 * result["delivered"] / result["due"],
            "CPU an event, us": 1e6 * cpu_s / max(1, result["events"]),
            "latency p50, ms": result["p50"],
            "latency p99, ms": result["p99"],
            "resident, MB": server.memory_info().rss / 1e6,
        }


def main() -> None:
    """Print one table."""
    compare(argparse.ArgumentParser(description=__doc__), SERVERS, CHANNEL_ACCESS)


def compare(parser: argparse.ArgumentParser, servers: Sequence[str], protocol: Protocol) -> None:
    """Measure every server, or be the clients of one, as the command line says."""
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--pvs", type=int, default=400)
    parser.add_argument("--hz", type=float, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--listen", type=int, default=0)
    parser.add_argument("--code", default="i")
    args = parser.parse_args()
    if args.listen:
        asyncio.run(listen(args, protocol))
        return
    print(f"{args.clients} clients x {args.pvs} PVs x {args.hz:g} Hz".ljust(34), end="")
    print("".join(kind.rjust(13) for kind in servers))
    results = {kind: asyncio.run(measure(kind, args, protocol)) for kind in servers}
    for name in results[servers[0]]:
        print(name.ljust(34) + "".join(f"{results[kind][name]:13.4g}" for kind in servers))


if __name__ == "__main__":
    main()
