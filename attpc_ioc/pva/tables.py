"""Tables and interfaces as p4p's values; import it only when PVAccess is to be served."""

from __future__ import annotations

from collections.abc import Sequence

from p4p import Type, Value
from p4p.nt import NTTable
from p4p.nt.common import alarm, timeStamp

from attpc_ioc.pva.record import Interface, Table, TableState
from attpc_ioc.pva.values import hide, put_alarm, put_stamp


def table_type(table: Table) -> Type:
    """Return the type of a table: values of one must all be of the very same type."""
    return NTTable.buildType([(column.name, f"a{column.code}") for column in table.columns])


def whole(kind: Type, table: Table, state: TableState | None, status_names: Sequence[str]) -> Value:
    """Return all of a table, each field marked; None: without rows, and with the reason."""
    value = Value(kind, {"labels": [column.name for column in table.columns], "descriptor": table.desc})
    if state is None:
        value["value"] = {column.name: [] for column in table.columns}
        hide(value)
        put_stamp(value, table.make().stamp_ns)
        return value
    value["value"] = {
        column.name: list(cells) for column, cells in zip(table.columns, state.columns, strict=True)
    }
    put_alarm(value, state.severity, state.status, status_names)
    put_stamp(value, state.stamp_ns)
    return value


def change(
    kind: Type, table: Table, state: TableState, last: TableState, status_names: Sequence[str]
) -> Value:
    """Return an update with the columns that differ from the last one."""
    value = Value(kind)
    for column, cells, before in zip(table.columns, state.columns, last.columns, strict=True):
        if cells != before:
            value[f"value.{column.name}"] = list(cells)
    if (state.severity, state.status) != (last.severity, last.status):
        put_alarm(value, state.severity, state.status, status_names)
    put_stamp(value, state.stamp_ns)
    return value


def interface(of: Interface, stamp_ns: int) -> Value:
    """Return an interface as NTPVI, a structure of structures of names."""
    entries = [(name, ("S", "structure", [(way, "s") for way in ways])) for name, ways in of.entries.items()]
    kind = Type(
        [
            ("alarm", alarm),
            ("timeStamp", timeStamp),
            ("display", ("S", None, [("description", "s")])),
            ("value", ("S", "structure", entries)),
        ],
        id="epics:nt/NTPVI:1.0",
    )
    value = Value(kind, {"display": {"description": of.desc}, "value": of.entries})
    put_alarm(value, 0, 0, ())
    put_stamp(value, stamp_ns)
    return value
