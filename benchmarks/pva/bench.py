"""Compare PVAccess servers: this one, p4p alone, pythonSoftIOC, QSRV; and Channel Access with and without it.

    python -m benchmarks.pva.bench [--rounds 3] [--page docs/explanation/pvaccess-server.md]

The servers run in turn, in every round; each serves the same integers. Gets, puts and monitors come from
bare sockets (`wire.py`), connections from p4p's client. Printed are medians and ratios. All stays on loopback
and private ports. pythonSoftIOC and QSRV are packages of their own: `pip install attpc-ioc[bench]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import sys
import time

import psutil

from benchmarks.ca import bench as ca
from benchmarks.ca.fanout import CHANNEL_ACCESS
from benchmarks.pva.client import wait_for_channel
from benchmarks.pva.fanout import PVACCESS, SERVERS
from benchmarks.support import monitors
from benchmarks.support.compare import Goal, Rows, arguments, in_rounds, table
from benchmarks.support.page import about, command, write_between_marks
from benchmarks.support.served import served
from tests.support.ca import ca_place

COUNTS = (400, 4000)
ALONE = "here"
"""This server without PVAccess."""
WITH = "both"
"""This server with PVAccess."""
NOTHING = "p4p-noop"
"""p4p's server with a handler that answers every put at once, in p4p's own thread, and does nothing else."""
TITLES = {WITH: "here", "softioc-both": "softioc", "QSRV": "QSRV", "p4p": "p4p"}
TIMES_QSRV = 1.5
MOST_CPU, MOST_MB = 1.0, 15.0
"""What PVAccess may cost without clients: percent of a core, and megabytes."""
NO_CLIENTS = "no clients"

PUT, PUT_TO_NOTHING = "put, us", "put that does nothing, in p4p's thread, us"


async def alone(kind: str, count: int, seconds: float) -> Rows:
    """Measure a server that has one client."""
    result: Rows = {}
    with (
        contextlib.closing(ca_place()) as place,
        served(kind, place, count, wait=wait_for_channel) as (process, start_s),
    ):
        result["start to first channel, s"] = start_s
        server = psutil.Process(process.pid)
        result["resident, MB"] = server.memory_info().rss / 1e6
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.pva.client"),
            *(str(place.pva_port), str(count), str(seconds)),
            env={**place.env, "PYTHONPATH": os.getcwd()},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(client.communicate(), 120)
        result |= json.loads(out)
        result["resident after all were connected, MB"] = server.memory_info().rss / 1e6
    return result


def measure(kind: str, args: argparse.Namespace) -> Rows:
    """Measure all that is compared between servers, once."""
    rows: Rows = {}
    for count in COUNTS:
        found = asyncio.run(alone(kind, count, args.seconds))
        once = {name: found.pop(name) for name in ("get, us", PUT)}
        rows |= {f"{name} ({count} PVs)": value for name, value in found.items()}
        if count == COUNTS[0]:
            rows |= once
            rows[PUT_TO_NOTHING] = math.nan
            if kind == "p4p":
                rows[PUT_TO_NOTHING] = asyncio.run(alone(NOTHING, 1, args.seconds))[PUT]
    return rows | monitors.measured(kind, args, PVACCESS)


def over_channel_access(kind: str, args: argparse.Namespace) -> Rows:
    """Measure Channel Access of a server, and what it takes while nobody is connected, once."""
    rows: Rows = {}
    for count in COUNTS:
        found = asyncio.run(ca.alone(kind, args, count))
        rows[f"connect all, s ({count} PVs)"] = found["connect all, s"]
        if count == COUNTS[0]:
            rows |= {name: value for name, value in found.items() if name.startswith(("get", "put"))}
    rows |= monitors.measured(kind, args, CHANNEL_ACCESS)
    rows |= idle(kind, args)
    return rows


def idle(kind: str, args: argparse.Namespace) -> Rows:
    """Measure a server whose PVs change and that has had no client yet."""
    rows: Rows = {}
    for count in COUNTS:
        hz = args.hz * COUNTS[0] / count
        with contextlib.closing(ca_place()) as place, served(kind, place, count, hz) as (process, _):
            server = psutil.Process(process.pid)
            time.sleep(args.seconds)  # what was begun at the start ends
            began_s, began_cpu_s = time.perf_counter(), sum(server.cpu_times()[:2])
            time.sleep(5 * args.seconds)
            cpu_s = sum(server.cpu_times()[:2]) - began_cpu_s
            share = 100 * cpu_s / (time.perf_counter() - began_s)
            rows[f"{NO_CLIENTS}: CPU, % of a core ({count} PVs)"] = share
            rows[f"{NO_CLIENTS}: resident, MB ({count} PVs)"] = server.memory_info().rss / 1e6
    return rows


def goal_beside_qsrv(name: str) -> Goal | None:
    """Return the goal of a row of the comparison of servers."""
    if name.startswith("start") or name == PUT_TO_NOTHING:
        return None
    return Goal(least=100) if "delivered" in name else Goal(times=TIMES_QSRV)


def goal_beside_channel_access(name: str) -> Goal | None:
    """Return the goal of a row of Channel Access without and with PVAccess."""
    if not name.startswith(NO_CLIENTS):
        return None
    return Goal(more=MOST_CPU if "CPU" in name else MOST_MB)


def main() -> None:
    """Run every server in turn, and print or write both tables."""
    args = arguments(__doc__).parse_args()
    load_before = os.getloadavg()[0]
    servers, access = in_rounds(args, (measure, SERVERS), (over_channel_access, (ALONE, WITH)))
    tables = {
        "servers": table(servers, TITLES, WITH, "QSRV", goal_beside_qsrv),
        "channel access": table(
            access, {ALONE: "PVAccess off", WITH: "on"}, WITH, ALONE, goal_beside_channel_access
        ),
    }
    run = about(command("benchmarks.pva.bench"), "p4p", "pvxslibs")
    run += f" Before it began the load average was {load_before:.1f}."
    for name, text in tables.items():
        print(text, end="\n\n")
        if args.page:
            write_between_marks(args.page, name, f"{run}\n\n{text}")


if __name__ == "__main__":
    main()
