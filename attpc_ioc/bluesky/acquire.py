"""Starting and stopping runs: one for each point of a scan, or for each kickoff."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from bluesky.protocols import Reading
from ophyd_async.core import (
    DetectorAcquireLogic,
    DetectorTriggerLogic,
    SignalR,
    SignalRW,
    TriggerInfo,
    merge_gathered_dicts,
    observe_signals_value,
    soft_signal_r_and_setter,
    wait_for_value,
)

from .device import BUSY, ENDED, INTERRUPTED, AttpcRun

COMMAND_S = 1800.0
"""Limit of a command; the IOC's own limits for each step are shorter than this together."""

READY_S = 10.0
"""How long a start waits for `Run:Ready_RBV`: after a run the IOC looks at each host first."""


@dataclass
class _Run:
    """A run of this detector; `number` is None until it has started."""

    number: int | None = None
    experiment: str = ""
    stopped: bool = False
    """This detector has asked for its end."""
    given_up: bool = False
    """It was unstaged, or started again, while it was on."""
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    """Its start is done, or has failed."""
    over: asyncio.Task[None] | None = None
    """Ends when the files of the run are closed; it stops the run when its length is over."""


@dataclass(frozen=True)
class ClosedRun:
    """A run that ended as it should.

    - `readings`: of the detector's signals, at its end: the next may be on when they are asked for.
    - `files`: what `Run:Manifest_RBV` has.
    """

    readings: dict[str, Reading]
    files: dict[str, Any]


