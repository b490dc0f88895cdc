"""The tables that PVAccess serves: made of the records that are their columns, when somebody wants them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence

from attpc_ioc.ioc.ca import PV, ChannelType
from attpc_ioc.ioc.publish import Publisher
from attpc_ioc.ioc.records import FORMS
from attpc_ioc.model.states import Severity
from attpc_ioc.pva import Column, TableState
from attpc_ioc.pvs.alarms import with_reasons, worst_first
from attpc_ioc.pvs.row import Row
from attpc_ioc.pvs.run import local_time
from attpc_ioc.pvs.system import ALARM_LEVELS, ALARM_TEXT
from attpc_ioc.pvs.tables import ALARM_COLUMNS, ALARMS, ARRAYS, NAME, SEVERITY, TableEntry
from attpc_ioc.pvs.tables import Column as ColumnEntry

PERIOD_S = 0.2
"""Shortest time between two updates of a table."""

_REST = 10.0
"""An update waits for at least this many times what the last one took: large tables are sent less often."""

Cell = int | float | str

_EMPTY: dict[str, Cell] = {"s": "", "i": 0, "l": 0, "d": math.nan}
"""The cell of a module that does not use a column, by type code."""


class Table:
    """A table that a `follower` follows: it is called at most five times a second, after changes."""

    def __init__(self, name: str, desc: str, columns: tuple[Column, ...], pvs: tuple[str, ...]) -> None:
        self.name = name
        self.desc = desc
        self.columns = columns
        self.pvs = pvs
        """The PVs that it shows."""
        self.follower: Callable[[], None] | None = None
        self._due: asyncio.Handle | None = None
        self._not_before = 0.0

    def make(self) -> TableState:
        """Return the table as it is now."""
        raise NotImplementedError

    def changed(self, _name: str = "") -> None:
        """Have the follower called soon, if there is one."""
        if self.follower is None or self._due is not None:
            return
        loop = asyncio.get_running_loop()
        wait = self._not_before - loop.time()
        self._due = loop.call_later(wait, self._tell) if wait > 0 else loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._due = None
        if self.follower is None:
            return
        began = time.perf_counter()
        self.follower()
        took = time.perf_counter() - began
        self._not_before = asyncio.get_running_loop().time() + max(PERIOD_S, _REST * took)


class ModuleTable(Table):
    """A table with a row for each module; a cell is the value of a PV, an enum's as its label."""

    def __init__(self, entry: TableEntry, pvs: Mapping[str, PV]) -> None:
        assert entry.rows is not None
        columns = (Column(NAME, "s"), Column(SEVERITY, "s"), *(_column(one) for one in entry.columns))
        super().__init__(entry.name, entry.desc, columns, tuple(one.name for one in entry.entries))
        self._rows = entry.rows
        self._cells = [
            (code.code, column.row.labels, [None if one is None else pvs[one.name] for one in column.entries])
            for code, column in zip(columns[2:], entry.columns, strict=True)
        ]
        self._pvs = [pvs[name] for name in self.pvs]

    def make(self) -> TableState:
        """Return the table; its alarm is the worst, and its time stamp the newest, of its PVs."""
        severities = [0] * len(self._rows)
        for _, _, pvs in self._cells:
            for i, pv in enumerate(pvs):
                if pv is not None and pv.severity > severities[i]:
                    severities[i] = pv.severity
        columns: list[tuple[Cell, ...]] = [self._rows, tuple(ALARM_LEVELS[one] for one in severities)]
        columns += (
            tuple(_EMPTY[code] if pv is None else _cell(pv, labels) for pv in pvs)
            for code, labels, pvs in self._cells
        )
        return _state(tuple(columns), self._pvs)


