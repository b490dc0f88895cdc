"""Events of the run in progress: looks at all routers' frames, judges them, publishes PVs."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from attpc_ioc.eventlog import Kept
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.run import RunRef, RunView
from attpc_ioc.plugin import PluginContext
from attpc_plugins.data_routers.hosts.host import FileHost, FrameHost, SentryHost
from attpc_plugins.data_routers.hosts.make import frame_host_for
from attpc_plugins.data_routers.hosts.names import is_sender
from attpc_plugins.data_routers.settings import DataRoutersSettings, RouterSettings
from attpc_plugins.data_routers.watch.around import FleetFacts
from attpc_plugins.data_routers.watch.flow import earliest
from attpc_plugins.data_routers.watch.incidents import Wrong

from .figures import RunFigures, SourceFigures
from .missing import MissingJudge, worst_missing
from .pv_values import show_run, show_source
from .rows import MISSING, SYNC, SYNC_TEXT
from .streams import Stream
from .sync import Sync, SyncJudge, Verdict, text_of, worst
from .watcher import FrameWatch, RouterFrames, RunClocks

KEEP_S = 20.0
"""Time between two writes of what is known of a router's frames."""

LAST = "last"
"""The key under which the clocks of the last run are kept."""

SAMPLES_A_LOOK = 3
"""At least so many events are compared in each look, and less than twice as many."""


