"""What the core gives a plugin, for tests that run a part of the history without an IOC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
from pydantic import TypeAdapter

from attpc_ioc.eventlog import Kept
from attpc_ioc.model.command import Command, Outcome, Who
from attpc_ioc.model.events import PluginRecord
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.stamp import Stamp
from attpc_ioc.plugin.guard import end


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
        self.log_id = "a log"
        self.log: list[Any] = []
        self.rows: dict[tuple[str, str], str | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def position(self) -> int:
        return len(self.log)

    recorded = position

    def record(self, kind: str, value: dict[str, Any]) -> asyncio.Future[bool]:
        stamp = Stamp(self.prefix, "boot", len(self.log))
        event = PluginRecord(stamp=stamp, time_s=time.time(), plugin=self.name, kind=kind, value=value)
        self.log.append(event)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        done.set_result(True)
        return done

    def kept(self, topic: str, adapter: TypeAdapter[Any]) -> Kept[Any]:
        rows = [(key, value) for (t, key), value in self.rows.items() if t == topic and value is not None]
        return Kept(self, topic, adapter, rows, "")

    def keep(self, topic: str, key: str, value: str | None) -> None:
        self.rows[topic, key] = value

    def lose(self, topic: str, reason: str) -> None:
        pass

    async def flush(self, limit_s: float = 5.0) -> None:
        pass

    def snapshot(self) -> Fleet:
        return self.fleet

    def number_floor(self, experiment: str) -> int:
        return self.floors.get(experiment, 0)

    def publish(self, pv: str, value: Any, severity: Any = None) -> None:
        self.published[pv] = value

    async def tell(self, kind: type, **fields: Any) -> bool:
        self.told.append((kind, fields))
        return True

    def vetoes_changed(self) -> None:
        pass

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

    async def end_tasks(self, limit_s: float) -> None:
        await end(list(self._tasks), limit_s)

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
