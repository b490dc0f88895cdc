"""The running plugin: watches the routers, checks starts, follows runs. The hooks in `plugin.py` call it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection

from attpc_ioc.errors import Refused
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Reason
from attpc_ioc.model.events import (
    OperationEnded,
    RunEvent,
    RunFailed,
    RunStarted,
    RunStarting,
    RunStopped,
    RunStopping,
)
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.run import RunInfo, RunRef, RunView
from attpc_ioc.model.states import Operation
from attpc_ioc.plugin import PluginContext
from attpc_ioc.plugin.faults import Faults
from attpc_ioc.pvs.row import Value

from .closing.closings import Phase
from .closing.rows import RUN_CLOSE_AGAIN
from .closing.service import ClosingService
from .closing.summary import Summary, summary_for
from .commands.answers import ClosingAnswers
from .configs.keeper import RunConfigFiles
from .events.rows import MISSING, SYNC
from .events.service import EventsService
from .hosts.host import FileHost, SentryHost
from .hosts.make import config_hosts, host_for
from .model import Polled
from .run_counts import RunCounts
from .run_faults import RunFaults
from .settings import DataRoutersSettings, RouterSettings
from .starts import StartChecks, warns
from .state import Records
from .stopper import RunStopper
from .watch.around import FleetFacts, around
from .watch.flow import Count, Listed
from .watch.interlocks import in_short, refusing
from .watch.links import Links
from .watch.next_poll import NextPoll
from .watch.poll import Watch
from .watch.pv_values import show_router, show_run
from .watch.router import Router
from .watch.rows import OVERRIDE

log = get_logger(__name__)

FOLLOW_S = 0.2
"""Period of checks for a new next run, and for changed states and members of the fleet."""

TOGETHER_S = 0.02
"""Looks at the frames of several hosts that end within this time are shown together."""

TASKS_S = 0.1
DISCONNECT_S = 0.3
"""Time limits for ending what uses the hosts, and for disconnecting: the whole shutdown has half a second."""

QUIET = "no data routers in the settings"


class Service:
    """The plugin in a running IOC; call all methods in its event loop."""

    def __init__(self, ctx: PluginContext, settings: DataRoutersSettings, records: Records) -> None:
        self._ctx = ctx
        self._settings = settings
        self._records = records
        self._open = False
        """A run began, and its end was not reported yet."""
        self._override = False
        self._refused: list[str] = []
        """The reasons against a start, as they were told last."""
        self._followed: object = None
        self._news = False
        self._facts = FleetFacts.of(ctx.snapshot())
        self.faults = Faults("data routers", log, lambda text, bad: ctx.status(text, degraded=bad))
        self.hosts: dict[str, FileHost | SentryHost] = {}
        self._fresh = {router.label: NextPoll() for router in settings.router}
        self._seen: dict[str, object] = {}
        self._links = Links(records.links)
        self._wake = asyncio.Event()
        self.routers = tuple(self._router(router) for router in settings.router)
        self._counts = RunCounts(self.routers, records.baseline)
        self._by_label = {router.label: router for router in self.routers}
        self._by_source = {source: router for router in self.routers for source in router.sources}
        self.events = EventsService(
            ctx,
            settings,
            self.hosts,
            records.frames,
            records.clocks,
            before=self._before,
            closed=self._closed_streams,
            busy=lambda label: self.closing.busy(label),
            on_news=self._wake.set,
        )
        self.closing = ClosingService(
            ctx,
            settings,
            self.hosts,
            records.closings,
            on_done=self._on_closed,
            on_listed=self._on_listed,
            poll_again=self._poll_again,
            last_polled=self._last_polled,
            summaries={router.label: self._summary(router) for router in settings.router},
        )
        self._checks = StartChecks(ctx, settings, self.routers, self.closing, self._is_ending)
        answers = ClosingAnswers(
            ctx, settings, self.hosts, records.closings, self.closing.summaries, self.closing.wake
        )
        ctx.answer(answers.answer)
        self.config_hosts = config_hosts(settings, ctx.snapshot())
        self.run_faults = RunFaults(self.routers, self.events, self.closing)
        self.stopper = RunStopper(ctx, self.faults, settings.limits, records, counts_events=self.events.looks)
        self.configs = RunConfigFiles(ctx, settings, self.config_hosts, records)

    @property
    def watches_configs(self) -> bool:
        """Whether configuration files are read: only if the settings have a router or an ECC table."""
        return bool(self._settings.router or self._settings.ecc)

    def operation_ended(self, event: OperationEnded) -> None:
        """Read the configuration file that was loaded, and keep the reply to Configure."""
        if event.operation is Operation.CONFIGURE and event.ok:
            for source in self._links.configured(self._ctx.snapshot(), event.module, time.monotonic()):
                if (router := self._by_source.get(source)) is not None:
                    router.watch.poll_soon()
        if self.watches_configs:
            self.configs.operation_ended(event)

    def _router(self, settings: RouterSettings) -> Router:
        router = Router(settings, self._settings)
        router.left = lambda: self.closing.expected(router.label)
        router.sorts = lambda: self.closing.sorts(router.label)
        router.lost = self._links.lost
        router.cobos = len(self._facts.cobos.intersection(settings.sources))
        host = self.hosts[router.label] = host_for(settings, self._settings)
        router.watch = Watch(
            router.label,
            host,
            period_s=self._settings.period_s,
            timeout_s=self._settings.timeout_s,
            wanted=lambda: self._wanted(router.label),
            busy=lambda: self.closing.busy(router.label),
            on_poll=lambda: self._on_poll(router),
            on_hold=lambda: self._show(router),
            listed=lambda: self.closing.listed(router.label),
        )
        return router

    def _summary(self, router: RouterSettings) -> Summary:
        host = self.events.host(router.label)
        return summary_for(router, host, self._settings, lambda run: self.events.seen(router.label, run))

    def _wanted(self, label: str) -> RunRef | None:
        """Return the run whose folder the next poll looks for."""
        self._fresh[label].begins()
        return self._checks.next_run(self._ctx.snapshot().run)

    # ------------------------------------------------------------------ life

    async def start(self) -> None:
        """Start watching, without waiting for a host."""
        if self.watches_configs:
            self._ctx.spawn(self.configs.run(), restart=self.configs.run)
        if not self.routers:
            self.faults.note(QUIET)
            return
        run = self._ctx.snapshot().run
        if run.on and run.info is not None:
            self._resume(run.info)
        self.closing.startup()
        self._say()
        for router in self.routers:
            self._ctx.spawn(router.watch.run(), restart=router.watch.run)
        self.stopper.show()
        self.events.start()
        self._ctx.spawn(self._follow(), restart=self._follow)

    async def close(self) -> None:
        """Disconnect from every host within the time limit of a plugin's shutdown."""
        # Nothing connects again.
        await self._ctx.end_tasks(TASKS_S)
        hosts = [*self.hosts.values(), *self.events.own_hosts, *dict.fromkeys(self.config_hosts.values())]
        await self.configs.close()
        tasks = [asyncio.create_task(host.disconnect()) for host in hosts]
        if not tasks:
            return
        done, late = await asyncio.wait(tasks, timeout=DISCONNECT_S)
        for task in late:
            task.cancel()
        for task in done:
            if (error := task.exception()) is not None:
                log.warning("data router's host not disconnected cleanly", reason=error)

    async def _follow(self) -> None:
        """Poll what no event reports: the next run, the members, and which ECC servers are Running."""
        while True:
            fleet = self._ctx.snapshot()
            self._links.see_fleet(fleet, time.monotonic())
            facts = self._facts = FleetFacts.of(fleet)
            essence = (self._checks.next_run(fleet.run), facts.enabled, facts.running)
            if essence != self._followed:
                self._followed, self._news = essence, True
                self._poll_all()
                for router in self.routers:
                    show_router(self._ctx, router, facts)
            if self._news:
                self._news = False
                show_run(self._ctx, self.routers)
                self._say()
            self._see_events(fleet)
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FOLLOW_S):
                    await self._wake.wait()
            await asyncio.sleep(TOGETHER_S)

    def _see_events(self, fleet: Fleet) -> None:
        """Publish what the frames say, and stop the run where it has as much as it should."""
        self.events.show(fleet, self._facts, lambda label: self._by_label[label].silent, self._cut)
        self.stopper.see_run(self.events.run.events, sum(r.meter.written.data_bytes for r in self.routers))

    def _cut(self, source: str) -> str:
        """Return why nothing of a source is written any more, as far as its router's process tells."""
        return self._by_source[source].why_cut if self._links.lost(source) else ""

    def _before(self, label: str, run: RunRef) -> Collection[str] | None:
        """Return the data files in a router's staging folder that are not a run's; None if not known yet."""
        if not self._settings.closing.enabled:
            return ()
        closing = self._records.closings.find(run, label)
        if closing is None or closing.unsettled:
            return None
        return closing.before or ()

    def _closed_streams(self, label: str, run: RunRef) -> Collection[str]:
        """Return the streams of other runs that are closed on a router."""
        closings = self._records.closings.of(label)
        done = [one.streams for one in closings if one.run != run and one.phase is Phase.DONE]
        return frozenset().union(*done)

    def _on_closed(self, label: str, run: RunRef, written: Count) -> None:
        """Show the final counts of a closed run, if it is still the last one."""
        self.events.closed(label, run)
        if run == self._counts.run:
            self._by_label[label].meter.settle(written)
            self._show(self._by_label[label])

    def _on_listed(self, label: str, listed: Listed) -> None:
        """Take the files of a listing: a start need not wait for the next poll."""
        self._by_label[label].watch.note_listed(listed)
        self._show(self._by_label[label])
        self._wake.set()

    async def _poll_again(self, label: str) -> None:
        """Poll a router before its closing is shown as done.

        A client that starts the next run at that moment must not be refused for files that are gone.
        """
        if (watch := self._by_label[label].watch).answering:
            watch.poll_soon()
            await self._fresh[label].wait()

    def _last_polled(self, label: str) -> Polled | None:
        """Return the last report of a router's host that has the files."""
        router = self._by_label[label]
        return router.polled if router.meter.last is not None else None

    def _poll_all(self) -> None:
        for router in self.routers:
            router.watch.poll_soon()

    # ------------------------------------------------------------------ results of polls

    def _on_poll(self, router: Router) -> None:
        now_s = time.monotonic()
        if router.watch.answering and router.watch.seen is not None:
            self._links.see_router(router.sources, router.watch.seen)
        router.judge(now_s, around(router, self.routers, self._facts))
        seen = router.partial, router.meter.last
        if self._seen.get(router.label) != seen and not self._open:
            self.closing.look(router.label)
        self._seen[router.label] = seen
        run = self._ctx.snapshot().run
        self.run_faults.see(
            router,
            now_s,
            run.info.ref if run.on and run.info is not None else None,
            takes_part=self._facts.takes_part(router),
            ending=self._open and (run.stopping or not run.on),
        )
        self._show(router)
        self._fresh[router.label].ends()
        self.stopper.see_disk(router)

    def _show(self, router: Router) -> None:
        show_router(self._ctx, router, self._facts)
        self._news = True

    def _say(self) -> None:
        """Update the plugin's status: the hosts of enabled routers that do not answer, and the counts."""
        for router in self.routers:
            matters = self._facts.takes_part(router) and router.watch.answering is False
            self.faults.set(f"host {router.label}", router.unreachable if matters else "", logged=False)
            self.faults.set(f"odd {router.label}", router.odd)
        self.faults.set("closing", self.closing.fault)
        count = len(self.routers)
        answering = sum(1 for router in self.routers if router.watch.answering)
        note = [f"{answering} of {count} data routers answer"]
        against = self._checks.against(self._ctx.snapshot())
        note += in_short(reason for reason in against if warns(reason))
        self.faults.note("; ".join(note))
        if (texts := [reason.text for reason in refusing(against, self._override)]) != self._refused:
            self._refused = texts
            self._ctx.vetoes_changed()

    def why(self, part: str, source: str) -> str:
        """Return why a PV of a source is in alarm."""
        router = self._by_source.get(source)
        if part in (SYNC, MISSING) and (router is None or not router.unreachable):
            return self.events.why(part, source)
        return router.why(part, time.monotonic()) if router is not None else ""

    # ------------------------------------------------------------------ interlocks

    def _is_ending(self, run: RunView) -> bool:
        return self._open and not run.on and self._settings.closing.enabled

    def against_start(self, fleet: Fleet) -> list[Reason]:
        """Return why a run may not be started now."""
        if not self.routers:
            return []
        return [Reason(text) for text in in_short(refusing(self._checks.against(fleet), self._override))]

    def write(self, pv: str, value: Value) -> None:
        """Handle a write to one of the plugin's setpoints; raises `Refused` for anything else."""
        if pv == OVERRIDE:
            self._set_override(bool(value))
        elif pv == RUN_CLOSE_AGAIN:
            if value:
                self.closing.again()
        elif not self.stopper.set(pv, value):
            raise Refused(f"{pv} does not accept this value")

    def _set_override(self, on: bool) -> None:
        self._override = on
        self._ctx.publish(OVERRIDE, int(on))
        self._news = True

    # ------------------------------------------------------------------ runs

    async def run_event(self, event: RunEvent) -> None:
        """Follow the life of a run."""
        now_s = time.monotonic()
        if isinstance(event, RunStarted) and self.watches_configs:
            self.configs.run_started(event.run)
        match event:
            case RunStarting():
                self._open = True
                in_spite_of = self._begin(event.run, now_s)
                # A host that does not answer would only delay the start.
                answering = {router.label for router in self.routers if router.watch.answering}
                await self.closing.run_starting(event.run, answering)
                for router, text in in_spite_of:
                    self.closing.remark(event.run.ref, router.label, f"started in spite of: {text}")
            case RunStarted():
                self._open = True
                if self._counts.run != event.run.ref:
                    self._resume(event.run)
                self.closing.run_started(event.run)
            case RunStopping():
                self.run_faults.run_stops(event.run.ref)
            case RunStopped():
                self._counts.end(now_s)
                self.run_faults.run_stops(event.run.ref)
                self.closing.run_stopped(event.run)
                self._open = False
            case RunFailed():
                self._counts.end(now_s)
                self.events.run_failed()
                self.closing.run_failed(event.run, released=event.number_released)
                self._open = False
        self._poll_all()

    def _begin(self, run: RunInfo, now_s: float) -> list[tuple[Router, str]]:
        """Start counting a run; returns the reasons that its start overrode, by router."""
        fleet = self._ctx.snapshot()
        if passed := "; ".join(in_short(self._checks.against(fleet))):
            log.warning("run starts in spite of", number=run.number, reason=passed)
        in_spite_of = [
            (router, against.what)
            for router in self.routers
            for against in self._checks.against(fleet, [router])
        ]
        if self._override:
            self._set_override(False)
        self.stopper.run_begins()
        self.events.run_begins(run.ref)
        self.run_faults.run_begins()
        self._counts.begin(run.ref, now_s)
        return in_spite_of

    def _resume(self, run: RunInfo) -> None:
        """Go on with a run that began before this IOC."""
        self.events.run_begins(run.ref)
        self._counts.resume(run.ref, time.monotonic())
