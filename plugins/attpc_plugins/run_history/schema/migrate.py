"""Migrations of the database: numbered SQL files, forward only, checksummed, one transaction each.

The files are `db/migrations/NNNN_what.sql` of the source tree; in the package they are
`attpc_plugins/run_history/schema/migrations/`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import asyncpg

from attpc_ioc.log import get_logger
from attpc_plugins.run_history.errors import SchemaError, SchemaTooNew

log = get_logger(__name__)

FOLDER = "migrations"
LOCK_KEY = 0x61747470
"""The advisory lock that lets one program migrate at a time ("attp")."""
LOCK_LIMIT_S = 30
OLDEST_SERVER = 140000
"""PostgreSQL 14 as `server_version_num`."""

_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")

_BOOKKEEPING = """
CREATE SCHEMA IF NOT EXISTS attpc;
CREATE TABLE IF NOT EXISTS attpc.schema_migrations (
    version    integer PRIMARY KEY CHECK (version > 0),
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, its name without folder, and its SQL."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the SQL, in hexadecimal; line ends do not count."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """The state of a database compared with this program's migrations.

    `version` is the newest applied (0: none), `known` the newest of this program. `pending` are names still
    to apply; `changed` those whose file differs from what was applied; `unknown` those that a newer program
    applied.
    """

    version: int
    known: int
    applied: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    @property
    def too_new(self) -> bool:
        """Whether a newer program has changed the schema."""
        return bool(self.unknown)

    @property
    def ready(self) -> bool:
        """Whether this program can use the database without migrating it."""
        return not (self.pending or self.changed or self.unknown)

    def check(self) -> None:
        """Raise `SchemaTooNew` or `SchemaError` if this program cannot use or migrate the database."""
        if self.unknown:
            raise SchemaTooNew(
                f"the database has schema version {self.version} ({', '.join(self.unknown)}), this program "
                f"knows up to {self.known}: use a newer attpc-ioc"
            )
        if self.changed:
            raise SchemaError(
                f"migration {', '.join(self.changed)} was changed after it was applied to this database: "
                "restore the file; a change of the schema needs a new file"
            )


@cache
def migrations() -> tuple[Migration, ...]:
    """Return the program's migrations in their order.

    Raises `SchemaError` if the files are not named `NNNN_what.sql`, numbered from 1 without a gap.
    """
    found: list[Migration] = []
    for file in resources.files(__package__ or "").joinpath(FOLDER).iterdir():
        if not file.name.endswith(".sql"):
            continue
        match = _NAME.fullmatch(file.name)
        if match is None:
            raise SchemaError(f"{file.name}: a migration is named NNNN_what.sql")
        found.append(Migration(int(match[1]), file.name.removesuffix(".sql"), file.read_text("utf-8")))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)) or not found:
        raise SchemaError(
            f"migrations are not numbered 1, 2, 3 and so on: {', '.join(m.name for m in found) or 'none'}"
        )
    return tuple(found)


async def status(
    connection: asyncpg.Connection, known: tuple[Migration, ...] | None = None
) -> MigrationStatus:
    """Compare the database with the migrations; changes nothing."""
    exists = await connection.fetchval("SELECT to_regclass('attpc.schema_migrations') IS NOT NULL")
    rows = (
        await connection.fetch("SELECT version, name, checksum FROM attpc.schema_migrations ORDER BY version")
        if exists
        else []
    )
    return compare(rows, known)


def compare(rows: Sequence[Any], known: tuple[Migration, ...] | None = None) -> MigrationStatus:
    """Compare the rows of `attpc.schema_migrations`, in the order of versions, with the migrations."""
    known = migrations() if known is None else known
    applied = {int(row["version"]): row for row in rows}
    files = {migration.version: migration for migration in known}
    return MigrationStatus(
        version=max(applied, default=0),
        known=max(files, default=0),
        applied=tuple(str(row["name"]) for row in rows),
        pending=tuple(m.name for v, m in files.items() if v not in applied),
        changed=tuple(
            m.name for v, m in files.items() if v in applied and applied[v]["checksum"] != m.checksum
        ),
        unknown=tuple(str(row["name"]) for v, row in applied.items() if v not in files),
    )


async def migrate(connection: asyncpg.Connection, known: tuple[Migration, ...] | None = None) -> list[str]:
    """Bring the database to this program's schema and return the names of applied migrations.

    Each migration is one transaction under an advisory lock, so that two programs at a time apply it once and
    one that dies leaves nothing half done. Raises `SchemaTooNew`, or `SchemaError` for a changed file, an old
    or non-UTF-8 server, a migration that fails, runs in a schema of unknown version, or another program
    migrating for over 30 s.
    """
    known = migrations() if known is None else known
    await _check_server(connection)
    done: list[str] = []
    for migration in known:
        async with connection.transaction():
            try:
                await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_LIMIT_S}s'")
                await connection.execute(
                    "SELECT pg_advisory_xact_lock($1)", LOCK_KEY, timeout=LOCK_LIMIT_S + 5
                )
            except asyncpg.LockNotAvailableError as error:
                raise SchemaError("another program is migrating the database") from error
            if await _needs(connection, migration, known):
                await _apply(connection, migration)
                done.append(migration.name)
    return done


async def _check_server(connection: asyncpg.Connection) -> None:
    version = int(await connection.fetchval("SHOW server_version_num") or 0)
    if version < OLDEST_SERVER:
        raise SchemaError(f"PostgreSQL {version // 10000} is too old: 14 or newer is needed")
    encoding = await connection.fetchval("SELECT current_setting('server_encoding')")
    if encoding != "UTF8":
        raise SchemaError(f"the database has the encoding {encoding}: create it with ENCODING 'UTF8'")


async def _needs(connection: asyncpg.Connection, migration: Migration, known: tuple[Migration, ...]) -> bool:
    """Compare again, now that nobody else migrates."""
    now = await status(connection, known)
    now.check()
    if not now.version and await connection.fetchval("SELECT to_regclass('attpc.runs') IS NOT NULL"):
        raise SchemaError(
            "there are runs in the database, but attpc.schema_migrations is missing or empty, so the version "
            "of their schema is unknown: restore that table, or the database from a backup"
        )
    return migration.name in now.pending


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    try:
        await connection.execute(_BOOKKEEPING)
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO attpc.schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
            migration.version,
            migration.name,
            migration.checksum,
        )
    except asyncpg.PostgresError as error:
        raise SchemaError(f"migration {migration.name} failed: {error}") from error
    log.info("database migrated", migration=migration.name)
