"""Imports runs: all or none."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg

from attpc_plugins.run_history.store.connections import Connection, Connections, clean
from attpc_plugins.run_history.store.errors import FAULTS, Conflict
from attpc_plugins.run_history.store.experiments import experiment_id
from attpc_plugins.run_history.store.model.history import RunDetail
from attpc_plugins.run_history.store.model.values import kind_of
from attpc_plugins.run_history.store.observables import write_measurements
from attpc_plugins.run_history.store.rows import insert, values_of, write_rows

from .files import sum_up, write_configs, write_files
from .runs import write_modules


class _SourceFault(Exception):
    """Carries an exception of the source of the runs, so that it is not taken for one of the database."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class Importing(Connections):
    """Writing whole runs from elsewhere."""

    async def import_runs(self, runs: Iterable[RunDetail] | AsyncIterable[RunDetail]) -> int:
        """Add runs with all their details in one transaction and return how many.

        Creates missing experiments and observables; an existing observable stays as it is.
        Raises `Conflict` if the experiment has a run of that number already, or the import has it twice,
        and `StoreRejected` for data that the database refuses: then nothing is imported. An exception of
        `runs` itself also undoes everything, and is raised unchanged.
        """
        count = 0
        experiments: dict[str, int] = {}
        observables: dict[tuple[int, str], int] = {}
        try:
            async with self._streaming(read_only=False) as connection:
                async for detail in _each(runs):
                    name = detail.run.experiment
                    if name not in experiments:
                        experiments[name] = await experiment_id(connection, name)
                    await _import(connection, experiments[name], detail, observables)
                    count += 1
        except _SourceFault as fault:
            raise fault.error from fault
        return count


async def _each(runs: Iterable[RunDetail] | AsyncIterable[RunDetail]) -> AsyncIterator[RunDetail]:
    """Yield the runs; their exceptions become `_SourceFault`."""
    iterator = aiter(runs) if isinstance(runs, AsyncIterable) else iter(runs)
    while True:
        try:
            detail = await anext(iterator) if isinstance(iterator, AsyncIterator) else next(iterator)
        except (StopIteration, StopAsyncIteration):
            return
        except FAULTS as error:
            raise _SourceFault(error) from error
        yield detail


async def _import(
    connection: Connection, key: int, detail: RunDetail, observables: dict[tuple[int, str], int]
) -> None:
    run = detail.run
    reserved_at = run.reserved_at or run.start_commanded_at or run.started_at or datetime.now(UTC)
    row = {"experiment_id": key, **values_of(replace(run, reserved_at=reserved_at), "experiment")}
    try:
        run_id = await connection.fetchval(insert("runs", row, "RETURNING id"), *row.values())
    except asyncpg.UniqueViolationError as error:
        raise Conflict(f"experiment {run.experiment!r} already has a run {run.number}") from error
    await write_modules(connection, run_id, detail.modules)
    await _import_measurements(connection, run_id, key, detail, observables)
    events = [{"run_id": run_id, **values_of(event)} for event in detail.events]
    await write_rows(connection, "events", events)
    await write_files(connection, run_id, detail.files)
    if not run.files_state:  # exported by a version that knew nothing of it
        await sum_up(connection, run_id)
    await write_configs(connection, run_id, detail.configs)
    edits = [{"run_id": run_id, **values_of(edit)} for edit in detail.edits]
    await write_rows(connection, "run_edits", edits)


async def _import_measurements(
    connection: Connection, run_id: int, key: int, detail: RunDetail, observables: dict[tuple[int, str], int]
) -> None:
    measured = []
    for measurement in detail.measurements:
        name = clean(measurement.observable)
        if (key, name) not in observables:
            kind = "string" if measurement.value is None else kind_of(measurement.value).value
            observables[key, name] = await connection.fetchval(
                "INSERT INTO attpc.observables (experiment_id, name, kind, units, pv, position) "
                "SELECT $1, $2, $3, $4, $5, coalesce(max(position) + 1, 0) FROM attpc.observables "
                "WHERE experiment_id = $1 "
                "ON CONFLICT (experiment_id, name) DO UPDATE SET name = excluded.name RETURNING id",
                key,
                name,
                kind,
                clean(measurement.units),
                clean(measurement.pv),
            )
        measured.append((observables[key, name], measurement))
    await write_measurements(connection, run_id, detail.run.number, measured)
