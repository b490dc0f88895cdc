"""One data host: the folder of a data router, and what it writes when."""

from __future__ import annotations

import contextlib
import random
import shutil
from collections import deque
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

from attpc_ioc.log import get_logger
from attpc_ioc.simulator.boards import Board
from attpc_ioc.simulator.routers import DataRouter

from .gate import Gate
from .logfile import LogFile
from .options import Access, DataOptions
from .readout import DataFaults, Readout
from .sentry_state import SentryState
from .trigger import Burst, Due, apart_ticks
from .writer import GrawWriter

log = get_logger(__name__)

_SHORTEST_DRAIN = 0.7
"""Data stay in the buffers of one host at least this fraction of `drain_s`, so hosts differ."""

_FIRST_PROCESS = 400


class Writing(StrEnum):
    """What a router is doing with its files."""

    IDLE = "idle"
    TAKING = "taking"
    """Its board is Running."""
    DRAINING = "draining"
    """Its board was stopped, and what is in the buffers is still being written."""


class DataHost:
    """The host of one data router.

    `folder` is the host's own, `staging` is where the router writes, `logs` has the programs' logs.
    """

    def __init__(
        self,
        name: str,
        source: str,
        board: Board,
        router: DataRouter,
        access: Access,
        folder: Path,
        options: DataOptions,
        dice: random.Random,
    ) -> None:
        self.name = name
        self.source = source
        self.board = board
        self.router = router
        self.access = access
        self.folder = folder
        self.staging = folder / "data"
        self.logs = folder / "logs"
        self.options = options
        self.gate: Gate | None = None
        """Port of its sentry or SSH server; None if it is reached by its folder."""
        self.sentry = SentryState()
        """Its sentry's, if it has one."""
        self.faults = DataFaults()
        self.writing = Writing.IDLE
        self.disk_free_gb = options.disk_free_gb
        self.log = LogFile(self.logs / "dataRouter.log")
        self._readout = Readout(board, options, dice)
        self._drain_s = options.drain_s * dice.uniform(_SHORTEST_DRAIN, 1.0)
        self.writer = GrawWriter(
            self.staging,
            self._readout.streams,
            options.file_limit_bytes,
            lambda path: self.log.write(f"opened {path}"),
        )
        self._buffer: deque[Burst] = deque()
        self._behind_s = 0.0
        self._next = 0
        self._more = Due(options.trigger_hz)
        self._troubled = False
        self._alive = False
        self._starts = 0
        self._before_bytes = 0

    def prepare(self) -> None:
        """Make the folders, and remove runs that are older than those to keep; raises `OSError`."""
        self.staging.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.options.keep_runs is not None:
            for experiment in self.staging.iterdir():
                runs = sorted(experiment.glob("run_*"), key=_number) if experiment.is_dir() else []
                for run in runs[: max(0, len(runs) - self.options.keep_runs)]:
                    shutil.rmtree(run)
        self.log.write(f"{self.options.process} {self.router.name} on {self.router.host}:{self.router.port}")

    @property
    def process_runs(self) -> bool:
        """Whether the router's program is among the processes of the host."""
        return self.router.running

    @property
    def process_number(self) -> int:
        """The number of that process, another one after each start; 0 while it does not run."""
        return _FIRST_PROCESS + self.router.starts if self.router.running else 0

    def files(self) -> tuple[Path, ...]:
        """Return the `*.graw` that are in the staging folder now, by name."""
        return tuple(sorted(self.staging.glob("*.graw")))

    def sizes(self) -> tuple[int, ...]:
        """Return the sizes of those files in bytes; a file that was moved away meanwhile is left out."""
        found: list[int] = []
        for path in self.files():
            with contextlib.suppress(FileNotFoundError):
                found.append(path.stat().st_size)
        return tuple(found)

    @property
    def disk_total_bytes(self) -> int:
        """Size of the host's disk."""
        return int(self.options.disk_total_gb * 1e9)

    @property
    def disk_free_bytes(self) -> int:
        """Free space of the host's disk, less what was written."""
        if self.faults.disk_full:
            return 0
        return max(0, int(self.disk_free_gb * 1e9) - self.written_bytes)

    @property
    def written_bytes(self) -> int:
        """What the router has written since the fleet was started."""
        return self.writer.written_bytes

    @property
    def process_bytes(self) -> int:
        """What the router has written since its process was started."""
        return self.written_bytes - self._before_bytes

    @property
    def behind(self) -> int:
        """Number of events that came and are not written yet."""
        return sum(burst.count for burst in self._buffer)

    @property
    def bytes_s(self) -> float:
        """The mean rate in bytes per second while there are triggers and no faults."""
        return self._readout.bytes_s

    def tick(self, passed_s: float, burst: Burst) -> None:
        """Take the events of the last `passed_s` seconds, and write what is due."""
        self._note_process()
        self._follow(passed_s, burst)
        self._behind_s = 0.0 if self.faults.pace >= 1 else self._behind_s + (1 - self.faults.pace) * passed_s
        due_s = burst.sent_s + passed_s - self._behind_s - self.faults.late_s - self._drain_s
        while self._buffer and self._buffer[0].sent_s <= due_s:
            due, rest = self._buffer.popleft().until(due_s)
            if due.count:
                self._write(due)
            if rest.count:
                self._buffer.appendleft(rest)
                break
        if self.writing is Writing.DRAINING and not self._buffer and not self.faults.endless:
            self._end("all is written")

    def close(self) -> None:
        """Write nothing more."""
        self._buffer.clear()
        self.writing = Writing.IDLE

    def _write(self, burst: Burst) -> None:
        if self.faults.stopped:
            return
        self.writer.disk_full = self.faults.disk_full
        trouble = None
        for number, frames in enumerate(self._readout.frames(burst, self.faults)):
            try:
                self.writer.write(number, frames)
            except OSError as fault:
                trouble = fault
        if trouble is not None:
            self._complain(trouble)
        else:
            self._troubled = False

    def _follow(self, passed_s: float, burst: Burst) -> None:
        """Find out whether the board sends anything, and keep it."""
        if not self.process_runs or not self.board.alive:
            # The buffers of a dead process are lost; a dead board sends nothing more.
            self._end("the board is dead" if self.process_runs else "the process is gone")
        elif self.board.running and self.router.connections:
            if self.writing is not Writing.TAKING:
                self.writing = Writing.TAKING
                self.log.write("data arrive")
            self._keep(burst)
        elif self.writing is not Writing.IDLE:
            if self.writing is Writing.TAKING:
                self.writing = Writing.DRAINING
                self.log.write("no more data arrive; writing what is in the buffers")
            if self.faults.endless:
                count = self._more.take(passed_s)
                step_ticks = apart_ticks(count, passed_s)
                self._keep(replace(burst, first=self._next, count=count, step_ticks=step_ticks))

    def _keep(self, burst: Burst) -> None:
        if burst.count:
            self._buffer.append(burst)
            self._next = burst.first + burst.count

    def _end(self, why: str) -> None:
        if self.writing is Writing.IDLE:
            return
        self.close()
        self.log.write(f"nothing more to write: {why}")

    def _note_process(self) -> None:
        if self.router.starts != self._starts:
            # The buffers of a process are lost with it.
            self._end("the process was restarted")
            self.writer.forget()
            self._before_bytes = self.written_bytes
            self._starts = self.router.starts
            self.log.write("started")
        if self._alive and not self.process_runs:
            self.log.write("terminated")
        self._alive = self.process_runs

    def _complain(self, fault: OSError) -> None:
        if not self._troubled:
            self.log.write(f"ERROR cannot write: {fault.strerror or fault}")
            log.warning("simulated data router cannot write", host=self.name, reason=str(fault))
        self._troubled = True


def _number(run: Path) -> tuple[int, str]:
    """Order run folders by their number, whatever its width."""
    digits = run.name.removeprefix("run_")
    return (int(digits) if digits.isascii() and digits.isdigit() else -1, run.name)
