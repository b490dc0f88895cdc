"""What the core gives a plugin, for tests that run a part of the history without an IOC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from attpc_ioc.model.command import Command, Outcome, Who
from attpc_ioc.model.fleet import Fleet


class FakeContext:
    """A `PluginContext` of an IOC without modules; `published` has what was published last."""

    name = "run_history"
    settings = None
    ca_addresses: tuple[str, ...] = ()

    def __init__(self, folder: Path, prefix: str = "T:") -> None:
        self.state_dir = str(folder)
        self.prefix = prefix
        self.fleet = Fleet()
        self.published: dict[str, Any] = {}
        self.floors: dict[str, int] = {}
        self.told: list[tuple[type, dict[str, Any]]] = []
        self.said: tuple[str, bool] = ("", False)
        self._tasks: set[asyncio.Task[None]] = set()

    def snapshot(self) -> Fleet:
        return self.fleet

    def number_floor(self, experiment: str) -> int:
        return self.floors.get(experiment, 0)

    def publish(self, pv: str, value: Any, severity: Any = None) -> None:
        self.published[pv] = value

    async def tell(self, kind: type, **fields: Any) -> bool:
        self.told.append((kind, fields))
        return True

    async def submit(self, command: Command, who: Who | None = None) -> Outcome:
        raise AssertionError("nothing is to be commanded")

    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        *,
        restart: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def status(self, text: str = "", *, degraded: bool = False) -> None:
        self.said = (text, degraded)


@dataclass(frozen=True)
class FixedPlace:
    """A database that somebody else runs."""

    dsn: str
    where: str = field(default="the test's server")
    alone: bool = False

    async def start(self) -> None:
        pass

    async def connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self.dsn)

    async def stop(self, fast_s: float = 5.0) -> None:
        pass
