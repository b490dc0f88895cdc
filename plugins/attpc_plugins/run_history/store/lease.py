"""The lease: which IOC commands a fleet. All times are the database server's."""

from __future__ import annotations

from typing import Any

from attpc_plugins.run_history.store.model.leases import Holder, Lease

from .connections import Connections

TTL_S = 15.0
"""How long a lease lasts unless it is renewed."""

_COLUMNS = """
    fleet, ioc, host, boot, instance, acquired_at, renewed_at,
    extract(epoch FROM expires_at - clock_timestamp())::double precision AS remaining_s
"""

_ACQUIRE = f"""
    INSERT INTO attpc.leases AS l (fleet, ioc, host, boot, instance, acquired_at, renewed_at, expires_at)
    SELECT $1, $2, $3, $4, $5, now, now, now + make_interval(secs => $6)
    FROM (SELECT clock_timestamp() AS now) AS clock
    ON CONFLICT (fleet) DO UPDATE
    SET ioc = excluded.ioc, host = excluded.host, instance = excluded.instance, boot = excluded.boot,
        acquired_at = CASE WHEN l.boot = excluded.boot THEN least(l.acquired_at, excluded.renewed_at)
                           ELSE excluded.acquired_at END,
        renewed_at = excluded.renewed_at, expires_at = excluded.expires_at
    WHERE l.boot = excluded.boot
       OR l.expires_at <= clock_timestamp()
       OR (l.instance <> '' AND l.instance = excluded.instance)
    RETURNING {_COLUMNS}
"""


class Leases(Connections):
    """Taking, keeping, giving back and reading leases."""

    async def acquire_lease(
        self, fleet: str, holder: Holder, *, ttl_s: float = TTL_S, limit_s: float | None = None
    ) -> Lease:
        """Take the lease if it is free, expired, of this boot or of an earlier boot of this instance.

        Returns the lease after that: `ours` is false if another IOC has it, which `holder` names.
        """
        async with self._use(limit_s) as connection:
            row = await connection.fetchrow(
                _ACQUIRE, fleet, holder.ioc, holder.host, holder.boot, holder.instance, ttl_s
            )
            if row is None:
                row = await connection.fetchrow(
                    f"SELECT {_COLUMNS} FROM attpc.leases WHERE fleet = $1", fleet
                )
            if row is None:  # given back in between
                row = await connection.fetchrow(
                    _ACQUIRE, fleet, holder.ioc, holder.host, holder.boot, holder.instance, ttl_s
                )
        return _lease(row, holder.boot)

    async def release_lease(self, fleet: str, holder: Holder) -> bool:
        """Give the lease back; returns whether it was ours."""
        async with self._use() as connection:
            done = await connection.execute(
                "DELETE FROM attpc.leases WHERE fleet = $1 AND boot = $2", fleet, holder.boot
            )
        return done != "DELETE 0"


def _lease(row: Any, boot: str) -> Lease:
    return Lease(
        fleet=row["fleet"],
        holder=Holder(row["ioc"], row["host"], row["boot"], row["instance"]),
        acquired_at=row["acquired_at"],
        renewed_at=row["renewed_at"],
        remaining_s=row["remaining_s"],
        ours=row["boot"] == boot,
    )
