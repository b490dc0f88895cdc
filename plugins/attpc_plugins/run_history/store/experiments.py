"""Experiments: their names, and which one is current."""

from __future__ import annotations

from datetime import datetime

import asyncpg

from attpc_plugins.run_history.store.model.history import Experiment
from attpc_plugins.run_history.store.rows import made_of

from .connections import Connection, Connections, clean
from .errors import Conflict, NotFound, StoreRejected

NAME_MAX = 200

_SELECT = """
    SELECT e.name, e.is_current, e.comment, e.created_at,
           (SELECT max(r.number) FROM attpc.runs r WHERE r.experiment_id = e.id) AS last_number
    FROM attpc.experiments e
"""


class Experiments(Connections):
    """Reading and changing experiments."""

    async def experiments(self, *, counted: bool = False) -> tuple[Experiment, ...]:
        """Return all, by name; with `counted` also how many runs each has (slow with a million runs)."""
        async with self._transaction(read_only=True) as connection:
            rows = await connection.fetch(f"{_SELECT} ORDER BY e.name")
            counts: dict[str, int] = {}
            if counted:
                counts = dict(
                    await connection.fetch(
                        "SELECT e.name, count(r.id) FROM attpc.experiments e LEFT JOIN attpc.runs r "
                        "ON r.experiment_id = e.id AND r.state <> 'reserved' GROUP BY e.name"
                    )
                )
        return tuple(_experiment(row, counts.get(row["name"], -1)) for row in rows)

    async def experiment(self, name: str) -> Experiment:
        """Return one experiment, runs not counted; raises `NotFound`."""
        async with self._use() as connection:
            row = await connection.fetchrow(f"{_SELECT} WHERE e.name = $1", clean(name))
        if row is None:
            raise _no_experiment(name)
        return _experiment(row, -1)

    async def current_experiment(self) -> Experiment | None:
        """Return the current experiment; None if none was ever selected."""
        async with self._use() as connection:
            row = await connection.fetchrow(f"{_SELECT} WHERE e.is_current")
        return None if row is None else _experiment(row, -1)

    async def experiments_with(self, number: int) -> tuple[str, ...]:
        """Return the experiments that have a run of this number, by name."""
        async with self._use() as connection:
            rows = await connection.fetch(
                "SELECT e.name FROM attpc.experiments e WHERE EXISTS (SELECT FROM attpc.runs r "
                "WHERE r.experiment_id = e.id AND r.number = $1::bigint AND r.state <> 'reserved') "
                "ORDER BY e.name",
                number,
            )
        return tuple(row["name"] for row in rows)

    async def create_experiment(self, name: str, comment: str = "", *, select: bool = False) -> None:
        """Create an experiment; with `select` it becomes current. Raises `Conflict` if it exists."""
        name = checked_name(name)
        async with self._transaction() as connection:
            done = await connection.execute(
                "INSERT INTO attpc.experiments (name, comment) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                name,
                clean(comment),
            )
            if done == "INSERT 0 0":
                raise Conflict(f"experiment {name!r} exists already")
            if select:
                await choose(connection, name, None)

    async def select_experiment(self, name: str, *, create: bool = False) -> None:
        """Make an experiment current; raises `NotFound` unless `create` creates it."""
        name = checked_name(name)
        async with self._transaction() as connection:
            if create:
                await experiment_id(connection, name)
            if not await choose(connection, name, None):
                raise _no_experiment(name)

    async def rename_experiment(self, old: str, new: str) -> None:
        """Rename an experiment; raises `NotFound`, or `Conflict` if the new name exists."""
        new = checked_name(new)
        async with self._transaction() as connection:
            try:
                done = await connection.execute(
                    "UPDATE attpc.experiments SET name = $2 WHERE name = $1", clean(old), new
                )
            except asyncpg.UniqueViolationError as error:
                raise Conflict(f"experiment {new!r} exists already") from error
        if done == "UPDATE 0":
            raise _no_experiment(old)

    async def comment_experiment(self, name: str, comment: str) -> None:
        """Set an experiment's comment; raises `NotFound`."""
        async with self._use() as connection:
            done = await connection.execute(
                "UPDATE attpc.experiments SET comment = $2 WHERE name = $1", clean(name), clean(comment)
            )
        if done == "UPDATE 0":
            raise _no_experiment(name)


def checked_name(name: str) -> str:
    """Return the name if an experiment may have it; otherwise raise `StoreRejected`."""
    name = clean(name)
    if not name.strip() or len(name) > NAME_MAX or any(c in name for c in "\n\r\t"):
        raise StoreRejected(
            f"an experiment's name has 1 to {NAME_MAX} characters in one line, not {name[:50]!r}"
        )
    return name


async def experiment_id(connection: Connection, name: str) -> int:
    """Return the id of an experiment; create it if needed."""
    name = checked_name(name)
    found = await connection.fetchval("SELECT id FROM attpc.experiments WHERE name = $1", name)
    if found is None:
        await connection.execute(
            "INSERT INTO attpc.experiments (name) VALUES ($1) ON CONFLICT DO NOTHING", name
        )
        found = await connection.fetchval("SELECT id FROM attpc.experiments WHERE name = $1", name)
    return found


async def known_experiment_id(connection: Connection, name: str) -> int:
    """Return the id of an experiment; raises `NotFound`."""
    found = await connection.fetchval("SELECT id FROM attpc.experiments WHERE name = $1", clean(name))
    if found is None:
        raise _no_experiment(name)
    return found


async def choose(connection: Connection, name: str, at: datetime | None) -> bool:
    """Make an experiment current unless another one became so after `at` (None: now).

    Returns False if it does not exist.
    """
    # One at a time: two at once would conflict in the unique index of the current experiment.
    await connection.execute("LOCK TABLE attpc.experiments IN SHARE ROW EXCLUSIVE MODE")
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM attpc.experiments WHERE name = $1)", name):
        return False
    later = at is not None and await connection.fetchval(
        "SELECT EXISTS (SELECT FROM attpc.experiments WHERE is_current AND chosen_at > $1)", at
    )
    if not later:
        await connection.execute(
            "UPDATE attpc.experiments SET is_current = false WHERE is_current AND name <> $1", name
        )
        await connection.execute(
            "UPDATE attpc.experiments SET is_current = true, chosen_at = coalesce($2, clock_timestamp()) "
            "WHERE name = $1",
            name,
            at,
        )
    return True


def _no_experiment(name: str) -> NotFound:
    return NotFound(f"there is no experiment {name[:200]!r}")


def _experiment(row: Connection, runs: int) -> Experiment:
    last = row["last_number"]
    return made_of(Experiment, row, runs=runs, next_number=-1 if last is None else last + 1)
