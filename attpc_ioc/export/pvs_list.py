"""The list of all PVs: as text, JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from attpc_ioc.printable import json_text
from attpc_ioc.pvs.row import Record
from attpc_ioc.pvs.table import PvEntry

TYPE_NAMES = {
    Record.LONG_TEXT: "long text",
    Record.STRINGS: "list of strings",
    Record.NUMBERS: "list of numbers",
}
"""Names of the waveform records for people; other records have their EPICS names."""


@dataclass(frozen=True, slots=True)
class PvLine:
    """One PV of the list.

    `access_group` is its group (ASG) of the access security file; `labels` are in the order of
    their numbers.
    """

    name: str
    type: str
    access: str
    access_group: str
    units: str
    description: str
    labels: tuple[str, ...]
    severities: dict[str, str]
    limits: dict[str, float]
    archive: str
    alarm_tree: bool
    guidance: str
    plugin: str


COLUMNS = ("name", "type", "access", "units", "description", "labels", "archive", "alarm_tree", "plugin")
"""The columns of the CSV form."""


def type_name(record: Record) -> str:
    """Return the name of a record's type for people."""
    return TYPE_NAMES.get(record, str(record))


def pv_line(entry: PvEntry, access_group: str) -> PvLine:
    """Return the line of a table entry in this access group."""
    row = entry.row
    return PvLine(
        name=entry.name,
        type=type_name(row.record),
        access="read-write" if row.writable else "read-only",
        access_group=access_group,
        units=row.units,
        description=row.desc,
        labels=row.labels,
        severities={row.labels[number]: s.name for number, s in row.severities.items()} if row.labels else {},
        limits={name: limit for name, limit in asdict(row.limits).items() if limit is not None},
        archive=str(entry.archive),
        alarm_tree=entry.in_alarm_tree,
        guidance=row.guidance,
        plugin=row.plugin,
    )


def as_json(lines: Sequence[PvLine]) -> str:
    """Return the list as a JSON list of objects, one per PV."""
    return json_text([asdict(line) for line in lines], indent=2)


def as_csv(lines: Sequence[PvLine]) -> str:
    """Return the list as CSV with a line of headings; labels are separated by spaces."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines:
        cells = {
            **asdict(line),
            "labels": " ".join(line.labels),
            "alarm_tree": "yes" if line.alarm_tree else "no",
        }
        writer.writerow([cells[column] for column in COLUMNS])
    return out.getvalue().rstrip("\n")


def as_text(lines: Sequence[PvLine]) -> str:
    """Return the list in columns, one line a PV: name, type, access, units, description, labels."""
    rows = [
        (
            line.name,
            line.type,
            line.access,
            line.units,
            f"{line.description} [{', '.join(line.labels)}]" if line.labels else line.description,
        )
        for line in lines
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]])
        for row in rows
    )
