"""Queries and changes of the `db` commands: facts, largest numbers, setting a schema aside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

SCHEMA = "attpc"
"""The schema of the run history."""


@dataclass(frozen=True, slots=True)
class HeldLease:
    """Which IOC commands a fleet; `remaining_s` is negative for an expired lease."""

    fleet: str
    ioc: str
    host: str
    remaining_s: float


@dataclass(frozen=True, slots=True)
class Facts:
    """Contents of a database; `size` is that of the whole database in bytes."""

    server: str
    size: int
    runs: int
    experiments: int
    last_run: datetime | None
    leases: tuple[HeldLease, ...]


async def facts(connection: Any, *, has_schema: bool) -> Facts:
    """Return the contents of the database; without the schema only the server's facts."""
    server = await connection.fetchval("SHOW server_version")
    size = await connection.fetchval("SELECT pg_database_size(current_database())")
    if not has_schema:
        return Facts(server, size, 0, 0, None, ())
    runs, last = await connection.fetchrow("SELECT count(*), max(listed_at) FROM attpc.runs")
    experiments = await connection.fetchval("SELECT count(*) FROM attpc.experiments")
    return Facts(server, size, runs, experiments, last, await leases(connection))


async def leases(connection: Any) -> tuple[HeldLease, ...]:
    """Return all leases, expired ones too."""
    rows = await connection.fetch(
        "SELECT fleet, ioc, host, extract(epoch FROM expires_at - clock_timestamp())::double precision "
        "FROM attpc.leases ORDER BY fleet"
    )
    return tuple(HeldLease(*row) for row in rows)


async def largest_numbers(connection: Any) -> dict[str, int]:
    """Return the largest run number of each experiment that has one."""
    rows = await connection.fetch(
        "SELECT e.name, max(r.number) FROM attpc.runs r JOIN attpc.experiments e ON e.id = r.experiment_id "
        "GROUP BY e.name"
    )
    return {str(name): int(number) for name, number in rows}


async def has_schema(connection: Any) -> bool:
    """Return whether there is a run history in the database, of whatever version."""
    return bool(await connection.fetchval("SELECT to_regclass('attpc.schema_migrations') IS NOT NULL"))


async def forget_leases(connection: Any) -> None:
    """Delete all leases: those of a backup were held when it was made."""
    await connection.execute("DELETE FROM attpc.leases")


async def put_aside(connection: Any, name: str) -> None:
    """Give the schema another name, which is made of letters, digits and _."""
    await connection.execute(f'ALTER SCHEMA {SCHEMA} RENAME TO "{name}"')


async def referring(connection: Any) -> dict[str, set[str]]:
    """Return the schema's tables, each with the others that its rows refer to."""
    pairs = await connection.fetch(
        "SELECT t.relname, o.relname FROM pg_class t "
        "LEFT JOIN pg_constraint f ON f.conrelid = t.oid AND f.contype = 'f' AND f.confrelid <> t.oid "
        "LEFT JOIN pg_class o ON o.oid = f.confrelid "
        "WHERE t.relnamespace = to_regnamespace($1) AND t.relkind = 'r'",
        SCHEMA,
    )
    found: dict[str, set[str]] = {}
    for table, other in pairs:
        found.setdefault(table, set()).update(() if other is None else (other,))
    return found


async def set_position(connection: Any, sequence: str, value: int, called: bool) -> None:
    """Have a sequence of the schema go on behind a value, or with it where it was not `called` yet."""
    await connection.execute(
        "SELECT setval(format('%I.%I', $1::text, $2::text)::regclass, $3, $4)",
        SCHEMA,
        sequence,
        value,
        called,
    )


async def impossible_times(connection: Any) -> list[str]:
    """Return the columns with times that Python's calendar does not have, as `table.column`."""
    columns = await connection.fetch(
        "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND a.attnum > 0 "
        "AND a.atttypid = 'timestamptz'::regtype ORDER BY 1, a.attnum",
        SCHEMA,
    )
    found: list[str] = []
    for table, column in columns:
        query = (
            f'SELECT EXISTS (SELECT FROM {SCHEMA}."{table}" WHERE "{column}" '
            "NOT BETWEEN '0001-01-02Z' AND '9999-12-30Z')"
        )
        if await connection.fetchval(query):
            found.append(f"{table}.{column}")
    return found
