"""The closings of one data router: looks at the entries and the host, and does what can be done now.

The IOC's rounds and those that somebody asks for at the shell go beside one another over the same entries;
the router's lock is held for one round, so that either may come to the end of it.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from attpc_ioc.log import get_logger
from attpc_plugins.data_routers.hosts.host import FileHost, HostError, SentryHost
from attpc_plugins.data_routers.model import CloseState, FileEntry, Look, RunKey
from attpc_plugins.data_routers.settings import DataRoutersSettings, RouterSettings

from .entries import Closings, Entry, Phase
from .sentry_steps import SENTRY_WAITS_S, close_by_sentry, sentry_look, settle_sentry
from .steps import Place, Quiet, close_files, names_text, own_files, settle, state_of

log = get_logger(__name__)

LOCK_LIMIT_S = 5.0
RETRY_FIRST_S = 1.0
RETRY_LAST_S = 30.0
TROUBLED = (CloseState.INCOMPLETE, CloseState.FAILED, CloseState.UNREACHABLE)
WAITING_TEXT = "its files are moved once none has grown for {quiet_s:g} s"


@dataclass(frozen=True, slots=True)
class Round:
    """What a round left: the router's entries, and after how many seconds the next is due; None: no need."""

    entries: tuple[Entry, ...]
    next_s: float | None


