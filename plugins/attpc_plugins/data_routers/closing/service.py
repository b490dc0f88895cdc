"""Closing inside the IOC: follows the events of runs, moves files, publishes PVs and emits `RunFiles`.

Every router has its own worker, so that a host that hangs does not delay the others. Each closing is on disk
before its first step; a restarted IOC continues from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from attpc_ioc.errors import StateDirError
from attpc_ioc.log import get_logger
from attpc_ioc.model.run import RunInfo, RunRef, RunState
from attpc_ioc.plugin import PluginContext
from attpc_plugins.data_routers.events.sync import Sync
from attpc_plugins.data_routers.hosts.host import FileHost, HostError, SentryHost
from attpc_plugins.data_routers.model import CloseState, FileEntry, Polled
from attpc_plugins.data_routers.settings import DataRoutersSettings, RouterSettings
from attpc_plugins.data_routers.watch.flow import Count, Flow, Listed

from .beside import NOT_LISTED, listed
from .closer import RouterCloser
from .closings import Closing, ClosingBusy, ClosingStore, Phase, end, idle_of, new_closing, routers_of
from .late import with_streams
from .members import is_early, sender_ids
from .pv_values import ClosingShown
from .reporting import forget_old, report
from .sentry_steps import at_work, baseline, other_run
from .summary import Summary, summary_for

log = get_logger(__name__)

LOOK_S = 10.0
"""Time between the rounds of an idle router."""

RETRY_S = 5.0
"""Time until the next attempt when the state directory cannot be written or the router is locked."""

LISTED_S = 0.9
"""A start waits at most this long until the hosts are listed; the core waits for 1 s."""

Act = Callable[[Closing | None], Closing | None]
"""Returns the next version of a run's closing: the same one for no change, None to delete it."""


async def no_poll(_label: str) -> None:
    """Poll nothing: for a service without a watch."""


