"""The running plugin: implements the hooks of `plugin.py`.

It contains no SQL. The writer copies events from the core's event log to the database; run numbers are
reserved in the database directly.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attpc_ioc.errors import RecordAway, StateDirError
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import NUMBERED, CommandName, Reason, ScopeKind, Who
from attpc_ioc.model.events import RunEvent, RunStarted, RunStopped
from attpc_ioc.model.run import RunInfo
from attpc_ioc.plugin import PluginContext
from attpc_ioc.plugin.faults import Faults
from attpc_ioc.pvs.row import Value
from attpc_plugins.run_history.connection.database import Database, locate
from attpc_plugins.run_history.connection.hard_limit import hard_limit
from attpc_plugins.run_history.numbers.owner import NumberOwner
from attpc_plugins.run_history.numbers.reserved import ReservedNumbers
from attpc_plugins.run_history.old_files import OLD_FILES, put_away
from attpc_plugins.run_history.pvs.edit_limit import EditLimit
from attpc_plugins.run_history.pvs.shown import Shown
from attpc_plugins.run_history.recording.old_journal import OldJournal
from attpc_plugins.run_history.recording.recorder import Recorder
from attpc_plugins.run_history.recording.recovery import Recovery
from attpc_plugins.run_history.recording.translate import Translator
from attpc_plugins.run_history.recording.writer import Writer
from attpc_plugins.run_history.sheets.settings import ObservableSettings
from attpc_plugins.run_history.sheets.sheet import RunSheet
from attpc_plugins.run_history.store.model.leases import Holder
from attpc_plugins.run_history.store.model.records import EditRecord, ExperimentRecord, Record, RunRecord

from .errors import DatabaseError
from .lease import LeaseHolder
from .settings import RunHistorySettings, fleet_key
from .store import Store
from .supervisor import AWAY, Supervisor

log = get_logger(__name__)

REFRESH_S = 10.0
"""Period of reading the last runs again without a reported change: shell commands edit runs too."""

FORGET_S = 3600.0
STAMP_DAYS = 180
"""How long stamps of a version 0.1 journal's records are kept: such a journal may arrive late."""

LOOK_S = 0.5
FIRST_LOOK_S = 0.01

FLUSH_S = 0.1
"""Time limit of each step of the shutdown, which takes at most half a second in total."""

MANY = 500
"""More pending events than this mean that the database is far behind."""


