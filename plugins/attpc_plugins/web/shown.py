"""What the API says of a PV: its row, and what it shows now."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from attpc_ioc.pvs.row import Record, Shown, Value
from attpc_ioc.pvs.table import PvEntry

SeverityName = Literal["NO_ALARM", "MINOR", "MAJOR", "INVALID"]
JsonValue = float | int | str | list[str] | list[float | None] | None

ENUMS = frozenset((Record.BI, Record.BO, Record.MBBI, Record.MBBO))
INTEGERS = frozenset((Record.LONGIN, Record.LONGOUT))
FLOATS = frozenset((Record.AI, Record.AO, Record.CALC, Record.CALCOUT))
NUMERIC = ENUMS | INTEGERS | FLOATS
_KINDS = {
    **dict.fromkeys(ENUMS, "enum"),
    **dict.fromkeys(INTEGERS, "integer"),
    **dict.fromkeys(FLOATS, "number"),
    Record.STRINGS: "texts",
    Record.NUMBERS: "numbers",
}


class PvValue(BaseModel):
    """What a PV shows: `value` is null where a number is not known (not a number)."""

    model_config = ConfigDict(extra="forbid")

    value: JsonValue
    """A number for enums, with `label`; a list for arrays."""
    label: str | None = None
    """Of an enum."""
    severity: SeverityName
    status: str
    """The EPICS alarm status."""
    time: str
    """When it was posted: ISO 8601, UTC."""


class PvRow(BaseModel):
    """A PV: all about it that does not change while the IOC runs."""

    model_config = ConfigDict(extra="forbid")

    name: str
    scope: Literal["system", "ecc", "source", "run", "ioc", "plugin"]
    scope_name: str
    """The name of the ECC server, data source or plugin; else empty."""
    part: str
    """The last part of the name."""
    description: str
    kind: Literal["enum", "integer", "number", "text", "texts", "numbers"]
    record: str
    """The EPICS record type."""
    labels: list[str]
    """Of an enum, by number."""
    units: str
    precision: int
    lowest: float | None
    highest: float | None
    """The limits of what may be put."""
    writable: bool
    """Whether clients with the right can write it at all."""
    command: str
    """The command that writing 1, or a target, gives; else empty."""
    access: Literal["observer", "operator", "expert"]
    guidance: str
    """What to do about an alarm of it."""
    used: bool
    """Whether this module or source uses it: screens leave out the others."""
    alarm: bool
    """Whether it belongs to the alarm tree."""
    reason_pv: str
    """The PV whose text has the reason of its alarm; else empty."""
    table: str
    plugin: str


def row_of(entry: PvEntry) -> dict[str, Any]:
    """Return a `PvRow`."""
    row = entry.row
    return {
        "name": entry.name,
        "scope": entry.scope.kind.value,
        "scope_name": entry.scope.name,
        "part": row.part,
        "description": row.desc,
        "kind": _KINDS.get(row.record, "text"),
        "record": row.record.value,
        "labels": list(row.labels),
        "units": row.units,
        "precision": row.precision,
        "lowest": row.limits.drvl,
        "highest": row.limits.drvh,
        "writable": row.writable,
        "command": row.command.value if row.command is not None else "",
        "access": row.access_group.value,
        "guidance": row.guidance,
        "used": entry.used,
        "alarm": entry.in_alarm_tree,
        "reason_pv": entry.reason_row,
        "table": row.table,
        "plugin": row.plugin,
    }


def value_of(entry: PvEntry, shown: Shown) -> dict[str, Any]:
    """Return a `PvValue`."""
    found: dict[str, Any] = {
        "value": json_value(shown.value),
        "severity": shown.severity.name,
        "status": shown.status.name,
        "time": iso(shown.time_s),
    }
    labels = entry.row.labels
    if entry.row.record in ENUMS and isinstance(shown.value, int):
        found["label"] = labels[shown.value] if 0 <= shown.value < len(labels) else str(shown.value)
    return found


def json_value(value: Value) -> JsonValue:
    """Return a value as JSON has it, which knows no NaN and no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple):
        return [json_value(item) for item in value]  # pyright: ignore[reportReturnType]
    return value


def iso(time_s: float) -> str:
    """Return a time as ISO 8601 in UTC with milliseconds."""
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
