"""What the core gives a plugin."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter

from attpc_ioc.asking import Answerer, plugin_key
from attpc_ioc.eventlog import EventLog, Kept
from attpc_ioc.eventlog.rows import Loggable
from attpc_ioc.files import make_private
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Command, Outcome, Who
from attpc_ioc.model.events import RunConfigs, RunFiles
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.states import Severity
from attpc_ioc.pvs.row import Reading, Value

from .contract import PvSurface, RunRecords
from .guard import end, reason_of, tame
from .status import PluginStatus, PluginStatuses

log = get_logger(__name__)

T = TypeVar("T")

PLUGINS_FOLDER = "plugins"
"""Folder in the state directory for the plugins' own folders."""

FIRST_BACKOFF_S = 1.0
LAST_BACKOFF_S = 60.0

OWN_WORD = "the plugin itself"
"""The cause of faults that a plugin reports itself."""

_names = itertools.count(1)


class Context:
    """Implements `attpc_ioc.plugin.contract.PluginContext` for one plugin."""

    def __init__(
        self,
        statuses: PluginStatuses,
        name: str,
        settings: BaseModel | None,
        *,
        prefix: str,
        state_dir: Path,
        snapshot: Callable[[], Fleet],
        publish: Callable[[str, str, Value | Reading, Severity | None], None],
        pvs: PvSurface,
        run_records: RunRecords | None,
        vetoes_changed: Callable[[], None],
        submit: Callable[[Command], Awaitable[Outcome]],
        number_floor: Callable[[str], int],
        tell: Callable[..., Awaitable[bool]],
        record: Callable[[str, dict[str, Any]], asyncio.Future[bool]],
        ca_addresses: Callable[[], tuple[str, ...]],
        event_log: EventLog,
        answers: dict[str, Answerer],
    ) -> None:
        self.name = name
        self.prefix = prefix
        self.settings = settings
        self.pvs = pvs
        self.run_records = run_records
        self._statuses = statuses
        self._state_dir = state_dir
        self._snapshot = snapshot
        self._publish = publish
        self._vetoes_changed = vetoes_changed
        self._submit = submit
        self._number_floor = number_floor
        self._tell = tell
        self._record = record
        self._ca_addresses = ca_addresses
        self._log = event_log
        self._answers = answers
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def state_dir(self) -> str:
        """The plugin's own folder, made when first used."""
        make_private(self._state_dir)
        return str(self._state_dir)

    def snapshot(self) -> Fleet:
        """Return the latest snapshot of the fleet."""
        return self._snapshot()

    def number_floor(self, experiment: str) -> int:
        """Return the lowest number that the next run of this experiment may get, by the core's record."""
        return self._number_floor(experiment)

    @property
    def ca_addresses(self) -> tuple[str, ...]:
        """Addresses at which the IOC's own PVs are found on this machine."""
        return self._ca_addresses()

    def publish(self, pv: str, value: Value | Reading, severity: Severity | None = None) -> None:
        """Set one of the plugin's own PVs, named without the prefix; `KeyError` for any other."""
        self._publish(self.name, pv, value, severity)

    def vetoes_changed(self) -> None:
        """Have `attpc_veto` asked again soon."""
        self._vetoes_changed()

    async def submit(self, command: Command, who: Who | None = None) -> Outcome:
        """Submit a command as a client would and wait for its end."""
        giver = who or Who(user=f"plugin:{self.name}", host="ioc")
        return await self._submit(dataclasses.replace(command, who=giver))

    async def tell(self, kind: type[RunFiles] | type[RunConfigs], **fields: Any) -> bool:
        """Make an event of this kind with the core's time stamp, record it and deliver it to all plugins."""
        return await self._tell(kind, **fields)

    def record(self, kind: str, value: dict[str, Any]) -> asyncio.Future[bool]:
        """Record the plugin's own data in the event log."""
        return self._record(kind, value)

    @property
    def log_id(self) -> str:
        """The identity of the event log."""
        return self._log.identity

    @property
    def position(self) -> int:
        """The position of the newest event."""
        return self._log.position

    @property
    def recorded(self) -> int:
        """The position of the newest event that is on disk."""
        return self._log.recorded

    async def events(self, after: int, most: int = 1000) -> list[tuple[int, Loggable | ValueError]]:
        """Return the next events of the log after a position; waits until there are some."""
        return await self._log.events(after, most)

    def seen(self, position: int) -> None:
        """Report that events up to this position are no longer needed."""
        self._log.set_cursor(self.name, position)

    def kept(self, topic: str, adapter: TypeAdapter[T]) -> Kept[T]:
        """Return what the plugin keeps across restarts under this topic."""
        return self._log.kept(f"{self.name}/{topic}", adapter)

    async def flush(self, limit_s: float = 5.0) -> None:
        """Wait until everything kept and emitted so far is on disk."""
        await self._log.flush(limit_s)

    def answer(self, answerer: Answerer) -> None:
        """Answer questions that the plugin's shell commands ask with `attpc_ioc.shell.ask_plugin`."""
        self._answers[plugin_key(self.name)] = answerer

    def status(self, text: str = "", *, degraded: bool = False) -> None:
        """Show the plugin's condition on its status PVs."""
        if degraded:
            self._statuses.fault(self.name, OWN_WORD, text or "the plugin gives no reason")
        else:
            self._statuses.note(self.name, text)
            self._statuses.clear(self.name, OWN_WORD)

    def spawn(
        self,
        work: Coroutine[Any, Any, None],
        *,
        restart: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """Run a coroutine until the IOC ends, under supervision."""
        cause = f"task {next(_names)}"
        task = asyncio.get_running_loop().create_task(
            self._supervise(cause, work, restart), name=f"plugin {self.name}"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _task: work.close())

    async def _supervise(
        self,
        cause: str,
        work: Coroutine[Any, Any, None],
        restart: Callable[[], Coroutine[Any, Any, None]] | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        backoff_s = FIRST_BACKOFF_S
        healthy: asyncio.TimerHandle | None = None
        for attempt in itertools.count():
            began = time.monotonic()
            try:
                await tame(work if restart is None or attempt == 0 else restart())
            except Exception as error:  # a plugin's crash never ends the IOC
                reason = f"a task crashed: {reason_of(error)}"
                log.exception("plugin's task crashed", plugin=self.name)
            else:
                self._statuses.clear(self.name, cause)
                return
            finally:
                if healthy is not None:
                    healthy.cancel()
            if restart is None:
                self._statuses.fault(self.name, cause, reason, PluginStatus.FAILED)
                return
            if time.monotonic() - began > LAST_BACKOFF_S:
                backoff_s = FIRST_BACKOFF_S
            self._statuses.fault(self.name, cause, f"{reason}; restarted after {backoff_s:g} s")
            await asyncio.sleep(backoff_s)
            # The fault is cleared when the task has run for as long as the wait before it.
            healthy = loop.call_later(backoff_s, self._statuses.clear, self.name, cause)
            backoff_s = min(LAST_BACKOFF_S, 2 * backoff_s)

    async def end_tasks(self, limit_s: float) -> None:
        """Cancel the plugin's tasks and wait for them, for at most `limit_s` seconds."""
        if left := await end(list(self._tasks), limit_s):
            log.warning("plugin's tasks did not end", plugin=self.name, count=left)
