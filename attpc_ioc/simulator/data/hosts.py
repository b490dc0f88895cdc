"""All data hosts of a fleet, and the task that makes their routers write."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from attpc_ioc.log import get_logger
from attpc_ioc.simulator.boards import Board
from attpc_ioc.simulator.routers import DataRouter

from .gate import Gate
from .host import DataHost
from .options import Access, DataOptions
from .sentry import Sentry
from .trigger import Trigger

if TYPE_CHECKING:
    from .ssh import SshKeys, SshServer

log = get_logger(__name__)

_LONGEST_TICK_S = 2.0
"""Longest time whose data is written at once, after a stall of the machine."""


class DataHosts:
    """The data hosts by sender id, such as `CoBo[0]`; `folder` has a folder for each."""

    def __init__(
        self, boards: Mapping[str, Board], routers: Mapping[str, DataRouter], options: DataOptions, seed: int
    ) -> None:
        self.options = options
        self._trigger = Trigger(boards.values(), options.trigger_hz)
        self._boards, self._routers, self._seed = boards, routers, seed
        self._exit = contextlib.AsyncExitStack()
        self._hosts: dict[str, DataHost] = {}
        self.ssh_servers: dict[str, SshServer] = {}
        """By host name."""
        self.ssh_keys: SshKeys | None = None
        """The files for an SSH client, if a host is reached by SSH."""
        self.folder = Path()

    def __getitem__(self, sender: str) -> DataHost:
        return self._hosts[sender]

    def __iter__(self) -> Iterator[DataHost]:
        return iter(self._hosts.values())

    def __len__(self) -> int:
        return len(self._hosts)

    async def start(self) -> None:
        """Make the folders and servers, and start writing; raises `OSError`."""
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
            if host.access is Access.SENTRY:
                await self._give_sentry(host)
            elif host.access is Access.SSH:
                await self._give_ssh(host)
        if self.ssh_keys is not None:
            ways = [(h.gate.host, h.gate.port) for h in self if h.gate is not None and h.access is Access.SSH]
            await asyncio.to_thread(self.ssh_keys.let_know, ways)
        ticker = asyncio.get_running_loop().create_task(self._tick(), name="simulated data")
        self._exit.push_async_callback(_end, ticker)

    async def _give_sentry(self, host: DataHost) -> None:
        sentry = Sentry(host, self.options.catalog_wait_s)
        inner = await sentry.start()
        self._exit.push_async_callback(sentry.stop)
        await self._give_gate(host, inner)

    async def _give_ssh(self, host: DataHost) -> None:
        from .ssh import SshKeys, SshServer  # here, because it takes a third of a second

        if self.ssh_keys is None:
            self.ssh_keys = SshKeys(self.folder / "ssh")
            await asyncio.to_thread(self.ssh_keys.make)
        server = SshServer(host, self.ssh_keys, self.ssh_keys.folder / "bin" / host.name)
        inner = await server.start()
        self._exit.push_async_callback(server.stop)
        self.ssh_servers[host.name] = server
        await self._give_gate(host, inner)

    async def _give_gate(self, host: DataHost, inner: tuple[str, int]) -> None:
        gate = host.gate = Gate(host.router.host)
        await gate.lead_to(*inner)
        self._exit.push_async_callback(gate.close)

    def _place(self) -> Path:
        if self.options.folder is not None:
            return self.options.folder.absolute()
        return Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="attpc-data-"))).resolve()

    async def stop(self) -> None:
        """Stop everything: close the files and servers."""
        await self._exit.aclose()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        last_s = loop.time()
        while True:
            await asyncio.sleep(self.options.tick_s)
            now_s = loop.time()
            passed_s, last_s = min(now_s - last_s, _LONGEST_TICK_S), now_s
            if self.options.real_bytes:
                await self._write_aside(passed_s)
            else:
                self._write(passed_s)
            for server in self.ssh_servers.values():
                server.publish()

    def _write(self, passed_s: float) -> None:
        burst = self._trigger.advance(passed_s)
        for host in self._hosts.values():
            host.tick(passed_s, burst)

    async def _write_aside(self, passed_s: float) -> None:
        """Write in a thread, because a disk can take seconds; `stop` waits for it too."""
        work = asyncio.ensure_future(asyncio.to_thread(self._write, passed_s))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await work
            raise


def source_name(sender: str) -> str:
    """Return a source's default part of PV names: `CoBo0`, `MuTAnT`."""
    kind, _, instance = sender.partition("[")
    return "MuTAnT" if kind == "Mutant" else f"{kind}{instance.rstrip(']')}"


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