class Service:
    """The plugin in a running IOC; all methods run in its event loop."""

    def __init__(
        self,
        ctx: PluginContext,
        settings: RunHistorySettings,
        declared: tuple[ObservableSettings, ...] | None = None,
    ) -> None:
        self._ctx = ctx
        self._settings = settings
        self._folder = Path(ctx.state_dir)
        boot = uuid.uuid4().hex
        fleet = fleet_key(settings, (m.url for m in ctx.snapshot().modules.values()))
        host = socket.gethostname()
        # Only one process at a time has a log, by the lock on the state directory; the host distinguishes
        # copies.
        holder = Holder(ctx.prefix, host, boot, f"{ctx.log_id}@{host}")
        self._reserved = ReservedNumbers(ctx)
        faults = self._faults = Faults("run history", log, lambda text, bad: ctx.status(text, degraded=bad))
        self.lease = LeaseHolder(fleet, holder, settings.lease_s, self._show_lease)
        translator = Translator(
            ctx.name, fleet, self._reserved.attempt_of, lambda: self.lease.other is not None
        )
        self.writer = Writer(ctx, translator, faults, OldJournal(self._folder), self._on_applied)
        self.recorder = Recorder(ctx, fleet=fleet)
        self._edit_limit = EditLimit()
        self.sheet = RunSheet(ctx, settings, self.recorder.own, declared)
        self.supervisor = Supervisor(
            self._locate,
            faults,
            (self.lease.keep, self.writer.drain, self._show, self._reconcile, self.sheet.keep, self._forget),
            query_limit_s=settings.query_limit_s,
        )
        self.numbers = NumberOwner(
            ctx, settings, self.supervisor, faults, self._reserved, fleet=fleet, boot=boot
        )
        self._recovery = Recovery(ctx, self.supervisor, self.lease, self.writer, self.recorder, self.numbers)
        self.shown = Shown(
            ctx,
            drained=lambda: self.writer.drained,
            edit=self.recorder.edit,
            on_entry=self.recorder.append,
        )
        self._show_now = asyncio.Event()
        self._experiment = ""
        self._recorded = ""

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Start; the database comes up in the background."""
        self.shown.start()
        # The status reports the pool's faults in plain words; asyncpg's warnings have tracebacks.
        logging.getLogger("asyncpg").setLevel(logging.ERROR)
        self.sheet.start()
        await self._take_over()
        # The log keeps every event until the database has it.
        self._ctx.seen(0)
        self._ctx.spawn(self.supervisor.run(), restart=self.supervisor.run)
        self._ctx.spawn(self._poll(), restart=self._poll)

    async def _take_over(self) -> None:
        """Import the files of version 0.1; they are moved away once the state database has them."""
        try:
            self._reserved.take_over(self._folder)
            await self._ctx.flush()
            put_away(self._folder, OLD_FILES)
        except (OSError, StateDirError) as error:
            self._faults.set("taking over", f"files of version 0.1 cannot be taken over: {error}")

    async def close(self) -> None:
        """Stop within half a second: write what can be written, and release the lease."""
        self.shown.close()
        try:
            if self.supervisor.store is not None:
                await hard_limit(FLUSH_S, self._leave(self.supervisor.store))
        except (DatabaseError, TimeoutError) as error:
            log.info("not every event is in the database, or the lease is not released", reason=error)
        self.writer.seen()
        await self.supervisor.close(FLUSH_S)

    async def _leave(self, store: Store) -> None:
        # In parallel: late events stay in the log, and the lease does not wait for them.
        await asyncio.gather(self.lease.release(store), self.writer.until_drained())

    def _locate(self) -> Database:
        database = locate(self._settings.database_keys, self._folder)
        self._recorded = f"runs are recorded; {database.note}" if database.note else "runs are recorded"
        return database

    async def _poll(self) -> None:
        """Poll what no event reports."""
        while True:
            self.lease.check()
            self._show_waiting()
            self._follow_experiment()
            # The core sets the experiment right after starting the plugins.
            await asyncio.sleep(LOOK_S if self._experiment else FIRST_LOOK_S)

    def _show_waiting(self) -> None:
        waiting = self.writer.waiting
        shown = waiting >= MANY or (waiting and AWAY in self._faults)
        self._faults.add(f"{waiting} events are not in the database yet" if shown else "")

    def _follow_experiment(self) -> None:
        """Record a change of the current experiment, and read its next number."""
        experiment = self._ctx.snapshot().run.experiment
        if experiment != self._experiment:
            self._experiment = experiment
            self._show_now.set()
            if experiment:
                self.recorder.experiment(experiment)

    # ------------------------------------------------------------------ faults

    def _show_lease(self) -> None:
        text = self._against_commands()
        if text and self._ctx.snapshot().run.on:
            text += "; the run that is on here is still recorded"
        self._faults.set("lease", text, blocks_start=True)

    def _against_commands(self) -> str:
        """Return why this IOC may not command modules, or an empty text. An embedded server is not shared."""
        if self.lease.other is None and self.supervisor.alone:
            return ""
        return self.lease.refusal

    def veto(self, scope_kind: ScopeKind, command_name: CommandName) -> list[Reason]:
        """Return why a command may not run now."""
        if not (scope_kind is ScopeKind.RUN and command_name in NUMBERED):
            # Only the IOC that holds the lease may move modules.
            against = self._against_commands()
            return [Reason(against)] if against else []
        self.lease.check()
        return [Reason(text) for text in self._faults.blocking]

    # ------------------------------------------------------------------ what happened

    def run_event(self, event: RunEvent) -> None:
        """Update PVs and run sheet with an event of a run."""
        self.shown.follow_run(event.run)
        if isinstance(event, RunStarted):
            self.sheet.on_run_started(event.run)
        elif isinstance(event, RunStopped):
            self.sheet.on_run_stopped(event.run)

    def connected_store(self) -> Store:
        """Return the database; raises `RecordAway` with the reason while it is away."""
        if self.supervisor.store is None:
            raise RecordAway(self._faults.text_of(AWAY) or "the database is away")
        return self.supervisor.store

    async def open_run(self) -> RunInfo | None:
        """Return the run of this fleet that the database has as open."""
        return await self._recovery.open_run()

    def _on_applied(self, records: Sequence[Record]) -> None:
        if any(isinstance(record, RunRecord | EditRecord | ExperimentRecord) for record in records):
            self._show_now.set()

    async def _reconcile(self, store: Store) -> None:
        await self._recovery.reconcile(store)

    async def _forget(self, store: Store) -> None:
        """Delete, every hour, what is older than the retention settings."""
        while True:
            self.writer.seen()
            now = datetime.now(UTC)
            before = now - timedelta(days=self._settings.put_log_days)
            gone = await store.forget(
                puts_before=before,
                events_before=before,
                log_before=now - timedelta(days=self._settings.log_days),
                stamps_before=min(before, now - timedelta(days=STAMP_DAYS)),
                experiments_before=min(before, now - timedelta(days=STAMP_DAYS)),
            )
            if gone:
                log.info("old puts, events and log entries forgotten", count=gone)
            await asyncio.sleep(FORGET_S)

    # ------------------------------------------------------------------ what screens show

    async def _show(self, store: Store) -> None:
        """Keep the PVs of the last runs and the next number up to date."""
        try:
            while True:
                self._show_now.clear()
                wait_s = REFRESH_S
                if self._experiment:
                    if not await self.shown.refresh(store, self._experiment):
                        wait_s = LOOK_S
                    await self.numbers.ask_next(store, self._experiment)
                self._faults.note(self._recorded)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._show_now.wait()
        finally:
            self.shown.database_gone()

    async def write(self, pv: str, value: Value, who: Who) -> None:
        """Handle a write to `Run:Comment`, `Run:Quality` or an observable; raises `Refused`."""
        self._edit_limit.take(pv, who)
        if self.sheet.owns(pv):
            await self.sheet.on_write(pv, value, who)
        else:
            await self.shown.write(pv, value, who)
