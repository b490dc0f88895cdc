"""The run sheet of a running IOC: its PVs, its entries, and the values of each run."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from attpc_ioc.errors import Refused, StateDirError
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunInfo, RunOutcome
from attpc_ioc.model.states import Severity
from attpc_ioc.plugin import PluginContext
from attpc_ioc.pvs.row import Value as RowValue
from attpc_plugins.run_history.store.errors import StoreRejected
from attpc_plugins.run_history.store.model.history import Measurement, Moment, Observable
from attpc_plugins.run_history.store.model.records import UNSTAMPED, MeasurementRecord, RunRef
from attpc_plugins.run_history.store.model.values import Value, ValueKind

from .ca_reader import read_pvs
from .kept import KEPT_SHEET, TOPIC, KeptSheet, load_kept
from .names import PREFIX
from .notes import Entered, Notes
from .reading import Reading, reading_of
from .rows import INITIAL
from .settings import ObservableSettings

log = get_logger(__name__)

FIRST_LOOK_S = 0.005
LOOK_S = 0.5
REFRESH_S = 2.0
"""Period of checking the experiment and the sheet in the database: shell commands change it too."""

NUMBER_MAX = 2**31 - 1

Append = Callable[[MeasurementRecord], Awaitable[None]]
"""Appends a record to the event log at once; the result waits for the disk."""


class SheetSettings(Protocol):
    """The plugin's settings that the sheet uses."""

    @property
    def observable(self) -> tuple[ObservableSettings, ...]:
        """The observables of the settings file."""
        ...

    @property
    def observable_limit_s(self) -> float:
        """Time limit of PVs' answers."""
        ...


class SheetStore(Protocol):
    """The part of the store that the sheet uses."""

    async def observables(self, experiment: str, *, removed: bool = False) -> tuple[Observable, ...]:
        """Return the sheet of an experiment."""
        ...

    async def put_observable(self, experiment: str, observable: Observable, *, new: bool = False) -> None:
        """Add an observable, or change the one of that name."""
        ...

    async def previous_values(self, experiment: str, before: int) -> Mapping[str, Measurement]:
        """Return, by observable, the last value of runs before this number."""
        ...


