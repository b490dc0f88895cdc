"""Applies records in order: a batch in one transaction, together with the position in the event log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Put
from attpc_ioc.model.events import OperationEnded, RunConfigs, RunFiles, StateChanged
from attpc_plugins.run_history.errors import StoreError
from attpc_plugins.run_history.store.connections import Connection, Connections, clean, moment
from attpc_plugins.run_history.store.errors import (
    FAULTS,
    NoSuchRun,
    NotFound,
    PositionMoved,
    StoreRejected,
    translate,
)
from attpc_plugins.run_history.store.experiments import choose, experiment_id
from attpc_plugins.run_history.store.model.records import (
    EditRecord,
    ExperimentRecord,
    LogRecord,
    MeasurementRecord,
    Record,
    RunRecord,
    RunRef,
    stamp_of,
)
from attpc_plugins.run_history.store.observables import apply_measurement
from attpc_plugins.run_history.store.puts import insert_puts

from .events import apply_log, apply_operation, apply_state
from .files import apply_configs, apply_files
from .runs import apply_edit, apply_run, run_id_of

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Step:
    """A step along an event log: the records of the events after position `after`, up to `upto`."""

    log_id: str
    ioc: str
    after: int
    upto: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that the database always refuses, and why.

    `no_run`: because the database never had its run.
    """

    record: Record
    reason: str
    no_run: bool = False


@dataclass(frozen=True, slots=True)
class Applied:
    """The result of a batch: all of it is committed except the rejected records.

    `new` counts those applied now, `repeated` those applied before.
    """

    new: int
    repeated: int
    rejected: tuple[Rejected, ...] = ()


_STAMPS = """
    INSERT INTO attpc.applied_stamps (boot_id, seq) SELECT * FROM unnest($1::integer[], $2::bigint[])
    ON CONFLICT DO NOTHING RETURNING boot_id, seq
"""

_MOVE = """
    INSERT INTO attpc.log_positions AS p (log_id, ioc, position) VALUES ($1, $2, $3)
    ON CONFLICT (log_id) DO UPDATE SET ioc = excluded.ioc, position = excluded.position, moved_at = now()
    WHERE p.position = $4 RETURNING p.position
"""


class Applying(Connections):
    """Applying records."""

    async def position(self, log_id: str) -> int:
        """Return the position up to which an event log was applied; 0 for an unknown one."""
        async with self._use() as connection:
            return await _position(connection, log_id)

    async def follow(self, batch: Sequence[Record], step: Step, *, limit_s: float | None = None) -> Applied:
        """Apply the records of a step along an event log, and its position, in one transaction.

        Raises `PositionMoved` if the database is not at the position where the step begins; otherwise raises
        as `apply_many`.
        """
        return await self._apply(batch, step, limit_s)

    async def apply_many(self, batch: Sequence[Record], *, limit_s: float | None = None) -> Applied:
        """Apply a batch in order in one transaction of at most `limit_s` seconds; each stamp counts once.

        A record that the database refuses is left out and named in the result. Raises `StoreUnavailable` and
        the like if nothing of the batch was applied.
        """
        return await self._apply(batch, None, limit_s)

    async def _apply(self, batch: Sequence[Record], step: Step | None, limit_s: float | None) -> Applied:
        try:
            async with self._stepping(step, limit_s) as connection:
                new = await _apply_all(connection, batch, once=step is None)
            return Applied(new, len(batch) - new)
        except (StoreRejected, NotFound):
            pass
        except StoreError:
            raise
        except Exception:  # a record that fails here must not block the rest
            log.exception("records cannot be applied", count=len(batch))
        return await self._one_by_one(batch, step, limit_s)

    async def _one_by_one(self, batch: Sequence[Record], step: Step | None, limit_s: float | None) -> Applied:
        """Apply records one by one, each after a savepoint, to find those that the database refuses."""
        new = 0
        rejected: list[Rejected] = []
        async with self._stepping(step, limit_s) as connection:
            for record in batch:
                try:
                    async with _savepoint(connection):
                        new += await _apply_all(connection, (record,), once=step is None)
                except (StoreRejected, NotFound) as error:
                    rejected.append(Rejected(record, str(error), isinstance(error, NoSuchRun)))
                except StoreError:
                    raise
                except Exception as error:  # as above
                    rejected.append(Rejected(record, f"fault of the program: {error!r}"))
        return Applied(new, len(batch) - new - len(rejected), tuple(rejected))

    @asynccontextmanager
    async def _stepping(self, step: Step | None, limit_s: float | None) -> AsyncIterator[Connection]:
        """Give a connection in a transaction that also moves the position of the log."""
        async with self._transaction(limit_s) as connection:
            if step is not None:
                await _move(connection, step)
            yield connection


