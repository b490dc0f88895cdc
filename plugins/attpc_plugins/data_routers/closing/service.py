"""Closing inside the IOC: from the events of runs to files in their place, PVs, and what others are told.

Every router has a worker of its own, so that a host that hangs holds up no other. What is to be done is on
disk before anything else, and a restart goes on from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

from attpc_ioc.errors import StateDirError
from attpc_ioc.log import get_logger
from attpc_ioc.model.events import RunFiles
from attpc_ioc.model.run import RunInfo, RunState
from attpc_ioc.model.states import Operation, State, Transition
from attpc_ioc.plugin import PluginContext
from attpc_plugins.data_routers.hosts.host import FileHost, SentryHost
from attpc_plugins.data_routers.model import CloseState, RunKey
from attpc_plugins.data_routers.settings import DataRoutersSettings, RouterSettings
from attpc_plugins.data_routers.watch.flow import Count

from .entries import ClosingBusy, Closings, Entry, Phase
from .pv_values import ClosingShown
from .router import RouterWork

log = get_logger(__name__)

LOOK_S = 10.0
"""How often a router is looked after without anything to do, in seconds."""

RETRY_S = 5.0
"""When the state directory does not work, or another process has the router, in seconds."""

LISTED_S = 0.9
"""How long a start is held back at most for the hosts to be listed; the core waits for 1 s."""

Act = Callable[[Entry | None], Entry | None]
"""Makes the next version of a run's entry; the same one where nothing is to be done, None to forget it."""


async def nothing_to_see(_label: str) -> None:
    """Look at nothing: where nobody watches the data routers."""


