"""Time of `Run:Start` beyond that of the modules.

    python -m benchmarks.run_start [--runs 15]

Fleet (10 CoBos and a MuTAnT), IOC and client are separate processes on one machine. The time of each
run's start is that of `caput` with completion by libca; from it the time of the slowest module of each stage
(MuTAnT Breakup, MuTAnT Configure, CoBos Start, MuTAnT Start; the simulator's own log) is subtracted. What is
left is the run number on disk, four SOAP calls and their replies, and seeing each stage's end. Goal: a median
under 100 ms. The same is printed for `Run:Stop`.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

from benchmarks.support.system import Ended, System, system, verdict

GOAL_S = 0.100


def stages_s(calls: list[Ended]) -> float:
    """Return the sum of the slowest module of each stage, in seconds."""
    slowest: dict[tuple[str, bool], float] = {}
    for call in calls:
        stage = (call.operation, call.server == "mutant")
        slowest[stage] = max(slowest.get(stage, 0.0), call.end_s - call.begin_s)
    return sum(slowest.values())


async def measure(it: System, runs: int) -> dict[str, list[float]]:
    """Return for each command the rest of each of its times, in seconds."""
    from benchmarks.support import client

    await client.ready()
    it.ended()
    overhead: dict[str, list[float]] = {"Run:Start": [], "Run:Stop": []}
    for _ in range(runs):
        for command, times in overhead.items():
            began = time.monotonic()
            await client.command(command)
            times.append(time.monotonic() - began - stages_s(it.ended()))
    client.end()
    return overhead


def main() -> None:
    """Print the figures and the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    args = parser.parse_args()
    with system() as it:
        it.start_ioc()
        it.wait_ioc()
        overhead = asyncio.run(measure(it, args.runs))
    for command, times in overhead.items():
        print(
            f"{command:10} {len(times):4} times, ms beyond the slowest of each stage: "
            f"median {statistics.median(times) * 1e3:6.1f}, worst {max(times) * 1e3:6.1f}"
        )
    median = statistics.median(overhead["Run:Start"])
    print(f"goal: median of Run:Start under {GOAL_S * 1e3:g} ms: {verdict(median, GOAL_S)}")


if __name__ == "__main__":
    main()
