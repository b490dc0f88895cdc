"""Time from an ECC server's arrival in a state to the monitor of its `State_RBV` at a libca client.

    python -m benchmarks.arrival [--cycles 6]

Fleet (10 CoBos and a MuTAnT), IOC and client are separate processes on one machine. All modules are taken
down and up again; for every transition the time is from the moment at which the server's state changed (its
own log) to the moment at which the client's callback has the new state, both monotonic. The IOC learns of it
by polling, 20 ms after the last answer: half of that is expected on average. Printed with it, as the
minimum, is the time from a `caput` of `Run:MaxDuration` to its monitor at the same client: Channel Access
alone. Goal: a median under 30 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import defaultdict
from typing import Any

from benchmarks.support.system import COBOS, PREFIX, Ended, System, system, verdict

GOAL_S = 0.030


async def measure(it: System, cycles: int) -> tuple[list[float], list[float]]:
    """Return the times of arrival and those of the floor, in seconds."""
    import aioca

    from benchmarks.support import client

    names = [f"cobo{i}" for i in range(COBOS)] + ["mutant"]
    seen: dict[str, list[tuple[float, int]]] = defaultdict(list)
    monitors = [
        aioca.camonitor(
            f"{PREFIX}Ecc:{name}:State_RBV",
            lambda value, name=name: seen[name].append((time.monotonic(), int(value))),
            all_updates=True,
        )
        for name in names
    ]
    await client.ready()
    it.ended()
    ended: list[Ended] = []
    for _ in range(cycles):
        await client.goto(1)
        await client.goto(4)
        ended += it.ended()
    floor = await _floor(aioca)
    for monitor in monitors:
        monitor.close()
    client.end()
    times = []
    for call in ended:
        later = [t for t, state in seen[call.server] if state == call.state and t >= call.end_s]
        times.append(min(later) - call.end_s)
    return times, floor


async def _floor(aioca: Any) -> list[float]:
    arrived: asyncio.Queue[float] = asyncio.Queue()
    pv = f"{PREFIX}Run:MaxDuration"
    monitor = aioca.camonitor(pv, lambda _value: arrived.put_nowait(time.monotonic()), all_updates=True)
    await arrived.get()
    times = []
    for n in range(50):
        began = time.monotonic()
        await aioca.caput(pv, float(n + 1))
        times.append(await arrived.get() - began)
    monitor.close()
    return times


def main() -> None:
    """Print the figures and the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cycles", type=int, default=6)
    args = parser.parse_args()
    with system() as it:
        it.start_ioc()
        it.wait_ioc()
        times, floor = asyncio.run(measure(it, args.cycles))
    for what, values in (("arrival to monitor", times), ("caput to monitor (floor)", floor)):
        tenths = statistics.quantiles(values, n=20)
        print(
            f"{what:26} {len(values):5} times, ms: median {statistics.median(values) * 1e3:6.2f}, "
            f"95 % {tenths[18] * 1e3:6.2f}, worst {max(values) * 1e3:6.2f}"
        )
    median = statistics.median(times)
    print(f"goal: median under {GOAL_S * 1e3:g} ms: {verdict(median, GOAL_S)}")


if __name__ == "__main__":
    main()
