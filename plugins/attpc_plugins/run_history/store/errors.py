"""What can go wrong between the store and PostgreSQL.

StoreError
├── StoreUnavailable     no answer, or not now: try again later
│   ├── StoreReadOnly    the server takes no writes (a standby, or fail-over under way)
│   ├── StoreFull        the server's disk is full
│   └── StoreConflict    another transaction was in the way: this one was undone, the connection goes on
├── StoreDenied          wrong password, unknown user or database, no permission
├── StoreRejected        the database refuses the data: trying again cannot help
│   └── NoSuchRun        the database never had this run, for example after a restore of an older backup
├── NotFound             there is no such experiment, run or observable
├── Conflict             it exists already, or is in use
├── LeaseHeld            another IOC commands this fleet
├── PositionMoved        the event log was applied up to another position than this program expects
└── SchemaError          this program needs another schema
    └── SchemaTooNew     ... because a newer program changed it
"""

from __future__ import annotations

import asyncio

import asyncpg

from attpc_plugins.run_history.connection.poolers import SCARCE, advice
from attpc_plugins.run_history.connection.wire import reason_in
from attpc_plugins.run_history.errors import SchemaError, StoreError, first_line


class StoreUnavailable(StoreError):
    """The database does not answer, or cannot at the moment; the same call may work later."""


class StoreReadOnly(StoreUnavailable):
    """The server takes no writes."""


class StoreFull(StoreUnavailable):
    """The server's disk is full."""


class StoreConflict(StoreUnavailable):
    """Another transaction was in the way, as in a deadlock, and this one was undone: try again at once."""


class StoreDenied(StoreError):
    """The server refuses the login or the statement."""


class StoreRejected(StoreError):
    """The database refuses the data; trying again cannot help."""


class NoSuchRun(StoreRejected):
    """The database never had this run: it was restored from an older backup."""


class NotFound(StoreError):
    """There is no such experiment, run or observable."""


class Conflict(StoreError):
    """It exists already, or is in use."""


class LeaseHeld(StoreError):
    """Another IOC commands this fleet; the text names it."""


class PositionMoved(StoreError):
    """The event log was applied up to another position, as in an emptied database."""


_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], type[StoreError]], ...] = (
    (
        (
            asyncpg.ReadOnlySQLTransactionError,
            asyncpg.exceptions.TargetServerAttributeNotMatched,
            asyncpg.exceptions.CannotConnectNowError,
        ),
        StoreReadOnly,
    ),
    ((asyncpg.DiskFullError, asyncpg.OutOfMemoryError), StoreFull),
    (
        (
            asyncpg.exceptions.ClientConfigurationError,
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.InvalidCatalogNameError,
            asyncpg.InsufficientPrivilegeError,
        ),
        StoreDenied,
    ),
    (
        (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError, asyncpg.InvalidSchemaNameError),
        SchemaError,
    ),
    ((asyncpg.DataError, asyncpg.IntegrityConstraintViolationError), StoreRejected),
    ((asyncpg.ProgramLimitExceededError,), StoreRejected),
    ((asyncpg.exceptions.TransactionRollbackError,), StoreConflict),
    ((asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError), StoreUnavailable),
    ((TimeoutError, asyncio.TimeoutError, OSError), StoreUnavailable),
)

FAULTS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    OverflowError,
)
"""What asyncpg raises when the database or the network fails; `OverflowError` at impossible times."""


def translate(error: BaseException, *, pooler: bool = False) -> StoreError:
    """Return the store's exception for one of asyncpg or the network.

    `pooler`: whether the connection goes through a pooler, which may be what does not answer.
    """
    if reason := reason_in(error):
        return StoreUnavailable(f"database: {reason}")
    if isinstance(error, OverflowError):
        return StoreRejected("the database has a time outside the calendar")
    if known := advice(error):
        return StoreUnavailable(f"database: {known.text}")
    if pooler and isinstance(error, TimeoutError):
        return StoreUnavailable(f"the database does not answer in time; {SCARCE}")
    for kinds, made in _KINDS:
        if isinstance(error, kinds):
            # asyncpg reports a value out of its type's range as an InterfaceError that is a ValueError.
            if made is StoreUnavailable and isinstance(error, ValueError):
                made = StoreRejected
            # "cannot connect now" means that the server starts or stops; it is not a standby.
            if isinstance(error, asyncpg.exceptions.CannotConnectNowError):
                made = StoreUnavailable
            if made is SchemaError:
                return made(f"the database's schema is not what this program needs ({first_line(error)})")
            return made(_text(error))
    return StoreError(_text(error))


def _text(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "the database does not answer in time"
    return f"database: {first_line(error)}"
