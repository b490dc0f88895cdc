"""Reads the details of many runs, such as modules, measurements and files: one statement for each kind."""

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
    Run,
    RunDetail,
)
from attpc_plugins.run_history.store.rows import made_of


async def modules_of(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[Module, ...]]:
    """Return the modules of runs with their links, by the runs' ids."""
    links: dict[tuple[int, str], list[Link]] = defaultdict(list)
    for row in await connection.fetch(
        "SELECT * FROM attpc.run_links WHERE run_id = ANY($1::bigint[]) ORDER BY position, source, name", ids
    ):
        links[row["run_id"], row["module"]].append(made_of(Link, row))
    modules: dict[int, tuple[Module, ...]] = defaultdict(tuple)
    for row in await connection.fetch(
        "SELECT * FROM attpc.run_modules WHERE run_id = ANY($1::bigint[]) ORDER BY position, name", ids
    ):
        modules[row["run_id"]] += (made_of(Module, row, links=tuple(links[row["run_id"], row["name"]])),)
    return modules


async def details_of(connection: Connection, rows: Sequence[Any], *, events: bool = True) -> list[RunDetail]:
    """Return the runs of these rows with their details; without `events`, events and edits are left out."""
    ids = [row["id"] for row in rows]
    modules = await modules_of(connection, ids)
    measured: dict[int, list[Measurement]] = defaultdict(list)
    for row in await connection.fetch(
        "SELECT m.*, o.name AS observable FROM attpc.measurements m "
        "JOIN attpc.observables o ON o.id = m.observable_id WHERE m.run_id = ANY($1::bigint[]) "
        "ORDER BY o.position, o.id, array_position(ARRAY['start', 'stop', 'entered'], m.moment)",
        ids,
    ):
        measured[row["run_id"]].append(made_of(Measurement, row))
    filed: dict[int, list[RouterFiles]] = defaultdict(list)
    for row in await connection.fetch(
        "SELECT * FROM attpc.run_files WHERE run_id = ANY($1::bigint[]) ORDER BY router", ids
    ):
        filed[row["run_id"]].append(made_of(RouterFiles, row))
    used: dict[int, list[ConfigUse]] = defaultdict(list)
    for row in await connection.fetch(
        "SELECT c.* FROM attpc.run_configs c LEFT JOIN attpc.run_modules m "
        "ON m.run_id = c.run_id AND m.name = c.module WHERE c.run_id = ANY($1::bigint[]) "
        "ORDER BY m.position, c.module, array_position(ARRAY['describe', 'prepare', 'configure'], c.part)",
        ids,
    ):
        used[row["run_id"]].append(made_of(ConfigUse, row, sha256=row["sha256"] or "", text=None))
    happened: dict[int, list[Event]] = defaultdict(list)
    edited: dict[int, list[Edit]] = defaultdict(list)
    if events:
        for row in await connection.fetch(
            "SELECT * FROM attpc.events WHERE run_id = ANY($1::bigint[]) ORDER BY happened_at, id", ids
        ):
            happened[row["run_id"]].append(made_of(Event, row))
        for row in await connection.fetch(
            "SELECT * FROM attpc.run_edits WHERE run_id = ANY($1::bigint[]) ORDER BY edited_at, id", ids
        ):
            edited[row["run_id"]].append(made_of(Edit, row))
    return [
        RunDetail(
            run=made_of(Run, row),
            modules=modules[row["id"]],
            measurements=tuple(measured[row["id"]]),
            events=tuple(happened[row["id"]]),
            edits=tuple(edited[row["id"]]),
            files=tuple(filed[row["id"]]),
            configs=tuple(used[row["id"]]),
        )
        for row in rows
    ]
