"""Looks at the frames of one data router's files during a run, again and again."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from attpc_ioc.log import get_logger
from attpc_ioc.model.run import RunRef
from attpc_plugins.data_routers.hosts.frames import Cursor, after_stream, by_sender
from attpc_plugins.data_routers.hosts.host import FrameHost, HostError
from attpc_plugins.data_routers.hosts.names import stream_of
from attpc_plugins.data_routers.watch.flow import rate_of
from attpc_plugins.data_routers.watch.poll import LAST_BACKOFF_S, answered

from .clocks import Step
from .streams import Stream, take_all

log = get_logger(__name__)

LEAST_S = 0.1
"""The shortest time between the beginnings of two looks."""


@dataclass(frozen=True, slots=True)
class RouterFrames:
    """What is known of the frames of one router's files in a run, by sender; kept over restarts."""

    run: RunRef
    streams: dict[str, Stream] = field(default_factory=dict)

    @property
    def reached(self) -> int:
        """The last event number seen, counted on over resets; -1 before the first."""
        return max((stream.reached for stream in self.streams.values()), default=-1)


@dataclass(frozen=True, slots=True)
class RunClocks:
    """What is known of the clocks in a run, see `Clocks`; kept over restarts."""

    run: RunRef
    learned: dict[str, int] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)


class FrameWatch:
    """Looks at the frames of one router every `period_s` while there is a run whose files are there.

    - `before(run)`: the data files in the staging folder from before the run, by name; None while these are
      not known yet, and nothing is looked at.
    - `closed(run)`: the streams of other runs that are closed: late data of them are no events of this one.
    - `step()`: samples are of events whose number is a multiple of it.
    - `on_look()`: called after each look, and when a host begins or ceases to answer.
    """

    def __init__(
        self,
        label: str,
        host: FrameHost,
        *,
        period_s: float,
        timeout_s: float,
        window_s: float,
        before: Callable[[RunRef], Collection[str] | None],
        closed: Callable[[RunRef], Collection[str]],
        busy: Callable[[], bool],
        step: Callable[[], int],
        on_look: Callable[[], None],
    ) -> None:
        self.label = label
        self.host = host
        self._period_s = period_s
        self._timeout_s = timeout_s
        self._window_s = window_s
        self._before = before
        self._closed = closed
        self._busy = busy
        self._step = step
        self._on_look = on_look
        self._wake = asyncio.Event()
        self._due_s: float | None = None
        self._looking = False
        self._failures = 0
        self._rates: deque[tuple[float, int]] = deque()
        self.frames: RouterFrames | None = None
        """What is known of the run; None before the first."""
        self.fault = ""
        """Why the last look failed; empty while looks succeed."""

    def begin(self, frames: RouterFrames) -> None:
        """Look at a run's frames from now on; those that are known already are kept."""
        self.frames = frames
        self._rates.clear()
        self._looking = True
        self._failures, self.fault = 0, ""
        self._wake.set()

    def end(self) -> None:
        """Look at nothing until the next run; what is known stays."""
        self._looking = False
        self._rates.clear()
        self.fault = ""

    @property
    def looking(self) -> bool:
        """Whether the files of a run are looked at."""
        return self._looking

    @property
    def rate(self) -> float:
        """Events a second."""
        return max(0.0, rate_of(self._rates))

    def look_by(self, at_s: float | None) -> None:
        """Look at this time (monotonic) at the latest; None: at the end of the period."""
        self._due_s = at_s
        self._wake.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            if not self._looking:
                self._wake.clear()
                await self._wake.wait()
            began_s, self._due_s = time.monotonic(), None
            if not self._busy():
                await self._look()
            pause_s = self._period_s * 2 ** min(self._failures, 10)
            await self._wait(began_s, began_s + min(pause_s, max(LAST_BACKOFF_S, self._period_s)))

    async def _wait(self, began_s: float, next_s: float) -> None:
        """Wait until the next look is due; one began at `began_s`."""
        while True:
            due_s = next_s if self._due_s is None else min(next_s, max(self._due_s, began_s + LEAST_S))
            self._wake.clear()
            try:
                async with asyncio.timeout(due_s - time.monotonic()):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _look(self) -> None:
        frames = self.frames
        if frames is None or (cursors := self._cursors(frames)) is None:
            return
        try:
            async with answered(self._timeout_s):
                pieces = await self.host.look(cursors, self._step())
        except HostError as error:
            self._failures += 1
            changed, self.fault = str(error) != self.fault, str(error)
            if changed:
                log.debug("frames cannot be looked at", router=self.label, reason=self.fault)
                self._on_look()
            return
        self._failures, self.fault = 0, ""
        if self.frames is not frames:
            return  # another run began meanwhile
        closed = self._closed(frames.run)
        own = tuple(piece for piece in pieces if stream_of(piece.name) not in closed)
        self.frames = RouterFrames(frames.run, take_all(frames.streams, own))
        now_s = time.monotonic()
        self._rates.append((now_s, self.frames.reached))
        while len(self._rates) > 2 and self._rates[1][0] <= now_s - self._window_s:
            self._rates.popleft()
        self._on_look()

    def _cursors(self, frames: RouterFrames) -> list[Cursor] | None:
        """Return where the next look goes on; None while the files from before the run are not known."""
        before = self._before(frames.run)
        if before is None:
            return None
        earlier = {sender: after_stream(names[-1]) for sender, names in by_sender(list(before)).items()}
        known = {stream.sender: stream.cursor for stream in frames.streams.values()}
        return list((earlier | known).values())