class ClosingService:
    """Closes the runs of all data routers; `hosts` are by the routers' labels.

    `on_done` is called with the final files and bytes of each finished closing, `on_listed` with the files of
    a listing, sorted by runs, while there are some of runs that have ended. `poll_again(label)` is awaited
    before a router is shown as done, so that the next start sees its folder as it is then.
    `last_polled(label)` returns the last report of a router's host that has the files. `summaries` count the
    frames of each router's runs, by label; by default without a live look.

    Call `run_starting`, `run_started`, `run_stopped` and `run_failed` in order, in the event loop.
    """

    def __init__(
        self,
        ctx: PluginContext,
        settings: DataRoutersSettings,
        hosts: Mapping[str, FileHost | SentryHost],
        store: ClosingStore,
        *,
        on_done: Callable[[str, RunRef, Count], None] = lambda _label, _run, _count: None,
        on_listed: Callable[[str, Listed], None] = lambda _label, _listed: None,
        poll_again: Callable[[str], Awaitable[None]] = no_poll,
        last_polled: Callable[[str], Polled | None] = lambda _label: None,
        summaries: Mapping[str, Summary] | None = None,
    ) -> None:
        self._ctx = ctx
        self._on_done = on_done
        self._on_listed = on_listed
        self._poll_again = poll_again
        self._settings = settings
        self._store = store
        self.summaries = summaries or {
            router.label: summary_for(router, hosts[router.label], settings) for router in settings.router
        }
        self._acts: dict[str, list[tuple[RunRef, Act]]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        """Each is set at the end of the first round that began after it was added."""
        self._closers: dict[str, RouterCloser] = {}
        self._ending: set[str] = set()
        """Labels of the routers whose run has ended and whose closing does not say so yet."""
        self._shown = ClosingShown(ctx.publish)
        self._over_since_s: dict[str, float] = {}
        self.fault = ""
        """Why closings cannot be read or written; empty where they can be."""
        for router in settings.router:
            label = router.label
            self._acts[label] = []
            self._wakes[label] = asyncio.Event()
            self._waiting[label] = []
            self._closers[label] = RouterCloser(
                router,
                hosts[label],
                store,
                settings,
                early=lambda run, router=router: is_early(ctx.snapshot(), router, run),
                has_files=lambda label=label: (last := last_polled(label)) is None or last.files > 0,
                other_run=lambda run: other_run(ctx.snapshot(), run),
                last_polled=lambda label=label: last_polled(label),
                sender_ids=lambda closing: sender_ids(ctx.snapshot(), closing.sources, closing.run),
                summary=self.summaries[label],
                on_listing=lambda files, label=label: self._on_listing(label, files),
                before_done=lambda label=label: poll_again(label),
                on_change=lambda closings, router=router: self._show(router, closings),
            )

    def startup(self) -> None:
        """Continue the closings that an earlier IOC left."""
        for router in self._settings.router:
            for closing in self._store.of(router.label):
                if (known := with_streams(closing)) is not closing:
                    self._store.keep(known)
            self._show(router, self._store.of(router.label))
            self._ctx.spawn(self._work(router.label), restart=lambda label=router.label: self._work(label))

    def busy(self, label: str) -> bool:
        """Return whether a router's host is moving files now."""
        return self._closers[label].busy

    def unfinished(self, label: str) -> bool:
        """Return whether files of an ended run are still to be moved on a router's host."""
        return label in self._shown.unfinished or label in self._ending

    def against_next(self, label: str) -> str:
        """Return why the next run may not begin while an ended one is closed; empty where it may."""
        if label in self._ending:
            return f"the files of run {self._store.of(label)[-1].run.number} are not closed yet: {NOT_LISTED}"
        return self._closers[label].against_next

    def sorts(self, label: str) -> bool:
        """Return whether a router's staging folder may have files of runs that have ended."""
        closer = self._closers[label]
        left = self.unfinished(label) or closer.late.there.files > 0
        return left and isinstance(closer.host, FileHost)

    def _on_listing(self, label: str, listing: Sequence[FileEntry]) -> None:
        """Take a listing of a round: from now on it is known whether the next run may begin."""
        if self.unfinished(label):
            self._on_listed(label, self._sorted(label, listing))

    def _sorted(self, label: str, listing: Sequence[FileEntry]) -> Listed:
        over = label in self._ending
        return listed(self._store.of(label), listing, lambda c: over or c.phase is Phase.CLOSING)

    async def listed(self, label: str) -> Listed | None:
        """Return a router's staging folder sorted by runs, if there is more than one; None if not known."""
        host = self._closers[label].host
        if not isinstance(host, FileHost) or not self.sorts(label):
            return None
        try:
            listing = await host.list_staging()
        except HostError:
            return None
        return self._sorted(label, listing)

    def expected(self, label: str) -> Count:
        """Return what is in a router's staging folder and is no stray.

        That is late data of closed runs, and what a sentry leaves there when it moves a run's files.
        """
        late = self._closers[label].late.there
        return Count(late.files + baseline(self._store.of(label)), late.data_bytes)

    def moving(self, label: str) -> str:
        """Return which run's files a router's sentry moves, and for how long; empty while it moves none."""
        return at_work(self._store.of(label), self._settings.closing.sentry_waits_s, time.time())

    def look(self, label: str) -> None:
        """List a router's staging folder soon, because it has changed."""
        self._wakes[label].set()

    def again(self) -> None:
        """Try all unfinished closings again now."""
        for label, closer in self._closers.items():
            closer.again()
            self._wakes[label].set()

    def wake(self) -> None:
        """Begin a round of every router now, because a shell command changed something."""
        for wake in self._wakes.values():
            wake.set()

    # ------------------------------------------------------------------ events of runs

    async def run_starting(self, info: RunInfo, answering: Collection[str] | None = None) -> None:
        """Make the closings of a run before it can write, and list the staging folders.

        Returns when the hosts of the routers `answering` (by default all) were listed or have failed, after
        0.9 s at the latest.
        """
        if not self._settings.closing.enabled:
            return
        taking = {router.label for router in self._routers_of(info)}
        # Concurrently, because each host must be listed before its board begins to write.
        await asyncio.gather(
            *(
                self._begin(
                    closer.router,
                    info,
                    takes=label in taking,
                    listed=label in taking and (answering is None or label in answering),
                )
                for label, closer in self._closers.items()
            )
        )

    async def _begin(self, router: RouterSettings, info: RunInfo, *, takes: bool, listed: bool) -> None:
        known = self._store.of(router.label)
        if takes and not any(closing.run == info.ref for closing in known):
            try:
                await self._store.save(self._new(router, info))
            except StateDirError as error:
                self._fault(str(error))
        self._acts[router.label] += [
            (closing.run, end)
            for closing in known
            if closing.phase is Phase.RUNNING and closing.run != info.ref
        ]
        self._wakes[router.label].set()
        if listed:
            await self._next_round(router.label)

    async def _next_round(self, label: str) -> None:
        """Wait for the end of this router's next round, at most 0.9 s."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[label].append(ended)
        await asyncio.wait((ended,), timeout=LISTED_S)

    def run_started(self, info: RunInfo) -> None:
        """Keep when a run started; an adopted run gets its closings here."""

        def act(router: RouterSettings, closing: Closing | None) -> Closing | None:
            if closing is None:
                return self._new(router, info)
            return replace(closing, started_s=info.started_s) if closing.phase is Phase.RUNNING else closing

        self._act(info, act)

    def run_stopped(self, info: RunInfo) -> None:
        """Close a run that has ended: stopped, stopped outside or interrupted."""
        # The live look leaves this run as soon as the next one begins.
        seen = {label: summary.known(info.ref) for label, summary in self.summaries.items()}

        def act(router: RouterSettings, closing: Closing | None) -> Closing | None:
            closing = closing or self._new(router, info)
            if closing.phase is not Phase.RUNNING:
                return closing
            return replace(
                closing,
                phase=Phase.CLOSING,
                started_s=info.started_s,
                stopped_s=info.stopped_s,
                seen=seen[router.label],
            ).in_state(CloseState.WAITING, "the run is over")

        if self._settings.closing.enabled:
            self._ending |= {router.label for router in self._routers_of(info)}
        self._act(info, act)

    def run_failed(self, info: RunInfo, *, released: bool) -> None:
        """Close a run whose start failed; where its number was released, delete its closings."""
        if not released:
            self.run_stopped(info)
            return
        self._act(
            info, lambda _router, closing: None if closing and closing.phase is Phase.RUNNING else closing
        )

    def remark(self, run: RunRef, label: str, text: str) -> None:
        """Add a remark on a run's data to its closing on that router, where it has one."""
        self._change(run, label, lambda closing: replace(closing, remarks=(*closing.remarks, text)))

    def note_sync(self, run: RunRef, label: str, state: Sync) -> None:
        """Keep the worst state of the events of a run's boards on that router."""

        def change(closing: Closing) -> Closing:
            known = next((one for one in Sync if one.label == closing.sync), Sync.UNKNOWN)
            return replace(closing, sync=max(known, state).label)

        self._change(run, label, change)

    def note_dead(self, run: RunRef, label: str) -> None:
        """Keep that a router had no data any more when its run was stopped, and that this is its fault."""
        self._change(run, label, lambda closing: replace(closing, sync=closing.sync or Flow.DEAD.label))

    def _change(self, run: RunRef, label: str, change: Callable[[Closing], Closing]) -> None:
        """Change the closing of a run on a router, where it has one."""
        if self._settings.closing.enabled:
            self._acts[label].append((run, lambda closing: change(closing) if closing is not None else None))
            self._wakes[label].set()

    def _act(self, info: RunInfo, act: Callable[[RouterSettings, Closing | None], Closing | None]) -> None:
        if not self._settings.closing.enabled:
            return
        for router in self._routers_of(info):
            self._acts[router.label].append((info.ref, lambda closing, router=router: act(router, closing)))
            self._wakes[router.label].set()

    def _routers_of(self, info: RunInfo) -> list[RouterSettings]:
        return routers_of(self._settings, self._ctx.snapshot(), info)

    def _new(self, router: RouterSettings, info: RunInfo) -> Closing:
        return new_closing(router, info, idle_of(self._settings, self._routers_of(info)))

    # ------------------------------------------------------------------ the workers

    async def _work(self, label: str) -> None:
        closer, wake = self._closers[label], self._wakes[label]
        while True:
            wake.clear()
            waiting, self._waiting[label] = self._waiting[label], []
            try:
                next_s = await self._round(label, closer)
            except ClosingBusy as error:
                log.info("closing waits", router=label, reason=str(error))
                next_s = RETRY_S
            except StateDirError as error:
                self._fault(str(error))
                next_s = RETRY_S
            finally:
                for ended in waiting:
                    if not ended.done():
                        ended.set_result(None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S if next_s is None else next_s):
                    await wake.wait()

    async def _round(self, label: str, closer: RouterCloser) -> float | None:
        self._find_ends(label)
        await self._do_acts(label)
        if label in self._ending:
            self._show(closer.router, self._store.of(label))
            self._ending.discard(label)
        result = await closer.round()
        self._fault(self._store.fault)
        unfinished = any(closing.phase is Phase.CLOSING for closing in result.closings)
        if label in self._shown.unfinished and not unfinished:
            await self._poll_again(label)  # a shell command has finished it
        self._show(closer.router, result.closings)
        for closing in result.closings:
            if closing.to_report and closing.reported != closing.to_report:
                if closing.phase is Phase.DONE:
                    self._on_done(label, closing.run, Count(closing.files, closing.data_bytes))
                await report(self._ctx, self._store, closing, RETRY_S)
        forget_old(self._store, result.closings)
        return result.next_s

    def _find_ends(self, label: str) -> None:
        """Close runs whose end was not reported because the IOC was killed at that moment."""
        closings = self._store.of(label)
        run = self._ctx.snapshot().run
        now_s = time.monotonic()
        for closing in closings:
            on = run.state is RunState.UNKNOWN or (
                run.on and run.info is not None and run.info.ref == closing.run
            )
            if closing.phase is not Phase.RUNNING or on:
                self._over_since_s.pop(closing.token, None)
            elif now_s - self._over_since_s.setdefault(closing.token, now_s) >= LOOK_S / 2:
                self._acts[label].append((closing.run, end))

    async def _do_acts(self, label: str) -> None:
        acts = self._acts[label]
        if not acts:
            return
        async with self._store.locked(label, RETRY_S):
            while acts:
                run, act = acts[0]
                before = self._store.find(run, label)
                after = act(before)
                if after is not None and after != before:
                    await self._store.save(after)
                elif after is None and before is not None:
                    self._store.remove(before)
                del acts[0]

    # ------------------------------------------------------------------ PVs and status

    def _show(self, router: RouterSettings, closings: Sequence[Closing]) -> None:
        self._shown.show(router, closings, self._closers[router.label].progress)

    def _fault(self, text: str) -> None:
        if text != self.fault and text:
            log.error("closings", reason=text)
        self.fault = text
