"""Publishing: posts to PVs what changed in the fleet, in order and only where the value differs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from operator import attrgetter

from attpc_ioc.ioc.ca import PV
from attpc_ioc.ioc.records import empty, fit
from attpc_ioc.ioc.stamps import StampClock
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import COMMANDS, GOTO_TARGETS, RUN, SYSTEM, Command, Scope, ScopeKind, ecc_scope
from attpc_ioc.model.fleet import Fleet, FleetChange, without_diagnostics
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import Severity, Status
from attpc_ioc.pvs.alarms import Alarm, alarm_text, worst
from attpc_ioc.pvs.common import ALLOWED, MESSAGE, RESULT, RESULT_COUNT, with_alarm
from attpc_ioc.pvs.row import Reading, Value
from attpc_ioc.pvs.system import ALARM, ALARM_TEXT
from attpc_ioc.pvs.table import PvEntry

log = get_logger(__name__)

LIVE_PERIOD_S = 1.0
"""Shortest period between two reads of the rows that depend on time."""

ATTEMPT_PARTS = (MESSAGE, RESULT, RESULT_COUNT)
"""Posted for each attempt, even when equal; the count last: a client waiting for it finds the rest new."""

_SCOPES_A_TURN = 50
"""Scopes whose live rows are read in one turn of the event loop."""

_REST = 4.0
"""After a refresh of the system rows, the next waits at least this many times what the last one took."""
_CHEAP_S = 0.001


_of_all = attrgetter("run", "active", "run_result", "system_result", "allowed")
"""Returns what the system and run rows show besides the modules."""


Listener = Callable[[str], None]
"""Hears the name of a PV that was posted to."""


class _Slot:
    """One PV and what was last posted to it."""

    __slots__ = ("broken", "entry", "last", "listeners", "pv", "raw")

    def __init__(self, entry: PvEntry, pv: PV) -> None:
        self.entry = entry
        self.pv = pv
        self.last: Reading | None = None
        self.raw: Value | Reading | None = None
        """Last result of the row's function; None before the first call or after a failure."""
        self.broken = False
        self.listeners: tuple[Listener, ...] = ()
        """Called after each post."""


