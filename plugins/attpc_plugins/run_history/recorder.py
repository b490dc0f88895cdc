"""What the core tells of, as records of the journal."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

from attpc_ioc.model.command import Put, Who
from attpc_ioc.model.events import (
    OperationEnded,
    Origin,
    RunConfigs,
    RunDegraded,
    RunEvent,
    RunFailed,
    RunFiles,
    RunStarted,
    RunStarting,
    RunStopped,
    RunStopping,
    StateChanged,
)
from attpc_ioc.model.run import RunInfo
from attpc_ioc.model.stamp import Stamp
from attpc_ioc.plugin import PluginContext

from .facts import facts_of
from .high_water import HighWater
from .journal import Journal, Kept
from .log_feed import Entry
from .store.model import RunChanges
from .store.records import (
    ConfigOf,
    ConfigsRecord,
    EditRecord,
    ExperimentRecord,
    FilesRecord,
    LogRecord,
    OperationRecord,
    Phase,
    PutRecord,
    Record,
    RunFacts,
    RunRecord,
    RunRef,
    StateRecord,
)

DURABLE_S = 0.05
"""How long what promises to be on disk may be waited for."""

PHASES: dict[type[RunEvent], Phase] = {
    RunStarting: Phase.STARTING,
    RunStarted: Phase.STARTED,
    RunDegraded: Phase.DEGRADED,
    RunStopping: Phase.STOPPING,
    RunStopped: Phase.STOPPED,
    RunFailed: Phase.FAILED,
}


class Recorder:
    """Makes records and appends them. What it returns is to be awaited by those whom the disk was promised.

    The core's events keep the core's stamps; what the history itself records has those of `boot`.
    """

    def __init__(
        self, ctx: PluginContext, journal: Journal, high_water: HighWater, *, fleet: str, boot: str
    ) -> None:
        self._ctx = ctx
        self._journal = journal
        self._high_water = high_water
        self._fleet = fleet
        self._boot = boot
        self._numbers = itertools.count(1)

    def own(self, make: Callable[[Stamp], Record]) -> Awaitable[None]:
        """Append a record that a part of the history makes with the stamp that it gets."""
        return self._on_disk(make(self._stamp()))

    def _stamp(self) -> Stamp:
        return Stamp(self._ctx.prefix, self._boot, next(self._numbers))

    def _on_disk(self, record: Record) -> Awaitable[None]:
        """Append a record now; the result waits for at most 50 ms until it is kept."""
        return self._wait(self._journal.append(record))

    async def _wait(self, kept: Kept) -> None:
        """Wait for the disk; while that is stuck, for the system to have it, which outlives this program."""
        done = kept.written if self._journal.stalled else kept.synced
        await asyncio.wait((done,), timeout=DURABLE_S)

    # ------------------------------------------------------------------ the core's events

    def run_event(self, event: RunEvent) -> Awaitable[None]:
        """Record an event in the life of a run."""
        return self._on_disk(
            RunRecord(
                event.stamp,
                event.time_s,
                PHASES[type(event)],
                self._facts(event.run),
                lost=event.lost if isinstance(event, RunDegraded) else (),
                text=_stopping_text(event) if isinstance(event, RunStopping) else "",
                number_released=isinstance(event, RunFailed) and event.number_released,
            )
        )

    def put(self, put: Put) -> Awaitable[None] | None:
        """Record a put."""
        if put.stamp is None:
            return None
        return self._on_disk(
            PutRecord(put.stamp, put.time_s, put.pv, put.who, put.old, put.new, put.ok, put.reason)
        )

    def state_changed(self, change: StateChanged) -> None:
        """Record a change of state."""
        self._journal.append_soon(
            StateRecord(
                change.stamp,
                change.time_s,
                change.module,
                change.old.label,
                change.new.label,
                change.transition.label,
                change.origin is Origin.EXTERNAL,
                change.reason,
                self._run_now(change.module),
            )
        )

    def operation_ended(self, event: OperationEnded) -> None:
        """Record the end of a SOAP transition."""
        self._journal.append_soon(
            OperationRecord(
                event.stamp,
                event.time_s,
                event.module,
                str(event.operation),
                event.ok,
                event.reason,
                event.code,
                event.duration_s,
                event.who,
                self._run_now(event.module),
            )
        )

    def files(self, event: RunFiles) -> Awaitable[None]:
        """Record what became of a data router's files of a run."""
        return self._on_disk(
            FilesRecord(
                event.stamp,
                event.time_s,
                RunRef(event.experiment, event.number),
                event.router,
                event.state,
                event.sources,
                event.files,
                event.data_bytes,
                event.location,
                event.message,
                event.manifest,
            )
        )

    def configs(self, event: RunConfigs) -> Awaitable[None]:
        """Record the configuration files that a run used, each text once."""
        texts: dict[str, int] = {}
        used = tuple(
            ConfigOf(
                c.module,
                c.part,
                c.name,
                c.source,
                None if c.fault else texts.setdefault(c.text, len(texts)),
                c.fault,
            )
            for c in event.configs
        )
        run = RunRef(event.experiment, event.number)
        return self._on_disk(ConfigsRecord(event.stamp, event.time_s, run, used, tuple(texts)))

    # ------------------------------------------------------------------ the history's own records

    def end(self, info: RunInfo, phase: Phase) -> Awaitable[None]:
        """Record how a run ended that the database has as open."""
        return self._on_disk(RunRecord(self._stamp(), time.time(), phase, self._facts(info)))

    def edit(self, run: RunRef, changes: RunChanges, who: Who) -> Awaitable[None]:
        """Record that somebody changed what is said of a run."""
        return self._on_disk(EditRecord(self._stamp(), time.time(), run, changes, who))

    def experiment(self, name: str) -> None:
        """Record that an experiment became the current one."""
        self._journal.append_soon(ExperimentRecord(self._stamp(), time.time(), name))

    def log(self, entry: Entry) -> None:
        """Record a warning or an error."""
        self._journal.append_soon(
            LogRecord(self._stamp(), entry.time_s, entry.level, entry.text, entry.source, _ref(entry.run))
        )

    def _facts(self, info: RunInfo) -> RunFacts:
        attempt = self._high_water.attempt_of(info.experiment, info.number, info.began_s)
        return facts_of(info, self._ctx.snapshot(), fleet_name=self._fleet, attempt=attempt)

    def _run_now(self, module: str) -> RunRef | None:
        run = run_on(self._ctx)
        return _ref(run) if run is not None and module in run.members else None


def run_on(ctx: PluginContext) -> RunInfo | None:
    """Return the run that is on now."""
    run = ctx.snapshot().run
    return run.info if run.on else None


def _ref(run: RunInfo | None) -> RunRef | None:
    return RunRef(run.experiment, run.number) if run is not None else None


def _stopping_text(event: RunStopping) -> str:
    return f"by {event.who}: {event.reason}" if event.reason else f"by {event.who}"
