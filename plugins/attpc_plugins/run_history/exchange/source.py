"""A file of runs to import: its format, its faults, and its runs one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import tzinfo
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from attpc_plugins.run_history.store.model.history import RunDetail

from . import csv_file, json_file, old_tables
from .check import doubts
from .faults import SHOWN, BrokenFile, Fault
from .number_set import NumberSet
from .old_tables import OldTable

PROGRESS_EVERY = 1000
"""Runs between two reports of progress."""

Progress = Callable[[int], None]


class Format(StrEnum):
    """The format of a file of runs."""

    AUTO = "auto"
    CSV = "csv"
    JSON = "json"
    DAQ = "daq"
    """The CSV of the earlier web application."""
    ENVOY = "envoy"
    """The table of attpc_envoy."""


@dataclass(slots=True)
class Contents:
    """The contents of a file: the numbers of its runs by experiment.

    `doubts` are the first doubts that people should check; `doubtful` counts all.
    """

    numbers: dict[str, NumberSet] = field(default_factory=dict)
    doubts: list[Fault] = field(default_factory=list)
    doubtful: int = 0

    @property
    def count(self) -> int:
        """The number of runs."""
        return sum(len(numbers) for numbers in self.numbers.values())

    def doubt(self, line: int, column: str, text: str) -> None:
        """Note what people should check in a line; ignores an empty text."""
        if text:
            self.doubtful += 1
            if len(self.doubts) < SHOWN:
                self.doubts.append(Fault(line, column, text))


class RunFile:
    """A file of runs that can be read more than once.

    `experiment` replaces the file's; `zone` is for times without an offset in old
    tables (None: this computer's). `name` is the file's name in messages.
    """

    def __init__(
        self,
        path: Path,
        kind: Format = Format.AUTO,
        *,
        experiment: str = "",
        zone: tzinfo | None = None,
        name: str = "",
    ) -> None:
        self.name = name or str(path)
        self._path = path
        self._experiment = experiment
        self._zone = zone
        self._table: OldTable | None = None
        self.format = self._detect() if kind is Format.AUTO else kind

    def check(self, progress: Progress = lambda _: None) -> Contents:
        """Read the whole file and return its contents; raises `BrokenFile` with all faults."""
        contents = Contents()
        faults: list[Fault] = []
        count = 0
        for read, (line, item) in enumerate(self._items(), 1):
            if read % PROGRESS_EVERY == 0:
                progress(read)
            if isinstance(item, RunDetail):
                run = item.run
                if contents.numbers.setdefault(run.experiment, NumberSet()).add(run.number):
                    contents.doubt(line, "stopped_at", doubts(item))
                    if self._table is not None:
                        contents.doubt(line, "", self._table.doubt)
                    continue
                text = f"run {run.number} of experiment {run.experiment!r} is already in an earlier line"
                item = Fault(line, "number", text)
            count += 1
            if len(faults) < SHOWN:
                faults.append(item)
        if faults:
            raise BrokenFile(self.name, faults, count)
        return contents

    def runs(self) -> Iterator[RunDetail]:
        """Yield the runs one by one; raises `BrokenFile` at the first fault."""
        for _, item in self._items():
            if isinstance(item, Fault):
                raise BrokenFile(self.name, [item])
            yield item

    def _items(self) -> Iterator[tuple[int, RunDetail | Fault]]:
        if self.format is Format.JSON:
            with self._open() as stream:
                yield from json_file.read_lines(stream, experiment=self._experiment)
            return
        with self._open() as stream:
            first = next(csv_file.rows(stream), (1, Fault(1, "", "is empty: not even a header is there")))
        line, header = first
        if isinstance(header, Fault):
            yield line, header
            return
        names = [name.strip() for name in header]
        if self.format is Format.CSV:
            yield from self._csv(names, line)
        else:
            yield from self._old(names, line)

    def _csv(self, names: list[str], line: int) -> Iterator[tuple[int, RunDetail | Fault]]:
        if faults := csv_file.read_header(names, line, experiment=self._experiment):
            yield from ((fault.line, fault) for fault in faults)
            return
        with self._open() as stream:
            for number, (at, row) in enumerate(csv_file.rows(stream)):
                if isinstance(row, Fault):
                    yield at, row
                elif number > 0:
                    yield at, csv_file.read_run(names, row, at, experiment=self._experiment)

    def _old(self, names: list[str], line: int) -> Iterator[tuple[int, RunDetail | Fault]]:
        fits = old_tables.is_daq if self.format is Format.DAQ else old_tables.is_envoy
        if not fits(names):
            wanted = old_tables.DAQ_COLUMNS if self.format is Format.DAQ else old_tables.ENVOY_COLUMNS
            yield line, Fault(line, "", f"the header does not begin with {','.join(wanted)}")
            return
        if self._table is None:
            table = OldTable(names, self._experiment, self._zone)
            if faults := table.faults(line):
                yield from ((fault.line, fault) for fault in faults)
                return
            with self._open() as stream:
                old_tables.learn_table(stream, table)
            self._table = table
        with self._open() as stream:
            yield from old_tables.read_table(stream, self._table)

    def _detect(self) -> Format:
        try:
            with self._open() as stream:
                head = stream.read(4096).lstrip()
                if head.startswith("{"):
                    return Format.JSON
                stream.seek(0)
                _, header = next(csv_file.rows(stream), (1, []))
        except UnicodeDecodeError:
            return Format.CSV
        if isinstance(header, Fault):
            return Format.CSV
        if old_tables.is_daq(header):
            return Format.DAQ
        return Format.ENVOY if old_tables.is_envoy(header) else Format.CSV

    @contextmanager
    def _open(self) -> Iterator[TextIO]:
        # Spreadsheets put a byte order mark in front of UTF-8.
        with self._path.open(encoding="utf-8-sig", newline="") as stream:
            yield stream
