"""The run as it stands: its phase, what is kept of it over restarts, and how it is shown."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from attpc_ioc.control.emitter import Emitter
from attpc_ioc.control.state import FleetState
from attpc_ioc.eventlog import EventLog
from attpc_ioc.log import get_logger
from attpc_ioc.model.events import Event, RunEvent, RunMember, RunStarting, RunStopped
from attpc_ioc.model.fleet import members_of
from attpc_ioc.model.run import RunInfo, RunOutcome, RunState
from attpc_ioc.plugin.host import PluginHost

from .kept import KEPT_RUN, TOPIC, KeptRun

log = get_logger(__name__)

WHAT_IS_LOST = "whether a run was on, its experiment and texts are lost; set them, Run:Stop acknowledges it"


class RunRecord:
    """Shared by starting, stopping and watching; every change of it is in the snapshot at once.

    `phase` is Stopped, Starting, Running, Stopping or Unknown; Interrupted and Orphan are derived.
    `seen_running` tells that a module was seen Running since the run was opened, or since this program began.
    """

    def __init__(self, state: FleetState, host: PluginHost, emitter: Emitter, event_log: EventLog) -> None:
        self._state = state
        self._host = host
        self._emitter = emitter
        self._log = event_log
        self._row = event_log.kept(TOPIC, KEPT_RUN)
        self.kept = self._row.values.get("") or KeptRun()
        self.phase = RunState.STOPPED
        self.blank = True
        """There was no record in the state database that could be read."""
        self._stopping = False
        self.seen_running = False
        self.lost: tuple[str, ...] = ()
        self.running_since_s: float | None = None
        self.saved_at_s = 0.0
        self._load()
        self.show()

    def _load(self) -> None:
        fault = self._row.lost
        if bad := self._row.bad.get(""):
            fault = f"the record of runs in {self._log.path} is damaged ({bad})"
        if fault:
            log.error("record of runs lost", reason=fault)
            self.kept.fault = f"{fault}: {WHAT_IS_LOST}"
        self.blank = "" not in self._row.values
        if self.kept.open:
            self.phase = RunState.UNKNOWN

    # ------------------------------------------------------------------ what it is

    @property
    def fault(self) -> str:
        """Why the record of runs is not what it was, which vetoes a start; empty when nothing is wrong."""
        return self.kept.fault

    @property
    def info(self) -> RunInfo | None:
        """The run that is on, or the last one."""
        return self.kept.info

    @property
    def number(self) -> int:
        """The number of the current or last run; -1 where there was none."""
        return self.kept.info.number if self.kept.info else -1

    @property
    def on(self) -> bool:
        """Whether a run is open."""
        return self.phase is not RunState.STOPPED

    @property
    def incomplete(self) -> bool:
        """Whether the last stop ended with modules that were not seen out of Running."""
        return self.phase is RunState.STOPPING and not self._stopping

    @property
    def stopping(self) -> bool:
        """Whether a stop is under way, of this run or of what runs without one."""
        return self._stopping

    @stopping.setter
    def stopping(self, yes: bool) -> None:
        self._stopping = yes
        self.show()

    @property
    def members(self) -> tuple[str, ...]:
        """The members of the open run that are still configured and enabled."""
        return members_of(self._state.run, self._state.modules)

    @property
    def last_moment_s(self) -> float:
        """The last moment, in Unix time, at which the run is known to have been on."""
        info = self.info
        assert info is not None
        seen_s = info.last_seen_running_s or info.started_s or info.began_s
        return max(seen_s, self.kept.stop_asked_s)

    @property
    def duration_s(self) -> float:
        """How long the run has lasted, or lasted, in seconds."""
        if self.running_since_s is None or self.phase not in (RunState.RUNNING, RunState.STOPPING):
            return self.kept.duration_s
        return max(0.0, time.monotonic() - self.running_since_s)

    def show(self, *, news: bool = True) -> None:
        """Put the run as it is now into the snapshot; no `news` where nothing but time has passed."""
        kept = self.kept
        self._state.set_run(
            replace(
                self._state.run,
                state=self.phase,
                info=kept.info,
                on=self.on,
                stopping=self.stopping,
                incomplete=self.incomplete,
                interrupted=kept.interrupted,
                fault=kept.fault,
                lost=self.lost if self.on else (),
                number=self.number,
                experiment=kept.experiment,
                texts=kept.texts,
                max_duration_s=kept.max_duration_s,
                duration_s=self.duration_s,
            ),
            news=news,
        )

    def tell(self, kind: type[RunEvent], run: RunInfo, **fields: Any) -> None:
        """Emit an event in the life of the run."""
        self._emitter.emit(self._make(kind, run, **fields))

    def prepare(self, run: RunInfo) -> list[asyncio.Future[bool]]:
        """Have the plugins prepare for a run, and tell that it has its number; see `PluginHost.notify`."""
        event = self._make(RunStarting, run)
        prepared = self._host.notify("attpc_prepare_run", event=event)
        self._emitter.emit(event)
        return prepared

    def _make(self, kind: type[RunEvent], run: RunInfo, **fields: Any) -> Event:
        members = tuple(self._member(name, run) for name in run.members)
        return self._emitter.make(kind, run=run, members=members, **fields)

    def _member(self, name: str, run: RunInfo) -> RunMember:
        url = run.urls.get(name, "")
        view = self._state.modules.get(name)
        if view is None:  # the settings were changed while the run was on
            return RunMember(name, url)
        return RunMember(name, url or view.url, view.kind, view.transition_time_s, view.sources)

    # ------------------------------------------------------------------ changing it

    def save(self) -> None:
        """Have the run's state written soon."""
        self.saved_at_s = time.monotonic()
        self._row.keep("", self.kept)
        # Its fault has become part of the row.
        self._row.lose("")
        self.show()

    async def save_now(self, limit_s: float) -> None:
        """Write the run's state; raises `StateDirError` where it is not on disk after `limit_s` seconds."""
        self.save()
        await self._log.flush(limit_s)

    def set_info(self, **changes: Any) -> RunInfo:
        """Change fields of the run and return it; the caller saves."""
        assert self.kept.info is not None
        self.kept.info = replace(self.kept.info, **changes)
        self.show()
        return self.kept.info

    def enter(self, phase: RunState) -> None:
        """Go to another phase."""
        if phase is not self.phase:
            log.info("run", state=phase.label, number=self.number)
        self.phase = phase
        self.show()

    def open_run(self, info: RunInfo) -> None:
        """Make `info` the run that is on; the caller saves."""
        self.kept.info = info
        self.kept.open = True
        self.kept.interrupted = False
        self.kept.duration_s = 0.0
        self.kept.stop_asked_s = 0.0
        self.running_since_s = None
        self.seen_running = False
        self.lost = ()
        self.show()

    def forget_run(self, before: KeptRun) -> None:
        """Take back a run that never was: the last one, and what was known of it, is current again."""
        self.kept.info = before.info
        self.kept.open = False
        self.kept.interrupted = before.interrupted
        self.kept.duration_s = before.duration_s
        self.save()

    def seen_running_now(self) -> None:
        """Take that members are seen Running at this moment; the caller saves."""
        assert self.kept.info is not None
        self.kept.duration_s = self.duration_s
        self.kept.info = replace(self.kept.info, last_seen_running_s=time.time())

    def stop_asked(self) -> None:
        """Take that the stop of a run that is known to be on was commanded: it did not end before."""
        if self.on and self.phase is not RunState.UNKNOWN:
            self.kept.duration_s = self.duration_s
            self.kept.stop_asked_s = time.time()
            self.save()

    def acknowledge(self) -> str:
        """Take back what waits for an acknowledgement; returns what that was, empty where nothing was."""
        kept = self.kept
        if not kept.interrupted and not kept.fault:
            return ""
        what = "the interruption" if kept.interrupted else "the loss of the record of runs"
        kept.interrupted = False
        kept.fault = ""
        self.save()
        return what

    def begin_running(self, since_s: float) -> None:
        """Enter Running, `since_s` in monotonic time."""
        self.running_since_s = since_s
        self.enter(RunState.RUNNING)

    def close_stopped(self, reason: str) -> None:
        """Close the open run after a stop; one that was not seen again after a restart is interrupted.

        Why it was stopped comes first where its record has that.
        """
        given = self.info.reason if self.info is not None else ""
        reason = "; ".join(part for part in (given, reason) if part)
        if self.seen_running:
            self.close_run(RunOutcome.STOPPED, reason)
            return
        reason = reason or "no member was seen Running after a restart of the IOC"
        self.close_run(RunOutcome.INTERRUPTED, reason, stopped_s=self.last_moment_s)

    def close_run(self, outcome: RunOutcome, reason: str, *, stopped_s: float | None = None) -> None:
        """Close the open run."""
        if outcome is not RunOutcome.INTERRUPTED:
            self.kept.duration_s = self.duration_s
        info = self.set_info(stopped_s=stopped_s or time.time(), outcome=outcome, reason=reason)
        self.kept.open = False
        self.lost = ()
        self.save()
        self.enter(RunState.STOPPED)
        log.info("run ended", number=info.number, outcome=outcome, duration_s=self.duration_s)
        self.tell(RunStopped, info)
