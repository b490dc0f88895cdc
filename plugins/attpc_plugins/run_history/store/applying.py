"""Applying the journal's records: in order, once each, a batch in one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from attpc_plugins.run_history.store_errors import FAULTS, NoSuchRun, NotFound, StoreRejected, translate

from .base import Connection, Connections, clean, moment
from .events import apply_log, apply_operation, apply_state
from .experiments import choose, experiment_id
from .files import apply_configs, apply_files
from .puts import insert_puts
from .records import (
    ConfigsRecord,
    EditRecord,
    ExperimentRecord,
    FilesRecord,
    Known,
    LogRecord,
    MeasurementRecord,
    OperationRecord,
    PutRecord,
    Record,
    RunRecord,
    RunRef,
    StateRecord,
    UnknownRecord,
)
from .runs import apply_edit, apply_run, run_id_of
from .sheets import apply_measurement


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that the database refuses whenever it is tried, and why.

    `no_run`: because it is of a run that the database never had.
    """

    record: Known
    reason: str
    no_run: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch: all of it is committed, but for what is named here.

    `new` were applied now, `repeated` had been before. `unknown` are of a newer program: they are for it.
    """

    new: int
    repeated: int
    rejected: tuple[Rejected, ...] = ()
    unknown: tuple[UnknownRecord, ...] = ()


_STAMPS = """
    INSERT INTO attpc.applied_stamps (boot_id, seq) SELECT * FROM unnest($1::integer[], $2::bigint[])
    ON CONFLICT DO NOTHING RETURNING boot_id, seq
"""


class Applying(Connections):
    """Applying records."""

    async def apply(self, record: Record) -> bool:
        """Apply one record; returns False where it had been before, or is of a newer program.

        Raises `StoreRejected` for one that the database refuses whenever it is tried.
        """
        done = await self.apply_many((record,))
        if done.rejected:
            raise StoreRejected(done.rejected[0].reason)
        return done.new == 1

    async def apply_many(self, batch: Sequence[Record], *, limit_s: float | None = None) -> Applied:
        """Apply a batch in its order in one transaction, `limit_s` seconds at most.

        A record that the database refuses is left out and named in the result; the rest is applied. Raises
        `StoreUnavailable` and its kin where nothing of the batch is there.
        """
        unknown = tuple(record for record in batch if isinstance(record, UnknownRecord))
        known = tuple(record for record in batch if not isinstance(record, UnknownRecord))
        if not known:
            return Applied(0, 0, unknown=unknown)
        try:
            async with self._transaction(limit_s) as connection:
                new = await _apply_all(connection, known)
            return Applied(new, len(known) - new, unknown=unknown)
        except (StoreRejected, NotFound):
            return await self._one_by_one(known, unknown, limit_s)

    async def _one_by_one(
        self, known: tuple[Known, ...], unknown: tuple[UnknownRecord, ...], limit_s: float | None
    ) -> Applied:
        """Find what the database refuses, with a savepoint before each record."""
        new = 0
        rejected: list[Rejected] = []
        async with self._transaction(limit_s) as connection:
            for record in known:
                try:
                    async with _savepoint(connection):
                        new += await _apply_all(connection, (record,))
                except (StoreRejected, NotFound) as error:
                    rejected.append(Rejected(record, str(error), isinstance(error, NoSuchRun)))
        return Applied(new, len(known) - new - len(rejected), tuple(rejected), unknown)


@asynccontextmanager
async def _savepoint(connection: Connection) -> AsyncIterator[None]:
    """Undo what is done inside, and nothing else, where the database refuses it."""
    try:
        async with connection.transaction():
            yield
    except FAULTS as error:
        raise translate(error) from error


async def _apply_all(connection: Connection, records: tuple[Known, ...]) -> int:
    """Apply records that were not applied before and return how many those were."""
    boots = await _boot_ids(connection, records)
    keys = [(boots[record.stamp.ioc, record.stamp.boot], record.stamp.seq) for record in records]
    rows = await connection.fetch(_STAMPS, [key for key, _ in keys], [seq for _, seq in keys])
    fresh = {(row[0], row[1]) for row in rows}
    count = len(fresh)
    puts: list[PutRecord] = []
    for key, record in zip(keys, records, strict=True):
        if key not in fresh:
            continue
        fresh.discard(key)
        if isinstance(record, PutRecord):
            puts.append(record)
        else:
            await _apply_one(connection, key[0], record)
    if puts:
        await insert_puts(connection, puts)
    return count


async def _apply_one(connection: Connection, boot_id: int, record: Known) -> None:
    match record:
        case RunRecord():
            await apply_run(connection, boot_id, record)
        case EditRecord():
            await apply_edit(connection, record)
        case ExperimentRecord():
            await experiment_id(connection, record.experiment)
            await choose(connection, clean(record.experiment), moment(record.time_s))
        case StateRecord():
            await apply_state(connection, boot_id, record, await _maybe_run(connection, record.run))
        case OperationRecord():
            await apply_operation(connection, boot_id, record, await _maybe_run(connection, record.run))
        case LogRecord():
            await apply_log(connection, record, await _maybe_run(connection, record.run))
        case MeasurementRecord():
            run_id = await run_id_of(connection, record.run)
            if run_id is not None:
                await apply_measurement(connection, run_id, record)
        case FilesRecord() | ConfigsRecord():
            run_id = await run_id_of(connection, record.run)
            if run_id is not None:
                await (
                    apply_files(connection, run_id, record)
                    if isinstance(record, FilesRecord)
                    else apply_configs(connection, run_id, record)
                )
        case PutRecord():
            await insert_puts(connection, [record])


async def _maybe_run(connection: Connection, ref: RunRef | None) -> int | None:
    """Return the id of the run that something happened in; it is kept without, where there is no such run."""
    if ref is None:
        return None
    try:
        return await run_id_of(connection, ref)
    except StoreRejected:
        return None


async def _boot_ids(connection: Connection, records: tuple[Known, ...]) -> dict[tuple[str, str], int]:
    ids: dict[tuple[str, str], int] = {}
    for pair in {(record.stamp.ioc, record.stamp.boot) for record in records}:
        named = tuple(clean(part) for part in pair)
        found = await connection.fetchval("SELECT id FROM attpc.boots WHERE ioc = $1 AND boot = $2", *named)
        if found is None:
            await connection.execute(
                "INSERT INTO attpc.boots (ioc, boot) VALUES ($1, $2) ON CONFLICT DO NOTHING", *named
            )
            found = await connection.fetchval(
                "SELECT id FROM attpc.boots WHERE ioc = $1 AND boot = $2", *named
            )
        ids[pair] = found
    return ids
