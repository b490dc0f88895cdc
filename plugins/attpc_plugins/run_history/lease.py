"""The lease of the fleet: which of several IOCs on one fleet commands it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from attpc_ioc.log import get_logger

from .store import Store
from .store.lease_model import Holder, Lease

log = get_logger(__name__)


class LeaseKeeper:
    """Takes the lease, renews it three times in its life, and takes it over when its holder is silent.

    `on_change` is called when it becomes ours or another's. While the database does not answer, what was
    known last stands: nobody can take a lease then.
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

    @property
    def period_s(self) -> float:
        """How often it is renewed."""
        return self._ttl_s / 3

    async def keep(self, store: Store) -> None:
        """Take and keep the lease for ever; raises `StoreError` where the database does not answer."""
        while not self._leaving:
            await self.renew(store)
            # A lease that another holds is looked at often, so that its end is not missed for long.
            await asyncio.sleep(self.period_s if self.other is None else min(1.0, self.period_s))

    async def renew(self, store: Store) -> None:
        """Take or renew the lease once."""
        began_s = time.monotonic()
        lease = await store.acquire_lease(self.fleet, self.holder, ttl_s=self._ttl_s)
        if time.monotonic() - began_s < self._ttl_s:
            self._take(lease)

    def _take(self, lease: Lease) -> None:
        other = None if lease.ours else lease.holder
        changed = not self.known or other != self.other
        self.known, self.other = True, other
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
