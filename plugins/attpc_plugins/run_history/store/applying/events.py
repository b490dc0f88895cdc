"""Writing events and log entries."""

from __future__ import annotations

from attpc_ioc.model.events import OperationEnded, Origin, StateChanged
from attpc_ioc.model.states import Transition
from attpc_plugins.run_history.store.connections import Connection, clean, moment
from attpc_plugins.run_history.store.model.records import LogRecord, RunRecord

_INSERT = """
    INSERT INTO attpc.events
        (boot_id, seq, run_id, happened_at, kind, module, text, ok, external, code, duration_s)
    SELECT $1, $2, $3::bigint, $4::timestamptz, $5::text, $6::text, $7::text, $8, $9, $10, $11
    WHERE NOT EXISTS (
        SELECT FROM attpc.events WHERE run_id = $3 AND boot_id IS NULL
        AND (happened_at, kind, module, text) = ($4, $5, $6, $7))
    ON CONFLICT DO NOTHING
"""
"""Skips an event that came with an imported run: the log may still have it, too."""


async def write_event(
    connection: Connection,
    boot_id: int,
    record: RunRecord | StateChanged | OperationEnded,
    *,
    kind: str,
    text: str,
    ok: bool = True,
    run_id: int | None = None,
    external: bool = False,
) -> None:
    """Add an event, once for its stamp."""
    operation = record if isinstance(record, OperationEnded) else None
    await connection.execute(
        _INSERT,
        boot_id,
        record.stamp.seq,
        run_id,
        moment(record.time_s),
        str(kind),
        "" if isinstance(record, RunRecord) else clean(record.module),
        clean(text),
        ok,
        external,
        operation.code if operation else 0,
        max(0.0, operation.duration_s) if operation else None,
    )


async def apply_state(connection: Connection, boot_id: int, record: StateChanged, run_id: int | None) -> None:
    """Apply a change of state of an ECC server."""
    text = f"{record.old.label} to {record.new.label}"
    if record.transition is not Transition.NONE:
        text += f" in {record.transition.label}"
    if record.reason:
        text += f": {record.reason}"
    external = record.origin is Origin.EXTERNAL
    await write_event(connection, boot_id, record, kind="state", text=text, run_id=run_id, external=external)


async def apply_operation(
    connection: Connection, boot_id: int, record: OperationEnded, run_id: int | None
) -> None:
    """Apply the end of a SOAP transition."""
    text = f"{record.operation}: {record.reason}" if record.reason else record.operation
    await write_event(connection, boot_id, record, kind="operation", text=text, ok=record.ok, run_id=run_id)


async def apply_log(connection: Connection, record: LogRecord, run_id: int | None) -> None:
    """Apply a log entry."""
    await connection.execute(
        "INSERT INTO attpc.log_entries (logged_at, level, ioc, source, text, run_id) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        moment(record.time_s),
        record.level.value,
        clean(record.stamp.ioc),
        clean(record.source),
        clean(record.text),
        run_id,
    )