class Closing:
    """Closes the runs of all data routers; `hosts` are by the routers' labels.

    `on_done` hears of each closing that has come to its end: what it says of files and bytes is final.
    `look_anew(label)` is awaited before a router is shown as done: it has its folder seen as it is then.

    `run_starting`, `run_started`, `run_stopped` and `run_failed` are to be told in order, in the event loop.
    """

    def __init__(
        self,
        ctx: PluginContext,
        settings: DataRoutersSettings,
        hosts: Mapping[str, FileHost | SentryHost],
        closings: Closings,
        *,
        on_done: Callable[[str, RunKey, Count], None] = lambda _label, _run, _count: None,
        look_anew: Callable[[str], Awaitable[None]] = nothing_to_see,
    ) -> None:
        self._ctx = ctx
        self._on_done = on_done
        self._look_anew = look_anew
        self._settings = settings
        self._closings = closings
        self._acts: dict[str, list[tuple[RunKey, Act]]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        """Done once a round has ended that began after they were added."""
        self._works: dict[str, RouterWork] = {}
        self._ending: set[str] = set()
        """Labels of the routers whose run is over, and whose closing is not taken down yet."""
        self._shown = ClosingShown(ctx.publish)
        self._over_since_s: dict[str, float] = {}
        self.fault = ""
        """Why what is to be closed cannot be kept; empty when nothing is wrong."""
        for router in settings.router:
            label = router.label
            self._acts[label] = []
            self._wakes[label] = asyncio.Event()
            self._waiting[label] = []
            self._works[label] = RouterWork(
                router,
                hosts[label],
                closings,
                settings,
                early=lambda run, router=router: self._early(router, run),
                before_done=lambda label=label: look_anew(label),
                on_change=lambda entries, router=router: self._show(router, entries),
            )

    def startup(self) -> None:
        """Go on with what an earlier IOC has left."""
        for router in self._settings.router:
            self._show(router, self._closings.entries(router.label))
            self._ctx.spawn(self._work(router.label), restart=lambda label=router.label: self._work(label))

    def busy(self, label: str) -> bool:
        """Tell whether a router's host is moving files just now."""
        return self._works[label].busy

    def unfinished(self, label: str) -> bool:
        """Tell whether files of a run that is over are still to be moved on a router's host."""
        return label in self._shown.unfinished or label in self._ending

    def again(self) -> None:
        """Try at once to close what is not closed."""
        for label, work in self._works.items():
            work.again()
            self._wakes[label].set()

    def look(self) -> None:
        """Look at every router at once: something was done at the shell."""
        for wake in self._wakes.values():
            wake.set()

    # ------------------------------------------------------------------ what happens to runs

    async def run_starting(self, info: RunInfo, answering: Collection[str] | None = None) -> None:
        """Take down that a run begins, before it can write; what lies in the staging folders is not its.

        Returns when the hosts of the routers `answering` (by default all) were listed or have failed, after
        0.9 s at the latest.
        """
        if not self._settings.closing.enabled:
            return
        taking = {router.label for router in self._routers_of(info)}
        # Side by side, because a host is to be listed before its board begins to write.
        await asyncio.gather(
            *(
                self._begin(
                    work.router,
                    info,
                    takes=label in taking,
                    listed=label in taking and (answering is None or label in answering),
                )
                for label, work in self._works.items()
            )
        )

    async def _begin(self, router: RouterSettings, info: RunInfo, *, takes: bool, listed: bool) -> None:
        known = self._closings.entries(router.label)
        if takes and not any(entry.run == _key(info) for entry in known):
            try:
                await self._closings.save(_entry(router, info, Phase.RUNNING))
            except StateDirError as error:
                self._fault(str(error))
        self._acts[router.label] += [
            (entry.run, _over) for entry in known if entry.phase is Phase.RUNNING and entry.run != _key(info)
        ]
        self._wakes[router.label].set()
        if listed:
            await self._next_round(router.label)

    async def _next_round(self, label: str) -> None:
        """Return when a round of this router that begins after now has ended, or after 0.9 s."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[label].append(ended)
        await asyncio.wait((ended,), timeout=LISTED_S)

    def run_started(self, info: RunInfo) -> None:
        """Take down when a run started, also one that was adopted."""

        def act(router: RouterSettings, entry: Entry | None) -> Entry | None:
            if entry is None:
                return _entry(router, info, Phase.RUNNING)
            return replace(entry, started_s=info.started_s) if entry.phase is Phase.RUNNING else entry

        self._act(info, act)

    def run_stopped(self, info: RunInfo) -> None:
        """Close a run that is over: stopped, stopped outside or interrupted."""

        def act(router: RouterSettings, entry: Entry | None) -> Entry | None:
            if entry is None:
                return _entry(router, info, Phase.CLOSING)
            if entry.phase is not Phase.RUNNING:
                return entry
            return replace(
                entry, phase=Phase.CLOSING, started_s=info.started_s, stopped_s=info.stopped_s
            ).said(CloseState.WAITING, "the run is over")

        if self._settings.closing.enabled:
            self._ending |= {router.label for router in self._routers_of(info)}
        self._act(info, act)

    def run_failed(self, info: RunInfo, *, released: bool) -> None:
        """Close a run whose start failed; one whose number was given back was never one."""
        if not released:
            self.run_stopped(info)
            return
        self._act(info, lambda _router, entry: None if entry and entry.phase is Phase.RUNNING else entry)

    def remark(self, run: RunKey, label: str, text: str) -> None:
        """Have something said of a run's data in its record, where it has a closing on that router."""

        def act(entry: Entry | None) -> Entry | None:
            return replace(entry, remarks=(*entry.remarks, text)) if entry is not None else None

        if self._settings.closing.enabled:
            self._acts[label].append((run, act))
            self._wakes[label].set()

    def _act(self, info: RunInfo, act: Callable[[RouterSettings, Entry | None], Entry | None]) -> None:
        if not self._settings.closing.enabled:
            return
        for router in self._routers_of(info):
            self._acts[router.label].append((_key(info), lambda entry, router=router: act(router, entry)))
            self._wakes[router.label].set()

    def _routers_of(self, info: RunInfo) -> list[RouterSettings]:
        """Return the routers that may have data of a run: those of its members' sources."""
        modules = self._ctx.snapshot().modules
        known = {source.name: module.name for module in modules.values() for source in module.sources}
        return [
            router
            for router in self._settings.router
            if any(known.get(source) is None or known[source] in info.members for source in router.sources)
        ]

    def _early(self, router: RouterSettings, run: RunKey) -> bool:
        """Tell whether nothing of this run can have been written by a router yet."""
        fleet = self._ctx.snapshot()
        info = fleet.run.info
        if info is None or _key(info) != run or info.started_s is not None:
            return False
        own = [module for source, module in fleet.sources() if source.name in router.sources]
        live = (State.RUNNING, State.PAUSED)
        return not any(
            m.state in live or m.transition is Transition.START or m.outstanding is Operation.START
            for m in own or fleet.modules.values()
        )

    # ------------------------------------------------------------------ the workers

    async def _work(self, label: str) -> None:
        work, wake = self._works[label], self._wakes[label]
        while True:
            wake.clear()
            waiting, self._waiting[label] = self._waiting[label], []
            try:
                next_s = await self._round(label, work)
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

    async def _round(self, label: str, work: RouterWork) -> float | None:
        self._find_ends(label)
        await self._do_acts(label)
        result = await work.round()
        self._fault(self._closings.fault)
        closing = any(entry.phase is Phase.CLOSING for entry in result.entries)
        if label in self._shown.unfinished and not closing:
            await self._look_anew(label)  # done at the shell
        self._show(work.router, result.entries)
        if not self._acts[label]:
            self._ending.discard(label)
        for entry in result.entries:
            if entry.to_tell and entry.told != entry.to_tell:
                if entry.state is CloseState.DONE:
                    self._on_done(label, entry.run, Count(entry.files, entry.data_bytes))
                await self._tell(entry)
        self._forget_old(label, result.entries)
        return result.next_s

    def _find_ends(self, label: str) -> None:
        """Close runs of whose end nobody has told, because the IOC was killed just then."""
        entries = self._closings.entries(label)
        run = self._ctx.snapshot().run
        now_s = time.monotonic()
        for entry in entries:
            on = run.state is RunState.UNKNOWN or (
                run.on and run.info is not None and _key(run.info) == entry.run
            )
            if entry.phase is not Phase.RUNNING or on:
                self._over_since_s.pop(entry.token, None)
            elif now_s - self._over_since_s.setdefault(entry.token, now_s) >= LOOK_S / 2:
                self._acts[label].append((entry.run, _over))

    async def _do_acts(self, label: str) -> None:
        acts = self._acts[label]
        if not acts:
            return
        async with self._closings.locked(label, RETRY_S):
            while acts:
                run, act = acts[0]
                before = self._closings.find(run, label)
                after = act(before)
                if after is not None and after != before:
                    await self._closings.save(after)
                elif after is None and before is not None:
                    self._closings.remove(before)
                del acts[0]

    async def _tell(self, entry: Entry) -> None:
        """Tell how a closing stands: the event, and that it was told, are on disk together."""
        async with self._closings.locked(entry.router, RETRY_S):
            now = self._closings.find(entry.run, entry.router)
            if now is None or now.token != entry.token:
                return
            told = replace(now, told=entry.to_tell)
            self._closings.keep(told)
            taken = await self._ctx.tell(
                RunFiles,
                experiment=entry.run.experiment,
                number=entry.run.number,
                router=entry.router,
                sources=entry.sources,
                state=entry.state.label,
                files=entry.files,
                data_bytes=entry.data_bytes,
                location=entry.location,
                message=entry.message_told,
                manifest=entry.manifest,
            )
            if not taken:
                # It is told again with the next look.
                self._closings.keep(now)

    def _forget_old(self, label: str, entries: Sequence[Entry]) -> None:
        """Keep of what is over the last one only: for the PVs after a restart.

        Also what was given up while its files may lie in the staging folder: they are no later run's.
        """
        over = [entry for entry in entries if not entry.open and entry.told == entry.to_tell]
        for entry in over[:-1]:
            if entry.phase is Phase.DROPPED and entry.chosen:
                continue
            if self._closings.find(entry.run, label) == entry:
                self._closings.remove(entry)

    # ------------------------------------------------------------------ what is shown

    def _show(self, router: RouterSettings, entries: Sequence[Entry]) -> None:
        work = self._works.get(router.label)
        self._shown.show(router, entries, work.progress if work is not None else {})

    def _fault(self, text: str) -> None:
        if text != self.fault and text:
            log.error("closings", reason=text)
        self.fault = text


def _key(info: RunInfo) -> RunKey:
    return RunKey(info.experiment, info.number)


def _entry(router: RouterSettings, info: RunInfo, phase: Phase) -> Entry:
    return Entry(
        run=_key(info),
        router=router.label,
        sources=router.sources,
        phase=phase,
        began_s=info.began_s,
        started_s=info.started_s,
        stopped_s=info.stopped_s,
    )


def _over(entry: Entry | None) -> Entry | None:
    """Close a run of whose end nobody has told."""
    if entry is None or entry.phase is not Phase.RUNNING:
        return entry
    return replace(entry, phase=Phase.CLOSING).said(CloseState.WAITING, "the run is over")
