"""Tables of older systems as runs.

- The earlier web application: `run number, run class, title, start date/time, stop date/time,
  config name` (or `run_number` and so on), then a column for each observable. Classes are codes of four
  letters, times have an offset or are local, a title may be `None`.
- `attpc_envoy`: `Run,Note,Duration`, then a column for each field of its window, such as `Pressure (Torr)`.
  It quotes nothing, so a comma in a note makes more columns; it has the duration in seconds and no
  times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import TextIO, TypeVar

from attpc_ioc.model.run import RunClass, RunOutcome
from attpc_plugins.run_history.sheets.reading import parse
from attpc_plugins.run_history.store.model.history import Measurement, Moment, Run, RunDetail, Stage
from attpc_plugins.run_history.store.model.values import Bad, ValueKind, shown, time_of

from .check import checked
from .csv_file import number_of, rows
from .faults import Fault

T = TypeVar("T")

DAQ_COLUMNS = ("run_number", "run_class", "title", "start_datetime", "stop_datetime", "config_name")
ENVOY_COLUMNS = ("run", "note", "duration")

NOTE_MAX = 200
"""Characters of a note that becomes a run's title; a longer one becomes its comment."""

_CODES = {run_class.label[:4].lower(): run_class for run_class in RunClass}

_UNITS = re.compile(r"(.*\S)\s*\(([^()]{1,15})\)")

_KINDS = (ValueKind.INTEGER, ValueKind.FLOAT, ValueKind.STRING)


def key_of(name: str) -> str:
    """Return a column's name for comparisons: `Start date/time` becomes `start_datetime`."""
    key = "_".join(re.findall(r"[a-z0-9]+", name.lower()))
    return key.replace("date_time", "datetime")


