"""The configuration for Phoebus's save-and-restore: the setpoints, with their readbacks.

Its CSV reader (`CSVParser`) finds columns by their headings, splits at every comma and drops empty
columns at the end of a line: hence `READ_ONLY` is always written out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from attpc_ioc.pvs.table import PvEntry

COLUMNS = ("PV", "READBACK", "READ_ONLY")
READBACK = "_RBV"


def saved_setpoints(table: Sequence[PvEntry]) -> tuple[PvEntry, ...]:
    """Return the setpoints that may be restored: no commands, and no rows that exclude it."""
    return tuple(entry for entry in table if entry.row.setpoint and not entry.row.command and entry.row.saved)


def saveset_text(table: Sequence[PvEntry]) -> str:
    """Return the CSV file; the readback is the PV of the accepted value, or empty."""
    names = {entry.name for entry in table}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in saved_setpoints(table):
        readback = entry.name + READBACK
        writer.writerow((entry.name, readback if readback in names else "", "false"))
    return out.getvalue()
