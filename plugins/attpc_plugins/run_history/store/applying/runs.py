"""Writes a run: its records, modules and edits."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunClass
from attpc_plugins.run_history.store.connections import TEXTS_MAX, Connection, clean, moment
from attpc_plugins.run_history.store.errors import NoSuchRun, StoreRejected
from attpc_plugins.run_history.store.experiments import experiment_id
from attpc_plugins.run_history.store.model.history import Module, Run, RunChanges
from attpc_plugins.run_history.store.model.records import EditRecord, Phase, RunRecord, RunRef
from attpc_plugins.run_history.store.numbers import give_back
from attpc_plugins.run_history.store.rows import (
    RUN_COLUMNS,
    RUN_VALUES,
    RUNS_FROM,
    TEXT_MAX,
    excluded,
    made_of,
    values_of,
    write_rows,
)

from .events import write_event
from .merge import merge


async def apply_run(connection: Connection, boot_id: int, record: RunRecord) -> None:
    """Apply an event of a run; raises `StoreRejected` if its number belongs to another start."""
    run = record.run
    key = await experiment_id(connection, run.experiment)
    if not 0 <= run.number < 2**31:
        raise StoreRejected(f"{run.number} is not a run number")
    if record.phase is Phase.FAILED and record.number_released:
        await give_back(connection, key, run.number, record.attempt)
        text = f"run {run.number} of {run.experiment}: {record.text or run.reason}"
        await write_event(connection, boot_id, record, kind=record.phase, text=text, ok=False)
        return
    if await _void(connection, record):
        return
    row = await _row(connection, key, record)
    at = moment(record.time_s)
    newer = row["facts_at"] is None or at >= row["facts_at"]
    merged = merge(made_of(Run, row), record, newer=newer, edited=row["edited"])
    values = values_of(merged, "experiment").values()
    await connection.execute(_SAVE, row["id"], at if newer else row["facts_at"], *values)
    await _save_modules(connection, row["id"], record.modules, newer)
    if record.phase in (Phase.STARTING, Phase.STARTED):
        await _close_others(connection, row["id"], record)
    text = record.text or (", ".join(record.lost) if record.phase is Phase.DEGRADED else run.reason)
    ok = record.phase is not Phase.FAILED and not record.lost
    await write_event(connection, boot_id, record, run_id=row["id"], kind=record.phase, text=text, ok=ok)


async def run_id_of(connection: Connection, ref: RunRef) -> int | None:
    """Return the id of a run; None if its number was given back.

    Raises `NoSuchRun` if the database never had it.
    """
    name = clean(ref.experiment)
    found = await connection.fetchval(
        "SELECT r.id FROM attpc.runs r JOIN attpc.experiments e ON e.id = r.experiment_id "
        "WHERE e.name = $1 AND r.number = $2::bigint",
        name,
        ref.number,
    )
    if found is None and not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM attpc.released_attempts a JOIN attpc.experiments e "
        "ON e.id = a.experiment_id WHERE e.name = $1 AND a.number = $2::bigint)",
        name,
        ref.number,
    ):
        raise NoSuchRun(f"there is no run {ref.number} of experiment {ref.experiment!r}")
    return found


async def apply_edit(connection: Connection, record: EditRecord) -> None:
    """Apply an edit, unless there is a later one of the same field."""
    run_id = await run_id_of(connection, record.run)
    if run_id is not None:
        await write_edit(connection, run_id, record.changes, record.who, record.time_s)


async def write_edit(
    connection: Connection, run_id: int, changes: RunChanges, who: Who, at_s: float | None
) -> None:
    """Change fields of a run and record who did it; `at_s` None is now.

    A present edit that changes nothing is not recorded. One with a time always is, because an earlier one of
    the same field may still come from another log.
    """
    for item in fields(changes):
        value = getattr(changes, item.name)
        if value is None:
            continue
        text = value.label if isinstance(value, RunClass) else str(value)
        text = clean(text, TEXT_MAX.get(item.name, TEXTS_MAX))
        if at_s is not None and await connection.fetchval(
            "SELECT EXISTS (SELECT FROM attpc.run_edits "
            "WHERE run_id = $1 AND field = $2 AND value = $3 AND edited_at = $4)",
            run_id,
            item.name,
            text,
            moment(at_s),
        ):
            continue  # it came with an imported run, and the log still has it
        if at_s is None and text == await connection.fetchval(
            f"SELECT {item.name} FROM attpc.runs WHERE id = $1", run_id
        ):
            continue
        # An edit may arrive after a later one of the same field. The run then has the value of the latest,
        # so the old value comes from the neighbouring edits, and the later one replaced this one.
        row = await connection.fetchrow(
            f"""
            WITH new AS (SELECT coalesce($4, clock_timestamp()) AS at)
            INSERT INTO attpc.run_edits (run_id, field, value, edited_at, edited_by, old_value)
            SELECT $1, $2, $3, new.at, $5, CASE WHEN later.id IS NULL THEN r.{item.name}
                                                ELSE coalesce(earlier.value, later.old_value) END
            FROM new JOIN attpc.runs r ON r.id = $1
            LEFT JOIN LATERAL (
                SELECT id, old_value FROM attpc.run_edits e WHERE run_id = $1 AND field = $2
                AND edited_at > new.at ORDER BY edited_at, id LIMIT 1) AS later ON true
            LEFT JOIN LATERAL (
                SELECT value FROM attpc.run_edits e WHERE run_id = $1 AND field = $2
                AND edited_at <= new.at ORDER BY edited_at DESC, id DESC LIMIT 1) AS earlier ON true
            RETURNING id, edited_at
            """,
            run_id,
            item.name,
            text,
            None if at_s is None else moment(at_s),
            clean(str(who)) if who != Who() else "",
        )
        await connection.execute(
            "UPDATE attpc.run_edits SET old_value = $3 WHERE id = (SELECT id FROM attpc.run_edits "
            "WHERE run_id = $1 AND field = $2 AND edited_at > $4 ORDER BY edited_at, id LIMIT 1)",
            run_id,
            item.name,
            text,
            row["edited_at"],
        )
        # The name of the column is one of this dataclass's own fields.
        await connection.execute(
            f"UPDATE attpc.runs SET {item.name} = $2 WHERE id = $1 AND NOT EXISTS ("
            "SELECT FROM attpc.run_edits WHERE run_id = $1 AND field = $3 AND (edited_at, id) > ($4, $5))",
            run_id,
            text,
            item.name,
            row["edited_at"],
            row["id"],
        )


async def _void(connection: Connection, record: RunRecord) -> bool:
    """Return whether the record is of an attempt that gave its number back before it ran."""
    return bool(
        record.attempt
        and record.run.started_at is None
        and await connection.fetchval(
            "SELECT EXISTS (SELECT FROM attpc.released_attempts WHERE attempt = $1)", record.attempt
        )
    )


_ROW = f"""
    SELECT {RUN_COLUMNS}, r.attempt, r.facts_at,
           ARRAY(SELECT DISTINCT field FROM attpc.run_edits WHERE run_id = r.id) AS edited
    FROM {RUNS_FROM} WHERE r.experiment_id = $1 AND r.number = $2 FOR UPDATE OF r
