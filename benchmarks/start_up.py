"""Time from the start of the process to the first answered `caget`, and memory, with 11 modules.

    python -m benchmarks.start_up [--rounds 7]

`attpc-ioc run FILE` for a fleet of 10 CoBos and a MuTAnT in a separate process alternates
with EPICS base's `softIoc` with as many records. A search is sent every few milliseconds until it is
answered, then `caget` of EPICS base reads a PV; the time ends when `caget` succeeds, so its own
start is included. Memory is the resident set of the IOC when every module was seen and again after
`--settle` seconds of polling. Goal: a median under 1.5 s.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.support.system import PREFIX, System, system, verdict
from tests.support.ca import CaPlace, program

GOAL_S = 1.5


def caget(place: CaPlace, pv: str) -> str:
    """Read a PV with EPICS base's program; raises if that fails."""
    done = subprocess.run(
        [program("caget"), "-t", "-w", "5", pv], env=place.env, capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


def cpu_s(process: psutil.Process) -> float:
    """Return the CPU that a process has used, in seconds."""
    return sum(process.cpu_times()[:2])


def ours(it: System, settle_s: float) -> tuple[float, float, float, float]:
    """Return the seconds to the first caget, its CPU until then, and MB when all are online and later."""
    began = it.start_ioc()
    it.wait_ioc("State_RBV")
    caget(it.place, f"{PREFIX}State_RBV")
    took = time.monotonic() - began
    process = psutil.Process(it.pid)
    used = cpu_s(process)
    while caget(it.place, f"{PREFIX}Online_RBV") != caget(it.place, f"{PREFIX}Count_RBV"):
        time.sleep(0.02)
    first = process.memory_info().rss / 1e6
    time.sleep(settle_s)
    later = process.memory_info().rss / 1e6
    it.stop_ioc()
    return took, used, first, later


def soft_ioc(it: System, count: int) -> tuple[float, float]:
    """Return the seconds to the first caget and the resident MB of a softIoc with this many records."""
    from benchmarks.support.served import wait_for_search

    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "b.db"
        database.write_text("".join(f'record(longout, "B:{i}") {{}}\n' for i in range(count)))
        began = time.monotonic()
        process = subprocess.Popen(
            [program("softIoc"), "-S", "-d", str(database)],
            env=it.place.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for_search(it.place.port, f"B:{count - 1}")
            caget(it.place, f"B:{count - 1}")
            return time.monotonic() - began, psutil.Process(process.pid).memory_info().rss / 1e6
        finally:
            process.kill()
            process.wait()


def pv_count(it: System) -> int:
    """Return the number of PVs of the IOC."""
    program_ = str(Path(sys.executable).parent / "attpc-ioc")
    done = subprocess.run(
        [program_, "pvs", str(it.file), "--json"], capture_output=True, check=True, text=True
    )
    return len(json.loads(done.stdout))


def main() -> None:
    """Print the figures and the goal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--settle", type=float, default=1.0)
    args = parser.parse_args()
    with system() as it:
        count = pv_count(it)
        rounds = [(*ours(it, args.settle), *soft_ioc(it, count)) for _ in range(args.rounds)]
    took, used, first, later, peer_took, peer_mb = (
        statistics.median(column) for column in zip(*rounds, strict=True)
    )
    ratio = f"{took / peer_took:.1f} times"
    times = f"attpc-ioc {took:.2f} s ({used:.2f} s of CPU), softIoc {peer_took:.2f} s: {ratio}"
    memory = f"attpc-ioc {first:.0f} MB when all are seen, {later:.0f} MB later, softIoc {peer_mb:.0f} MB"
    print(f"{count} PVs, 11 modules, medians of {args.rounds} rounds")
    print(f"process start to first caget: {times}")
    print(f"resident: {memory}")
    print(f"goal: first caget in under {GOAL_S:g} s: {verdict(took, GOAL_S)}")


if __name__ == "__main__":
    main()
