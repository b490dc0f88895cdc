"""Records as p4p's values of the normative types, and what clients write out of them.

Import it only when PVAccess is to be served: p4p and numpy's core take a tenth of a second and 13 MB.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from p4p import Type, Value
from p4p.nt import NTEnum, NTScalar

from attpc_ioc.pva.record import Form, Record, Spec

Snapshot = tuple[Any, int, int, int]
"""A record's value, severity, status and time stamp in nanoseconds."""

_NS = 1_000_000_000
_INT_MAX = 2**31 - 1
_INVALID = 3

_DEVICE, _DRIVER, _RECORD, _DB, _UNDEFINED, _CLIENT = 1, 2, 3, 4, 6, 7
_STATUS = {
    **dict.fromkeys(("READ", "WRITE", "HIHI", "HIGH", "LOLO", "LOW", "STATE", "COS", "HWLIMIT"), _DEVICE),
    **dict.fromkeys(("COMM", "TIMEOUT", "UDF"), _DRIVER),
    **dict.fromkeys(("CALC", "SCAN", "LINK", "SOFT", "BAD_SUB"), _RECORD),
    **dict.fromkeys(("DISABLE", "SIMM", "READ_ACCESS", "WRITE_ACCESS"), _DB),
}
"""The normative types' alarm status of each status of a record, as pvxs's QSRV has them."""

TYPES: dict[Form, Type] = {
    form: NTScalar.buildType(form.value, display=True, control=True, valueAlarm=True, form=True)
    for form in Form
    if form is not Form.ENUM
}
TYPES[Form.ENUM] = NTEnum.buildType(extra=[("display", ("S", None, [("description", "s")]))])
"""One type for each form: values of a PV must all be of the very same type."""

_FORMATS = ("Default", "String", "Binary", "Decimal", "Hex", "Exponential", "Engineering")

NO_READ_ACCESS = "no read access over PVAccess"


def snapshot(record: Record) -> Snapshot:
    """Return a record's state; in another thread than the event loop's it may be mixed of two posts."""
    return record.value, record.severity, record.status, record.stamp_ns


def whole(spec: Spec, form: Form, state: Snapshot, status_names: Sequence[str]) -> Value:
    """Return all of a PV: value, alarm, time stamp and properties, each field marked."""
    value = Value(TYPES[form], _properties(spec, form))
    if form is Form.ENUM:
        value["value.choices"] = list(spec.labels)
    _put_value(value, form, state[0])
    put_alarm(value, state[1], state[2], status_names)
    put_stamp(value, state[3])
    return value


def change(form: Form, state: Snapshot, last: Snapshot, status_names: Sequence[str]) -> Value:
    """Return an update with what differs from the last one; the value too where nothing does."""
    value = Value(TYPES[form])
    alarm_changed = state[1] != last[1] or state[2] != last[2]
    if not alarm_changed or state[0] != last[0]:
        _put_value(value, form, state[0])
    if alarm_changed:
        put_alarm(value, state[1], state[2], status_names)
    put_stamp(value, state[3])
    return value


def hidden(spec: Spec, form: Form, stamp_ns: int) -> Value:
    """Return what a client gets of a PV that it may not read: its type, an empty value and the reason."""
    value = Value(TYPES[form], _properties(spec, form))
    empty: dict[Form, Any] = {Form.STRING: "", Form.STRINGS: (), Form.DOUBLES: (), Form.DOUBLE: 0.0}
    _put_value(value, form, empty.get(form, 0))
    hide(value)
    put_stamp(value, stamp_ns)
    return value


def hide(value: Value) -> None:
    """Put in the alarm of what a client may not read."""
    value["alarm.severity"] = _INVALID
    value["alarm.status"] = _CLIENT
    value["alarm.message"] = NO_READ_ACCESS


def _put_value(value: Value, form: Form, new: Any) -> None:
    if form is Form.ENUM:
        value["value.index"] = new
    else:
        value["value"] = list(new) if isinstance(new, tuple) else new


def put_alarm(value: Value, severity: int, status: int, status_names: Sequence[str]) -> None:
    """Put in an alarm; `status` is a number of `status_names`."""
    name = status_names[status] if status else ""
    value["alarm.severity"] = severity
    value["alarm.status"] = _STATUS.get(name, _UNDEFINED) if status else 0
    value["alarm.message"] = name


def put_stamp(value: Value, stamp_ns: int) -> None:
    """Put in a time stamp in nanoseconds since 1970."""
    value["timeStamp.secondsPastEpoch"], value["timeStamp.nanoseconds"] = divmod(stamp_ns, _NS)


def _properties(spec: Spec, form: Form) -> dict[str, Any]:
    if form is Form.ENUM:
        return {"display.description": spec.desc}
    found: dict[str, Any] = {"display.description": spec.desc, "display.units": spec.units}
    if not form.is_number:
        return found
    top: float = len(spec.labels) - 1 if spec.labels else 0
    high = spec.hopr if spec.hopr is not None else top
    low = spec.lopr if spec.lopr is not None else 0
    severity = spec.limit_severities
    limits = {
        "display.limitHigh": high,
        "display.limitLow": low,
        "control.limitHigh": high if spec.drvh is None else spec.drvh,
        "control.limitLow": low if spec.drvl is None else spec.drvl,
        "valueAlarm.highAlarmLimit": spec.hihi,
        "valueAlarm.highWarningLimit": spec.high,
        "valueAlarm.lowWarningLimit": spec.low,
        "valueAlarm.lowAlarmLimit": spec.lolo,
    }
    return {
        **found,
        **{name: _limit(limit, form) for name, limit in limits.items()},
        "display.precision": spec.precision,
        "display.form.choices": list(_FORMATS),
        "valueAlarm.active": bool(severity),
        "valueAlarm.highAlarmSeverity": severity.get("HHSV", 0),
        "valueAlarm.highWarningSeverity": severity.get("HSV", 0),
        "valueAlarm.lowWarningSeverity": severity.get("LSV", 0),
        "valueAlarm.lowAlarmSeverity": severity.get("LLSV", 0),
    }


def _limit(limit: float | None, form: Form) -> float | int:
    """Return a limit in the range of its type; integers have 0 for no limit, as over Channel Access."""
    if form is not Form.INT:
        return math.nan if limit is None else float(limit)
    if limit is None or math.isnan(limit):
        return 0
    return int(max(-_INT_MAX - 1, min(_INT_MAX, limit)))
