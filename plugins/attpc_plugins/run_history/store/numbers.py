"""Run numbers: reserved in the database, so that two IOCs can never get the same."""

from __future__ import annotations

import asyncpg

from attpc_ioc.model.command import Who
from attpc_plugins.run_history.store.model.history import NOBODY, Reservation

from .connections import Connection, Connections, clean
from .errors import LeaseHeld, StoreRejected, StoreUnavailable
from .experiments import checked_name, experiment_id

TRIES = 1000
"""Attempts at a number while other IOCs take it first."""
NUMBER_MAX = 2**31 - 1

NO_EXPERIMENT = ""
"""No experiment has this name: a constraint of the table forbids it."""

_RESERVE = """
    WITH experiment AS (
        SELECT id FROM attpc.experiments WHERE name = $1
    ), holder AS (
        SELECT ioc, host FROM attpc.leases
        WHERE fleet = $3 AND $6 <> '' AND boot <> $6 AND expires_at > clock_timestamp()
    ), earlier AS (
        SELECT experiment_id, number FROM attpc.runs WHERE attempt = nullif($5, '')
    ), reserved AS (
        INSERT INTO attpc.runs (experiment_id, number, state, fleet, ioc, attempt,
                                started_by_user, started_by_host, started_by_address)
        SELECT experiment.id,
               greatest($2::bigint, (SELECT max(r.number) + 1::bigint FROM attpc.runs r
                                     WHERE r.experiment_id = experiment.id)),
               'reserved', $3, $4, nullif($5, ''), $7, $8, $9
        FROM experiment WHERE NOT EXISTS (SELECT FROM holder) AND NOT EXISTS (SELECT FROM earlier)
        ON CONFLICT DO NOTHING RETURNING number
    )
    SELECT (SELECT id FROM experiment) AS experiment_id, (SELECT number FROM reserved) AS number,
           (SELECT number FROM earlier) AS earlier, (SELECT experiment_id FROM earlier) AS earlier_of,
           (SELECT ioc || ' on ' || host FROM holder) AS holder
"""
"""One statement, because each round trip delays the start of a run."""


class Numbers(Connections):
    """Reserving numbers and giving them back."""

    async def reserve_number(
        self,
        experiment: str,
        *,
        fleet: str,
        ioc: str,
        who: Who = NOBODY,
        attempt: str = "",
        first_number: int = 0,
        at_least: int = 0,
        boot: str = "",
        limit_s: float | None = None,
    ) -> int:
        """Reserve the next number of an experiment; create the experiment if needed.

        The number is the largest of `first_number`, `at_least` (from the state directory) and one more
        than the experiment's last. `attempt` is a token unique to this start: repeating the call with
        it returns the same number, so a lost answer wastes none. With `boot` the lease of the fleet is
        checked in the same statement: `LeaseHeld` if another boot holds it.
        """
        name = checked_name(experiment)
        values = (max(first_number, at_least, 0), fleet, clean(ioc), attempt, boot, *_words_of(who))
        async with self._use(limit_s) as connection:
            for _ in range(TRIES):
                try:
                    row = await connection.fetchrow(_RESERVE, name, *values)
                except asyncpg.NumericValueOutOfRangeError as error:
                    raise StoreRejected(
                        f"experiment {experiment!r} has no number left: {NUMBER_MAX}"
                    ) from error
                if row["holder"] is not None:
                    raise LeaseHeld(f"{row['holder']} commands this fleet")
                if row["number"] is not None:
                    return row["number"]
                if row["earlier"] is not None and row["earlier_of"] != row["experiment_id"]:
                    raise StoreRejected(f"the attempt {attempt!r} has a number of another experiment")
                if row["earlier"] is not None:
                    return row["earlier"]
                if row["experiment_id"] is None:
                    await experiment_id(connection, name)
        raise StoreUnavailable(f"could not reserve a number of experiment {experiment!r} in {TRIES} attempts")

    async def _warm_up(self, connection: Connection) -> None:
        """Let the server parse the statements of a start and load their tables; changes nothing."""
        await connection.fetchrow(_RESERVE, NO_EXPERIMENT, 0, "", "", "", "", *_words_of(NOBODY))

    async def release_number(self, experiment: str, number: int, *, attempt: str = "") -> bool:
        """Give back a number under which no module can have run; returns whether it existed.

        Deletes only a run that was not seen running, with `attempt` only of that attempt. Later records of
        the event log about it have no effect.
        """
        async with self._transaction() as connection:
            key = await experiment_id(connection, experiment)
            return await give_back(connection, key, number, attempt)

    async def release_attempt(self, attempt: str) -> bool:
        """Give back the number of an attempt whose answer was lost; returns whether it had one."""
        async with self._transaction() as connection:
            row = await connection.fetchrow(
                "SELECT experiment_id, number FROM attpc.runs WHERE attempt = $1", attempt
            )
            return row is not None and await give_back(connection, row[0], row[1], attempt)

    async def next_number(self, experiment: str, *, first_number: int = 0, at_least: int = 0) -> int:
        """Return the number that the next run would get."""
        async with self._use() as connection:
            last = await connection.fetchval(
                "SELECT max(number) FROM attpc.runs "
                "WHERE experiment_id = (SELECT id FROM attpc.experiments WHERE name = $1)",
                clean(experiment),
            )
        return max(first_number, at_least, -1 if last is None else last + 1, 0)

    async def reservations(self, fleet: str) -> tuple[Reservation, ...]:
        """Return the reserved numbers of a fleet without a recorded start."""
        async with self._use() as connection:
            rows = await connection.fetch(
                "SELECT e.name, r.number, coalesce(r.attempt, ''), r.reserved_at FROM attpc.runs r "
                "JOIN attpc.experiments e ON e.id = r.experiment_id "
                "WHERE r.fleet = $1 AND r.state = 'reserved' ORDER BY r.id",
                fleet,
            )
        return tuple(Reservation(*row) for row in rows)


async def give_back(connection: Connection, experiment_key: int, number: int, attempt: str) -> bool:
    """Delete a run that never ran, in the caller's transaction."""
    done = await connection.fetchrow(
        "DELETE FROM attpc.runs WHERE experiment_id = $1 AND number = $2 "
        "AND state IN ('reserved', 'starting') "
        "AND ($3 = '' OR attempt IS NULL OR attempt = $3) RETURNING coalesce(attempt, '')",
        experiment_key,
        number,
        attempt,
    )
    void = attempt or (done[0] if done else "")
    if void:
        await connection.execute(
            "INSERT INTO attpc.released_attempts (attempt, experiment_id, number) SELECT $1, $2, $3 "
            "WHERE NOT EXISTS (SELECT FROM attpc.runs WHERE attempt = $1) ON CONFLICT DO NOTHING",
            void,
            experiment_key,
            number,
        )
    return done is not None


def _words_of(who: Who) -> tuple[str, str, str]:
    return clean(who.user), clean(who.host), clean(who.address)


__all__ = ["NUMBER_MAX", "Numbers", "give_back"]
