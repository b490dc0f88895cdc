"""Compare Channel Access servers: this one, stock caproto, `softioc` (Python) and EPICS base's `softIoc`.

    python -m benchmarks.ca.bench [--rounds 3] [--page docs/explanation/channel-access-server.md]

The servers run in turn, in every round; each serves the same longout records. The client is libca (through
`epicscorelibs`, and `camonitor`) in processes of its own. Printed are medians, and ratios to `softIoc`. All
stays on loopback and private ports. `softioc` is a package of its own: `pip install attpc-ioc[bench]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.support.page import about, command, write_between_marks
from tests.support.ca import LOOPBACK, CaPlace, ca_place, program

HERE = Path(__file__).parent
SERVERS = ("here", "caproto", "softioc", "softIoc")


@contextlib.contextmanager
def served(
    kind: str,
    place: CaPlace,
    count: int,
    hz: float = 0,
    env: dict[str, str] | None = None,
    wait: Callable[[CaPlace, str], None] | None = None,
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Run a server; yields its process and the seconds until its first search reply, which `wait` waits for.

    With `hz` every record changes that often.
    """
    with tempfile.TemporaryDirectory() as folder:
        if kind in ("softIoc", "QSRV"):
            database = Path(folder) / "b.db"
            period = f"{1 / hz:g}".removeprefix("0") if hz else ""
            fields = f'field(CALC, "VAL+1") field(SCAN, "{period} second")' if hz else ""
            rtyp = "calc" if hz else "longout"
            database.write_text("".join(f'record({rtyp}, "B:{i}") {{ {fields} }}\n' for i in range(count)))
            program_line = [program("softIoc"), "-S", "-d", str(database)]
            if kind == "QSRV":
                program_line = [sys.executable, "-m", "pvxslibs.ioc", "-d", str(database)]
        else:
            program_line = [sys.executable, str(HERE / "servers.py"), kind, str(count), str(hz)]
        start = time.perf_counter()
        process = subprocess.Popen(
            program_line,
            env=env or place.env,
            stdin=subprocess.PIPE,  # QSRV's has a shell that must not end
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            (wait or search)(place, f"B:{count - 1}")
            yield process, time.perf_counter() - start
        finally:
            process.kill()
            process.communicate()


def search(place: CaPlace, name: str) -> None:
    """Search in a corner until a server answers."""
    wait_for_search(place.port, name)


def wait_for_search(port: int, name: str) -> None:
    """Search until a server answers."""
    payload = name.encode() + b"\0"
    payload += bytes(-len(payload) % 8)
    request = struct.pack(">HHHHII", 0, 0, 1, 13, 1, 0)
    request += struct.pack(">HHHHII", 6, len(payload), 5, 13, 1, 1) + payload
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.005)
        for _ in range(2000):
            with contextlib.suppress(OSError):
                sock.sendto(request, (LOOPBACK, port))
                if len(sock.recv(1000)) > 16:
                    return
    raise TimeoutError("no search reply")


async def alone(kind: str, args: argparse.Namespace, count: int) -> dict[str, float]:
    """Measure a server that has one client."""
    result: dict[str, float] = {}
    with contextlib.closing(ca_place()) as place, served(kind, place, count) as (process, start_s):
        result["start to first search reply, s"] = start_s
        result["resident, MB"] = psutil.Process(process.pid).memory_info().rss / 1e6
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, str(HERE / "client.py"), str(count), str(args.seconds)),
            env={**place.env, "PYTHONPATH": os.getcwd()},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(client.communicate(), 120)
        result |= json.loads(out)
    return result


