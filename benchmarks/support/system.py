"""A simulated fleet and an IOC for it, each in a process of its own, on ports of their own."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from attpc_ioc.simulator.durations import Durations
from attpc_ioc.simulator.fleet import SimulatedFleet
from attpc_ioc.simulator.xcfg import XcfgFolder
from benchmarks.support.served import wait_for_search
from tests.support.ca import CaPlace, ca_place

PREFIX = "BENCH:"
EXPERIMENT = "e20009"
COBOS = 10

DURATIONS = Durations(
    describe_s=0.05,
    prepare_s=0.2,
    configure_s=0.1,
    start_s=0.1,
    stop_s=0.1,
    pause_s=0.1,
    resume_s=0.1,
    breakup_s=0.1,
    undo_s=0.05,
    jitter=0.2,
)
"""Every module takes another time each time, so that arrivals are spread over the period of polling."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A transition that a server has ended: when it began and ended in monotonic time, and where it led."""

    server: str
    operation: str
    begin_s: float
    end_s: float
    state: int


class OwnFiles(XcfgFolder):
    """The fleet's files as one server's host has them: its own describe file alone."""

    def names(self, part: str) -> list[str]:
        """Return the names of the files of `part`."""
        return [self.describe] if part == "describe" else super().names(part)

    describe = ""


async def _fleet(pipe: Connection, cobos: int, folder: str, port: int) -> None:
    async with SimulatedFleet(cobos, durations=DURATIONS) as fleet:
        if cobos > COBOS:
            # With everybody's files on every host a fleet would send the square of its size at each start.
            for server in fleet:
                server.xcfg = OwnFiles(fleet.xcfg.path)
                object.__setattr__(server.xcfg, "describe", fleet.config(server.name).partition("/")[0])
        state_dir = Path(folder) / "state"
        ioc = f'server_port = {port}\ninterfaces = ["127.0.0.1"]'
        pipe.send(fleet.settings_toml(PREFIX, state_dir, ioc=ioc))
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, pipe.recv):
            calls = fleet.log.transitions()
            fleet.log.clear()
            pipe.send(
                [
                    Ended(c.server, c.operation, c.begin_s, c.end_s, int(c.state_after))
                    for c in calls
                    if c.end_s is not None and c.state_after is not None
                ]
            )


def _run_fleet(pipe: Connection, cobos: int, folder: str, port: int) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_fleet(pipe, cobos, folder, port))


class System:
    """A fleet that runs, and the settings of an IOC for it; `start_ioc` runs that."""

    def __init__(self, place: CaPlace, pipe: Connection, folder: Path) -> None:
        self.place = place
        self.file = folder / "ioc.toml"
        self.file.write_text(pipe.recv(), encoding="utf-8")
        self._pipe = pipe
        self._ioc: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process of the IOC."""
        assert self._ioc is not None
        return self._ioc.pid

    def ended(self) -> list[Ended]:
        """Return the transitions since this was last asked, and forget them."""
        self._pipe.send(True)
        return self._pipe.recv()

    def start_ioc(self) -> float:
        """Start the IOC; returns the monotonic time just before."""
        began = time.monotonic()
        self._ioc = subprocess.Popen(
            [str(Path(sys.executable).parent / "attpc-ioc"), "run", str(self.file), "--log-level", "ERROR"],
            env=self.place.env,
            stdin=subprocess.DEVNULL,
        )
        return began

    def wait_ioc(self, pv: str = "IOC:HEARTBEAT") -> None:
        """Wait until the IOC answers a search."""
        wait_for_search(self.place.port, PREFIX + pv)

    def stop_ioc(self) -> None:
        """End the IOC and wait for it."""
        if self._ioc is not None:
            self._ioc.terminate()
            self._ioc.wait(10)
            self._ioc = None


@contextlib.contextmanager
def system(
    cobos: int = COBOS, fleet: Callable[[Connection, int, str, int], None] = _run_fleet
) -> Iterator[System]:
    """Run a fleet; the variables of Channel Access in this process lead to its IOC alone."""
    context: Any = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(ca_place()) as place:
        os.environ.update(place.env)
        here, there = context.Pipe()
        process = context.Process(target=fleet, args=(there, cobos, folder, place.port))
        process.start()
        it = System(place, here, Path(folder))
        try:
            yield it
        finally:
            it.stop_ioc()
            process.terminate()
            process.join()


def verdict(value: float, goal: float) -> str:
    """Say whether a goal was met."""
    return "met" if value < goal else "MISSED"
