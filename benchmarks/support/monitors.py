"""Many clients that monitor everything: updates delivered, latency, and the server's cost of an event.

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
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from benchmarks.support.compare import add_monitors
from benchmarks.support.served import served
from tests.support.ca import LOOPBACK, CaPlace, ca_place

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
    """One client, which monitors every PV and counts its updates; a protocol's own one reads and writes."""

    def __init__(self, count: int, tally: Tally, code: str = "d") -> None:
        self.pvs = count
        self.code = code
        """The type of the values."""
        self.rest = b""
        """What has come of a message that is not complete."""
        self.transport: asyncio.Transport | None = None
        self.last = [-1.0] * count
        """The last value of each PV."""
        self._tally = tally
        self._end = [-1.0] * count

    def begin(self, changes: int) -> None:
        """Count each PV's next `changes` from now on."""
        self._end = [last + changes for last in self.last]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def heard(self, number: int, value: float | None, late_s: float) -> None:
        """Take an update of a PV; None is a value that has not changed."""
        self._tally.update(late_s)
        if value is not None:
            if self.last[number] < value <= self._end[number]:
                self._tally.count()
            self.last[number] = value


@dataclass(frozen=True)
class Protocol:
    """What differs between protocols.

    `module` runs the clients with `--listen PORT`, `listener` makes one of them; `wait` waits for a PV.
    `codes` is the type of the values of a kind of server, if it is not the usual one.
    """

    module: str
    listener: type[Listener]
    port: Callable[[CaPlace], int]
    wait: Callable[[CaPlace, str], None]
    codes: Mapping[str, str] = field(default_factory=dict)


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


async def measure(kind: str, args: argparse.Namespace, protocol: Protocol) -> dict[str, float]:
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


def measured(kind: str, args: argparse.Namespace, protocol: Protocol) -> dict[str, float]:
    """Measure one server; the names of the rows say with how many clients and PVs."""
    found = asyncio.run(measure(kind, args, protocol))
    return {f"{args.clients} x {args.pvs} x {args.hz:g} Hz: {name}": value for name, value in found.items()}


def compare(description: str | None, servers: Sequence[str], protocol: Protocol) -> None:
    """Measure every server and print a table, or be the clients of one, as the command line says."""
    parser = argparse.ArgumentParser(description=description)
    add_monitors(parser)
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
