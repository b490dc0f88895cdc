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
import os
import sys
from pathlib import Path

import psutil

from benchmarks.ca import storm
from benchmarks.ca.fanout import CHANNEL_ACCESS, SERVERS
from benchmarks.support import monitors
from benchmarks.support.compare import Goal, Rounds, Rows, arguments, in_rounds, table
from benchmarks.support.page import about, command, write_between_marks
from benchmarks.support.served import served
from tests.support.ca import ca_place

HERE = Path(__file__).parent
TASKS = "coroutine"
"""This server with a coroutine as its handler of puts."""

PUT = "put with callback, us"
PUT_OF_TASKS = "put with callback, handler a coroutine, us"

GOALS = {
    "start to first search reply, s (400 PVs)": Goal(most=0.2),
    "connect all, s (400 PVs)": Goal(most=0.06),
    "connect all, s (4000 PVs)": Goal(most=0.3),
    "get, us": Goal(times=1.5),
    "gets outstanding together, /s": Goal(least=25_000),
    PUT: Goal(times=1.2),
    "delivered, %": Goal(least=100),
    "CPU an event, us": Goal(most=5),
    "latency p50, ms": Goal(most=20),
    "latency p99, ms": Goal(most=50),
    "resident, MB (400 PVs)": Goal(most=60),
    "resident, MB (4000 PVs)": Goal(most=90),
    "restart storm, s": Goal(times=3),
}
"""By the name of a row, or by its part after a colon."""


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


def measure(kind: str, args: argparse.Namespace) -> Rows:
    """Measure all rows of one server once."""
    rows: Rows = {}
    for count in (400, 4000):
        found = asyncio.run(alone(kind, args, count))
        wanted = ("start to first search reply, s", "connect all, s", "resident, MB")
        rows |= {f"{name} ({count} PVs)": found[name] for name in wanted}
        if count == 400:
            rows |= {name: value for name, value in found.items() if name not in wanted}
    if kind == TASKS:
        return rows
    rows |= monitors.measured(kind, args, CHANNEL_ACCESS)
    rows["restart storm, s"] = asyncio.run(storm.measure(kind, args))
    return rows


def add_puts_of_tasks(rounds: Rounds) -> None:
    """Give each server a row about handlers that are coroutines; the others have one kind only."""
    tasks = rounds.pop(TASKS)
    for kind, found in rounds.items():
        for one, other in zip(found, tasks, strict=True):
            one[PUT_OF_TASKS] = (other if kind == SERVERS[0] else one)[PUT]


def main() -> None:
    """Run every server in turn, and print or write the table of medians."""
    parser = arguments(__doc__)
    parser.add_argument("--storm-clients", type=int, default=50)
    parser.add_argument("--storm-pvs", type=int, default=500)
    args = parser.parse_args()
    (rounds,) = in_rounds(args, (measure, (*SERVERS, TASKS)))
    add_puts_of_tasks(rounds)
    titles = {kind: kind for kind in SERVERS}
    text = table(rounds, titles, SERVERS[0], SERVERS[-1], lambda name: GOALS.get(name.rpartition(": ")[2]))
    print(text)
    if args.page:
        write_between_marks(args.page, "bench", f"{about(command('benchmarks.ca.bench'))}\n\n{text}")


if __name__ == "__main__":
    main()