class Publisher:
    """Posts the rows of the PV table.

    Give `on_change` to the controller as its listener. Rows of modules and of their data sources are posted
    at once, so that clients see every state of a module, in order. System and run rows of all changes in one
    pass of the event loop are posted together, or at once if a scope's attempt ended. The cost of a change
    depends on the changed modules, not on the size of the fleet. Call all methods in the event loop.
    """

    def __init__(self, entries: Iterable[PvEntry], pvs: Mapping[str, PV], stamps: StampClock) -> None:
        self._stamps = stamps
        self._slots: dict[str, _Slot] = {}
        self._order: dict[str, int] = {}
        self._rows: dict[Scope, list[_Slot]] = {}
        self._attempt_rows: dict[Scope, list[_Slot]] = {}
        self._live: dict[Scope, list[_Slot]] = {}
        self._run_state: RunState | None = None
        self._commands: dict[tuple[Scope, str], _Slot] = {}
        self._allowed_slots: dict[Scope, _Slot] = {}
        self._alarms: dict[str, Alarm] = {}
        self._explained: dict[str, str] = {}
        """PV names, by the name of the text PV that says why they are in alarm."""
        self._refresh: asyncio.Handle | None = None
        self._not_before = 0.0
        self._on_flush: Callable[[], None] | None = None
        for entry in entries:
            self._add(_Slot(entry, pvs[entry.name]))
        system = {slot.entry.row.part: slot for slot in self._slots.values() if slot.entry.scope == SYSTEM}
        self._alarm, self._alarm_text = system[ALARM], system[ALARM_TEXT]
        self._working: dict[str, list[Command]] = {}
        self._seen: dict[str, object] = {}
        self._allowed: Mapping[Scope, object] = {}
        self._fleet = Fleet()

    def _add(self, slot: _Slot) -> None:
        row, scope = slot.entry.row, slot.entry.scope
        self._order[slot.entry.name] = len(self._slots)
        self._slots[slot.entry.name] = slot
        if reason_row := slot.entry.reason_row:
            self._explained[reason_row] = slot.entry.name
        if row.command is not None:
            self._commands[scope, str(row.command)] = slot
        if row.value is None:
            if row.initial is not None:
                self._post(slot, with_alarm(row, row.initial), self._stamps())
        elif row.live:
            self._live.setdefault(scope, []).append(slot)
        elif row.part in ATTEMPT_PARTS and scope.kind in COMMANDS and not row.plugin:
            self._attempt_rows.setdefault(scope, []).append(slot)
            self._attempt_rows[scope].sort(key=lambda s: ATTEMPT_PARTS.index(s.entry.row.part))
        else:
            if row.part == ALLOWED and scope.kind is ScopeKind.ECC:
                self._allowed_slots[scope] = slot
            self._rows.setdefault(scope, []).append(slot)

    @property
    def fleet(self) -> Fleet:
        """The last published snapshot."""
        return self._fleet

    def reading(self, name: str) -> Reading | None:
        """Return what was last posted to the PV of this full name, or None."""
        return self._slots[name].last

    @property
    def alarms(self) -> list[Alarm]:
        """The PVs of the alarm tree that are in alarm, in the order of the table."""
        return [
            self._with_text(self._alarms[name]) for name in sorted(self._alarms, key=self._order.__getitem__)
        ]

    def watch(self, names: Iterable[str], listener: Listener) -> Callable[[], None]:
        """Call `listener` with the name of each of these PVs that is posted to; returns what ends that.

        It must not wait and must not raise.
        """
        slots = [self._slots[name] for name in names]
        for slot in slots:
            slot.listeners = (*slot.listeners, listener)

        def end() -> None:
            for slot in slots:
                slot.listeners = tuple(one for one in slot.listeners if one is not listener)

        return end

    def watch_alarms(self, changed: Callable[[], None]) -> None:
        """Call `changed` whenever `alarms` may have changed."""
        self._on_flush = changed

    def publish_all(self, fleet: Fleet) -> None:
        """Post every row of a snapshot, before the server starts, so that no client sees an unset value."""
        self._fleet = fleet
        stamp = self._stamps()
        for scope in self._rows.keys() | self._attempt_rows.keys():
            self._post_rows((*self._rows.get(scope, ()), *self._attempt_rows.get(scope, ())), stamp)
        for slots in self._live.values():
            self._post_rows(slots, stamp)
        self._seen = {name: without_diagnostics(module) for name, module in fleet.modules.items()}
        self.flush()

    def on_change(self, change: FleetChange) -> None:
        """Post the rows that a change of the fleet affects."""
        old, fleet = self._fleet, change.fleet
        self._fleet = fleet
        stamp = self._stamps()
        news = not change.modules or _of_all(fleet) != _of_all(old)
        for name in change.modules:
            module = fleet.modules.get(name)
            if module is None or self._seen.get(name) == (essence := without_diagnostics(module)):
                continue
            self._seen[name] = essence
            news = True
            scope = ecc_scope(name)
            self._post_rows(self._rows.get(scope, ()), stamp)
            if scope not in change.attempts:
                self._post_rows(self._attempt_rows.get(scope, ()), stamp)
            for source in module.sources:
                self._post_rows(self._rows.get(Scope(ScopeKind.SOURCE, source.name), ()), stamp)
        for scope in change.attempts:
            self._post_rows(self._attempt_rows.get(scope, ()), stamp, force=True)
            self._post_rows(self._live.get(scope, ()), stamp)
        if change.attempts:
            self.flush()
        elif news:
            self._schedule()

    def command_busy(self, command: Command, busy: bool) -> None:
        """Show on a command's own PV whether it is running; if several are, the oldest."""
        slot = self._commands[command.scope, str(command.name)]
        working = self._working.setdefault(slot.entry.name, [])
        if busy:
            working.append(command)
        elif command in working:
            working.remove(command)
        value = 0
        if working:
            target = working[0].target
            value = GOTO_TARGETS.index(target) if target in GOTO_TARGETS and target is not None else 1
        self._post(slot, Reading(value), self._stamps())

    def publish(self, name: str, value: Value | Reading) -> None:
        """Post a value to a row that its owner publishes, such as a plugin's.

        A plain value gets the alarm of the row's severities and limits. Raises `KeyError` if there is no PV
        of this full name.
        """
        slot = self._slots[name]
        self._post(slot, with_alarm(slot.entry.row, value), self._stamps())

    def flush(self) -> None:
        """Post the system and run rows now, and everything pending."""
        if self._refresh is not None:
            self._refresh.cancel()
            self._refresh = None
        began = time.perf_counter()
        fleet, stamp = self._fleet, self._stamps()
        for scope in (SYSTEM, RUN):
            self._post_rows((*self._rows.get(scope, ()), *self._attempt_rows.get(scope, ())), stamp)
        if fleet.run.state is not self._run_state:
            # The run time shows as soon as a run is on, also for one found again after a restart.
            self._run_state = fleet.run.state
            self._post_rows(self._live.get(RUN, ()), stamp)
        if fleet.allowed is not self._allowed:
            changed = [
                slot
                for scope, slot in self._allowed_slots.items()
                if fleet.allowed.get(scope) != self._allowed.get(scope)
            ]
            self._post_rows(changed, stamp)
            self._allowed = fleet.allowed
        if self._alarms or (self._alarm_text.last and self._alarm_text.last.value):
            alarms = self.alarms
            self._post(self._alarm, with_alarm(self._alarm.entry.row, int(worst(alarms))), stamp)
            self._post(self._alarm_text, Reading(alarm_text(alarms, fleet)), stamp)
        if self._refresh is not None:
            # An alarm row among those just posted asked for this flush.
            self._refresh.cancel()
            self._refresh = None
        if self._on_flush is not None:
            self._on_flush()
        took = time.perf_counter() - began
        self._not_before = 0.0 if took < _CHEAP_S else time.monotonic() + _REST * took

    async def run(self) -> None:
        """Read the rows that depend on time once a second, until cancelled."""
        while True:
            await asyncio.sleep(LIVE_PERIOD_S)
            for number, slots in enumerate(tuple(self._live.values())):
                for slot in slots:
                    self._post_rows((slot,), self._stamps())
                if number % _SCOPES_A_TURN == _SCOPES_A_TURN - 1:
                    await asyncio.sleep(0)  # yield to clients and polls

    def close(self) -> None:
        """Drop pending posts."""
        if self._refresh is not None:
            self._refresh.cancel()
            self._refresh = None

    def _schedule(self) -> None:
        if self._refresh is None:
            loop = asyncio.get_running_loop()
            wait = self._not_before - time.monotonic()
            self._refresh = loop.call_later(wait, self.flush) if wait > 0 else loop.call_soon(self.flush)

    def _post_rows(self, slots: Iterable[_Slot], stamp: float, *, force: bool = False) -> None:
        """Post rows that changed; an unchanged row, the usual case, costs one call of its function."""
        fleet = self._fleet
        for slot in slots:
            row, scope = slot.entry.row, slot.entry.scope
            assert row.value is not None
            try:
                raw = row.value(fleet, scope)
                if raw == slot.raw and raw is not None and not force:
                    continue
                reading = with_alarm(row, raw)
            except Exception:
                # A plugin's row, called from the controller: no plugin may break a run.
                if not slot.broken:
                    log.exception(
                        "value of a row cannot be read", pv=slot.entry.name, plugin=slot.entry.row.plugin
                    )
                slot.broken = True
                slot.raw = None
                kept = slot.last.value if slot.last is not None else empty(row)
                reading = Reading(kept, Severity.INVALID, Status.UDF)
            else:
                slot.broken = False
                slot.raw = raw
            self._post(slot, reading, stamp, force=force)

    def _post(self, slot: _Slot, reading: Reading, stamp: float, *, force: bool = False) -> None:
        last = slot.last
        if reading == last and not force:
            return
        slot.last = reading
        slot.pv.post(
            fit(slot.entry.row, reading.value),
            severity=int(reading.severity),
            status=int(reading.status),
            stamp=stamp,
            force=force,
        )
        for listener in slot.listeners:
            listener(slot.entry.name)
        if slot.entry.row.alarm_tree and (reading.severity or (last is not None and last.severity)):
            self._note_alarm(slot.entry, reading, stamp)
            if last is not None:
                self._schedule()
        elif last is not None and self._explained.get(slot.entry.name) in self._alarms:
            self._schedule()

    def _with_text(self, alarm: Alarm) -> Alarm:
        slot = self._slots.get(alarm.entry.reason_row)
        text = slot.last.value if slot is not None and slot.last is not None else ""
        return replace(alarm, stated=str(text)) if text else alarm

    def _note_alarm(self, entry: PvEntry, reading: Reading, stamp: float) -> None:
        if reading.severity:
            known = self._alarms.get(entry.name)
            same = known is not None and known.reading.severity == reading.severity
            since = known.since if known is not None and same else stamp
            self._alarms[entry.name] = Alarm(entry, reading, since=since)
        else:
            self._alarms.pop(entry.name, None)
