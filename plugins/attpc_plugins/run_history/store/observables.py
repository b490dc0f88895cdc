"""Run sheets: the observables of an experiment and their values in runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attpc_ioc.model.command import Who
from attpc_plugins.run_history.store.model.history import NOBODY, Edit, Measurement, Moment, Observable
from attpc_plugins.run_history.store.model.records import MeasurementRecord
from attpc_plugins.run_history.store.model.values import Value, ValueKind, kind_of
from attpc_plugins.run_history.store.rows import (
    made_of,
    value_of,
    values_of,
    write_newest,
    write_rows,
)

from .connections import Connection, Connections, clean, moment, utc
from .errors import Conflict, NotFound, StoreRejected
from .experiments import experiment_id, known_experiment_id

NAME_MAX = 100

_PREVIOUS = """
    SELECT m.kind, m.integer_value, m.float_value, m.string_value, m.units, m.severity, m.moment
    FROM attpc.measurements m JOIN attpc.observables o ON o.id = m.observable_id
    WHERE m.observable_id = $1 AND m.number < $2 AND m.kind IS NOT NULL
    ORDER BY m.number DESC, array_position(ARRAY['entered', 'stop', 'start'], m.moment) LIMIT 1
"""

TEXTS_AT_ONCE = 10
"""Observables whose values one answer has; a text has at most 64 KiB."""


class Sheets(Connections):
    """Observables and measured values."""

    async def observables(self, experiment: str, *, removed: bool = False) -> tuple[Observable, ...]:
        """Return the run sheet of an experiment in its order; with `removed` removed observables too."""
        async with self._use() as connection:
            rows = await connection.fetch(
                "SELECT o.*, o.removed_at IS NOT NULL AS removed FROM attpc.observables o "
                "JOIN attpc.experiments e ON e.id = o.experiment_id "
                "WHERE e.name = $1 AND ($2 OR o.removed_at IS NULL) ORDER BY o.position, o.id",
                clean(experiment),
                removed,
            )
        return tuple(made_of(Observable, row) for row in rows)

    async def put_observable(self, experiment: str, observable: Observable, *, new: bool = False) -> None:
        """Add an observable at the end of the sheet, or change the one with that name.

        A removed one returns with its values. Raises `Conflict` if `new` and the sheet has it already,
        `StoreRejected` for a name that is empty, too long or has white space around it.
        """
        name = _checked(observable.name)
        async with self._transaction() as connection:
            key = await experiment_id(connection, experiment)
            known = await connection.fetchrow(
                "SELECT id, removed_at FROM attpc.observables "
                "WHERE experiment_id = $1 AND name = $2 FOR UPDATE",
                key,
                name,
            )
            if known is not None and new and known["removed_at"] is None:
                raise Conflict(f"experiment {experiment!r} has an observable {name!r} already")
            await connection.execute(
                """
                INSERT INTO attpc.observables AS o
                    (experiment_id, name, kind, units, comment, pv, position, removed_at)
                SELECT $1, $2, $3, $4, $5, $6, coalesce(max(position) + 1, 0),
                       CASE WHEN $7 THEN clock_timestamp() END
                FROM attpc.observables WHERE experiment_id = $1
                ON CONFLICT (experiment_id, name) DO UPDATE SET
                    kind = excluded.kind, units = excluded.units, comment = excluded.comment,
                    pv = excluded.pv, removed_at = excluded.removed_at
                """,
                key,
                name,
                observable.kind.value,
                clean(observable.units),
                clean(observable.comment),
                clean(observable.pv),
                observable.removed,
            )

    async def rename_observable(self, experiment: str, old: str, new: str) -> None:
        """Rename an observable and keep its values; raises `NotFound`, `Conflict`, `StoreRejected`."""
        new = _checked(new)
        async with self._transaction() as connection:
            key = await known_experiment_id(connection, experiment)
            taken = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM attpc.observables WHERE experiment_id = $1 AND name = $2)",
                key,
                new,
            )
            if taken and old != new:
                raise Conflict(f"experiment {experiment!r} has, or had, an observable {new!r} already")
            done = await connection.execute(
                "UPDATE attpc.observables SET name = $3 WHERE experiment_id = $1 AND name = $2",
                key,
                clean(old),
                new,
            )
            if done == "UPDATE 0":
                raise _no_observable(experiment, old)

    async def remove_observable(self, experiment: str, name: str) -> None:
        """Remove an observable from the sheet and keep its values in runs. Raises `NotFound`."""
        async with self._transaction() as connection:
            key = await known_experiment_id(connection, experiment)
            done = await connection.execute(
                "UPDATE attpc.observables SET removed_at = clock_timestamp() "
                "WHERE experiment_id = $1 AND name = $2 AND removed_at IS NULL",
                key,
                clean(name),
            )
            if done == "UPDATE 0":
                raise _no_observable(experiment, name)
            await connection.execute(
                "DELETE FROM attpc.observables o WHERE experiment_id = $1 AND name = $2 AND NOT EXISTS ("
                "SELECT FROM attpc.measurements m WHERE m.observable_id = o.id)",
                key,
                clean(name),
            )

    async def order_observables(self, experiment: str, names: Sequence[str]) -> None:
        """Put the sheet into this order; those not named follow in their old order. Raises `NotFound`."""
        async with self._transaction() as connection:
            key = await known_experiment_id(connection, experiment)
            have = [
                row["name"]
                for row in await connection.fetch(
                    "SELECT name FROM attpc.observables WHERE experiment_id = $1 "
                    "ORDER BY position, id FOR UPDATE",
                    key,
                )
            ]
            for name in names:
                if name not in have:
                    raise _no_observable(experiment, name)
            order = list(dict.fromkeys(names)) + [name for name in have if name not in set(names)]
            await connection.execute(
                "UPDATE attpc.observables o SET position = n.position - 1 "
                "FROM unnest($2::text[]) WITH ORDINALITY AS n (name, position) "
                "WHERE o.experiment_id = $1 AND o.name = n.name",
                key,
                order,
            )

    async def previous_values(self, experiment: str, before: int) -> Mapping[str, Measurement]:
        """Return, by observable, the last value of runs before this number: entered, at stop, at start."""
        # Texts may be long, and each answer has a limit: read some at a time.
        async with self._transaction(read_only=True) as connection:
            found = connection.cursor(
                """
                SELECT o.name AS observable, m.* FROM attpc.observables o
                JOIN attpc.experiments e ON e.id = o.experiment_id
                CROSS JOIN LATERAL (
                    SELECT * FROM attpc.measurements
                    WHERE observable_id = o.id AND number < $2::bigint AND kind IS NOT NULL
                    ORDER BY number DESC, array_position(ARRAY['entered', 'stop', 'start'], moment) LIMIT 1
                ) m
                WHERE e.name = $1 AND o.removed_at IS NULL ORDER BY o.position, o.id
                """,
                clean(experiment),
                before,
                prefetch=TEXTS_AT_ONCE,
            )
            return {row["observable"]: made_of(Measurement, row) async for row in found}


async def write_entered(
    connection: Connection,
    experiment: str,
    number: int,
    observable: str,
    value: Value,
    *,
    who: Who = NOBODY,
    units: str = "",
) -> None:
    """Write a value that a person entered for an observable in a run, now, and record the edit.

    Raises `NotFound` for the run or the observable, `StoreRejected` if the value is not of its kind. Writes
    nothing if the value was entered before.
    """
    row = await connection.fetchrow(
        "SELECT r.id AS run, o.id AS observable, o.kind, o.units, clock_timestamp() AS now "
        "FROM attpc.runs r JOIN attpc.experiments e ON e.id = r.experiment_id "
        "LEFT JOIN attpc.observables o ON o.experiment_id = e.id AND o.name = $3 "
        "WHERE e.name = $1 AND r.number = $2::bigint FOR UPDATE OF r",
        clean(experiment),
        number,
        clean(observable),
    )
    if row is None:
        raise NotFound(f"there is no run {number} of experiment {experiment!r}")
    if row["observable"] is None:
        raise _no_observable(experiment, observable)
    value = fit(value, ValueKind(row["kind"]))
    measurement = Measurement(
        observable,
        Moment.ENTERED,
        row["now"],
        value,
        units=units or row["units"],
        entered_by=str(who) if who != Who() else "",
    )
    old = await _entered(connection, row["run"], row["observable"])
    if old is None or not _same(old, measurement):
        await _note_edit(connection, row["run"], measurement, None if old is None else value_of(old))
    elif not old["carried"]:
        return
    await write_measurements(connection, row["run"], number, [(row["observable"], measurement)])


async def _entered(connection: Connection, run_id: int, observable_id: int) -> Any:
    """Return the row of an observable's entered value in a run; None if there is none."""
    return await connection.fetchrow(
        "SELECT * FROM attpc.measurements WHERE run_id = $1 AND observable_id = $2 AND moment = 'entered'",
        run_id,
        observable_id,
    )


