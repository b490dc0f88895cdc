"""All data hosts of a fleet, and the one task that lets their routers write."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from attpc_ioc.log import get_logger
from attpc_ioc.simulator.boards import Board
from attpc_ioc.simulator.routers import DataRouter

from .host import DataHost
from .options import DataOptions

log = get_logger(__name__)

_LONGEST_TICK_S = 2.0
"""After a stall of the machine no more than this is written at once."""


class DataHosts:
    """The data hosts by sender id, such as `CoBo[0]`; `folder` has a folder for each."""

    def __init__(
        self, boards: Mapping[str, Board], routers: Mapping[str, DataRouter], options: DataOptions, seed: int
    ) -> None:
        self.options = options
        self._boards, self._routers, self._seed = boards, routers, seed
        self._exit = contextlib.AsyncExitStack()
        self._hosts: dict[str, DataHost] = {}
        self.folder = Path()

    def __getitem__(self, sender: str) -> DataHost:
        return self._hosts[sender]

    def __iter__(self) -> Iterator[DataHost]:
        return iter(self._hosts.values())

    def __len__(self) -> int:
        return len(self._hosts)

    async def start(self) -> None:
        """Make folders and ways in, and let the routers write; raises `OSError`."""
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise

    async def _start(self) -> None:
        self.folder = self._place()
        for number, (sender, board) in enumerate(self._boards.items()):
            source = source_name(sender)
            name = source.lower()
            host = DataHost(
                name,
                source,
                board,
                self._routers[sender],
                self.options.access_of(number),
                self.folder / name,
                self.options,
                random.Random(f"{self._seed} data {name}"),
            )
            await asyncio.to_thread(host.prepare)
            self._exit.callback(host.close)
            self._hosts[sender] = host
        ticker = asyncio.get_running_loop().create_task(self._tick(), name="simulated data")
        self._exit.push_async_callback(_end, ticker)

    def _place(self) -> Path:
        if self.options.folder is not None:
            return self.options.folder.absolute()
        return Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="attpc-data-"))).resolve()

    async def stop(self) -> None:
        """End all: files are closed, ways in shut."""
        await self._exit.aclose()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        last_s = loop.time()
        while True:
            await asyncio.sleep(self.options.tick_s)
            now_s = loop.time()
            passed_s, last_s = min(now_s - last_s, _LONGEST_TICK_S), now_s
            for host in self._hosts.values():
                host.tick(passed_s)


def source_name(sender: str) -> str:
    """Return the part of the PV names that a source has by default: `CoBo0`, `MuTAnT`."""
    kind, _, instance = sender.partition("[")
    return "MuTAnT" if kind == "Mutant" else f"{kind}{instance.rstrip(']')}"


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