class ArrayTable(Table):
    """A table whose columns are arrays; it is as long as the shortest."""

    def __init__(self, entry: TableEntry, pvs: Mapping[str, PV]) -> None:
        columns = tuple(_column(one) for one in entry.columns)
        super().__init__(entry.name, entry.desc, columns, tuple(one.name for one in entry.entries))
        self._pvs = [pvs[name] for name in self.pvs]
        self._arrays = [
            (column.code, None if (one := of.entries[0]) is None else pvs[one.name])
            for column, of in zip(columns, entry.columns, strict=True)
        ]

    def make(self) -> TableState:
        """Return the table; its alarm is the worst, and its time stamp the newest, of its PVs."""
        rows = min((len(pv.value) for pv in self._pvs if isinstance(pv.value, tuple)), default=0)
        columns = tuple(_elements(code, pv, rows) for code, pv in self._arrays)
        return _state(columns, self._pvs)


class AlarmTable(Table):
    """The PVs of the alarm tree that are in alarm, the worst first."""

    def __init__(self, prefix: str, pvs: Mapping[str, PV], publisher: Publisher) -> None:
        columns = tuple(Column(name, "s") for name in ALARM_COLUMNS)
        super().__init__(f"{prefix}{ALARMS}", "A row for each PV in alarm", columns, (prefix + ALARM_TEXT,))
        self._publisher = publisher
        self._text = pvs[prefix + ALARM_TEXT]

    def make(self) -> TableState:
        """Return the table; it has the worst of the alarms."""
        alarms = worst_first(self._publisher.alarms)
        rows = [
            (
                ALARM_LEVELS[alarm.reading.severity],
                alarm.entry.name,
                alarm.reading.status.name,
                local_time(alarm.since),
                reason,
            )
            for alarm, reason in with_reasons(alarms, self._publisher.fleet)
        ]
        columns = tuple(zip(*rows, strict=True)) if rows else ((),) * len(ALARM_COLUMNS)
        severity, status = (alarms[0].reading.severity, alarms[0].reading.status) if alarms else (0, 0)
        return TableState(columns, int(severity), int(status), self._text.stamp_ns)


def make_tables(
    entries: Sequence[TableEntry], prefix: str, pvs: Mapping[str, PV], publisher: Publisher
) -> tuple[Table, ...]:
    """Return the tables of the PV table, and that of the alarms; `publisher` tells them of changes."""
    found: list[Table] = []
    for entry in entries:
        table = ArrayTable(entry, pvs) if entry.rows is None else ModuleTable(entry, pvs)
        publisher.watch(table.pvs, table.changed)
        found.append(table)
    alarms = AlarmTable(prefix, pvs, publisher)
    publisher.watch_alarms(alarms.changed)
    return (*found, alarms)


def _column(entry: ColumnEntry) -> Column:
    return Column(entry.name, _code(entry.row))


def _code(row: Row) -> str:
    """Return the type code of a column: whole numbers of an array are 64-bit integers."""
    dtype = FORMS[row.record].dtype
    if dtype is ChannelType.DOUBLE:
        return "l" if row.record in ARRAYS and not row.precision else "d"
    return "i" if dtype is ChannelType.LONG else "s"


def _cell(pv: PV, labels: tuple[str, ...]) -> Cell:
    value = pv.value
    if labels and isinstance(value, int):
        return labels[value]
    assert not isinstance(value, tuple)
    return value


def _elements(code: str, pv: PV | None, rows: int) -> tuple[Cell, ...]:
    value = pv.value if pv is not None else ()
    assert isinstance(value, tuple)
    if len(value) < rows:
        return (_EMPTY[code],) * rows
    return tuple(_whole(one) for one in value[:rows]) if code == "l" else value[:rows]


def _whole(value: Cell) -> int:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0


def _state(columns: tuple[tuple[Cell, ...], ...], pvs: Sequence[PV]) -> TableState:
    worst = max(pvs, key=lambda pv: pv.severity, default=None)
    if worst is None:
        return TableState(columns, int(Severity.NO_ALARM), 0, 0)
    return TableState(columns, worst.severity, worst.status, max(pv.stamp_ns for pv in pvs))
