"""The lease of the fleet: which of several IOCs on one fleet commands it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from attpc_ioc.log import get_logger
from attpc_plugins.run_history.store.model.leases import Holder, Lease

from .store import Store

log = get_logger(__name__)


class LeaseKeeper:
    """Takes the lease, renews it three times in its life, and takes it over when its holder is silent.

    `on_change` is called when it becomes ours or another's, or `fenced`. While the database does not answer,
    what was known last stands until the lease has run out: whoever reaches the database may take it then.
    """

    def __init__(self, fleet: str, holder: Holder, ttl_s: float, on_change: Callable[[], None]) -> None:
        self.fleet = fleet
        self.holder = holder
        self._ttl_s = ttl_s
        self._on_change = on_change
        self.known = False
        """Whether the database was ever asked."""
        self.other: Holder | None = None
        """Who commands the fleet, where it is not this IOC."""
        self.ours = asyncio.Event()
        self._leaving = False
        self._renewed_s = _now_s()
        self._was_fenced = False

    @property
    def period_s(self) -> float:
        """How often it is renewed."""
        return self._ttl_s / 3

    @property
    def fenced(self) -> bool:
        """Whether the lease could not be taken or renewed for its whole life: another IOC may have it."""
        return _now_s() - self._renewed_s > self._ttl_s

    @property
    def refusal(self) -> str:
        """Why this IOC may not command the fleet; empty where it may."""
        if self.other is not None:
            return f"{self.other} commands this fleet"
        if not self.fenced:
            return ""
        return (
            f"this IOC could not renew its lease of the fleet in the database for {self._ttl_s:g} s, and "
            "another IOC may command the fleet by now; bring the database back first (runs and modules can "
            "be stopped)"
        )

    def look(self) -> None:
        """Call `on_change` where the lease has run out since; to be called now and then."""
        if self.fenced and not self._was_fenced:
            self._was_fenced = True
            self._on_change()

    async def keep(self, store: Store) -> None:
        """Take and keep the lease for ever; raises `StoreError` where the database does not answer."""
        while not self._leaving:
            await self.renew(store)
            # A lease that another holds is looked at often, so that its end is not missed for long.
            await asyncio.sleep(self.period_s if self.other is None else min(1.0, self.period_s))

    async def renew(self, store: Store) -> None:
        """Take or renew the lease once."""
        began_s = _now_s()
        lease = await store.acquire_lease(self.fleet, self.holder, ttl_s=self._ttl_s)
        if _now_s() - began_s < self._ttl_s:
            # From the question on: the server's own count began later.
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
        """Give the lease back, if it is ours, and take it no more; raises `StoreError`."""
        self._leaving = True
        if self.ours.is_set():
            await store.release_lease(self.fleet, self.holder)
            self.ours.clear()


def _now_s() -> float:
    """Return a time that nobody sets, and that goes on while the computer sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