class RouterWork:
    """Closes the runs of one data router.

    `early()` tells whether no member of the run that is on can have written data yet. `on_change(entries)` is
    called when the state of an entry has changed, and `progress` has the percentage of each open one by its
    token. `before_done()` is awaited once files are in their place, before that is said. `busy` is true while
    the host is moving files.
    """

    def __init__(
        self,
        router: RouterSettings,
        host: FileHost | SentryHost,
        closings: Closings,
        settings: DataRoutersSettings,
        *,
        early: Callable[[RunKey], bool] = lambda _run: False,
        before_done: Callable[[], Awaitable[None]] | None = None,
        on_change: Callable[[Sequence[Entry]], None] = lambda _entries: None,
    ) -> None:
        self.router = router
        self.host = host
        self.busy = False
        self.progress: dict[str, float] = {}
        self._closings = closings
        self._closing = settings.closing
        self._period_s = min(settings.period_s, settings.closing.quiet_s / 3)
        self._early = early
        self._before_done = before_done
        self._on_change = on_change
        self._quiet: dict[str, Quiet] = {}
        self._limit_over: set[str] = set()
        """Tokens of the closings whose files have not come to rest within the limit."""
        self.waiting: set[str] = set()
        """Tokens of the closings that wait for files to come to rest, whatever was said of them before."""
        self._retry_s = RETRY_FIRST_S
        self._place = Place(router.staging or "")

    @property
    def label(self) -> str:
        """What the router is called."""
        return self.router.label

    async def round(self) -> Round:
        """Do what can be done now; trouble with the host is in the entries.

        Raises `ClosingBusy`, and `StateDirError` where an entry cannot be written.
        """
        self.waiting.clear()
        async with self._closings.locked(self.label, LOCK_LIMIT_S):
            entries = self._entries()
            if not any(
                entry.phase is Phase.CLOSING or (entry.open and not entry.settled) for entry in entries
            ):
                return Round(entries, None)
            try:
                if isinstance(self.host, FileHost):
                    entries = await self._files_round(self.host, entries)
                else:
                    entries = await self._sentry_round(self.host, entries)
            finally:
                self.busy = False
        return Round(entries, self._next_s(entries))

    def _next_s(self, entries: Sequence[Entry]) -> float | None:
        left = [entry for entry in entries if entry.phase is Phase.CLOSING and not entry.mixed]
        unsettled = any(entry.unsettled for entry in entries)
        if not left and not unsettled:
            return None
        if any(entry.state is CloseState.WAITING or entry.token in self.waiting for entry in left):
            self._retry_s = RETRY_FIRST_S
            return self._period_s
        wait_s, self._retry_s = self._retry_s, min(RETRY_LAST_S, 2 * self._retry_s)
        return wait_s

    def again(self) -> None:
        """Begin anew with the waiting after troubles, because somebody has asked for it."""
        self._retry_s = RETRY_FIRST_S
        now_s = time.monotonic()
        for quiet in self._quiet.values():
            quiet.began_s = now_s

    # ------------------------------------------------------------------ a host whose files we move

    async def _files_round(self, host: FileHost, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        # Asked before the listing is: what begins meanwhile makes the answer a late one.
        began = self._can_settle(entries)
        try:
            listing = await host.list_staging()
        except HostError as error:
            return await self._troubled(entries, error)
        early = began and self._can_settle(entries)
        settled = settle(entries, listing, early=early)
        for entry, before in zip(settled, entries, strict=True):
            if entry != before:
                await self._keep(entry)
        entries = await self._still_there(settled, listing)
        for entry in entries:
            if entry.phase is Phase.CLOSING:
                now = await self._advance(host, entry, entries, listing)
                entries = tuple(now if other.token == now.token else other for other in entries)
        return entries

    async def _still_there(
        self, entries: tuple[Entry, ...], listing: Sequence[FileEntry]
    ) -> tuple[Entry, ...]:
        """Forget of closings that were given up the files that are gone: a later run may use their names."""
        names = {file.name for file in listing}
        left = []
        for entry in entries:
            if entry.phase is Phase.DROPPED and not entry.chosen.keys() <= names:
                chosen = {name: size for name, size in entry.chosen.items() if name in names}
                entry = replace(entry, chosen=chosen)
                await self._keep(entry)
            left.append(entry)
        return tuple(left)

    def _can_settle(self, entries: Sequence[Entry]) -> bool:
        new = [entry for entry in entries if entry.unsettled]
        return bool(new) and self._early(new[-1].run)

    async def _advance(
        self, host: FileHost, entry: Entry, entries: Sequence[Entry], listing: Sequence[FileEntry]
    ) -> Entry:
        if entry.mixed:
            return await self._say(entry, CloseState.FAILED, entry.mixed)
        own = own_files(entry, entries, listing)
        sizes = {file.name: file.size for file in own}
        if sizes.keys() - entry.chosen.keys():
            # Remembered, so that one that is gone before it could be moved is missed.
            entry = replace(entry, chosen=entry.chosen | sizes)
            await self._keep(entry)
        now_s = time.monotonic()
        quiet = self._quiet.setdefault(entry.token, Quiet())
        rest_s = quiet.see(sizes, now_s)
        if rest_s < self._closing.quiet_s:
            return await self._wait(entry, quiet, rest_s)
        entry = await self._moving(entry)
        try:
            after = await close_files(
                host,
                entry,
                own,
                self._place,
                keep=self._keep,
                checksums=self._closing.checksums,
                now_s=time.time(),
            )
        except HostError as error:
            # What was chosen is on disk, also where the host has ended it.
            kept = self._closings.find(entry.run, self.label) or entry
            if not kept.files:
                self.progress[entry.token] = 0.0
            return await self._say(kept, state_of(error), str(error))
        return await self._ended(after)

    async def _wait(self, entry: Entry, quiet: Quiet, rest_s: float) -> Entry:
        self.progress[entry.token] = 90.0 * rest_s / self._closing.quiet_s
        now_s = time.monotonic()
        if entry.state is CloseState.WAITING and entry.token in self._limit_over:
            quiet.began_s = now_s  # somebody has begun it anew
        self._limit_over.discard(entry.token)
        if now_s - quiet.began_s > self._closing.limit_s:
            self._limit_over.add(entry.token)
            restless = names_text(quiet.restless(self._closing.quiet_s, now_s))
            text = f"still growing or changing after {self._closing.limit_s:g} s: {restless}"
            return await self._say(entry, CloseState.FAILED, text)
        self.waiting.add(entry.token)
        if entry.state in (CloseState.INCOMPLETE, CloseState.FAILED):
            return entry
        return await self._say(entry, CloseState.WAITING, WAITING_TEXT.format(quiet_s=self._closing.quiet_s))

    # ------------------------------------------------------------------ a sentry

    async def _sentry_round(self, host: SentryHost, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        try:
            look = await sentry_look(host)
        except HostError as error:
            return await self._troubled(entries, error)
        settled = settle_sentry(entries, look.data_bytes if look else 0)
        for entry, before in zip(settled, entries, strict=True):
            if entry != before:
                await self._keep(entry)
                if entry.state is not before.state:
                    self._say_changed(entry)
        found = [entry for entry in settled if entry.phase is Phase.CLOSING]
        if not found:
            return settled
        try:
            entry = await self._advance_sentry(host, found[-1], look)
        except HostError as error:
            return await self._troubled(self._entries(), error)
        return tuple(entry if other.token == entry.token else other for other in settled)

    async def _advance_sentry(self, host: SentryHost, entry: Entry, look: Look | None) -> Entry:
        sizes = {} if look is None else {"files": look.files, "bytes": look.data_bytes}
        quiet = self._quiet.setdefault(entry.token, Quiet())
        rest_s = quiet.see(sizes, time.monotonic())
        # The sentry waits by itself, without looking; the rest of the quiet time is waited for here.
        if rest_s < max(self._closing.quiet_s - SENTRY_WAITS_S, min(self._closing.quiet_s, self._period_s)):
            return await self._wait(entry, quiet, rest_s)
        return await self._ended(
            await close_by_sentry(host, await self._moving(entry), look, keep=self._keep)
        )

    # ------------------------------------------------------------------ what came of it

    async def _moving(self, entry: Entry) -> Entry:
        self.busy = True
        self.progress[entry.token] = 90.0
        if entry.state in TROUBLED:
            return entry  # it is repeated quietly until something is different
        return await self._say(entry, CloseState.MOVING, "moving files")

    async def _ended(self, entry: Entry) -> Entry:
        if not entry.open:
            self.progress[entry.token] = 100.0
            self._quiet.pop(entry.token, None)
            self._limit_over.discard(entry.token)
        await self._keep(entry)
        if not entry.open and self._before_done is not None:
            self.busy = False
            await self._before_done()
        self._say_changed(entry)
        return entry

    async def _troubled(self, entries: Sequence[Entry], error: HostError) -> tuple[Entry, ...]:
        """Say of every closing that its host has ended it; what was quiet counts no more."""
        said = []
        for entry in entries:
            if entry.phase is Phase.CLOSING and not entry.mixed:
                self._quiet.pop(entry.token, None)
                entry = await self._say(entry, state_of(error), str(error))
            said.append(entry)
        return tuple(said)

    async def _say(self, entry: Entry, state: CloseState, message: str) -> Entry:
        after = entry.said(state, message)
        if after != entry:
            await self._keep(after)
            self._say_changed(after)
        return after

    def _say_changed(self, entry: Entry) -> None:
        write = log.warning if entry.state in TROUBLED else log.info
        write("closing", run=entry.run, router=entry.router, state=entry.state.label, message=entry.message)
        self._on_change(self._entries())

    def _entries(self) -> tuple[Entry, ...]:
        return self._closings.entries(self.label)

    async def _keep(self, entry: Entry) -> None:
        await self._closings.save(entry)