class RunLogic(DetectorAcquireLogic):
    """Starts and stops runs. It stops no run but its own.

    - `length`: of the next run, in seconds; 0: until a limit in the IOC, or until `complete`.
    - `flying`: the run is ended by `complete`, if nothing ends it before.
    - `recorded`: returns whether the IOC closes files of runs.
    - `readings`: signals to read after each run.
    - `close_timeout_s`: limit of the wait for the files of a run, after its end.
    """

    def __init__(
        self,
        run: AttpcRun,
        go_to: SignalRW[str],
        length: SignalRW[float],
        readings: Sequence[SignalR],
        recorded: Callable[[], bool],
        close_timeout_s: float,
    ) -> None:
        self.flying = False
        self.started, self._set_started = soft_signal_r_and_setter(int, 0)
        """Runs started since it was last prepared for the first time."""
        self.closed: list[ClosedRun] = []
        self._readings = readings
        self._pvs = run
        self._go_to = go_to
        self._length = length
        self._recorded = recorded
        self._close_timeout_s = close_timeout_s
        self._run: _Run | None = None

    def count_anew(self) -> None:
        """Count the runs from 0 again."""
        self.closed = []
        self._set_started(0)

    async def read(self) -> dict[str, Reading]:
        """Read the signals as they are now."""
        return await merge_gathered_dicts(signal.read(cached=False) for signal in self._readings)

    # ------------------------------------------------------------------ what ophyd-async calls

    async def ensure_ready(self) -> None:
        """Take all modules to Ready; raises what the IOC says where it does not."""
        await self._go_to.set("Ready", timeout=COMMAND_S)

    async def start_acquiring(self) -> None:
        """Start a run.

        Raises what the IOC says when it refuses or fails, and `ValueError` where nothing would end the run.
        """
        length = await self._length.get_value()
        if not self.flying and not length and not await self._limited():
            raise ValueError(
                "nothing would end the run: set the detector's `length`, prepare it with "
                "TriggerInfo(livetime=...), or set a limit such as Run:MaxDuration"
            )
        if self._run is not None:  # the plan was paused in a run, and goes on from before it
            await self._redo(self._run)
        run = _Run()
        if await self._ended():
            # From here on the run is this detector's: it is stopped even if the plan ends while it starts.
            self._run = run
        try:
            await self._start(run)
        finally:
            run.tried.set()
        self._set_started(await self.started.get_value() + 1)
        if not run.given_up:
            run.over = _spawn(self._live(run, length))

    async def wait_for_idle(self) -> None:
        """Wait until the run is over and its files are closed, or until it is given up.

        Raises `RuntimeError` where something else than its length, a limit in the IOC or `complete` has ended
        it, or where its files are not closed in time.
        """
        run = self._run
        if run is None or run.over is None:
            return
        if self.flying and not await self._length.get_value() and not run.over.done():
            await self._stop(run)
        await asyncio.shield(run.over)

    async def ensure_stopped(self) -> None:
        """Stop the run if it is still on; another's is not touched."""
        if (run := self._run) is None:
            return
        run.given_up = True
        await self._stop(run)
        await run.tried.wait()
        self._run = None

    # ------------------------------------------------------------------ a run

    async def _start(self, run: _Run) -> None:
        try:
            if self._run is run:
                with contextlib.suppress(TimeoutError):
                    await wait_for_value(self._pvs.ready, "Ready", timeout=READY_S)
            if not run.given_up:
                await self._pvs.do_start.trigger(timeout=COMMAND_S)
        except Exception:
            if run.given_up:
                return
            if self._run is run and await self._ended():
                self._run = None
            raise
        if run.given_up:
            await self._stop(run)
            return
        self._run = run
        run.experiment = await self._pvs.experiment.get_value()
        run.number = await self._pvs.number.get_value()

    async def _live(self, run: _Run, length: float) -> None:
        """Wait for the end of a run, or end it after `length` seconds (0: no limit), and for its files."""
        pvs: Any = (self._pvs.state, self._pvs.number)
        state = number = None
        try:
            async for signal, value in observe_signals_value(*pvs, done_timeout=length or None):
                if signal is self._pvs.state:
                    state = value
                else:
                    number = value
                if state in ENDED or number not in (None, run.number):
                    break
        except TimeoutError:
            await self._stop(run)
        if not run.given_up and state == INTERRUPTED:
            raise RuntimeError(f"run {run.number} was interrupted: {await self._message()}")
        if not run.stopped and (length or not await self._at_a_limit()):
            raise RuntimeError(
                f"run {run.number} was ended by another before its time: {await self._message()}"
            )
        if not run.given_up:
            closed = ClosedRun(await self.read(), await self._closed(run))
            if not run.given_up:
                self.closed.append(closed)

    async def _redo(self, run: _Run) -> None:
        """Give a run up, so that the next can start."""
        on = run.over is not None and not run.over.done()
        await self.ensure_stopped()
        if on:
            await self._closed(run)

    async def _stop(self, run: _Run) -> None:
        """Stop a run, unless it has ended."""
        run.stopped = True
        if not await self._ended() and run.number in (None, await self._pvs.number.get_value()):
            await self._pvs.do_stop.trigger(timeout=COMMAND_S)

    async def _ended(self) -> bool:
        return await self._pvs.state.get_value() in ENDED

    async def _closed(self, run: _Run) -> dict[str, Any]:
        """Wait until the files of a run are closed; returns them."""
        manifest = self._pvs.manifest
        if manifest is None or not self._recorded():
            return {"routers": []}
        found: dict[str, Any] = {}

        def has_come(text: str) -> bool:
            found.clear()
            found.update(json.loads(text) if text else {})
            return (found.get("experiment"), found.get("run")) == (run.experiment, run.number)

        try:
            await wait_for_value(manifest, has_come, self._close_timeout_s)
        except TimeoutError:
            message = self._pvs.closing_message
            text = "" if message is None else await message.get_value()
            limit = f"{self._close_timeout_s:g} s after its end"
            raise RuntimeError(f"the files of run {run.number} are not closed {limit}: {text}") from None
        return found

    async def _message(self) -> str:
        """Return what the IOC says of the last command, once that has ended."""
        with contextlib.suppress(TimeoutError):
            await wait_for_value(self._pvs.result, lambda result: result != BUSY, timeout=READY_S)
        return await self._pvs.message.get_value()

    async def _limited(self) -> bool:
        return any([await limit.get_value() for _, limit in self._pvs.limits()])

    async def _at_a_limit(self) -> bool:
        pairs = [(await of.get_value(), await limit.get_value()) for of, limit in self._pvs.limits()]
        return any(0 < limit <= value for value, limit in pairs)


def _spawn(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Return a task whose failure is not reported where nobody waits for it."""
    task = asyncio.create_task(coroutine)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


class LengthLogic(DetectorTriggerLogic):
    """Takes the length of a run from `TriggerInfo.livetime`, in seconds; 0 leaves it as it is."""

    def __init__(self, length: SignalRW[float]) -> None:
        self._length = length

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        """Set the length of the next runs; raises `ValueError` for more than one run an event."""
        del deadtime  # a single run has nothing to wait between
        if num != 1:
            raise ValueError(f"a run is one event of one exposure, and this asks for {num} exposures")
        if livetime:
            await self._length.set(livetime)

    async def default_trigger_info(self) -> TriggerInfo:
        """Return that the next run is as long as `length` says."""
        return TriggerInfo()
