"""The AT-TPC as a detector of ophyd-async."""

from __future__ import annotations

from ophyd_async.core import (
    AsyncStatus,
    Device,
    SignalRW,
    StandardDetector,
    WatchableAsyncStatus,
    soft_signal_rw,
)
from ophyd_async.epics.core import PviDeviceConnector

from .acquire import LengthLogic, RunLogic
from .device import AttpcRun
from .files import FilesLogic, ReadingsLogic


class AttpcDetector(StandardDetector):
    """The AT-TPC: each trigger, and each kickoff, is one run.

    It is a device with all PVs of the IOC (`detector.run.title`, `detector.ecc.cobo0.state`), and

    - `length`: of a run, in seconds. 0: a triggered run lasts until a limit in the IOC (`run.max_duration`,
      `run.max_events`, `run.max_written`), a flown one until `complete`. `prepare` sets it from
      `TriggerInfo.livetime`.

    `stage` takes all modules to Ready, `unstage` stops a run of its own that is still on. A trigger, and
    `complete`, end when the files of the run are closed on all hosts. What the IOC refuses, or
    what fails there, is an exception with the IOC's reason.

    An event has the run's number, experiment, texts and times. Each of its files, as far as the IOC knows
    it, is a stream resource with the manifest's size and checksum.

    `prefix`: of the PVs, such as `DEMO:`. `close_timeout_s`: how long the files of a run may take to be
    closed; a trigger fails after that.
    """

    run: AttpcRun
    sources: Device
    go_to: SignalRW[str]
    config: SignalRW[str]

    def __init__(self, prefix: str, *, name: str = "", close_timeout_s: float = 600.0) -> None:
        self.length = soft_signal_rw(float, 0.0, units="s", precision=3)
        super().__init__(name=name, connector=PviDeviceConnector(prefix))
        run = self.run
        readings = (
            run.number, run.experiment, run.title, run.run_class, run.operator,
            run.start_time, run.stop_time, run.duration,
        )  # fmt: skip
        self._runs = RunLogic(run, self.go_to, self.length, readings, self._is_recorded, close_timeout_s)
        self.add_detector_logics(
            self._runs,
            LengthLogic(self.length),
            ReadingsLogic(self._runs, readings, hinted=(run.number, run.duration)),
            FilesLogic(self._runs, self._files_source),
        )
        self.add_config_signals(self.length, self.config, run.max_duration)

    def trigger(self) -> WatchableAsyncStatus[int]:
        """Take one run, of `length`; done when its files are closed."""
        self._runs.flying = False
        return super().trigger()

    def kickoff(self) -> AsyncStatus[None]:
        """Start a run; done when it is on."""
        self._runs.flying = True
        return super().kickoff()

    def _is_recorded(self) -> bool:
        """Return whether a data source has a data router."""
        return any(hasattr(source, "router_close") for _, source in self.sources.children())

    def _files_source(self) -> str | None:
        manifest = self.run.manifest
        return manifest.source if manifest is not None and self._is_recorded() else None