class EventsService:
    """The frames of all data routers, for one event loop.

    `before(label, run)`, `closed(label, run)` and `busy(label)` are for `FrameWatch`. `on_news()`: call
    `show` soon.
    """

    def __init__(
        self,
        ctx: PluginContext,
        settings: DataRoutersSettings,
        hosts: Mapping[str, FileHost | SentryHost],
        kept: Kept[RouterFrames],
        clocks: Kept[RunClocks],
        *,
        before: Callable[[str, RunRef], Collection[str] | None],
        closed: Callable[[str, RunRef], Collection[str]],
        busy: Callable[[str], bool],
        on_news: Callable[[], None],
    ) -> None:
        self._ctx = ctx
        self._settings = settings
        self._kept = kept
        self._clocks = clocks
        self._kept_s: dict[str, float] = {}
        self._states: dict[str, Sync] = {}
        self._since_s: dict[str, float] = {}
        self._around: object = None
        self._reasons: dict[tuple[str, str], str] = {}
        """By the PV's part and the source."""
        self._judge = SyncJudge(settings.events)
        self._missing = MissingJudge(settings.events, settings.rate_window_s)
        self._of: RunRef | None = None
        """The run that is judged."""
        self._news = True
        self._on_news = on_news
        self._watches: dict[str, tuple[RouterSettings, FrameWatch]] = {}
        self.run = RunFigures()
        for router in settings.router:
            host = frame_host_for(router, settings, hosts[router.label]) if settings.events.enabled else None
            if host is not None:
                self._watches[router.label] = router, self._watch(router.label, host, before, closed, busy)

    def _watch(
        self,
        label: str,
        host: FrameHost,
        before: Callable[[str, RunRef], Collection[str] | None],
        closed: Callable[[str, RunRef], Collection[str]],
        busy: Callable[[str], bool],
    ) -> FrameWatch:
        return FrameWatch(
            label,
            host,
            period_s=self._settings.period_s,
            timeout_s=self._settings.timeout_s,
            window_s=self._settings.rate_window_s,
            before=lambda run: before(label, run),
            closed=lambda run: closed(label, run),
            busy=lambda: busy(label),
            step=self._step,
            on_look=lambda: self._looked(label),
        )

    @property
    def looks(self) -> bool:
        """Whether the frames of any data router are read."""
        return bool(self._watches)

    @property
    def own_hosts(self) -> list[FrameHost]:
        """The hosts that only this service uses: those beside a sentry."""
        return [watch.host for router, watch in self._watches.values() if router.frames is not None]

    def start(self) -> None:
        """Begin to look, without waiting for a host, and say where that is not possible."""
        for router in self._settings.router:
            if router.label not in self._watches:
                off = (
                    "switched off by events.enabled"
                    if router.reads_frames
                    else "a sentry shows none; 'staging' and 'frames' in its [[plugins.data_routers.router]] "
                    "say how they are read beside it"
                )
                for source in router.sources:
                    self._ctx.publish(f"{source}:{SYNC_TEXT}", f"its frames are not looked at: {off}")
        for _, watch in self._watches.values():
            self._ctx.spawn(watch.run(), restart=watch.run)

    # ------------------------------------------------------------------ runs

    def run_begins(self, run: RunRef) -> None:
        """Look at the frames of a run from now on; after a restart what was known is gone on with."""
        known = self._clocks.values.get(LAST)
        if known is None or known.run != run:
            known = RunClocks(run)
        self._judge, self._of = SyncJudge(self._settings.events, known.learned, known.steps), run
        self._missing = MissingJudge(self._settings.events, self._settings.rate_window_s)
        self.run = RunFigures()
        self._states.clear()
        self._since_s.clear()
        for label, (_, watch) in self._watches.items():
            frames = self._kept.values.get(label)
            watch.begin(frames if frames is not None and frames.run == run else RouterFrames(run))
        self._news = True

    def run_failed(self) -> None:
        """Look no more: the start of the run has failed."""
        for _, watch in self._watches.values():
            watch.end()
        self._news = True

    def seen(self, label: str, run: RunRef) -> Mapping[str, Stream]:
        """Return what is known of the frames of a run on a router, by sender; nothing of an earlier run."""
        found = self._watches.get(label)
        for frames in (found[1].frames if found is not None else None, self._kept.values.get(label)):
            if frames is not None and frames.run == run:
                return frames.streams
        return {}

    def host(self, label: str) -> FrameHost | None:
        """Return the host on which a router's frames are looked at."""
        return self._watches[label][1].host if label in self._watches else None

    def closed(self, label: str, run: RunRef) -> None:
        """Look no more at a router's files: those of the run were moved."""
        found = self._watches.get(label)
        if found is not None and found[1].frames is not None and found[1].frames.run == run:
            found[1].end()
            self._news = True

    # ------------------------------------------------------------------ figures

    def _step(self) -> int:
        """Return the number whose multiples are compared: a power of two, so that it goes on to fit."""
        wanted = self._judge.lead.rate * self._settings.period_s / SAMPLES_A_LOOK
        return 1 << max(0, int(wanted).bit_length() - 1)

    def _looked(self, label: str) -> None:
        self._news = True
        self._on_news()
        watch, now_s = self._watches[label][1], time.monotonic()
        if watch.frames is not None and now_s - self._kept_s.get(label, -KEEP_S) >= KEEP_S:
            self._kept_s[label] = now_s
            self._kept.keep(label, watch.frames)

    def why(self, part: str, source: str) -> str:
        """Return why a PV of a source is in alarm, `Router:Sync_RBV` or `Router:Missing_RBV`."""
        return self._reasons.get((part, source), "")

    def wrong(self, sources: Sequence[str], run: RunRef) -> dict[str, Wrong]:
        """Return what is worse than a delay with a run's events of sources, by cause, for log and history."""
        found: dict[str, Wrong] = {}
        for source in sources:
            state = self._state(source, run)
            if state >= Sync.OUT_OF_STEP:
                cause = f"{SYNC} {source} {state.label}"
                since_s = self._since_s.setdefault(cause, time.time())
                text = f"{state.label}: {self.why(SYNC, source)}"
                found[cause] = Wrong(text, since_s, of_run=True, ends=state is Sync.OUT_OF_STEP)
        return found

    def worst_of(self, sources: Sequence[str], run: RunRef) -> Sync:
        """Return the worst state of a run's events of sources now; Unknown if it is no worse than a delay."""
        found = max((self._state(source, run) for source in sources), default=Sync.UNKNOWN)
        return found if found >= Sync.OUT_OF_STEP else Sync.UNKNOWN

    def _state(self, source: str, run: RunRef) -> Sync:
        """Return the state of a source's events in a run; Unknown while another run is judged."""
        return self._states.get(source, Sync.UNKNOWN) if run == self._of else Sync.UNKNOWN

    def show(
        self,
        fleet: Fleet,
        facts: FleetFacts,
        unreachable: Callable[[str], str],
        cut: Callable[[str], str],
    ) -> None:
        """Judge and publish, if there is news.

        `unreachable(label)` is why a router's host does not answer; empty while it does. `cut(source)` is why
        nothing of a source is written any more; empty where that is not known.
        """
        faults = {label: unreachable(label) for label in self._watches}
        cuts = {name: cut(name) for router, _ in self._watches.values() for name in router.sources}
        around = faults, cuts, facts.enabled, facts.running, fleet.run.on
        if not self._news and around == self._around:
            return
        self._news, self._around = False, around
        now_s = time.monotonic()
        streams = [
            stream
            for _, watch in self._watches.values()
            if watch.frames is not None
            for stream in watch.frames.streams.values()
        ]
        by_sender = {stream.sender: stream for stream in streams}
        blind = {label: faults[label] or watch.fault for label, (_, watch) in self._watches.items()}
        unseen = {
            sender
            for label, (_, watch) in self._watches.items()
            if blind[label] and watch.frames is not None
            for sender in watch.frames.streams
        }
        verdicts = self._judge.judge(now_s, by_sender, unseen)
        lacks = self._missing.judge(now_s, by_sender)
        self._keep_clocks()
        sender_ids = {source.name: source.sender_id for source, _ in fleet.sources()}
        members: list[SourceFigures] = []
        seen: set[str] = set()
        for router, watch in self._watches.values():
            fault = blind[router.label]
            due_s: list[float | None] = []
            for name in router.sources:
                is_own = is_sender(sender_ids.get(name, ""))
                own = [stream for stream in streams if is_own(stream.sender)]
                if name in facts.running and not own and watch.looking and not fault:
                    verdict = self._judge.silent(now_s, name)
                else:
                    verdict = worst(verdicts[stream.sender] for stream in own)
                if name in facts.running and cuts[name] and verdict.state <= Sync.IN_STEP:
                    # It is about to fall behind: what came before does not tell.
                    verdict = Verdict(Sync.UNKNOWN, f"its data router: {cuts[name]}", name)
                due_s += self._judge.due_s(now_s, own), self._missing.due_s(now_s, own)
                lack = worst_missing([lacks[stream.sender] for stream in own])
                figures = SourceFigures.of(own, watch.rate, verdict, lack)
                if name in facts.running or own:
                    members.append(figures)
                if not fault:
                    seen.add(name)
                why = f"data router {router.label}: its frames cannot be looked at: {fault}"
                text = why if fault else self._said(figures.verdict, fleet.run)
                self._reasons[SYNC, name] = why if fault else figures.verdict.text
                self._reasons[MISSING, name] = why if fault else lack.why
                self._states[name] = Sync.UNKNOWN if fault else figures.verdict.state
                alarming = name in facts.enabled and self._matters(watch, fleet.run)
                show_source(self._ctx, name, figures, text, fault=bool(fault), alarming=alarming)
            watch.look_by(earliest(*due_s))
        triggers = next((stream.triggers for stream in streams if stream.triggers), ())
        hidden = [source.name for source, _ in fleet.sources() if source.name in facts.enabled - seen]
        run = RunFigures.of(members, triggers, unread=len(hidden))
        # A sender that appears has fewer events in the beginning.
        self.run = replace(
            run,
            events=max(self.run.events, run.events),
            missing_level=self._missing.level_of_run(now_s, run.missing_percent),
        )
        all_blind = all(blind.values())
        over = not any(self._matters(watch, fleet.run) for _, watch in self._watches.values())
        not_seen = f"not looked at: {', '.join(hidden)}" if hidden else ""
        text = self._said(self.run.verdict, fleet.run, not_seen)
        show_run(self._ctx, self.run, text, fault=all_blind and self.looks, counted=self.looks, over=over)

    def _said(self, verdict: Verdict, run: RunView, more: str = "") -> str:
        """Return the text of a verdict, another one, and during a run what to do."""
        return text_of(verdict, more, advised=run.on)

    def _matters(self, watch: FrameWatch, run: RunView) -> bool:
        """Return whether what is wrong with events is an alarm: in a run, and until its files are closed."""
        return run.on or (watch.looking and self._settings.closing.enabled)

    def _keep_clocks(self) -> None:
        if self._of is None:
            return
        known = RunClocks(self._of, dict(self._judge.learned), dict(self._judge.steps))
        if self._clocks.values.get(LAST) != known:
            self._clocks.keep(LAST, known)
