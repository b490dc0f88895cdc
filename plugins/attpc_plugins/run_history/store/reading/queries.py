"""Reads the history: lists of runs, one run with its details, the open run, log entries."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from attpc_ioc.model.command import Who
from attpc_plugins.run_history.store.applying.runs import write_edit
from attpc_plugins.run_history.store.connections import Connection, Connections, clean
from attpc_plugins.run_history.store.errors import NotFound
from attpc_plugins.run_history.store.model.history import (
    ALL_RUNS,
    NOBODY,
    Cursor,
    LogEntry,
    Run,
    RunChanges,
    RunDetail,
    RunFilter,
    RunPage,
)
from attpc_plugins.run_history.store.model.values import Value
from attpc_plugins.run_history.store.observables import write_entered
from attpc_plugins.run_history.store.rows import RUN_COLUMNS, RUNS_FROM, made_of

from .details import details_of, modules_of
from .where import Where

STREAM_BATCH = 500
"""Runs that a stream has in memory at a time."""

LISTED_COMMENT = 1000
"""Characters of each comment in `last_runs`."""
LISTED_COLUMNS = RUN_COLUMNS.replace("r.comment", f"left(r.comment, {LISTED_COMMENT}) AS comment")

_NO_RUN = "there is no run {} of experiment {!r}"


class Queries(Connections):
    """Reading and editing runs."""

    async def runs(
        self,
        which: RunFilter = ALL_RUNS,
        *,
        limit: int = 50,
        after: Cursor | None = None,
        columns: str = RUN_COLUMNS,
    ) -> RunPage:
        """Return a page of runs, newest first: `after` is `next` of the page before, with the same filter.

        In one experiment and without a time range they are ordered by number, otherwise by start.
        """
        async with self._use() as connection:
            where, order = await _where(connection, which, after)
            rows = await connection.fetch(
                f"SELECT {columns} FROM {RUNS_FROM} {where} ORDER BY {order} LIMIT {where.bind(limit + 1)}",
                *where.values,
            )
        shown = rows[:limit]
        more = len(rows) > limit and shown
        return RunPage(tuple(made_of(Run, row) for row in shown), _cursor(shown[-1]) if more else None)

    async def last_runs(self, count: int = 50, *, experiment: str | None = None) -> tuple[Run, ...]:
        """Return the newest runs, newest first, each with `LISTED_COMMENT` characters of its comment."""
        return (await self.runs(RunFilter(experiment=experiment), limit=count, columns=LISTED_COLUMNS)).runs

    async def run(self, experiment: str, number: int) -> RunDetail:
        """Return one run with its modules, measurements, events and edits; raises `NotFound`."""
        async with self._transaction(read_only=True) as connection:
            row = await connection.fetchrow(
                f"SELECT {RUN_COLUMNS} FROM {RUNS_FROM} WHERE e.name = $1 AND r.number = $2::bigint",
                clean(experiment),
                number,
            )
            if row is None:
                raise NotFound(_NO_RUN.format(number, experiment))
            (detail,) = await details_of(connection, [row])
        return detail

    async def open_run(self, fleet: str) -> RunDetail | None:
        """Return the newest run of a fleet that is starting, running or stopping; None if there is none.

        It has only its modules: the other details may be too large for an answer.
        """
        async with self._transaction(read_only=True) as connection:
            row = await connection.fetchrow(
                f"SELECT {RUN_COLUMNS} FROM {RUNS_FROM} WHERE r.fleet = $1 "
                "AND r.state <> 'ended' AND r.state <> 'reserved' ORDER BY r.id DESC LIMIT 1",
                clean(fleet),
            )
            if row is None:
                return None
            modules = await modules_of(connection, [row["id"]])
        return RunDetail(made_of(Run, row), modules.get(row["id"], ()))

    async def count_runs(self, which: RunFilter = ALL_RUNS) -> int:
        """Return how many runs match; takes about 0.1 s for a million."""
        async with self._use() as connection:
            where, _ = await _where(connection, which, None)
            return await connection.fetchval(f"SELECT count(*) FROM {RUNS_FROM} {where}", *where.values)

    async def stream(
        self, which: RunFilter = ALL_RUNS, *, events: bool = True
    ) -> AsyncGenerator[RunDetail, None]:
        """Yield all matching runs with their details, oldest first, as of one moment.

        It uses a cursor of the server, so memory stays flat; each step has a time limit, the whole has none.
        Close it (`contextlib.aclosing`) when leaving early.
        """
        async with aclosing(self._batches(which, events)) as batches:
            async for batch in batches:
                for detail in batch:
                    yield detail

    async def _batches(self, which: RunFilter, events: bool) -> AsyncGenerator[list[RunDetail], None]:
        async with self._streaming() as connection:
            where, order = await _where(connection, which, None)
            query = f"SELECT {RUN_COLUMNS} FROM {RUNS_FROM} {where} ORDER BY {order.replace('DESC', 'ASC')}"
            cursor = await connection.cursor(query, *where.values)
            while rows := await cursor.fetch(STREAM_BATCH):
                yield await details_of(connection, rows, events=events)

    async def edit(
        self,
        experiment: str,
        number: int,
        changes: RunChanges,
        *,
        values: Mapping[str, Value] | None = None,
        who: Who = NOBODY,
    ) -> Run:
        """Change the texts of a run and values of observables, now, and return the run.

        All or nothing: raises `NotFound` for the run or an observable, `StoreRejected` for a value that is
        not of its observable's kind.
        """
        async with self._transaction() as connection:
            query = f"SELECT {RUN_COLUMNS} FROM {RUNS_FROM} WHERE e.name = $1 AND r.number = $2::bigint"
            row = await connection.fetchrow(f"{query} FOR UPDATE OF r", clean(experiment), number)
            if row is None:
                raise NotFound(_NO_RUN.format(number, experiment))
            await write_edit(connection, row["id"], changes, who, None)
            for name, value in (values or {}).items():
                await write_entered(connection, experiment, number, name, value, who=who)
            return made_of(Run, await connection.fetchrow(query, clean(experiment), number))

    async def log_entries(
        self, *, limit: int = 20, alarming: bool = True, run: tuple[str, int] | None = None
    ) -> tuple[LogEntry, ...]:
        """Return the newest log entries, newest first: warnings and errors, or all; of one run, or of any."""
        where = Where()
        if alarming:
            where.add("l.level <> 'info'")
        if run is not None:
            where.equal("e.name", clean(run[0]))
            where.equal("r.number", run[1])
        async with self._use() as connection:
            rows = await connection.fetch(
                "SELECT l.logged_at, l.level, l.text, l.source, e.name AS experiment, r.number "
                "FROM attpc.log_entries l LEFT JOIN attpc.runs r ON r.id = l.run_id "
                f"LEFT JOIN attpc.experiments e ON e.id = r.experiment_id {where} "
                f"ORDER BY l.logged_at DESC, l.id DESC LIMIT {where.bind(limit)}",
                *where.values,
            )
        return tuple(made_of(LogEntry, row) for row in rows)


def _cursor(row: Connection) -> Cursor:
    return Cursor(row["listed_at"], row["id"], row["number"])


async def _where(connection: Connection, which: RunFilter, after: Cursor | None) -> tuple[Where, str]:
    """Return the conditions of a filter, and the order that an index supports."""
    where = Where()
    if which.experiment is not None:
        # Looked up first, so that the planner knows the id and how common it is.
        key = await connection.fetchval(
            "SELECT id FROM attpc.experiments WHERE name = $1", clean(which.experiment)
        )
        where.equal("r.experiment_id", -1 if key is None else key)
    if which.number_from is not None:
        where.add(f"r.number >= {where.bind(which.number_from)}::bigint")
    if which.number_to is not None:
        where.add(f"r.number <= {where.bind(which.number_to)}::bigint")
    where.between("r.listed_at", which.since, which.until)
    where.equal("r.run_class", None if which.run_class is None else which.run_class.label)
    where.equal("r.quality", None if which.quality is None else which.quality.value)
    if text := clean(which.text).strip():
        where.add(f"r.words @@ {_words(where, text)}")
    if which.bad:
        where.add("r.bad")
    where.add("r.state <> 'reserved'")
    by_number = which.experiment is not None and which.since is None and which.until is None
    if after is not None and by_number:
        where.add(f"r.number < {where.bind(after.number)}")
    elif after is not None:
        where.add(f"(r.listed_at, r.id) < ({where.bind(after.at)}, {where.bind(after.id)})")
    return where, "r.number DESC" if by_number else "r.listed_at DESC, r.id DESC"


def _words(where: Where, text: str) -> str:
    """Return the words of a search as a query; the last may be the beginning of a word."""
    bound = where.bind(text)
    words = f"plainto_tsquery('simple', {bound}::text)"
    return f"(CASE WHEN numnode({words}) > 0 THEN ({words}::text || ':*')::tsquery END)"