async def _move(connection: Connection, step: Step) -> None:
    there = await _position(connection, step.log_id)
    if there == step.after:
        there = await connection.fetchval(_MOVE, clean(step.log_id), clean(step.ioc), step.upto, step.after)
        if there == step.upto:
            return
    raise PositionMoved(f"the database has the event log up to {there}, and not up to {step.after}")


async def _position(connection: Connection, log_id: str) -> int:
    found = await connection.fetchval(
        "SELECT position FROM attpc.log_positions WHERE log_id = $1", clean(log_id)
    )
    return 0 if found is None else found


@asynccontextmanager
async def _savepoint(connection: Connection) -> AsyncIterator[None]:
    """Undo only what is done inside if the database refuses it."""
    try:
        async with connection.transaction():
            yield
    except FAULTS as error:
        raise translate(error) from error


async def _apply_all(connection: Connection, records: Sequence[Record], *, once: bool) -> int:
    """Apply records and return how many; `once` skips those whose stamps were applied before."""
    boots = await _boot_ids(connection, records)
    fresh: set[tuple[int, int]] = set()
    stamps = [stamp_of(record) for record in records]
    keys = [(boots[stamp.ioc, stamp.boot], stamp.seq) for stamp in stamps]
    if once and records:
        rows = await connection.fetch(_STAMPS, [key for key, _ in keys], [seq for _, seq in keys])
        fresh = {(row[0], row[1]) for row in rows}
    count = 0
    puts: list[Put] = []
    for key, record in zip(keys, records, strict=True):
        if once and key not in fresh:
            continue
        fresh.discard(key)
        count += 1
        if isinstance(record, Put):
            puts.append(record)
        else:
            await _apply_one(connection, key[0], record)
    if puts:
        await insert_puts(connection, puts)
    return count


async def _apply_one(connection: Connection, boot_id: int, record: Record) -> None:
    match record:
        case RunRecord():
            await apply_run(connection, boot_id, record)
        case EditRecord():
            await apply_edit(connection, record)
        case ExperimentRecord():
            await experiment_id(connection, record.experiment)
            await choose(connection, clean(record.experiment), moment(record.time_s))
        case StateChanged():
            await apply_state(connection, boot_id, record, await _maybe_run(connection, record.run))
        case OperationEnded():
            await apply_operation(connection, boot_id, record, await _maybe_run(connection, record.run))
        case LogRecord():
            await apply_log(connection, record, await _maybe_run(connection, record.run))
        case MeasurementRecord():
            run_id = await run_id_of(connection, record.run)
            if run_id is not None:
                await apply_measurement(connection, run_id, record)
        case RunFiles() | RunConfigs():
            run_id = await run_id_of(connection, RunRef(record.experiment, record.number))
            if run_id is not None:
                await (
                    apply_files(connection, run_id, record)
                    if isinstance(record, RunFiles)
                    else apply_configs(connection, run_id, record)
                )
        case Put():
            await insert_puts(connection, [record])


async def _maybe_run(connection: Connection, ref: RunRef | None) -> int | None:
    """Return the id of the record's run; None if there is no such run: the record is kept without it."""
    if ref is None:
        return None
    try:
        return await run_id_of(connection, ref)
    except StoreRejected:
        return None


async def _boot_ids(connection: Connection, records: Sequence[Record]) -> dict[tuple[str, str], int]:
    ids: dict[tuple[str, str], int] = {}
    for pair in {(stamp.ioc, stamp.boot) for stamp in map(stamp_of, records)}:
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
