"""A soak of one server: what those of both protocols have in common.

Every line is a tenth of the time: memory, descriptors and threads of the server's process must stay flat. A
soak ends with exit code 1 if they grew, a healthy client missed an update, or a task was left.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from attpc_ioc.log import set_up_logging
from benchmarks.support.compare import add_monitors
from benchmarks.support.monitors import Tally
from benchmarks.support.page import about, command, write_between_marks
from tests.support.ca import LOOPBACK, eventually

LINES = 10
LOOKS = 20
"""How often memory is looked at for a line: what a client that stalls has waiting comes and goes."""
SAMPLE = 500
"""One in this many updates is timed: otherwise the notes would use most of the memory."""
LEAST_GROWTH_MB = 8.0
"""Memory that the allocator may take in any case."""
MORE_FILES = 12
"""Descriptors that connecting and leaving clients may have open at the moment, at both ends."""
MORE_THREADS = 2


class Soak(ABC):
    """One server and its clients until `end`; a protocol's own one has the server and the bad clients."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.end = time.monotonic() + args.seconds
        self.tally = Tally(every=SAMPLE)
        self.process = psutil.Process()
        """The server's."""
        self.seen: list[tuple[float, int, int]] = []
        """The least memory in MB of each tenth, and descriptors and threads at its end."""
        self.lines: list[str] = []
        self.good = False

    @property
    @abstractmethod
    def port(self) -> int:
        """The TCP port of the server."""

    @property
    @abstractmethod
    def works(self) -> Sequence[Callable[[], Awaitable[None]]]:
        """What runs beside the healthy clients while there is time: bad clients, and changes."""

    @property
    @abstractmethod
    def missing(self) -> int:
        """The number of updates that the healthy clients missed."""

    @property
    @abstractmethod
    def changes(self) -> int:
        """How often some PV has changed."""

    @property
    @abstractmethod
    def counts(self) -> str:
        """What the server has counted, for a line."""

    @abstractmethod
    async def start(self) -> None:
        """Start the server."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop the server."""

    @abstractmethod
    def listener(self) -> asyncio.Protocol:
        """Return a healthy client."""

    @property
    def on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.end

    async def report(self) -> None:
        """Print ten lines."""
        process, began_s = self.process, time.monotonic()
        for line in range(LINES):
            memory_mb = []
            for look in range(1, LOOKS + 1):
                at_s = began_s + self.args.seconds * (line + look / LOOKS) / (LINES + 0.5)
                await asyncio.sleep(at_s - time.monotonic())
                memory_mb.append(process.memory_info().rss / 1e6)
            found = sorted(self.tally.late_s) or [math.nan]
            self.tally.late_s.clear()
            middle, worst = found[len(found) // 2] * 1e3, found[len(found) * 99 // 100] * 1e3
            least_mb, files, threads = min(memory_mb), process.num_fds(), process.num_threads()
            self.seen.append((least_mb, files, threads))
            self._say(
                f"resident {least_mb:5.1f} to {max(memory_mb):5.1f} MB  descriptors {files:3}  "
                f"threads {threads}  late p50 {middle:5.1f} p99 {worst:5.1f} ms  "
                f"events {self.tally.events}  {self.counts}"
            )

    def _say(self, line: str) -> None:
        self.lines.append(line)
        print(line, flush=True)

    def verdict(self, tasks: int) -> bool:
        """Print and return whether the server passed."""
        first, last = self.seen[LINES // 3], self.seen[-1]
        grown_mb, files, threads = (after - before for before, after in zip(first, last, strict=True))
        updates = self.tally.events + self.missing
        self._say(
            f"updates that healthy clients missed: {self.missing} of {updates}, of {self.changes} changes; "
            f"after the first third {grown_mb:+.1f} MB, {files:+} descriptors and {threads:+} threads; "
            f"tasks left: {tasks}"
        )
        flat = grown_mb < LEAST_GROWTH_MB and files <= MORE_FILES and threads <= MORE_THREADS
        return flat and self.missing == 0 and tasks == 0

    async def run(self) -> None:
        """Run everything; `good` is then whether the server passed."""
        await self.start()
        loop = asyncio.get_running_loop()
        listeners = []
        for _ in range(self.args.clients):
            listeners.append((await loop.create_connection(self.listener, LOOPBACK, self.port))[0])
        wanted = self.args.clients * self.args.pvs
        await eventually(lambda: self.tally.events >= wanted, "connection of all clients", 60)
        async with asyncio.TaskGroup() as group:
            for work in (self.report, *self.works):
                group.create_task(self._whole(work))
        with contextlib.suppress(TimeoutError):  # the missing ones are reported
            await eventually(lambda: self.missing == 0, "the last updates", 10)
        for transport in listeners:
            transport.abort()
        await self.stop()
        self.good = self.verdict(len(asyncio.all_tasks()) - 1)

    async def _whole(self, work: Callable[[], Awaitable[None]]) -> None:
        await work()


def soak(
    kind: type[Soak], description: str | None, module: str, mark: str, defaults: dict[str, Any], *more: str
) -> None:
    """Soak as the command line says, write it into a page if wanted, and exit.

    `mark` is that of the page, `more` are packages to name there; `defaults` are of the numbers of clients
    and PVs, and of the rate.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    add_monitors(parser, **defaults)
    parser.add_argument("--page", type=Path, help="write the lines into this page, between its marks")
    args = parser.parse_args()
    set_up_logging(level="ERROR")

    async def whole() -> Soak:
        it = kind(args)
        await it.run()
        return it

    it = asyncio.run(whole())
    if args.page:
        text = "\n".join(("```text", *it.lines, "```"))
        write_between_marks(args.page, mark, f"{about(command(module), *more)}\n\n{text}")
    raise SystemExit(0 if it.good else 1)
