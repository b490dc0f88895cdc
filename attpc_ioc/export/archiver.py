"""The request for the EPICS Archiver Appliance: which PVs to archive, and how.

`archivePV` of its management service takes a JSON list of objects whose values are all texts: its reader
(`ArchivePVAction`) casts each to a text, and skips the PV if that fails.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from attpc_ioc.pvs.row import Archive
from attpc_ioc.pvs.table import PvEntry


@dataclass(frozen=True, slots=True)
class ArchiveRequest:
    """One PV to archive; `period_s` is the scan period, for a monitor the period that its buffer covers."""

    pv: str
    method: Archive
    period_s: float


def archive_requests(table: Sequence[PvEntry]) -> tuple[ArchiveRequest, ...]:
    """Return a request for each PV whose row has an archive policy, in the order of the table."""
    return tuple(
        ArchiveRequest(entry.name, entry.archive, entry.row.archive_period_s)
        for entry in table
        if entry.archive is not Archive.NONE
    )


def archiver_text(table: Sequence[PvEntry]) -> str:
    """Return the JSON for `archivePV`, one PV per line."""
    lines = [
        json.dumps(
            {
                "pv": request.pv,
                "samplingmethod": request.method.name,
                "samplingperiod": str(float(request.period_s)),
            }
        )
        for request in archive_requests(table)
    ]
    return "[\n" + ",\n".join(lines) + "\n]\n"
