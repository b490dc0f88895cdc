"""Compare PVAccess servers: this one, p4p alone, pythonSoftIOC, QSRV; and Channel Access with and without it.

    python -m benchmarks.pva.bench [--rounds 3] [--page docs/explanation/pvaccess-server.md]

The servers run in turn, in every round; each serves the same integers. Gets, puts and monitors come from
bare sockets (`wire.py`), connections from p4p's client. Printed are medians, and ratios: the median of those
of the rounds, so that what else the machine does meanwhile weighs on both sides. All stays on loopback and
private ports. pythonSoftIOC and QSRV are packages of their own: `pip install attpc-ioc[bench]`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.ca import bench as ca
from benchmarks.ca import fanout
from benchmarks.pva.client import wait_for_channel
from benchmarks.pva.fanout import PVACCESS, SERVERS
from benchmarks.support.page import about, command, write_between_marks
from tests.support.ca import ca_place

COUNTS = (400, 4000)
ALONE = "here"
"""This server without PVAccess."""
WITH = "both"
"""This server with PVAccess."""
TITLES = {WITH: "here", "softioc-both": "softioc", "QSRV": "QSRV", "p4p": "p4p"}
TIMES_QSRV = 1.5
MOST_CPU, MOST_MB = 1.0, 15.0
"""What PVAccess may cost without clients: percent of a core, and megabytes."""
NO_CLIENTS = "no clients"

Rows = dict[str, float]


async def alone(kind: str, count: int, seconds: float) -> Rows:
    """Measure a server that has one client."""
    result: Rows = {}
    with (
        contextlib.closing(ca_place()) as place,
        ca.served(kind, place, count, wait=wait_for_channel) as (process, start_s),
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
        once = {name: found.pop(name) for name in ("get, us", "put, us")}
        rows |= {f"{name} ({count} PVs)": value for name, value in found.items()}
        if count == COUNTS[0]:
            rows |= once
    return rows | many(kind, args, PVACCESS)


def many(kind: str, args: argparse.Namespace, protocol: fanout.Protocol) -> Rows:
    """Measure a server that has many clients, which monitor everything."""
    found = asyncio.run(fanout.measure(kind, args, protocol))
    return {f"{args.clients} x {args.pvs} x {args.hz:g} Hz: {name}": value for name, value in found.items()}


def over_channel_access(kind: str, args: argparse.Namespace) -> Rows:
    """Measure Channel Access of a server, and what it takes while nobody is connected, once."""
    rows: Rows = {}
    for count in COUNTS:
        found = asyncio.run(ca.alone(kind, args, count))
        rows[f"connect all, s ({count} PVs)"] = found["connect all, s"]
        if count == COUNTS[0]:
            rows |= {name: value for name, value in found.items() if name.startswith(("get", "put"))}
    rows |= many(kind, args, fanout.CHANNEL_ACCESS)
    rows |= idle(kind, args)
    return rows


def idle(kind: str, args: argparse.Namespace) -> Rows:
    """Measure a server whose PVs change and that has had no client yet."""
    rows: Rows = {}
    for count in COUNTS:
        hz = args.hz * COUNTS[0] / count
        with contextlib.closing(ca_place()) as place, ca.served(kind, place, count, hz) as (process, _):
            server = psutil.Process(process.pid)
            time.sleep(args.seconds)  # what was begun at the start ends
            began_s, began_cpu_s = time.perf_counter(), sum(server.cpu_times()[:2])
            time.sleep(5 * args.seconds)
            cpu_s = sum(server.cpu_times()[:2]) - began_cpu_s
            share = 100 * cpu_s / (time.perf_counter() - began_s)
            rows[f"{NO_CLIENTS}: CPU, % of a core ({count} PVs)"] = share
            rows[f"{NO_CLIENTS}: resident, MB ({count} PVs)"] = server.memory_info().rss / 1e6
    return rows


Rounds = dict[str, list[Rows]]


def median(rounds: Rounds, kind: str, name: str) -> float:
    """Return the median of a row."""
    return statistics.median(one[name] for one in rounds[kind])


def ratio(rounds: Rounds, kind: str, to: str, name: str) -> float:
    """Return the median ratio of what two servers had in one round."""
    return statistics.median(
        one[name] / other[name] if other[name] else math.nan
        for one, other in zip(rounds[kind], rounds[to], strict=True)
    )


def servers_table(rounds: Rounds) -> str:
    """Return the comparison of servers in Markdown, with the goals and whether they are met."""
    rows = [("", *(TITLES[kind] for kind in SERVERS), "here / QSRV", "goal", "")]
    for name in rounds[WITH][0]:
        values = [median(rounds, kind, name) for kind in SERVERS]
        to_qsrv = ratio(rounds, WITH, "QSRV", name)
        goal, met = f"≤ {TIMES_QSRV:g} x QSRV", to_qsrv <= TIMES_QSRV
        if "delivered" in name:
            goal, met = "≥ 100", values[SERVERS.index(WITH)] >= 100
        wanted = ("", "") if name.startswith("start") else (goal, verdict(met))
        rows.append((name, *map(number, values), number(to_qsrv), *wanted))
    return markdown(rows)


def access_table(rounds: Rounds) -> str:
    """Return Channel Access without and with PVAccess in Markdown."""
    rows = [("", "PVAccess off", "on", "on / off", "goal", "")]
    for name in rounds[ALONE][0]:
        off, on = median(rounds, ALONE, name), median(rounds, WITH, name)
        goal = met = ""
        if name.startswith(NO_CLIENTS):
            most = MOST_CPU if "CPU" in name else MOST_MB
            more = statistics.median(
                one[name] - other[name] for one, other in zip(rounds[WITH], rounds[ALONE], strict=True)
            )
            goal, met = f"≤ {most:g} more", verdict(more <= most)
        rows.append((name, *map(number, (off, on, ratio(rounds, WITH, ALONE, name))), goal, met))
    return markdown(rows)


def number(value: float) -> str:
    """Return a figure with three digits, and nothing where there is none."""
    return "" if math.isnan(value) else f"{value:.3g}"


def verdict(met: bool) -> str:
    """Say whether a goal was met."""
    return "met" if met else "MISSED"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first row has the titles."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join((lines[0], "|" + "---|" * len(rows[0]), *lines[1:]))


def main() -> None:
    """Run every server in turn, and print or write both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--pvs", type=int, default=400)
    parser.add_argument("--hz", type=float, default=5)
    parser.add_argument("--page", type=Path, help="write the tables into this page, between its marks")
    args = parser.parse_args()
    load_before = os.getloadavg()[0]
    servers: Rounds = {kind: [] for kind in SERVERS}
    access: Rounds = {kind: [] for kind in (ALONE, WITH)}
    for turn in range(args.rounds):
        for rounds, work in ((servers, measure), (access, over_channel_access)):
            for kind, found in rounds.items():
                print(
                    f"round {turn + 1} of {args.rounds}: {work.__name__} {kind}", file=sys.stderr, flush=True
                )
                found.append(work(kind, args))
    run = about(command("benchmarks.pva.bench"), "p4p", "pvxslibs")
    run += f" Before it began the load average was {load_before:.1f}."
    for name, table in (("servers", servers_table(servers)), ("channel access", access_table(access))):
        print(table, end="\n\n")
        if args.page:
            write_between_marks(args.page, name, f"{run}\n\n{table}")


if __name__ == "__main__":
    main()