def _same(row: Any, measurement: Measurement) -> bool:
    """Return whether a row of measurements has the same value, as people read it, and units."""
    value, units = clean(str(measurement.value)), clean(measurement.units)
    return clean(str(value_of(row))) == value and row["units"] == units


async def _note_edit(
    connection: Connection, run_id: int, measurement: Measurement, old: Value | None
) -> None:
    """Record who changed a measured value, and the old value."""
    edit = Edit(
        "value",
        str(measurement.value),
        measurement.measured_at,
        measurement.entered_by,
        None if old is None else str(old),
        measurement.observable,
    )
    await write_rows(connection, "run_edits", [{"run_id": run_id, **values_of(edit)}])


def fit(value: Value, kind: ValueKind) -> Value:
    """Convert a value to this kind; raises `StoreRejected` if that loses something."""
    have = kind_of(value)
    if have is kind:
        return value
    if kind is ValueKind.FLOAT and have is ValueKind.INTEGER and float(value) == value:
        return float(value)
    raise StoreRejected(f"{value!r:.60} is not of kind {kind}")


async def apply_measurement(connection: Connection, run_id: int, record: MeasurementRecord) -> None:
    """Apply a measured value; an observable that is missing from the sheet is added as a removed one."""
    key, number = await connection.fetchrow(
        "SELECT experiment_id, number FROM attpc.runs WHERE id = $1", run_id
    )
    observable = await _observable_id(connection, key, record)
    value, units, severity, carried, fault = record.value, record.units, record.severity, False, record.fault
    if record.same_as_previous:
        row = await connection.fetchrow(_PREVIOUS, observable, number)
        if row is None:
            fault = fault or "no earlier run has a value"
        else:
            value, units, severity = value_of(row), row["units"], row["severity"]
            carried, fault = True, ""
    if value is None and not fault:
        fault = "no value"
    measurement = Measurement(
        record.observable,
        record.moment,
        moment(record.time_s),
        value,
        units=units,
        severity=severity,
        pv=record.pv,
        stamped_at=utc(record.stamped_s),
        carried=carried,
        fault=fault,
        entered_by=str(record.who) if record.who != Who() else "",
    )
    if measurement.entered_by and value is not None:
        # The first entered value is not an edit; one that replaces it is.
        before = await _entered(connection, run_id, observable)
        earlier = before is not None and before["measured_at"] <= measurement.measured_at
        if earlier and not _same(before, measurement):
            await _note_edit(connection, run_id, measurement, value_of(before))
    await write_measurements(connection, run_id, number, [(observable, measurement)])


