"""Writing events and log entries."""

from __future__ import annotations

from attpc_plugins.run_history.store.connections import Connection, clean, moment
from attpc_plugins.run_history.store.model.history import Level
from attpc_plugins.run_history.store.model.records import LogRecord, OperationRecord, RunRecord, StateRecord

_INSERT = """
    INSERT INTO attpc.events
        (boot_id, seq, run_id, happened_at, kind, module, text, ok, external, code, duration_s)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING
"""


async def write_event(
    connection: Connection,
    boot_id: int,
    record: RunRecord | StateRecord | OperationRecord,
    *,
    kind: str,
    text: str,
    ok: bool = True,
    run_id: int | None = None,
    external: bool = False,
) -> None:
    """Add an event, once for its stamp."""
    operation = record if isinstance(record, OperationRecord) else None
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


async def apply_state(connection: Connection, boot_id: int, record: StateRecord, run_id: int | None) -> None:
    """Apply a change of state of an ECC server."""
    text = f"{record.old} to {record.new}"
    if record.transition and record.transition != "None":
        text += f" in {record.transition}"
    if record.reason:
        text += f": {record.reason}"
    await write_event(
        connection, boot_id, record, kind="state", text=text, run_id=run_id, external=record.external
    )


async def apply_operation(
    connection: Connection, boot_id: int, record: OperationRecord, run_id: int | None
) -> None:
    """Apply the end of a SOAP transition."""
    text = f"{record.operation}: {record.reason}" if record.reason else record.operation
    await write_event(connection, boot_id, record, kind="operation", text=text, ok=record.ok, run_id=run_id)


async def apply_log(connection: Connection, record: LogRecord, run_id: int | None) -> None:
    """Apply a log entry."""
    await write_log(
        connection, record.time_s, record.level, record.text, record.source, record.stamp.ioc, run_id
    )


async def write_log(
    connection: Connection,
    at_s: float | None,
    level: Level,
    text: str,
    source: str,
    ioc: str,
    run_id: int | None,
) -> None:
    """Add a log entry; `at_s` None is now."""
    await connection.execute(
        "INSERT INTO attpc.log_entries (logged_at, level, ioc, source, text, run_id) "
        "VALUES (coalesce($1, clock_timestamp()), $2, $3, $4, $5, $6)",
        None if at_s is None else moment(at_s),
        level.value,
        clean(ioc),
        clean(source),
        clean(text),
        run_id,
    )
