"""The owner of run numbers: reserved in the database, and kept in the state database.

A reservation is written with the core's record of the run, and nothing is sent to a module before that is on
disk: a start waits for the disk once. A number known to either database is not given again.
"""

from __future__ import annotations

import asyncio
import time
import uuid

from attpc_ioc.errors import Refused
from attpc_ioc.log import get_logger
from attpc_ioc.plugin import PluginContext
from attpc_ioc.plugin.faults import Faults
from attpc_plugins.run_history.connection.hard_limit import hard_limit
from attpc_plugins.run_history.errors import DatabaseError
from attpc_plugins.run_history.settings import RunHistorySettings
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.errors import StoreFull, StoreReadOnly, StoreUnavailable
from attpc_plugins.run_history.supervisor import Supervisor

from .reserved import Reserved, ReservedNumbers

log = get_logger(__name__)

TAKE_BACK_S = 60.0
RETRY_S = 1.0
AGAIN_S = 0.02


class NumberOwner:
    """Reserves and releases numbers. No number is given twice, even if the database has lost some.

    `next` has each experiment's next number according to the database, as far as it was read.
    """

    def __init__(
        self,
        ctx: PluginContext,
        settings: RunHistorySettings,
        supervisor: Supervisor,
        faults: Faults,
        reserved: ReservedNumbers,
        *,
        fleet: str,
        boot: str,
    ) -> None:
        self._ctx = ctx
        self._settings = settings
        self._supervisor = supervisor
        self._faults = faults
        faults.set("numbers damaged", reserved.fault)
        self._reserved = reserved
        self._fleet = fleet
        self._boot = boot
        self._before = {r.attempt: r for r in reserved.last() if r.attempt}
        self.next: dict[str, int] = {}

    def known_next(self, experiment: str) -> int | None:
        """Return the number that the next run would get; None if it is not known yet."""
        known = self.next.get(experiment)
        return None if known is None else max(known, self._at_least(experiment))

    def _at_least(self, experiment: str) -> int:
        info = self._ctx.snapshot().run.info
        core = info.number + 1 if info is not None and info.experiment == experiment else 0
        return max(self._reserved.at_least(experiment), core, self._ctx.number_floor(experiment))

    async def ask_next(self, store: Store, experiment: str) -> None:
        """Read the next number from the database; raises `StoreError`."""
        first = self._settings.first_number
        self.next[experiment] = await store.next_number(experiment, first_number=first)

    async def reserve(self, experiment: str) -> int:
        """Reserve the next number; raises `Refused` with the reason."""
        if reasons := self._faults.blocking:
            raise Refused("; ".join(reasons))
        attempt = uuid.uuid4().hex
        try:
            number = await hard_limit(self._settings.number_limit_s, self._reserve(experiment, attempt))
        except TimeoutError as error:
            self._take_back(attempt)
            raise Refused("the database does not answer in time") from error
        except DatabaseError as error:
            self._take_back(attempt)
            raise Refused(str(error)) from error
        except asyncio.CancelledError:
            self._take_back(attempt)
            raise
        self.next[experiment] = number + 1
        return number

    async def _reserve(self, experiment: str, attempt: str) -> int:
        """Reserve a number; if the connection breaks, try again without taking a second number."""
        while True:
            store = await self._supervisor.connected(self._settings.number_limit_s)
            if store is None:
                raise StoreUnavailable("the database is not connected")
            try:
                number = await self._ask(store, experiment, attempt)
            except StoreUnavailable as error:
                if isinstance(error, StoreReadOnly | StoreFull):
                    raise
                log.info("reservation of a number repeated", reason=error)
                await asyncio.sleep(AGAIN_S)
                continue
            self._reserved.use(Reserved(experiment, number, attempt, time.time()))
            return number

    async def _ask(self, store: Store, experiment: str, attempt: str) -> int:
        return await store.reserve_number(
            experiment,
            fleet=self._fleet,
            ioc=self._ctx.prefix,
            attempt=attempt,
            first_number=self._settings.first_number,
            at_least=self._at_least(experiment),
            boot=self._boot,
            limit_s=self._settings.number_limit_s,
        )

    def _take_back(self, attempt: str) -> None:
        """Release what a reservation without an answer may have taken, once the database answers again."""

        async def take_back() -> None:
            while True:
                store = await self._supervisor.connected(TAKE_BACK_S)
                if store is None:
                    continue
                try:
                    await store.release_attempt(attempt)
                except DatabaseError as error:
                    log.info("reservation not taken back yet", reason=error)
                    await asyncio.sleep(RETRY_S)
                else:
                    return

        self._ctx.spawn(take_back())

    async def release(self, experiment: str, number: int) -> None:
        """Release a number, in the database first: the local disk must never know of fewer numbers.

        Raises `Refused` or `DatabaseError` if that fails; the number is then not used again.
        """
        attempt = self._reserved.attempt_of(experiment, number, time.time())
        store = self._supervisor.store
        if store is None:
            raise Refused("the database is not connected: the number is not used again")
        await store.release_number(experiment, number, attempt=attempt)
        self._reserved.give_back(experiment, number)
        self.next[experiment] = number

    async def release_unused(self, store: Store) -> None:
        """Release numbers reserved before this program began, for starts that sent nothing.

        The core stores a run before it sends anything: a number that it does not know was not used.
        Raises `StoreError`.
        """
        for reservation in await store.reservations(self._fleet):
            mine = self._before.get(reservation.attempt)
            run = self._ctx.snapshot().run
            # A core without any run may have lost its record.
            if mine is None or run.on or run.info is None:
                continue
            if (run.info.experiment, run.info.number) != (mine.experiment, mine.number):
                await self.release(mine.experiment, mine.number)
                log.info("unused number released", experiment=mine.experiment, number=mine.number)