async def write_measurements(
    connection: Connection, run_id: int, number: int, measured: Iterable[tuple[int, Measurement]]
) -> None:
    """Write values of a run by observable id, each unless a later one of its moment exists."""
    rows = [
        {"run_id": run_id, "observable_id": observable_id, "number": number, **values_of(one, "observable")}
        for observable_id, one in measured
    ]
    key = ("run_id", "observable_id", "moment")
    await write_newest(connection, "measurements", key, rows, "measured_at")


async def _observable_id(connection: Connection, experiment_key: int, record: MeasurementRecord) -> int:
    name = clean(record.observable)
    found = await connection.fetchval(
        "SELECT id FROM attpc.observables WHERE experiment_id = $1 AND name = $2", experiment_key, name
    )
    if found is not None:
        return found
    kind = ValueKind.STRING if record.value is None else kind_of(record.value)
    return await connection.fetchval(
        "INSERT INTO attpc.observables (experiment_id, name, kind, units, pv, removed_at) "
        "VALUES ($1, $2, $3, $4, $5, clock_timestamp()) "
        "ON CONFLICT (experiment_id, name) DO UPDATE SET name = excluded.name RETURNING id",
        experiment_key,
        _checked(record.observable),
        kind.value,
        clean(record.units),
        clean(record.pv),
    )


def _checked(name: str) -> str:
    name = clean(name)
    if not name or name != name.strip() or len(name) > NAME_MAX or any(c in name for c in "\n\r\t"):
        raise StoreRejected(
            f"an observable's name has 1 to {NAME_MAX} characters, no white space around, not {name[:50]!r}"
        )
    return name


def _no_observable(experiment: str, name: str) -> NotFound:
    return NotFound(f"experiment {experiment!r} has no observable {name[:NAME_MAX]!r}")