class RunSheet:
    """The run sheet of a running IOC; call all methods in its event loop.

    A written value belongs to the current run, else to the next one of the same experiment. A run
    without an entry for an observable gets the value of the previous run. PVs are read in a task when a
    run was started and when it was stopped: neither waits for that, and a failure is recorded as a
    fault of the value.

    The PVs are fixed when the IOC starts (`declared`). A PV whose observable the current experiment does not
    have, or has with another type, is INVALID and refuses writes; one without a value is INVALID too.
    """

    def __init__(
        self,
        ctx: PluginContext,
        settings: SheetSettings,
        append: Append,
        declared: tuple[ObservableSettings, ...] | None = None,
    ) -> None:
        self._ctx = ctx
        self._settings = settings
        self._append = append
        self._own = {item.name: item for item in settings.observable}
        self._pvs = {item.name: item for item in (settings.observable if declared is None else declared)}
        self._folder = Path(ctx.state_dir)
        self._notes = Notes(ctx)
        self._notes.take_over(self._folder)
        self._kept = ctx.kept(TOPIC, KEPT_SHEET)
        self._known: dict[str, tuple[Observable, ...]] = {}
        self._last: dict[tuple[str, str], tuple[Value, Severity]] = {}
        self._asked: set[str] = set()
        self._run: RunRef | None = None
        self._busy = asyncio.Lock()

    def start(self) -> None:
        """Load and show earlier entries."""
        kept = load_kept(self._folder)
        self._keep(kept)
        self._known[kept.experiment] = kept.observables
        self._show_all()
        self._ctx.spawn(self._follow(), restart=self._follow)

    @property
    def _experiment(self) -> str:
        return self._ctx.snapshot().run.experiment

    @staticmethod
    def owns(pv: str) -> bool:
        """Return whether a PV, named without the IOC's prefix, belongs to the sheet."""
        return pv.startswith(PREFIX)

    async def on_write(self, pv: str, value: RowValue, who: Who) -> None:
        """Handle a write to `Obs:<name>`; it is on disk when this returns. Raises `Refused`."""
        item = self._pvs.get(pv.removeprefix(PREFIX))
        if item is None or isinstance(value, tuple):
            raise Refused(f"{pv} does not accept this value")
        typed: Value = str(value) if item.type is ValueKind.STRING else value
        if item.type is ValueKind.FLOAT:
            typed = float(value)
        elif item.type is ValueKind.INTEGER:
            typed = int(value)
        async with self._busy:
            run = self._run
            experiment = self._experiment if run is None else run.experiment
            if fault := self._fault(item, experiment):
                raise Refused(fault)
            entry = Entered(typed, time.time(), who, pending=run is None, experiment=experiment)
            before = self._notes.of(experiment, item.name)
            self._notes.put(item.name, entry)
            written = self._enter(run, item.name, entry) if run is not None else None
            try:
                await self._ctx.flush()
            except StateDirError as error:
                self._notes.forget(experiment, item.name, before)
                raise Refused(f"{pv} cannot be kept: {error}") from error
            if written is not None:
                await written
        self._set(experiment, item.name, typed)

    def on_run_started(self, info: RunInfo) -> None:
        """Start the sheet of a run; returns at once."""
        self._run = info.ref
        self._ctx.spawn(self._begin(self._run))

    def on_run_stopped(self, info: RunInfo) -> None:
        """Read the PVs again, unless the run's end was not seen; returns at once."""
        self._run = None
        if info.outcome is not RunOutcome.INTERRUPTED:
            self._ctx.spawn(self._read(info.ref, Moment.STOP))

    async def _follow(self) -> None:
        """Show another experiment's sheet when the experiment changes, even without the database."""
        shown, wait_s = "", FIRST_LOOK_S
        while True:
            if self._experiment != shown:
                shown = self._experiment
                self._show_all()
            # The core sets the experiment right after starting the plugins, before clients come.
            wait_s = LOOK_S if shown else min(LOOK_S, 1.5 * wait_s)
            await asyncio.sleep(wait_s)

    async def keep(self, store: SheetStore) -> None:
        """Keep the current experiment's sheet in line with the settings, and read what else is on it.

        Never returns; raises `StoreError` when the database is gone.
        """
        shown, due_s = "", 0.0
        while True:
            experiment = self._experiment
            if experiment and (experiment != shown or time.monotonic() > due_s):
                shown, due_s = experiment, time.monotonic() + REFRESH_S
                try:
                    await self._synchronise(store, experiment)
                except StoreRejected as error:
                    # Trying again cannot help, and the rest of the history goes on.
                    log.warning("run sheet is not in the database", experiment=experiment, reason=error)
            await asyncio.sleep(LOOK_S)

    async def _synchronise(self, store: SheetStore, experiment: str) -> None:
        there = {observable.name: observable for observable in await store.observables(experiment)}
        for item in self._of(experiment):
            if there.get(item.name) != item.observable:
                await store.put_observable(experiment, item.observable)
        known = await store.observables(experiment)
        news = known != self._known.get(experiment)
        self._known[experiment] = known
        if experiment not in self._asked:
            self._recall(experiment, await store.previous_values(experiment, NUMBER_MAX))
            self._asked.add(experiment)
            news = True
        if news:
            self._show_all()
        self._keep(KeptSheet(experiment, known))

    def _recall(self, experiment: str, values: Mapping[str, Measurement]) -> None:
        """Use the values of the last runs, unless newer ones were entered."""
        for name, measurement in values.items():
            entry = self._notes.of(experiment, name)
            older = entry is None or (
                not entry.pending and entry.time_s <= measurement.measured_at.timestamp()
            )
            if measurement.value is not None and older:
                self._last.setdefault((experiment, name), (measurement.value, Severity(measurement.severity)))

    def _keep(self, kept: KeptSheet) -> None:
        """Keep a changed sheet for the rows of the next start."""
        if kept != self._kept.values.get("", KeptSheet()):
            self._kept.keep("", kept)

    # ------------------------------------------------------------------ the observables' own PVs

    def _fault(self, item: ObservableSettings, experiment: str) -> str:
        """Return why a PV is not an observable of an experiment; empty if it is."""
        own = self._own.get(item.name)
        if own is not None and own.of(experiment):
            return ""
        for observable in self._known.get(experiment, ()):
            if observable.name == item.name:
                if observable.kind is item.type:
                    return ""
                return (
                    f"{item.name} is of type {observable.kind} now: the PV follows when the IOC is restarted"
                )
        return f"experiment {experiment} has no observable {item.name}"

    def _show_all(self) -> None:
        """Show each PV with its value in the current experiment."""
        experiment = self._experiment
        for item in self._pvs.values():
            last = self._last.get((experiment, item.name))
            if last is None and (entry := self._notes.of(experiment, item.name)) is not None:
                last = (entry.value, Severity.NO_ALARM)
            if self._fault(item, experiment) or last is None or not _fits(last[0], item.type):
                last = (INITIAL[item.type], Severity.INVALID)
            self._ctx.publish(f"{PREFIX}{item.name}", *last)

    def _set(self, experiment: str, name: str, value: Value, severity: Severity = Severity.NO_ALARM) -> None:
        """Store and show a value of an experiment."""
        self._last[experiment, name] = (value, severity)
        if experiment == self._experiment:
            self._ctx.publish(f"{PREFIX}{name}", value, severity)

    # ------------------------------------------------------------------ a run

    def _of(self, experiment: str) -> list[ObservableSettings]:
        return [item for item in self._settings.observable if item.of(experiment)]

    def _sheet(self, experiment: str) -> list[Observable]:
        """Return the observables of an experiment: those of the settings and of the database."""
        own = [item.observable for item in self._of(experiment)]
        names = {item.name for item in own}
        return own + [o for o in self._known.get(experiment, ()) if o.name not in names]

    async def _begin(self, run: RunRef) -> None:
        """Record a run's entries, carry over the rest, and read the PVs.

        A run found again after a restart of the IOC has these already: it gets only newer entries.
        """
        async with self._busy:
            again = self._notes.begun == run
            for observable in self._sheet(run.experiment):
                entry = self._notes.of(run.experiment, observable.name)
                if entry is not None and entry.pending:
                    # In one turn of the loop: both are on disk, or neither.
                    written = self._enter(run, observable.name, entry)
                    self._notes.take(run.experiment, observable.name)
                    await written
                elif not again and not observable.pv and self._carries(observable.name):
                    await self._carry(run, observable)
            self._notes.begin(run)
        if not again:
            await self._read(run, Moment.START)

    def _carries(self, name: str) -> bool:
        item = self._own.get(name)
        return item is None or item.carry

    def _enter(self, run: RunRef, name: str, entry: Entered) -> Awaitable[None]:
        units = next((o.units for o in self._sheet(run.experiment) if o.name == name), "")
        return self._append(
            MeasurementRecord(
                UNSTAMPED, entry.time_s, run, name, Moment.ENTERED, entry.value, units=units, who=entry.who
            )
        )

    async def _carry(self, run: RunRef, observable: Observable) -> None:
        await self._append(
            MeasurementRecord(
                UNSTAMPED,
                time.time(),
                run,
                observable.name,
                Moment.ENTERED,
                units=observable.units,
                same_as_previous=True,
            )
        )

    # ------------------------------------------------------------------ PVs

    async def _read(self, run: RunRef, moment: Moment) -> None:
        wanted = [observable for observable in self._sheet(run.experiment) if observable.pv]
        # The IOC's own PVs are found, whatever the environment says.
        answers = await read_pvs(
            (o.pv for o in wanted), self._settings.observable_limit_s, self._ctx.ca_addresses
        )
        now = time.time()
        for observable in wanted:
            reading = reading_of(answers[observable.pv], observable.kind)
            self._show(run.experiment, observable, reading)
            await self._measured(run, moment, observable, reading, now)
        self._warn(run, moment, [o.name for o in wanted if "value" not in answers[o.pv]])

    async def _measured(
        self, run: RunRef, moment: Moment, observable: Observable, reading: Reading, now: float
    ) -> None:
        await self._append(
            MeasurementRecord(
                UNSTAMPED,
                now,
                run,
                observable.name,
                moment,
                reading.value,
                units=reading.units or observable.units,
                severity=reading.severity,
                pv=reading.pv,
                stamped_s=reading.stamped_s,
                fault=reading.fault,
            )
        )

    def _show(self, experiment: str, observable: Observable, reading: Reading) -> None:
        """Show the reading; without a value, the last one as INVALID."""
        item = self._pvs.get(observable.name)
        if item is None or self._fault(item, experiment):
            return
        if reading.value is not None and _fits(reading.value, item.type):
            self._set(experiment, item.name, reading.value, Severity(reading.severity))
            return
        before, _ = self._last.get((experiment, item.name), (INITIAL[item.type], Severity.INVALID))
        self._set(experiment, item.name, before, Severity.INVALID)

    @staticmethod
    def _warn(run: RunRef, moment: Moment, names: Iterable[str]) -> None:
        if missing := ", ".join(names):
            log.warning("observables were not read", run=run.number, moment=moment.value, names=missing)


def _fits(value: Value, kind: ValueKind) -> bool:
    """Return whether a PV of this kind can show a value."""
    if kind is ValueKind.STRING:
        return isinstance(value, str)
    if isinstance(value, str) or not math.isfinite(value):
        return False
    return kind is ValueKind.FLOAT or -(2**31) <= value < 2**31
