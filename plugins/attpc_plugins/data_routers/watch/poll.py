"""Polls one data router, independently of the others, so that one without an answer does not delay them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

from attpc_ioc.log import get_logger
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.hosts.host import Host, HostError, HostTimeout, RouterGone
from attpc_plugins.data_routers.model import Polled

from .flow import Listed

log = get_logger(__name__)

LAST_BACKOFF_S = 10.0
"""The longest time between two polls of a host that does not answer."""

GUARD_S = 1.0
"""A poll is abandoned when it takes this much longer than its own limit."""

BUSY_S = 0.2
"""Time between two checks whether a host is still moving files."""


@contextlib.asynccontextmanager
async def answered(timeout_s: float) -> AsyncIterator[None]:
    """Raise `HostTimeout` where a block takes longer than a request's own limit, and `GUARD_S`."""
    limit_s = timeout_s + GUARD_S
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as error:
        raise HostTimeout(f"no answer in {limit_s:g} s") from error


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer to a poll, when that began and ended (monotonic), and which run's folder was asked for.

    `partial`: the host reported only that the router does not run; the other values are older. `listed`: the
    files sorted by runs, where there are some of runs that have ended and it is known which.
    """

    polled: Polled
    asked_s: float
    at_s: float
    next_run: RunRef | None
    partial: bool = False
    listed: Listed | None = None


_NOTHING = Polled(process=False, files=0, data_bytes=0, disk_free_bytes=0, disk_total_bytes=0)


def _counted(polled: Polled, listed: Listed) -> Polled:
    return replace(polled, files=listed.total.files, data_bytes=listed.total.data_bytes)


async def not_listed() -> Listed | None:
    """Sort nothing."""
    return None


class Watch:
    """Polls one router every `period_s`, and sooner on request.

    `on_poll` is called after each answer, and when the host counts as not answering: two periods after the
    last answer. While `busy()` the router is not polled and the last answer stays valid; `on_hold` is called
    when that begins. `listed()` sorts the files by runs, where that is necessary.
    """

    def __init__(
        self,
        label: str,
        host: Host,
        *,
        period_s: float,
        timeout_s: float,
        wanted: Callable[[], RunRef | None],
        busy: Callable[[], bool],
        on_poll: Callable[[], None],
        on_hold: Callable[[], None] = lambda: None,
        listed: Callable[[], Awaitable[Listed | None]] = not_listed,
    ) -> None:
        self.label = label
        self.host = host
        self._period_s = period_s
        self._timeout_s = timeout_s
        self._wanted = wanted
        self._busy = busy
        self._on_poll = on_poll
        self._on_hold = on_hold
        self._listed = listed
        self.held = False
        """Whether it is not polled, because its host is moving files."""
        self._sooner = asyncio.Event()
        self._wake_s: float | None = None
        self.failures = 0
        """The number of consecutive polls without an answer."""
        self._stale: asyncio.TimerHandle | None = None
        self.seen: Seen | None = None
        """The last answer, of any age."""
        self.fault = ""
        """Why there is no newer answer; empty if the last poll was answered."""
        self.silent = True
        """Whether `fault` is only that no answer came in time."""
        self.answering: bool | None = None
        """Whether the host answers; None before the first result."""
        self.asked_s: float | None = None
        """When the first poll without an answer began (monotonic); None while the host answers."""

    def poll_soon(self) -> None:
        """Poll now, before the end of the period."""
        self._sooner.set()

    def wake_at(self, at_s: float | None) -> None:
        """Poll at this time (monotonic) at the latest; None: at the end of the period."""
        self._wake_s = at_s

    def note_listed(self, listed: Listed) -> None:
        """Take a listing that somebody else has made into the last answer."""
        if self.seen is not None and not self.seen.partial:
            self.seen = replace(self.seen, polled=_counted(self.seen.polled, listed), listed=listed)

    async def run(self) -> None:
        """Watch until cancelled."""
        try:
            while True:
                self._sooner.clear()
                held, self.held = self.held, self._busy()
                if self.held:
                    self._hold()
                    if not held:
                        self._on_hold()
                    await self._wait(BUSY_S)
                    continue
                began_s = time.monotonic()
                await self._poll()
                await self._wait(self._next_s(began_s) - time.monotonic())
        finally:
            self._hold()

    def _next_s(self, began_s: float) -> float:
        if self.failures:
            # Once more within the two periods after which it counts as not answering, then with back-off.
            wait_s = self._period_s / 2 * 2 ** min(self.failures - 1, 20)
            return time.monotonic() + min(wait_s, max(LAST_BACKOFF_S, self._period_s))
        next_s = began_s + self._period_s
        return next_s if self._wake_s is None else min(next_s, self._wake_s)

    async def _wait(self, wait_s: float) -> None:
        if wait_s <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._sooner.wait()
        except TimeoutError:
            return

    async def _poll(self) -> None:
        wanted = self._wanted()
        if self.answering and self._stale is None:
            # It was not polled while it moved files: its two periods begin now.
            self._expect()
        partial, listed = False, None
        asked_s = time.monotonic()
        if self.asked_s is None:
            self.asked_s = asked_s
        try:
            polled, listed = await self._bounded(wanted)
        except RouterGone:
            partial = True
            polled = replace(self.seen.polled if self.seen is not None else _NOTHING, process=False)
        except HostError as error:
            self._failed(str(error), silent=isinstance(error, HostTimeout))
            return
        now_s = time.monotonic()
        self._hold()
        self._expect()
        if self.answering is False:
            log.debug("host of a data router answers again", router=self.label)
        self.failures = 0
        self.asked_s = None
        self.seen = Seen(polled, asked_s, now_s, wanted, partial, listed)
        self.answering, self.fault = True, ""
        self._on_poll()

    async def _bounded(self, wanted: RunRef | None) -> tuple[Polled, Listed | None]:
        async with answered(self._timeout_s):
            polled = await self.host.poll(wanted)
            listed = await self._listed()
        return (polled if listed is None else _counted(polled, listed)), listed

    def _failed(self, reason: str, *, silent: bool) -> None:
        self.failures += 1
        self.silent = silent
        changed = self.fault != reason
        self.fault = reason
        if self.answering is None:
            self._gone()
        elif changed and not self.answering:
            self._on_poll()

    def _gone(self) -> None:
        self._stale = None
        if self.answering is not False:
            reason = self.fault or "no answer in two periods"
            log.debug("host of a data router does not answer", router=self.label, reason=reason)
        if not self.fault:
            self.fault, self.silent = f"no answer in {2 * self._period_s:g} s", True
        self.answering = False
        self._on_poll()

    def _expect(self) -> None:
        self._stale = asyncio.get_running_loop().call_later(2 * self._period_s, self._gone)

    def _hold(self) -> None:
        if self._stale is not None:
            self._stale.cancel()
            self._stale = None