"""

_SAVE = f"""
    UPDATE attpc.runs SET facts_at = $2, {", ".join(f"{c} = ${n}" for n, c in enumerate(RUN_VALUES, 3))}
    WHERE id = $1
"""


async def _row(connection: Connection, key: int, record: RunRecord) -> Any:
    """Return the run's locked row; create it if there is none (after a restore)."""
    number, attempt = record.run.number, record.attempt
    row = await connection.fetchrow(_ROW, key, number)
    if row is None:
        await connection.execute(
            "INSERT INTO attpc.runs (experiment_id, number, state, attempt, reserved_at) "
            "VALUES ($1, $2, 'reserved', nullif($3, ''), $4) ON CONFLICT DO NOTHING",
            key,
            number,
            attempt,
            moment(record.time_s),
        )
        row = await connection.fetchrow(_ROW, key, number)
    if row is None:
        raise StoreRejected(f"the start of run {number} is already recorded under another number")
    if attempt and row["attempt"] and row["attempt"] != attempt:
        raise StoreRejected(
            f"run {number} of experiment {record.run.experiment!r} belongs to another start in this database"
        )
    return row


async def _save_modules(
    connection: Connection, run_id: int, modules: tuple[Module, ...], newer: bool
) -> None:
    """Save the members: one that was lost stays lost, and the newest record sets the loaded names."""
    newest = excluded(("describe", "prepare", "configure"))
    took = "transition_s = coalesce(excluded.transition_s, m.transition_s)"
    await write_modules(
        connection,
        run_id,
        modules,
        "ON CONFLICT (run_id, name) DO UPDATE SET lost = m.lost OR excluded.lost"
        + (f", {newest}, {took}" if newer else ""),
    )


async def write_modules(
    connection: Connection, run_id: int, modules: tuple[Module, ...], known: str = ""
) -> None:
    """Add members and their new data links; `known` is the SQL for members that exist."""
    rows = [
        {"run_id": run_id, **values_of(module, "links"), "position": position}
        for position, module in enumerate(modules)
    ]
    await write_rows(connection, "run_modules AS m", rows, known)
    links = [
        {"run_id": run_id, "module": clean(module.name), **values_of(link), "position": position}
        for module in modules
        for position, link in enumerate(module.links)
    ]
    await write_rows(connection, "run_links", links, "ON CONFLICT DO NOTHING")


async def _close_others(connection: Connection, run_id: int, record: RunRecord) -> None:
    """Close older open runs of the fleet: a fleet has one run at a time.

    This is an assumption, so an observed end that arrives later beats it.
    """
    await connection.execute(
        """
        UPDATE attpc.runs SET state = 'ended', outcome = 'interrupted',
            stopped_at = coalesce(last_running_at, started_at), reason = $3
        WHERE fleet = $2 AND fleet <> '' AND id <> $1 AND state IN ('starting', 'running', 'stopping')
          AND coalesce(start_commanded_at, reserved_at) < $4
        """,
        run_id,
        clean(record.run.fleet),
        f"it was not seen to end before run {record.run.number} was started",
        record.run.start_commanded_at or moment(record.time_s),
    )


__all__ = ["apply_edit", "apply_run", "run_id_of", "write_edit", "write_modules"]
