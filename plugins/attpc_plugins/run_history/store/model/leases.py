"""What the store takes and gives of leases; times are aware datetimes in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Holder:
    """Who wants or holds a lease.

    `instance` stays the same over restarts of an IOC and belongs to one process at a time (its locked state
    directory): a new boot of the same instance takes the lease over at once. Empty: unknown.
    """

    ioc: str
    host: str
    boot: str
    instance: str = ""

    def __str__(self) -> str:
        return f"{self.ioc} on {self.host}"


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease of a fleet as the server has it; `ours`: whether the caller holds it."""

    fleet: str
    holder: Holder
    acquired_at: datetime
    renewed_at: datetime
    remaining_s: float
    """Seconds until it expires by the server's clock; 0 or less if it has expired."""
    ours: bool
