"""The history's own records; they too go through the core's event log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunInfo
from attpc_ioc.plugin import PluginContext
from attpc_plugins.run_history.store.model.history import RunChanges
from attpc_plugins.run_history.store.model.records import (
    UNSTAMPED,
    EditRecord,
    ExperimentRecord,
    OwnRecord,
    Phase,
    RunRecord,
    RunRef,
)

from .facts import modules_of, run_of
from .translate import own_value

DURABLE_S = 0.05
"""Longest wait for a record to be on disk."""


class Recorder:
    """Appends records. Await the result if the record must be on disk."""

    def __init__(self, ctx: PluginContext, *, fleet: str) -> None:
        self._ctx = ctx
        self._fleet = fleet

    def own(self, record: OwnRecord) -> Awaitable[None]:
        """Append a record now; the result waits at most 50 ms until it is on disk."""
        return self._wait(self._ctx.record(record.KIND, own_value(record)))

    async def _wait(self, written: asyncio.Future[bool]) -> None:
        await asyncio.wait((written,), timeout=DURABLE_S)

    def end(self, info: RunInfo, phase: Phase) -> Awaitable[None]:
        """Record the end of a run that is open in the database."""
        modules = modules_of(info, ())
        run = run_of(info, phase.stage, modules, fleet=self._fleet)
        return self.own(RunRecord(UNSTAMPED, time.time(), phase, run, modules=modules))

    def edit(self, run: RunRef, changes: RunChanges, who: Who) -> Awaitable[None]:
        """Record a change of a run's entries."""
        return self.own(EditRecord(UNSTAMPED, time.time(), run, changes, who))

    def experiment(self, name: str) -> None:
        """Record that an experiment became the current one."""
        self.append(ExperimentRecord(UNSTAMPED, time.time(), name))

    def append(self, record: OwnRecord) -> None:
        """Append a record now; nobody waits for the disk."""
        self._ctx.record(record.KIND, own_value(record))