@dataclass(slots=True)
class OldTable:
    """One old table: its header, and the kinds of its columns.

    `zone` is for times without an offset (None: this computer's). Call `learn` with all rows before
    `read`: it finds whether an observable is an integer, a float or a text.
    """

    header: Sequence[str]
    experiment: str
    zone: tzinfo | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    doubt: str = ""
    """What is doubtful in the times of the last row; empty if nothing is."""
    _kinds: dict[int, ValueKind] = field(default_factory=dict)

    @property
    def envoy(self) -> bool:
        """Whether the table is of attpc_envoy."""
        return is_envoy(self.header)

    def faults(self, line: int) -> list[Fault]:
        """Return the faults of the header."""
        names = [self._name(index)[0] for index in range(len(self.header))]
        faults = [Fault(line, f"{i + 1}", "has no name") for i, name in enumerate(names) if not name]
        faults += [
            Fault(line, name, "occurs twice") for name in sorted(set(names)) if name and names.count(name) > 1
        ]
        if not self.experiment:
            faults.append(Fault(line, "experiment", "is missing: name the experiment with --experiment"))
        return faults

    def learn(self, row: Sequence[str]) -> None:
        """Note the kinds of the values in a row."""
        if isinstance(cells := self._cells(row, 0), Fault):
            return
        for index in self._observables():
            text = cells[index].strip()
            if _empty(text):
                continue
            fitting = next(kind for kind in _KINDS if parse(text, kind)[0] is not None)
            self._kinds[index] = max(self._kinds.get(index, ValueKind.INTEGER), fitting, key=_KINDS.index)

    def read(self, row: Sequence[str], line: int) -> RunDetail | Fault:
        """Return the run of a row, or its fault."""
        self.doubt = ""
        cells = self._cells(row, line)
        if isinstance(cells, Fault):
            return cells
        try:
            run = self._envoy_run(cells) if self.envoy else self._daq_run(cells)
            detail = RunDetail(run, measurements=tuple(self._measurements(cells, run)))
            return checked(detail)
        except Bad as bad:
            return Fault(line, bad.column, str(bad))

    def _cells(self, row: Sequence[str], line: int) -> Sequence[str] | Fault:
        """Return the row with as many cells as the header; joins a note that its commas cut."""
        extra = len(row) - len(self.header)
        if extra > 0 and self.envoy and row[2 + extra].strip().isdigit():
            return [row[0], ",".join(row[1 : 2 + extra]), *row[2 + extra :]]
        if extra:
            return Fault(line, "", f"has {len(row)} fields, and the header has {len(self.header)}")
        return row

    def _observables(self) -> range:
        return range(len(ENVOY_COLUMNS if self.envoy else DAQ_COLUMNS), len(self.header))

    def _name(self, index: int) -> tuple[str, str]:
        """Return name and units of a column."""
        text = self.header[index].strip()
        if self.envoy and (match := _UNITS.fullmatch(text)):
            others = [name.strip() for i, name in enumerate(self.header) if i != index]
            if not any(name == match[1] or name.startswith(f"{match[1]} (") for name in others):
                return match[1], match[2]
        return text, ""

    def _measurements(self, cells: Sequence[str], run: Run) -> Iterator[Measurement]:
        when = run.stopped_at or run.started_at or self.now
        if self.envoy:
            seconds = number_of(cells[2])
            yield Measurement("Duration", Moment.ENTERED, when, seconds, units="s")
        for index in self._observables():
            text = cells[index].strip()
            if _empty(text):
                continue
            name, units = self._name(index)
            value, fault = parse(text, self._kinds.get(index, ValueKind.STRING))
            if value is None:
                raise Bad(fault, name)
            yield Measurement(name, Moment.ENTERED, when, value, units=units)

    def _envoy_run(self, cells: Sequence[str]) -> Run:
        note = cells[1].strip()
        short = len(note) <= NOTE_MAX and "\n" not in note
        _checked(number_of, cells[2], self.header[2], "duration in whole seconds")
        return Run(
            self.experiment,
            _checked(number_of, cells[0], self.header[0]),
            Stage.ENDED,
            title=note if short else "",
            comment="" if short else note,
            outcome=RunOutcome.STOPPED,
            reason="imported from attpc_envoy, which kept no times",
        )

    def _daq_run(self, cells: Sequence[str]) -> Run:
        number, run_class, title, start, stop, config = cells[: len(DAQ_COLUMNS)]
        begun = _checked(self._readings, start, self.header[3])
        ended = _checked(self._readings, stop, self.header[4])
        pairs = [(a, b) for a in begun for b in ended if a is None or b is None or a <= b]
        if not pairs:
            raise Bad(f"{shown(stop)} is before the start, {shown(start)}", self.header[4])
        started_at, stopped_at = pairs[0]
        self.doubt = "; ".join(
            text
            for text in (
                self._doubt("start", start, begun, {pair[0] for pair in pairs}),
                self._doubt("stop", stop, ended, {pair[1] for pair in pairs}),
            )
            if text
        )
        return Run(
            self.experiment,
            _checked(number_of, number, self.header[0]),
            Stage.ENDED,
            run_class=_checked(_class, run_class, self.header[1]),
            title="" if title == "None" else title,
            started_at=started_at,
            stopped_at=stopped_at,
            outcome=RunOutcome.STOPPED if stopped_at else RunOutcome.INTERRUPTED,
            reason="" if stopped_at else "imported without a time of its stop",
            config_name="" if config == "None" else config,
        )

    def _readings(self, text: str) -> list[datetime | None]:
        """Return the possible meanings of a time: two at the end of summer time, the earlier first."""
        if _empty(text.strip()):
            return [None]
        try:
            when = datetime.fromisoformat(text.strip())
            if when.tzinfo is None:
                found = sorted({self._utc(when.replace(fold=fold)) for fold in (0, 1)})
                # An hour that the clock skipped is counted from before the change.
                return [reading for reading in found if self._wall(reading) == when] or [found[-1]]
        except (ValueError, OverflowError, OSError):
            raise Bad(f"{shown(text)} is not a time; 2017-03-01 14:03:05 is one") from None
        return [time_of(text)]

    def _utc(self, when: datetime) -> datetime:
        local = when.astimezone() if self.zone is None else when.replace(tzinfo=self.zone)
        return local.astimezone(UTC)

    def _wall(self, when: datetime) -> datetime:
        """Return the local time."""
        return when.astimezone(self.zone).replace(tzinfo=None, fold=0)

    def _doubt(
        self, what: str, text: str, readings: list[datetime | None], fitting: set[datetime | None]
    ) -> str:
        """Return what people should check in a time with these `readings`, some of them `fitting`."""
        taken = next(when for when in readings if when in fitting)
        if taken is None:
            return ""
        time = f"the {what} {text.strip()!r}"
        if len(readings) == 1:
            when = datetime.fromisoformat(text.strip())
            if when.tzinfo is not None or self._wall(taken) == when:
                return ""
            return f"{time} was never on that clock, which was set forward then: {taken.isoformat()} is taken"
        (other,) = (when for when in readings if when != taken)
        assert other is not None
        why = (
            f"it may be {other.isoformat()} as well"
            if other in fitting
            else "the other would end the run before its start"
        )
        return f"{time} was twice on that clock, which was set back then: {taken.isoformat()} is taken, {why}"


def is_daq(header: Sequence[str]) -> bool:
    """Return whether a table with this header is of the old web application."""
    return tuple(key_of(name) for name in header[: len(DAQ_COLUMNS)]) == DAQ_COLUMNS


def is_envoy(header: Sequence[str]) -> bool:
    """Return whether a table with this header is of attpc_envoy."""
    return tuple(key_of(name) for name in header[: len(ENVOY_COLUMNS)]) == ENVOY_COLUMNS


def read_table(stream: TextIO, table: OldTable) -> Iterator[tuple[int, RunDetail | Fault]]:
    """Yield the runs of a stream whose header is `table`'s."""
    for number, (line, row) in enumerate(rows(stream)):
        if isinstance(row, Fault):
            yield line, row
        elif number > 0:
            yield line, table.read(row, line)


def learn_table(stream: TextIO, table: OldTable) -> None:
    """Let a table see all rows of a stream."""
    for number, (_, row) in enumerate(rows(stream)):
        if number > 0 and not isinstance(row, Fault):
            table.learn(row)


def _empty(text: str) -> bool:
    return text in ("", "None")


def _class(text: str) -> RunClass:
    found = _CODES.get(text.strip().lower()[:4])
    if found is None:
        raise Bad(f"{shown(text)} is not a class; they are {', '.join(c.label for c in RunClass)}")
    return found


def _checked(read: Callable[[str], T], text: str, column: str, what: str = "") -> T:
    try:
        return read(text)
    except Bad as bad:
        raise Bad(f"{shown(text)} is not a {what}" if what else str(bad), column) from None
