"""Polls one ECC server: the only source of its module's state.

The next poll follows `moving_period_s` after the last answer while the server is in a transition or an
arrival is awaited, `quiet_period_s` otherwise. A failed poll is repeated soon, so that one lost packet is
quickly distinguished from an outage; `offline_after` failures are an outage. Polling goes on every
`quiet_period_s` during an outage while failing is cheap (a refused connection costs both sides nothing, and a
server that comes back is seen within one period). If each poll hangs until its time-out, the pause doubles up
to `backoff_max_s`: a stalled server keeps every accepted call, and answers all of them when it wakes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec, Protocol

from attpc_ioc.errors import EccError, EccUnreachable
from attpc_ioc.log import get_logger
from attpc_ioc.model.states import Transition
from attpc_ioc.settings import PollSettings

from .client import Observation

log = get_logger(__name__)

P = ParamSpec("P")

SPREAD = 0.1
"""An idle server is polled early by up to this part of its period, at random. The polls of a large fleet
start together; without this they would stay together, and everything else would wait for all of them."""

RETRY_PERIODS = 5
"""A first failed poll is repeated after this many moving periods."""


class Pollable(Protocol):
    """The part of a client that the poller uses."""

    name: str

    async def get_state(self) -> Observation:
        """Return the reported state; limited in time, raises `EccError`."""
        ...


class Poller:
    """Polls one server until cancelled, one poll at a time.

    `on_seen` gets every observation. `on_failed` gets the error of every failed poll and the number of
    failures in a row; `on_lost` gets the same from `offline_after` failures on. They are called in the loop
    and must not block; an exception in them is logged and does no harm.
    """

    def __init__(
        self,
        client: Pollable,
        settings: PollSettings,
        on_seen: Callable[[Observation], None],
        on_lost: Callable[[EccError, int], None],
        on_failed: Callable[[EccError, int], None] | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._on_seen = on_seen
        self._on_lost = on_lost
        self._on_failed = on_failed
        self._awaited = False
        self._failures = 0
        self._backoff_s = 0.0
        self._wake = asyncio.Event()
        self._waiters: list[asyncio.Future[Observation]] = []
        self._ended = False
        self._logged = ""

    @property
    def failures(self) -> int:
        """Number of failed polls in a row."""
        return self._failures

    def set_moving(self, moving: bool) -> None:
        """Set whether an arrival is awaited: poll at once, then every `moving_period_s`.

        While the server reports a transition that is the period in any case.
        """
        if moving and not self._awaited:
            self._wake.set()
        self._awaited = moving

    def poll_now(self) -> Awaitable[Observation]:
        """Return an awaitable of the next observation whose request goes out after this call.

        It raises the `EccError` of that poll; once polling has ended, `EccUnreachable`.
        """
        waiter: asyncio.Future[Observation] = asyncio.get_running_loop().create_future()
        # A caller may give up; asyncio must not log an error that nobody fetched.
        waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._ended:
            waiter.set_exception(self._ended_error())
        else:
            self._waiters.append(waiter)
            self._wake.set()
        return waiter

    async def run(self) -> None:
        """Poll until cancelled; no fault of the server or a callback ends the polling."""
        self._ended = False
        taken: list[asyncio.Future[Observation]] = []
        try:
            while True:
                self._wake.clear()
                taken, self._waiters = self._waiters, []
                pause_s = await self._poll_once(taken)
                await self._sleep(pause_s)
        finally:
            self._ended = True
            for waiter in [*taken, *self._waiters]:
                if not waiter.done():
                    waiter.set_exception(self._ended_error())
            self._waiters = []

    async def _poll_once(self, waiters: list[asyncio.Future[Observation]]) -> float:
        """Poll, call the listeners, and return the pause in seconds."""
        began = time.monotonic()
        try:
            seen = await self._client.get_state()
        except EccError as error:
            return self._after_failure(error, time.monotonic() - began, waiters)
        except Exception as error:
            self._log_once("polling failed unexpectedly", error)
            wrapped = EccError(f"polling {self._client.name} failed: {type(error).__name__}: {error}")
            return self._after_failure(wrapped, time.monotonic() - began, waiters)
        self._failures = 0
        self._backoff_s = 0.0
        self._call(self._on_seen, seen)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(seen)
        moving = self._awaited or seen.transition is not Transition.NONE
        if moving:
            return self._settings.moving_period_s
        return self._settings.quiet_period_s * random.uniform(1.0 - SPREAD, 1.0)

    def _after_failure(
        self, error: EccError, took_s: float, waiters: list[asyncio.Future[Observation]]
    ) -> float:
        settings = self._settings
        self._failures += 1
        if self._on_failed is not None:
            self._call(self._on_failed, error, self._failures)
        if self._failures >= settings.offline_after:
            self._call(self._on_lost, error, self._failures)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)
        if self._failures < settings.offline_after:
            return min(RETRY_PERIODS * settings.moving_period_s, settings.quiet_period_s)
        if took_s < settings.quiet_period_s:
            self._backoff_s = 0.0
            return settings.quiet_period_s
        self._backoff_s = min(2 * self._backoff_s or settings.quiet_period_s, settings.backoff_max_s)
        return self._backoff_s

    async def _sleep(self, pause_s: float) -> None:
        # An event and a timer cost a third of asyncio.timeout, 50 times a second and server.
        timer = asyncio.get_running_loop().call_later(pause_s, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    def _call(self, callback: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception as error:
            self._log_once("a listener of the poller failed", error)

    def _log_once(self, event: str, error: Exception) -> None:
        # At 50 polls a second a bug must not fill the disk.
        what = f"{event} {type(error).__name__}: {error}"
        if what != self._logged:
            self._logged = what
            log.exception(event, module=self._client.name, error=str(error))

    def _ended_error(self) -> EccUnreachable:
        return EccUnreachable(f"polling of {self._client.name} has ended")
