"""The lease of the fleet: it decides which of several IOCs commands the fleet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from attpc_ioc.log import get_logger
from attpc_plugins.run_history.store.model.leases import Holder, Lease

from .store import Store

log = get_logger(__name__)


class LeaseHolder:
    """Acquires the lease, renews it three times in its lifetime, and takes over an expired one.

    `on_change` is called when the holder changes, and when the lease becomes `fenced`. While the database
    does not answer, the last known holder counts until the lease has expired; then any IOC may take it.
    """

    def __init__(self, fleet: str, holder: Holder, ttl_s: float, on_change: Callable[[], None]) -> None:
        self.fleet = fleet
        self.holder = holder
        self._ttl_s = ttl_s
        self._on_change = on_change
        self.known = False
        """Whether the database has ever answered."""
        self.other: Holder | None = None
        """The other IOC that commands the fleet; empty if this one does."""
        self.ours = asyncio.Event()
        self._leaving = False
        self._renewed_s = _now_s()
        self._was_fenced = False

    @property
    def period_s(self) -> float:
        """The time between renewals, in seconds."""
        return self._ttl_s / 3

    @property
    def fenced(self) -> bool:
        """Whether the lease was not renewed for its whole lifetime, so that another IOC may hold it."""
        return _now_s() - self._renewed_s > self._ttl_s

    @property
    def refusal(self) -> str:
        """Why this IOC may not command the fleet; empty if it may."""
        if self.other is not None:
            return f"{self.other} commands this fleet"
        if not self.fenced:
            return ""
        return (
            f"this IOC could not renew its lease of the fleet in the database for {self._ttl_s:g} s, and "
            "another IOC may command the fleet by now; bring the database back first (runs and modules can "
            "be stopped)"
        )

    def check(self) -> None:
        """Call `on_change` once the lease has expired; call this regularly."""
        if self.fenced and not self._was_fenced:
            self._was_fenced = True
            self._on_change()

    async def keep(self, store: Store) -> None:
        """Acquire and renew the lease until `release`; raises `StoreError` if that fails."""
        while not self._leaving:
            await self.renew(store)
            # The lease of another IOC is polled often, to take it over soon after it expires.
            await asyncio.sleep(self.period_s if self.other is None else min(1.0, self.period_s))

    async def renew(self, store: Store) -> None:
        """Acquire or renew the lease once."""
        began_s = _now_s()
        lease = await store.acquire_lease(self.fleet, self.holder, ttl_s=self._ttl_s)
        if _now_s() - began_s < self._ttl_s:
            # Counted from the request: the server starts counting later.
            self._take(lease, began_s)

    def _take(self, lease: Lease, asked_s: float) -> None:
        other = None if lease.ours else lease.holder
        changed = not self.known or other != self.other or self._was_fenced
        self.known, self.other = True, other
        self._renewed_s, self._was_fenced = asked_s, False
        if other is None:
            self.ours.set()
        else:
            self.ours.clear()
        if changed:
            if other is None:
                log.info("this IOC commands the fleet", fleet=self.fleet)
            else:
                log.warning("another IOC commands the fleet", fleet=self.fleet, other=other)
            self._on_change()

    async def release(self, store: Store) -> None:
        """Release the lease for good, if this IOC holds it; raises `StoreError`."""
        self._leaving = True
        if self.ours.is_set():
            await store.release_lease(self.fleet, self.holder)
            self.ours.clear()


def _now_s() -> float:
    """Return a monotonic time that also counts while the computer is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
