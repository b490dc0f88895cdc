"""One data host: the folder of a data router, and what it writes when."""

from __future__ import annotations

import contextlib
import random
import shutil
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from attpc_ioc.log import get_logger
from attpc_ioc.simulator.boards import Board
from attpc_ioc.simulator.routers import DataRouter

from .gate import Gate
from .logfile import LogFile
from .options import Access, DataOptions
from .writer import GrawWriter

log = get_logger(__name__)

PROCESS = "dataRouter"
"""The name of the router's program among the host's processes."""


class Writing(StrEnum):
    """What a router is doing with its files."""

    IDLE = "idle"
    TAKING = "taking"
    """Its board is Running."""
    DRAINING = "draining"
    """Its board was stopped, and buffered data is still being written."""


@dataclass(slots=True)
class DataFaults:
    """The faults of one host's data; its access has its own."""

    stopped: bool = False
    """Nothing is written, although everything runs."""
    factor: float = 1.0
    """Factor of the rate."""
    endless: bool = False
    """Files keep growing after Stop."""
    disk_full: bool = False
    """Nothing can be written."""

    def clear(self) -> None:
        """Switch all off."""
        self.stopped, self.factor, self.endless, self.disk_full = False, 1.0, False, False


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
        self.faults = DataFaults()
        self.writing = Writing.IDLE
        self.written_bytes = 0
        self.disk_free_gb = options.disk_free_gb
        self.log = LogFile(self.logs / "dataRouter.log")
        master = board.clock_master
        self.bytes_s = (options.mutant_bytes_s if master else options.cobo_bytes_s) * dice.uniform(
            1 - options.spread, 1 + options.spread
        )
        streams = (source,) if master else tuple(f"{source}_AsAd{i}" for i in range(options.asads))
        self.writer = GrawWriter(
            self.staging,
            streams,
            file_limit_bytes=options.file_limit_bytes,
            block_every_bytes=options.block_every_bytes,
            real_bytes=options.real_bytes,
            dice=dice,
        )
        self._drain_left_s = 0.0
        self._starts = 0
        self._troubled = False
        self._alive: bool | None = None

    def prepare(self) -> None:
        """Make the folders, and remove runs that are older than those to keep; raises `OSError`."""
        self.staging.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        if self.options.keep_runs is not None:
            for experiment in self.staging.iterdir():
                runs = sorted(experiment.glob("run_*"), key=_number) if experiment.is_dir() else []
                for run in runs[: max(0, len(runs) - self.options.keep_runs)]:
                    shutil.rmtree(run)
        self.log.write(f"dataRouter {self.router.name} on {self.router.host}:{self.router.port}")

    @property
    def process_runs(self) -> bool:
        """Whether the router's program is among the processes of the host."""
        return self.router.running

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

    def tick(self, passed_s: float) -> None:
        """Write the data of `passed_s` seconds."""
        self._note_process()
        self._follow(passed_s)
        if self.writing is Writing.IDLE or self.faults.stopped:
            return
        try:
            if self.faults.disk_full:
                raise OSError(28, "No space left on device")
            if not self.writer.is_open:
                self._begin_files()
            self.written_bytes += self.writer.write(self.bytes_s * self.faults.factor * passed_s)
            self._troubled = False
        except OSError as fault:
            self._complain(fault)

    def close(self) -> None:
        """Close all files."""
        self.writer.close()
        self.writing = Writing.IDLE

    def _follow(self, passed_s: float) -> None:
        """Update the phase: find out whether there is anything to write."""
        if not self.process_runs or not self.board.alive:
            # The buffers of a dead process are lost; a dead board sends nothing more.
            self._end("the board is dead" if self.process_runs else "the process is gone")
        elif self.board.running and self.router.connections:
            if self.writing is not Writing.TAKING or self._starts != self.board.starts:
                self._starts = self.board.starts
                self.writer.close()
                self.writing = Writing.TAKING
                self.log.write("data arrive")
        elif self.writing is Writing.TAKING:
            self.writing = Writing.DRAINING
            self._drain_left_s = self.options.drain_s
            self.log.write("no more data arrive; writing what is in the buffers")
        elif self.writing is Writing.DRAINING and not self.faults.endless:
            self._drain_left_s -= passed_s
            if self._drain_left_s <= 0:
                self._end("all is written")

    def _begin_files(self) -> None:
        self.writer.begin()
        for path in self.writer.paths:
            self.log.write(f"opened {path}")

    def _end(self, why: str) -> None:
        if self.writing is Writing.IDLE:
            return
        self.close()
        self.log.write(f"closed all files: {why}")

    def _note_process(self) -> None:
        if self._alive is not None and self._alive != self.process_runs:
            self.log.write("started" if self.process_runs else "terminated")
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
