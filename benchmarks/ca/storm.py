"""The restart storm: an IOC restarts, and every screen reconnects every PV at once.

    python -m benchmarks.ca.storm [--storm-clients 50] [--storm-pvs 500]

The clients are `camonitor` of EPICS base with `caRepeater`. The time is from the start of the server's
process until every client has a value of every PV again. Before that the server was down for `AWAY_S`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import subprocess
import time
from collections.abc import Iterator

from benchmarks.ca.fanout import SERVERS
from benchmarks.support.served import served
from tests.support.ca import ca_place, program

AWAY_S = 2.0
LIMIT_S = 60.0


class Screens:
    """Many `camonitor` processes that write into one pipe; counts values and lost connections."""

    def __init__(self, env: dict[str, str], clients: int, names: list[str]) -> None:
        self._out, into = os.pipe()
        os.set_blocking(self._out, False)
        self.values = 0
        self.losses = 0
        self._rest = b""
        self._processes = [
            subprocess.Popen(
                [program("camonitor"), *names],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=into,
                stderr=subprocess.DEVNULL,
            )
            for _ in range(clients)
        ]
        os.close(into)

    def read(self) -> None:
        """Count what has arrived."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._out, 1 << 20):
                whole, _, self._rest = (self._rest + data).rpartition(b"\n")
                lost = whole.count(b"***")
                self.losses += lost
                self.values += whole.count(b"\n") + bool(whole) - lost

    async def until(self, values: int, losses: int, limit_s: float) -> None:
        """Wait for this many values and losses; raises TimeoutError with the actual counts."""
        end = time.monotonic() + limit_s
        while self.values < values or self.losses < losses:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.values} of {values} values, {self.losses} of {losses} losses")
            await asyncio.sleep(0.005)
            self.read()

    def close(self) -> None:
        """End them all."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        os.close(self._out)


@contextlib.contextmanager
def repeater(env: dict[str, str]) -> Iterator[None]:
    """Run `caRepeater`, which forwards the servers' beacons to every client."""
    process = subprocess.Popen(
        [program("caRepeater")], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def measure(kind: str, args: argparse.Namespace) -> float:
    """Return the time in seconds; infinity if some clients were not back after `LIMIT_S`."""
    names = [f"B:{i}" for i in range(args.storm_pvs)]
    wanted = args.storm_clients * len(names)
    place = ca_place()
    env = place.env
    place.close()  # a real repeater takes the place of the socket
    with repeater(env):
        with served(kind, place, len(names), env=env):
            screens = Screens(env, args.storm_clients, names)
            try:
                await screens.until(wanted, 0, 60)
            except BaseException:
                screens.close()
                raise
        try:
            await screens.until(wanted, wanted, 60)
            screens.values = 0
            await asyncio.sleep(AWAY_S)
            began = time.perf_counter()
            with served(kind, place, len(names), env=env):
                try:
                    await screens.until(wanted, wanted, LIMIT_S)
                except TimeoutError:
                    return math.inf
                return time.perf_counter() - began
        finally:
            screens.close()


def main() -> None:
    """Print a line for each server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storm-clients", type=int, default=50)
    parser.add_argument("--storm-pvs", type=int, default=500)
    args = parser.parse_args()
    for kind in SERVERS:
        print(f"{kind:10} {asyncio.run(measure(kind, args)):8.2f} s", flush=True)


if __name__ == "__main__":
    main()
