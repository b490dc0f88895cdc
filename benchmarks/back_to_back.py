"""Time from the end of `Run:Stop` to the next accepted `Run:Start`, over runs back to back.

    python -m benchmarks.back_to_back [--runs 10]

Data come up to 2 s after Stop, and files are closed 5 s after the last: several runs are being closed when
the next begins. Hosts are polled every 2 s, the settings' default; they are folders, and simulated SSH
servers. At the end every frame must be in the folder of its run: each has one stream of every sender, with
all event numbers from 0 on; otherwise the exit code is not 0. Goal: under 1 s each.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from attpc_ioc.simulator.data.options import Access
from benchmarks.support.system import verdict
from tests.data_routers.test_start_listing import AT_ONCE, closed
from tests.support.back_to_back import BUFFERED, check_all, ready, start_soon
from tests.support.data_rig import data_rig, section, stop_run

GOAL_S = 1.0


async def measure(folder: Path, access: Access, runs: int) -> list[float]:
    """Return the time before each start but the first, in seconds."""
    text = section(watch={"period_s": 2.0, "timeout_s": 3.0}, closing={"quiet_s": 5.0})
    data = replace(BUFFERED, drain_s=2.0)
    waits, numbers = [], []
    with pytest.MonkeyPatch.context() as patch:
        async with data_rig(
            folder, patch, access=access, data=data, text=text, durations=AT_ONCE, cobos=4
        ) as it:
            await ready(it)
            for _ in range(runs):
                waits.append(await start_soon(it))
                numbers.append(it.run.number)
                await stop_run(it)
            await closed(it, *numbers)
            check_all(it, numbers)
    return waits[1:]


def main() -> None:
    """Print the table and the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    worst = 0.0
    print("access   runs   median s    worst s   files in a wrong folder")
    for access in (Access.LOCAL, Access.SSH):
        with tempfile.TemporaryDirectory(prefix="attpc-back-") as name:
            waits = asyncio.run(measure(Path(name), access, args.runs))
        worst = max(worst, *waits)
        print(f"{access:6} {args.runs:6} {statistics.median(waits):10.3f} {max(waits):10.3f}          0")
    print(f"goal: each under {GOAL_S:g} s: {verdict(worst, GOAL_S)}")


if __name__ == "__main__":
    main()
