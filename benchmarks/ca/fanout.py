"""Many clients that monitor everything: what is delivered, how late, and what an event costs the server.

    python -m benchmarks.ca.fanout [--clients 20] [--pvs 400] [--hz 5] [--seconds 5]

The clients are bare sockets in a process of their own, so that they cost less than the servers. Latency is
from the time stamp of an update to its arrival.
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
from pathlib import Path

import psutil

from benchmarks.ca.bench import SERVERS, served
from tests.support.ca import LOOPBACK, ca_place

HERE = Path(__file__).parent
_EPICS_EPOCH_S = 631152000
_TIME_DOUBLE, _VALUE = 20, 1
_EVENT = struct.Struct(">HHHHIIhhIIid")


class Listener(asyncio.Protocol):
    """One client: subscribes to every PV as TIME_DOUBLE, and notes how late each update is."""

    def __init__(self, count: int, late_s: list[float]) -> None:
        self._count = count
        self._late_s = late_s
        self._rest = b""
        self._sids = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for every channel."""
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
                request = struct.pack(">HHHHII", 1, 16, _TIME_DOUBLE, 1, p2, p1)
                self.transport.write(request + struct.pack(">fffHH", 0, 0, 0, _VALUE, 0))
            elif command == 1:
                fields = _EVENT.unpack_from(data, offset)
                self._late_s.append(now - fields[8] - fields[9] / 1e9)
            offset += 16 + size
        self._rest = data[offset:]


async def listen(port: int, clients: int, count: int, seconds: float) -> None:
    """Run the clients; prints the number of updates and how late they were."""
    late_s: list[float] = []
    loop = asyncio.get_running_loop()
    for _ in range(clients):
        await loop.create_connection(lambda: Listener(count, late_s), LOOPBACK, port)
    for _ in range(600):
        if len(late_s) >= clients * count:
            break
        await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)
    late_s.clear()
    print("ready", flush=True)
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    await asyncio.sleep(0)
    found, took_s = sorted(late_s), time.perf_counter() - began
    middle, worst = found[len(found) // 2], found[int(len(found) * 0.99)]
    told = {"events": len(found), "p50": middle * 1e3, "p99": worst * 1e3, "took_s": took_s}
    print(json.dumps(told), flush=True)


async def measure(kind: str, args: argparse.Namespace) -> dict[str, float]:
    """Measure one server."""
    with contextlib.closing(ca_place()) as place, served(kind, place, args.pvs, args.hz) as (process, _):
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.ca.fanout", "--listen", str(place.port)),
            *("--clients", str(args.clients), "--pvs", str(args.pvs), "--seconds", str(args.seconds)),
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
        wanted = args.clients * args.pvs * args.hz * result["took_s"]
        return {
            "delivered, %": 100 * result["events"] / wanted,
            "CPU an event, us": 1e6 * cpu_s / max(1, result["events"]),
            "latency p50, ms": result["p50"],
            "latency p99, ms": result["p99"],
            "resident, MB": server.memory_info().rss / 1e6,
        }


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--pvs", type=int, default=400)
    parser.add_argument("--hz", type=float, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--listen", type=int, default=0)
    args = parser.parse_args()
    if args.listen:
        asyncio.run(listen(args.listen, args.clients, args.pvs, args.seconds))
        return
    print(f"{args.clients} clients x {args.pvs} PVs x {args.hz:g} Hz".ljust(34), end="")
    print("".join(kind.rjust(12) for kind in SERVERS))
    results = {kind: asyncio.run(measure(kind, args)) for kind in SERVERS}
    for name in results["here"]:
        print(name.ljust(34) + "".join(f"{results[kind][name]:12.4g}" for kind in SERVERS))


if __name__ == "__main__":
    main()
