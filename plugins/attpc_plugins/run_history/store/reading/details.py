"""The details of runs: modules, measurements, files and more of many runs, a statement for each kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from attpc_plugins.run_history.store.connections import Connection
from attpc_plugins.run_history.store.model.history import (
    ConfigUse,
    Edit,
    Event,
    Link,
    Measurement,
    Module,
    RouterFiles,
    RunDetail,
)

from .rows import config_of, edit_of, event_of, files_of, link_of, measurement_of, module_of, run_of


async def modules_of(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[Module, ...]]:
    """Return the modules of runs with their links, by the runs' ids."""
    links: dict[tuple[int, str], list[Link]] = defaultdict(list)
    for row in await connection.fetch(
        "SELECT * FROM attpc.run_links WHERE run_id = ANY($1::bigint[]) ORDER BY position, source, name", ids
    ):
        links[row["run_id"], row["module"]].append(link_of(row))
    modules: dict[int, tuple[Module, ...]] = defaultdict(tuple)
    for row in await connection.fetch(
        "SELECT * FROM attpc.run_modules WHERE run_id = ANY($1::bigint[]) ORDER BY position, name", ids
    ):
        modules[row["run_id"]] += (module_of(row, tuple(links[row["run_id"], row["name"]])),)
    return modules


async def details_of(connection: Connection, rows: Sequence[Any], *, events: bool = True) -> list[RunDetail]:
    """Return the runs of these rows with their details; without `events` those and the edits are left out."""
    ids = [row["id"] for row in rows]
    modules = await modules_of(connection, ids)
    measured: dict[int, list[Measurement]] = defaultdict(list)
    for row in await connection.fetch(
        "SELECT m.*, o.name AS observable FROM attpc.measurements m "
        "JOIN attpc.observables o ON o.id = m.observable_id WHERE m.run_id = ANY($1::bigint[]) "
        "ORDER BY o.position, o.id, array_position(ARRAY['start', 'stop', 'entered'], m.moment)",
        ids,
    ):
        measured[row["run_id"]].append(measurement_of(row))
    filed: dict[int, list[RouterFiles]] = defaultdict(list)
    for row in await connection.fetch(
        "SELECT * FROM attpc.run_files WHERE run_id = ANY($1::bigint[]) ORDER BY router", ids
    ):
        filed[row["run_id"]].append(files_of(row))
    used: dict[int, list[ConfigUse]] = defaultdict(list)
    for row in await connection.fetch(
        "SELECT c.* FROM attpc.run_configs c LEFT JOIN attpc.run_modules m "
        "ON m.run_id = c.run_id AND m.name = c.module WHERE c.run_id = ANY($1::bigint[]) "
        "ORDER BY m.position, c.module, array_position(ARRAY['describe', 'prepare', 'configure'], c.part)",
        ids,
    ):
        used[row["run_id"]].append(config_of(row))
    happened: dict[int, list[Event]] = defaultdict(list)
    edited: dict[int, list[Edit]] = defaultdict(list)
    if events:
        for row in await connection.fetch(
            "SELECT * FROM attpc.events WHERE run_id = ANY($1::bigint[]) ORDER BY happened_at, id", ids
        ):
            happened[row["run_id"]].append(event_of(row))
        for row in await connection.fetch(
            "SELECT * FROM attpc.run_edits WHERE run_id = ANY($1::bigint[]) ORDER BY edited_at, id", ids
        ):
            edited[row["run_id"]].append(edit_of(row))
    return [
        RunDetail(
            run=run_of(row),
            modules=modules[row["id"]],
            measurements=tuple(measured[row["id"]]),
            events=tuple(happened[row["id"]]),
            edits=tuple(edited[row["id"]]),
            files=tuple(filed[row["id"]]),
            configs=tuple(used[row["id"]]),
        )
        for row in rows
    ]
