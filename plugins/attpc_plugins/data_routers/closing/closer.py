"""Closes the runs of one data router, in rounds: each does the steps that are possible now.

The IOC and a shell command may both run rounds on the same closings. Each holds the router's lock for one
round, so either can finish the work.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from attpc_ioc.log import get_logger
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.hosts.host import FileHost, HostError, SentryHost
from attpc_plugins.data_routers.hosts.names import streams_in
from attpc_plugins.data_routers.model import CloseState, FileEntry, Polled
from attpc_plugins.data_routers.settings import DataRoutersSettings, RouterSettings

from .beside import Beside, doubtful
from .closings import Closing, ClosingStore, Phase
from .late import LateMover, late_of, without_late
from .sentry_steps import (
    baseline,
    close_by_sentry,
    count,
    look,
    poll_sentry,
    settle_sentry,
)
from .states import ClosingStates
from .steps import RETRY_FIRST_S, RETRY_LAST_S, Quiet, close_files, names_text, state_of
from .summary import Summary, summary_for
from .whose import own_files, settle, still_early

log = get_logger(__name__)

LOCK_LIMIT_S = 5.0
WAITING_TEXT = "its files are moved once none has grown for {quiet_s:g} s"


@dataclass(frozen=True, slots=True)
class Round:
    """The result of a round: the router's closings, and the seconds until the next; None if none is due."""

    closings: tuple[Closing, ...]
    next_s: float | None


