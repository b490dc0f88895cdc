"""What a plugin gets of the core."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Command, Outcome, Who
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.states import Severity
from attpc_ioc.pvs.row import Value

from .host import Plugin, PluginHost
from .status import PluginStatus

log = get_logger(__name__)

FIRST_BACKOFF_S = 1.0
LAST_BACKOFF_S = 60.0


class Context:
    """Implements `attpc_ioc.plugin.spec.PluginContext` for one plugin."""

    def __init__(
        self,
        host: PluginHost,
        plugin: Plugin,
        *,
        state_dir: Path,
        snapshot: Callable[[], Fleet],
        publish: Callable[[str, str, Value, Severity | None], None],
        submit: Callable[[Command], Awaitable[Outcome]],
    ) -> None:
        self.name = plugin.name
        self.settings: BaseModel | None = plugin.settings
        self._host = host
        self._state_dir = state_dir
        self._snapshot = snapshot
        self._publish = publish
        self._submit = submit
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def state_dir(self) -> str:
        """A folder of the plugin's own; made when first asked for."""
        self._state_dir.mkdir(parents=True, exist_ok=True)
        return str(self._state_dir)

    def snapshot(self) -> Fleet:
        """Return what is known of the fleet now."""
        return self._snapshot()

    def publish(self, pv: str, value: Value, severity: Severity | None = None) -> None:
        """Set one of the plugin's own PVs, by the name after the prefix; `KeyError` for any other."""
        self._publish(self.name, pv, value, severity)

    async def submit(self, command: Command, who: Who | None = None) -> Outcome:
        """Give a command as a client would and wait for its end."""
        giver = who or Who(user=f"plugin:{self.name}", host="ioc")
        return await self._submit(dataclasses.replace(command, who=giver))

    def status(self, text: str = "", *, degraded: bool = False) -> None:
        """Say on the plugin's status PVs how it is."""
        self._host.set_status(self.name, PluginStatus.DEGRADED if degraded else PluginStatus.OK, text)

    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        *,
        restart: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Run a coroutine for the life of the IOC, under supervision."""
        task = asyncio.get_running_loop().create_task(
            self._supervise(work, restart), name=f"plugin {self.name}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _supervise(
        self, work: Coroutine[Any, Any, None], restart: Callable[[], Coroutine[Any, Any, None]] | None
    ) -> None:
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                await work
            except Exception as error:  # a plugin's crash never ends the IOC
                reason = f"{type(error).__name__}: {error}"
                log.exception("plugin's task crashed", plugin=self.name)
                if restart is None:
                    self._host.set_status(self.name, PluginStatus.FAILED, reason)
                    return
                self._host.set_status(
                    self.name, PluginStatus.DEGRADED, f"{reason}; restarted in {backoff_s:g} s"
                )
                await asyncio.sleep(backoff_s)
                backoff_s = min(LAST_BACKOFF_S, 2 * backoff_s)
                work = restart()
            else:
                return

    async def close(self) -> None:
        """Cancel the plugin's tasks and wait for them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
