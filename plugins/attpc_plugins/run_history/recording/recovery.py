"""After a restart: reconciles the database's open run with the core."""

from __future__ import annotations

from dataclasses import replace

from attpc_ioc.log import get_logger
from attpc_ioc.model.run import RunInfo, RunOutcome
from attpc_ioc.plugin import PluginContext
from attpc_plugins.run_history.connection.hard_limit import hard_limit
from attpc_plugins.run_history.errors import DatabaseError
from attpc_plugins.run_history.lease import LeaseHolder
from attpc_plugins.run_history.numbers.owner import NumberOwner
from attpc_plugins.run_history.store import Store
from attpc_plugins.run_history.store.model.records import Phase
from attpc_plugins.run_history.supervisor import Supervisor

from .facts import info_of
from .recorder import Recorder
from .writer import Writer

log = get_logger(__name__)

OPEN_RUN_S = 60.0
"""Time limit of the answer to the core: a server that was killed first replays its log."""

ROUNDS = 20
"""Open runs closed in one go: there is only one, unless state directories were exchanged."""


class Recovery:
    """Makes core and database agree on which runs are over."""

    def __init__(
        self,
        ctx: PluginContext,
        supervisor: Supervisor,
        lease: LeaseHolder,
        writer: Writer,
        recorder: Recorder,
        numbers: NumberOwner,
    ) -> None:
        self._ctx = ctx
        self._supervisor = supervisor
        self._lease = lease
        self._writer = writer
        self._recorder = recorder
        self._numbers = numbers

    async def open_run(self) -> RunInfo | None:
        """Return the open run in the database, once it has all events; else None."""
        try:
            return await hard_limit(OPEN_RUN_S, self._ask_open_run())
        except TimeoutError:
            log.warning("the open run is not known", reason="the database takes too long")
            return None
        except DatabaseError as error:
            log.warning("the open run is not known", reason=error)
            return None

    async def _ask_open_run(self) -> RunInfo | None:
        store = await self._supervisor.connected(OPEN_RUN_S)
        if store is None:
            return None
        await self._lease.ours.wait()
        await self._writer.until_drained()
        detail = await store.open_run(self._lease.fleet)
        return None if detail is None else info_of(detail)

    async def reconcile(self, store: Store) -> None:
        """Close runs in the database whose end the core knows, and release unused numbers.

        Raises `StoreError`.
        """
        await self._lease.ours.wait()
        await self._writer.until_drained()
        await self._numbers.release_unused(store)
        for _ in range(ROUNDS):
            detail = await store.open_run(self._lease.fleet)
            ended = None if detail is None else self._ended(info_of(detail))
            if ended is None:
                return
            failed = ended.outcome in (RunOutcome.FAILED, RunOutcome.ABORTED)
            log.warning("run closed in the history", number=ended.number, outcome=ended.outcome)
            await self._recorder.end(ended, Phase.FAILED if failed else Phase.STOPPED)
            await self._writer.until_drained()

    def _ended(self, run: RunInfo) -> RunInfo | None:
        """Return the end of a run that is open in the database; None if it may be on."""
        now = self._ctx.snapshot().run
        known = now.info
        if known is None:
            return None
        if (known.experiment, known.number) == (run.experiment, run.number):
            return None if now.on or known.outcome is None else known
        if run.began_s > known.began_s:
            return None
        return replace(
            run,
            outcome=RunOutcome.INTERRUPTED,
            stopped_s=run.last_seen_running_s or run.started_s or run.began_s,
            reason=f"it was not seen to end before run {known.number}",
        )