class RouterCloser(ClosingStates):
    """Closes the runs of one data router.

    `early()` returns whether no member of the current run can have written data yet, `has_files()` whether
    there may be files in the staging folder, `other_run(run)` whether another run is starting or on,
    `last_polled()` what the host reported last, `sender_ids(closing)` the sender ids of the sources of its
    run, by name, None where they are not known; `summary` counts the frames. `on_listing(files)` is called
    with each listing of the staging folder, before a file is moved. `before_done()` is awaited
    when the files are moved, before the closing is shown as done.
    """

    def __init__(
        self,
        router: RouterSettings,
        host: FileHost | SentryHost,
        store: ClosingStore,
        settings: DataRoutersSettings,
        *,
        early: Callable[[RunRef], bool] = lambda _run: False,
        has_files: Callable[[], bool] = lambda: True,
        other_run: Callable[[RunRef], bool] = lambda _run: False,
        last_polled: Callable[[], Polled | None] = lambda: None,
        sender_ids: Callable[[Closing], Mapping[str, str] | None] = lambda _closing: None,
        summary: Summary | None = None,
        on_listing: Callable[[Sequence[FileEntry]], None] = lambda _files: None,
        before_done: Callable[[], Awaitable[None]] | None = None,
        on_change: Callable[[Sequence[Closing]], None] = lambda _entries: None,
    ) -> None:
        super().__init__(router.label, store, on_change)
        self.router = router
        self.host = host
        self._settings = settings.closing
        self._period_s = min(settings.period_s, settings.closing.quiet_s / 3)
        self._early = early
        self._has_files = has_files
        self._other_run = other_run
        self._last_polled = last_polled
        self._beside = Beside(router.label, settings.closing.quiet_s, sender_ids)
        self._on_listing = on_listing
        self._before_done = before_done
        self._quiet: dict[str, Quiet] = {}
        self._limit_over: set[str] = set()
        """Tokens of the closings whose files still changed after the limit."""
        self.waiting: set[str] = set()
        """Tokens of the closings that wait for files to stop changing, whatever their state is."""
        self._retry_s = RETRY_FIRST_S
        self.summary = summary or summary_for(router, host, settings)
        self.late = LateMover(router, settings.closing, self._period_s, self._keep, self.summary)

    async def round(self) -> Round:
        """Do the steps that are possible now; errors of the host are in the closings.

        Raises `ClosingBusy`, and `StateDirError` where a closing cannot be written to disk.
        """
        self.waiting.clear()
        async with self._store.locked(self.label, LOCK_LIMIT_S):
            closings = self._known()
            if not any(
                closing.phase is Phase.CLOSING or (closing.open and not closing.settled)
                for closing in closings
            ) and not self.late.due(closings, self._has_files):
                return Round(closings, None)
            try:
                if isinstance(self.host, FileHost):
                    closings = await self._files_round(self.host, closings)
                else:
                    closings = await self._sentry_round(self.host, closings)
            finally:
                self.busy = False
        return Round(closings, self._next_s(closings))

    def _next_s(self, closings: Sequence[Closing]) -> float | None:
        left = [closing for closing in closings if closing.phase is Phase.CLOSING and not closing.mixed]
        unsettled = any(closing.unsettled for closing in closings)
        if not left and not unsettled:
            return self.late.next_s
        if any(closing.state is CloseState.WAITING or closing.token in self.waiting for closing in left):
            self._retry_s = RETRY_FIRST_S
            return self._period_s
        wait_s, self._retry_s = self._retry_s, min(RETRY_LAST_S, 2 * self._retry_s)
        return wait_s

    def again(self) -> None:
        """Restart the delays and time limits, because an operator asked for it."""
        self._retry_s = RETRY_FIRST_S
        now_s = time.monotonic()
        for quiet in self._quiet.values():
            quiet.began_s = now_s

    @property
    def against_next(self) -> str:
        """Why the next run may not begin yet, and for how long; empty where it may."""
        return self._beside.against_next(self._known(), sentry=isinstance(self.host, SentryHost))

    # ------------------------------------------------------------------ a host whose files this program moves

    async def _files_round(self, host: FileHost, closings: tuple[Closing, ...]) -> tuple[Closing, ...]:
        # Asked before and after the listing: a start in between makes it a late one.
        began = self._can_settle(closings)
        try:
            listing = await host.list_staging()
        except HostError as error:
            return await self._host_failed(closings, error)
        tails, whole = late_of(closings, listing), listing
        listing = without_late(closings, listing)
        early = began and self._can_settle(closings)
        if not early or any(closing.unsettled for closing in closings):
            settled = settle(closings, listing, early=early)
        else:
            settled = still_early(closings, listing)
        for closing, before in zip(settled, closings, strict=True):
            if closing != before:
                await self._keep(closing)
        settled = await self._still_there(settled, listing)
        # Of all runs at the listing's time, before the files of one are moved: that may take long.
        closings = tuple([await self._tell_apart(closing, settled, listing, whole) for closing in settled])
        self._on_listing(whole)
        for closing in closings:
            if closing.phase is Phase.CLOSING:
                now = await self._advance(host, closing, settled, listing)
                closings = tuple(now if other.token == now.token else other for other in closings)
        return await self._late_round(host, closings, tails)

    async def _late_round(
        self, host: FileHost, closings: Sequence[Closing], tails: Mapping[str, Sequence[FileEntry]]
    ) -> tuple[Closing, ...]:
        after = await self.late.round(host, closings, tails)
        if tails and self.late.next_s is None and self._before_done is not None:
            await self._before_done()  # the next start must not be refused for files that are gone
        self.late.take(tails)
        for closing, before in zip(after, closings, strict=True):
            if (closing.state, closing.message) != (before.state, before.message):
                self._say_changed(closing)
        return after

    async def _still_there(
        self, closings: tuple[Closing, ...], listing: Sequence[FileEntry]
    ) -> tuple[Closing, ...]:
        """Remove vanished files from closings that were given up: a later run may use their names."""
        names = {file.name for file in listing}
        left = []
        for closing in closings:
            if closing.phase is Phase.DROPPED and not closing.chosen.keys() <= names:
                chosen = {name: size for name, size in closing.chosen.items() if name in names}
                closing = replace(closing, chosen=chosen)
                await self._keep(closing)
            left.append(closing)
        return tuple(left)

    def _can_settle(self, closings: Sequence[Closing]) -> bool:
        new = [closing for closing in closings if closing.unsettled or closing.phase is Phase.RUNNING]
        return bool(new) and self._early(new[-1].run)

    async def _tell_apart(
        self,
        closing: Closing,
        closings: Sequence[Closing],
        listing: Sequence[FileEntry],
        whole: Sequence[FileEntry],
    ) -> Closing:
        """Return a closing with its files in a listing, and whether the next run's can be told from them."""
        if closing.phase is not Phase.CLOSING:
            return closing
        self._beside.see(closing, closings, listing, whole)
        if closing.mixed:
            return closing
        own = own_files(closing, closings, listing)
        sizes = {file.name: file.size for file in own}
        apart = self._beside.is_apart(closing, closings, own)
        if sizes.keys() - closing.chosen.keys() or apart != closing.apart:
            # Kept, so that a file that vanishes before it is moved is reported as missing.
            closing = replace(closing, chosen=sizes | closing.chosen, apart=apart)
            await self._keep(closing)
        return closing

    async def _advance(
        self, host: FileHost, closing: Closing, closings: Sequence[Closing], listing: Sequence[FileEntry]
    ) -> Closing:
        if closing.mixed:
            return await self._say(closing, CloseState.FAILED, closing.mixed)
        own = own_files(closing, closings, listing)
        if doubt := doubtful(closing, own, self._settings.quiet_s):
            closing = replace(closing, mixed=doubt, streams=streams_in(closing.chosen))
            return await self._say(closing, CloseState.FAILED, doubt)
        now_s = time.monotonic()
        quiet = self._quiet.setdefault(closing.token, Quiet())
        rest_s = quiet.see({file.name: file.size for file in own}, now_s)
        self._beside.left_s[closing.token] = max(0.0, self._settings.quiet_s - rest_s)
        if rest_s < self._settings.quiet_s:
            return await self._wait(closing, quiet, rest_s)
        closing = await self._moving(closing, "moving files")
        try:
            after = await close_files(
                host,
                closing,
                own,
                self.router.staging or "",
                keep=self._keep,
                checksums=self._settings.checksums,
                summary=self.summary,
                now_s=time.time(),
            )
        except HostError as error:
            # `close_files` has kept the chosen files before the error.
            kept = self._store.find(closing.run, self.label) or closing
            if not kept.files:
                self.progress[closing.token] = 0.0
            return await self._say(kept, state_of(error), str(error))
        return await self._ended(self._beside.said(after))

    async def _wait(self, closing: Closing, quiet: Quiet, rest_s: float) -> Closing:
        self.progress[closing.token] = 90.0 * rest_s / self._settings.quiet_s
        now_s = time.monotonic()
        if closing.state is CloseState.WAITING and closing.token in self._limit_over:
            quiet.began_s = now_s  # a shell command has begun it again
        self._limit_over.discard(closing.token)
        if now_s - quiet.began_s > self._settings.limit_s:
            self._limit_over.add(closing.token)
            restless = names_text(quiet.restless(self._settings.quiet_s, now_s))
            text = f"still growing or changing after {self._settings.limit_s:g} s: {restless}"
            return await self._say(closing, CloseState.FAILED, text)
        self.waiting.add(closing.token)
        if closing.state in (CloseState.INCOMPLETE, CloseState.FAILED):
            return closing
        return await self._say(
            closing, CloseState.WAITING, WAITING_TEXT.format(quiet_s=self._settings.quiet_s)
        )

    # ------------------------------------------------------------------ a sentry

    async def _sentry_round(self, host: SentryHost, closings: tuple[Closing, ...]) -> tuple[Closing, ...]:
        began = self._can_settle(closings)
        try:
            polled = await poll_sentry(host)
        except HostError as error:
            return await self._host_failed(closings, error)
        # It answers, so it is not moving files, which it does before it answers anything else.
        early = began and self._can_settle(closings)
        free = tuple(replace(closing, asked_s=0.0) if closing.asked_s else closing for closing in closings)
        settled = settle_sentry(free, polled, early=early)
        for closing, before in zip(settled, closings, strict=True):
            if closing != before:
                await self._keep(closing)
                if closing.state is not before.state:
                    self._say_changed(closing)
        found = [closing for closing in settled if closing.phase is Phase.CLOSING]
        if not found:
            return settled
        try:
            closing = await self._advance_sentry(host, found[-1], polled, baseline(closings))
        except HostError as error:
            return await self._host_failed(self._known(), error)
        return tuple(closing if other.token == closing.token else other for other in settled)

    async def _advance_sentry(
        self, host: SentryHost, closing: Closing, polled: Polled | None, left_files: int
    ) -> Closing:
        if closing.moved:
            after = look(closing, polled, left_files)
            if after.open:
                return await self._say(closing, after.state, after.message)
            return await self._ended(await self._with_frames(after))
        if not closing.counted and polled is None:
            last = count(closing, self._last_polled())
            closing = last if last.files else closing  # the first file may have come after that poll
        if self._other_run(closing.run):
            return closing
        sizes = {} if polled is None else {"files": polled.files, "bytes": polled.data_bytes}
        quiet = self._quiet.setdefault(closing.token, Quiet())
        rest_s = quiet.see(sizes, time.monotonic())
        # The sentry itself waits, without looking at the files; only the rest is waited for here.
        quiet_s = self._settings.quiet_s
        if rest_s < max(quiet_s - self._settings.sentry_waits_s, min(quiet_s, self._period_s)):
            return await self._wait(closing, quiet, rest_s)
        after = await close_by_sentry(
            host,
            closing,
            polled,
            left_files,
            keep=self._keep,
            may_ask=lambda: not self._other_run(closing.run),
            moving=lambda asked: self._moving(
                asked,
                f"asked the sentry, which waits {self._settings.sentry_waits_s:g} s and then moves them",
            ),
            now_s=time.time(),
        )
        return await self._ended(await self._with_frames(after))

    async def _with_frames(self, closing: Closing) -> Closing:
        """Return a closing by a sentry with what is in the frames, where these are looked at."""
        if closing.open:
            return closing
        return replace(closing, seen={}, frames=await self.summary.of_closed(closing))

    # ------------------------------------------------------------------ results

    async def _ended(self, closing: Closing) -> Closing:
        if not closing.open:
            self.progress[closing.token] = 100.0
            self._quiet.pop(closing.token, None)
            self._beside.forget(closing.token)
            self._limit_over.discard(closing.token)
        await self._keep(closing)
        if not closing.open and self._before_done is not None:
            self.busy = False
            await self._before_done()
        self._say_changed(closing)
        return closing

    async def _host_failed(self, closings: Sequence[Closing], error: HostError) -> tuple[Closing, ...]:
        """Show the host's error on every closing; each waits its whole quiet time again."""
        shown = []
        for closing in closings:
            if closing.phase is Phase.CLOSING and not closing.mixed:
                self._quiet.pop(closing.token, None)
                closing = await self._say(closing, state_of(error), str(error))
            shown.append(closing)
        return tuple(shown)
