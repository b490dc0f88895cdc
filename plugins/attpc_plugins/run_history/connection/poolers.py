"""Connections through a pooler such as PgBouncer: how to recognise them, and the meaning of their faults.

A pooler may give each transaction another of its server connections (`pool_mode = transaction`). So nothing
is kept in a session: no settings, no prepared statements.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg

from attpc_plugins.run_history.errors import first_line

LEAST = 4
"""Maximum server connections of one IOC."""

SCARCE = (
    f"a pooler is in between: does it have {LEAST} server connections for each IOC ('default_pool_size', "
    "'max_db_connections' in pgbouncer.ini)?"
)

SESSION = "set 'pool_mode = session' for this database in pgbouncer.ini, or name the server itself"


class SharedConnection(asyncpg.Connection):
    """A connection through a pooler."""

    shared = True


def is_shared(connection: Any) -> bool:
    """Return whether a connection, or its proxy from asyncpg's pool, goes through a pooler."""
    return bool(getattr(connection, "shared", False))


async def settle(connection: Any, settings: Mapping[str, str]) -> bool:
    """Apply the settings to the session unless a pooler is in between; return whether there is none.

    A pooler reports another server process number to its clients than the server's own. One statement does
    both, in the simple protocol: it leaves nothing in a server connection that others use next.
    """
    given = "".join(f", set_config('{name}', '{value}', false)" for name, value in settings.items())
    done = await connection.execute(f"SELECT 1{given} WHERE pg_backend_pid() = {connection.get_server_pid()}")
    return done == "SELECT 1"


async def shares_sessions(first: Any, second: Any) -> bool:
    """Return whether two open connections were seen on one server connection, or one of them on several.

    That happens with pooling by transactions, never with pooling by sessions.
    """
    seen: list[set[int]] = [set(), set()]
    for _ in range(4):
        for pids, connection in zip(seen, (first, second), strict=True):
            pids.add(await connection.fetchval("SELECT pg_backend_pid()"))
    return bool(seen[0] & seen[1]) or any(len(pids) > 1 for pids in seen)


@dataclass(frozen=True, slots=True)
class Advice:
    """The meaning of a pooler's message and what to set; `passing`: it may pass by itself."""

    text: str
    passing: bool


_SETTINGS = (
    (
        r"unsupported startup parameter[^:]*: *(?P<what>\S+)",
        "the pooler does not accept {what}=: leave it out of the URL, or add it to "
        "'ignore_startup_parameters' in pgbouncer.ini",
    ),
    (
        r"transaction blocks not allowed",
        "the pooler accepts no transactions: set 'pool_mode = session' or 'transaction' for this database "
        "in pgbouncer.ini",
    ),
    (
        r"bouncer config error|no such database",
        "the pooler knows no such database: add it to [databases] in pgbouncer.ini",
    ),
    (
        r'database "[^"]*" does not exist',
        "the server behind the pooler has no such database; on the server: CREATE DATABASE",
    ),
    (
        r"SASL authentication failed|auth failed|no such user|login rejected",
        "the pooler knows no such role or password (its auth_file or auth_query); give the password by "
        "PGPASSWORD, by ~/.pgpass or in the URL",
    ),
    (
        r"prepared statement \"[^\"]*\" (does not exist|already exists)",
        f"a pooler that gives each transaction another server connection was not recognised: {SESSION}",
    ),
)

_PASSING = (
    (
        r"query_wait_timeout",
        f"the pooler had no server connection free in time: give it at least {LEAST} for each IOC "
        "('default_pool_size', 'max_db_connections' in pgbouncer.ini), and see that its server runs",
    ),
    (
        r"max_client_conn|no more connections allowed",
        "the pooler accepts no more clients: raise 'max_client_conn' in pgbouncer.ini, or close idle ones",
    ),
    (
        r"server login|server_login_retry|cannot connect to server|connect failed",
        "the pooler runs, but the PostgreSQL server behind it is down or rejects it; the IOC tries again",
    ),
    (r"is disabled|is paused|shutting down|admin", "the pooler is switched off for now; the IOC tries again"),
)

_TELLING = (
    asyncpg.ProtocolViolationError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.InvalidSQLStatementNameError,
    asyncpg.DuplicatePreparedStatementError,
)
"""asyncpg's exceptions for a pooler's own messages."""


def advice(error: BaseException) -> Advice | None:
    """Return the meaning of a pooler's message; None if it is not from a pooler."""
    if not isinstance(error, _TELLING):
        return None
    for patterns, passing in ((_SETTINGS, False), (_PASSING, True)):
        for pattern, text in patterns:
            if match := re.search(pattern, first_line(error)):
                return Advice(text.format(**match.groupdict()), passing)
    return None
