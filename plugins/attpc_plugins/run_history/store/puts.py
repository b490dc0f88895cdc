"""The put log: every put, kept for a limited time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from attpc_ioc.model.command import Put, Who
from attpc_plugins.run_history.store.model.history import Cursor
from attpc_plugins.run_history.store.model.puts import ALL_PUTS, PutEntry, PutFilter, PutPage
from attpc_plugins.run_history.store.model.records import stamp_of
from attpc_plugins.run_history.store.reading.where import Where
from attpc_plugins.run_history.store.rows import made_of

from .connections import Connection, Connections, clean, moment

DELETE_BATCH = 5000
"""Rows that one statement of the retention deletes: some 50 ms, so that it delays nothing."""

CHANNEL_ACCESS = "ca"
"""The protocol of a put whose client names none."""

_INSERT = """
    INSERT INTO attpc.puts (put_at, ioc, pv, by_user, host, address, old_value, new_value, ok, reason,
                            protocol)
    SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                         $7::text[], $8::text[], $9::boolean[], $10::text[], $11::text[])
"""


_TIME_OF_RUN = """
    SELECT ioc, begun, coalesce(stopped_at + interval '5 seconds', (
               SELECT min(coalesce(n.start_commanded_at, n.started_at)) FROM attpc.runs n
               WHERE coalesce(n.start_commanded_at, n.started_at) > begun
                 AND run.ioc IN (n.ioc, ''))) AS ended
    FROM (SELECT coalesce(r.start_commanded_at, r.started_at) AS begun, r.stopped_at, r.ioc
          FROM attpc.runs r JOIN attpc.experiments e ON e.id = r.experiment_id
          WHERE e.name = $1 AND r.number = $2) AS run
"""
"""The put that stops a run is recorded when it is done, a moment after the end. If the end is not
known, the next run's start of the same IOC counts. The IOC of a run from a table is not known."""


async def insert_puts(connection: Connection, records: Sequence[Put]) -> None:
    """Add puts in one statement."""
    await connection.execute(
        _INSERT,
        [moment(r.time_s) for r in records],
        [clean(stamp_of(r).ioc) for r in records],
        [clean(r.pv) for r in records],
        [clean(r.who.user) for r in records],
        [clean(r.who.host) for r in records],
        [clean(r.who.address) for r in records],
        [clean(r.old) for r in records],
        [clean(r.new) for r in records],
        [r.ok for r in records],
        [clean(r.reason) for r in records],
        [clean(r.who.via) or CHANNEL_ACCESS for r in records],
    )


def _delete(table: str, column: str, also: str = "") -> str:
    return (
        f"DELETE FROM {table} WHERE ctid = ANY (ARRAY("
        f"SELECT ctid FROM {table} WHERE {column} < $1 {also} LIMIT $2))"
    )


DELETE_PUTS = _delete("attpc.puts", "put_at")
DELETE_EVENTS = _delete("attpc.events", "happened_at", "AND run_id IS NULL")
DELETE_LOG = _delete("attpc.log_entries", "logged_at", "AND run_id IS NULL")
DELETE_STAMPS = _delete("attpc.applied_stamps", "applied_at")
DELETE_ATTEMPTS = _delete("attpc.released_attempts", "released_at")
DELETE_EXPERIMENTS = _delete(
    "attpc.experiments",
    "chosen_at",
    """AND NOT is_current AND comment = ''
       AND NOT EXISTS (SELECT FROM attpc.runs r WHERE r.experiment_id = experiments.id)
       AND NOT EXISTS (SELECT FROM attpc.observables o WHERE o.experiment_id = experiments.id)
       AND NOT EXISTS (SELECT FROM attpc.released_attempts a WHERE a.experiment_id = experiments.id)""",
)
"""A client can select two new ones a second. One that a command created and nobody selected stays."""


class Puts(Connections):
    """Reading the put log, and the retention of what is kept for a limited time."""

    async def puts(
        self, which: PutFilter = ALL_PUTS, *, limit: int = 100, after: Cursor | None = None
    ) -> PutPage:
        """Return a page of the put log, newest first; `PutFilter` says which puts."""
        where = Where()
        where.like("pv", None if which.pv is None else clean(which.pv))
        where.equal("by_user", None if which.user is None else clean(which.user))
        where.equal("host", None if which.host is None else clean(which.host))
        where.between("put_at", which.since, which.until)
        if which.failed:
            where.add("NOT ok")
        if after is not None:
            where.add(f"(put_at, id) < ({where.bind(after.at)}, {where.bind(after.id)})")
        async with self._use() as connection:
            if which.run is not None:
                time = await connection.fetchrow(_TIME_OF_RUN, clean(which.run[0]), which.run[1])
                if time is None or time["begun"] is None:
                    return PutPage(())
                where.between("put_at", time["begun"], time["ended"])
                where.equal("ioc", time["ioc"] or None)
            rows = await connection.fetch(
                "SELECT id, put_at, ioc, pv, by_user, host, address, old_value, new_value, ok, reason, "
                "protocol "
                f"FROM attpc.puts {where} ORDER BY put_at DESC, id DESC LIMIT {where.bind(limit + 1)}",
                *where.values,
            )
        shown = rows[:limit]
        more = len(rows) > limit and shown
        return PutPage(
            tuple(
                made_of(PutEntry, row, who=Who(row["by_user"], row["host"], row["address"])) for row in shown
            ),
            Cursor(shown[-1]["put_at"], shown[-1]["id"]) if more else None,
        )

    async def forget(
        self,
        *,
        puts_before: datetime | None = None,
        events_before: datetime | None = None,
        log_before: datetime | None = None,
        stamps_before: datetime | None = None,
        experiments_before: datetime | None = None,
        batches: int = 100,
    ) -> int:
        """Delete what is older: puts, events and log entries outside runs, stamps of records applied before.

        With the stamps go the attempts at numbers that were given back. Of experiments go those that were
        chosen before, and have neither runs nor observables nor a comment. Works in batches, each a
        transaction of its own, `batches` at most for each; returns how many rows went. A stamp may go only
        when no journal of version 0.1 can hold its record any more.
        """
        gone = 0
        for statement, before in (
            (DELETE_PUTS, puts_before),
            (DELETE_EVENTS, events_before),
            (DELETE_LOG, log_before),
            (DELETE_STAMPS, stamps_before),
            (DELETE_ATTEMPTS, stamps_before),
            (DELETE_EXPERIMENTS, experiments_before),
        ):
            if before is not None:
                gone += await self._delete(statement, before, batches)
        return gone

    async def _delete(self, statement: str, before: datetime, batches: int) -> int:
        gone = 0
        for _ in range(batches):
            async with self._use() as connection:
                done = int((await connection.execute(statement, before, DELETE_BATCH)).split()[-1])
            gone += done
            if done < DELETE_BATCH:
                break
        return gone