def measure(kind: str, args: argparse.Namespace) -> dict[str, float]:
    """Measure all rows of one server once."""
    from benchmarks.ca import fanout, storm

    rows: dict[str, float] = {}
    for count in (400, 4000):
        found = asyncio.run(alone(kind, args, count))
        wanted = ("start to first search reply, s", "connect all, s", "resident, MB")
        rows |= {f"{name} ({count} PVs)": found[name] for name in wanted}
        if count == 400:
            rows |= {name: value for name, value in found.items() if name not in wanted}
    if kind == "coroutine":
        return {name: value for name, value in rows.items() if name.startswith("put")}
    many = asyncio.run(fanout.measure(kind, args))
    rows |= {f"{args.clients} x {args.pvs} x {args.hz:g} Hz: {name}": value for name, value in many.items()}
    rows["restart storm, s"] = asyncio.run(storm.measure(kind, args))
    return rows


def main() -> None:
    """Run every server in turn, and print or write the table of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--pvs", type=int, default=400)
    parser.add_argument("--hz", type=float, default=5)
    parser.add_argument("--storm-clients", type=int, default=50)
    parser.add_argument("--storm-pvs", type=int, default=500)
    parser.add_argument("--page", type=Path, help="write the table into this page, between its marks")
    args = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in (*SERVERS, "coroutine")}
    for number in range(args.rounds):
        for kind, rounds in found.items():
            print(f"round {number + 1} of {args.rounds}: {kind}", file=sys.stderr, flush=True)
            rounds.append(measure(kind, args))
    medians = {
        kind: {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        for kind, rounds in found.items()
    }
    medians["here"]["put with callback, handler a coroutine, us"] = medians["coroutine"][PUT]
    for kind in SERVERS[1:]:
        medians[kind]["put with callback, handler a coroutine, us"] = medians[kind][PUT]
    text = table(medians)
    print(text)
    if args.page:
        write_between_marks(args.page, "bench", f"{about(command('benchmarks.ca.bench'))}\n\n{text}")


PUT = "put with callback, us"


@dataclass(frozen=True)
class Goal:
    """The goal of this server: an upper or lower limit, or a multiple of `softIoc`'s value."""

    most: float = math.inf
    least: float = -math.inf
    times_soft_ioc: float = math.inf

    def text(self) -> str:
        """Return its text for the table."""
        if self.times_soft_ioc < math.inf:
            return f"≤ {self.times_soft_ioc:g} x softIoc"
        return f"≥ {self.least:g}" if self.least > -math.inf else f"≤ {self.most:g}"

    def met(self, here: float, soft_ioc: float) -> bool:
        """Whether a median meets it."""
        return self.least <= here <= min(self.most, self.times_soft_ioc * soft_ioc)


GOALS = {
    "start to first search reply, s (400 PVs)": Goal(most=0.2),
    "connect all, s (400 PVs)": Goal(most=0.06),
    "connect all, s (4000 PVs)": Goal(most=0.3),
    "get, us": Goal(times_soft_ioc=1.5),
    "gets outstanding together, /s": Goal(least=25_000),
    PUT: Goal(times_soft_ioc=1.2),
    "delivered, %": Goal(least=100),
    "CPU an event, us": Goal(most=5),
    "latency p50, ms": Goal(most=20),
    "latency p99, ms": Goal(most=50),
    "resident, MB (400 PVs)": Goal(most=60),
    "resident, MB (4000 PVs)": Goal(most=90),
    "restart storm, s": Goal(times_soft_ioc=3),
}
"""By the name of a row, or by its part after a colon."""


def table(medians: dict[str, dict[str, float]]) -> str:
    """Return the table in Markdown, with the goals of this server and whether they are met."""
    titles = (*SERVERS, "here / softIoc", "goal", "")
    lines = ["| | " + " | ".join(titles) + " |", "|---|" + "---|" * len(titles)]
    for name in medians["here"]:
        row = [medians[kind][name] for kind in SERVERS]
        ratio = f"{row[0] / row[-1]:.2f}" if row[-1] and math.isfinite(row[-1]) else ""
        goal = GOALS.get(name.rpartition(": ")[2])
        wanted = ("", "") if goal is None else (goal.text(), "met" if goal.met(row[0], row[-1]) else "MISSED")
        cells = (*(f"{value:.4g}" if math.isfinite(value) else "not all" for value in row), ratio, *wanted)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
