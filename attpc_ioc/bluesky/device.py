"""The PVs of a run that the detector needs; ophyd-async adds all others, by PVI."""

from __future__ import annotations

from ophyd_async.core import Device, SignalR, SignalRW, TriggerableCommand

STOPPED, INTERRUPTED = "Stopped", "Interrupted"
ENDED = (STOPPED, INTERRUPTED)
"""Labels of `Run:State_RBV` with no run on."""
BUSY = "Busy"
"""Label of `Run:Result_RBV` while a command is active."""


class AttpcRun(Device):
    """The run; None is what a plugin has and the IOC runs without."""

    do_start: TriggerableCommand
    do_stop: TriggerableCommand
    state: SignalR[str]
    ready: SignalR[str]
    result: SignalR[str]
    message: SignalR[str]
    number: SignalR[int]
    experiment: SignalRW[str]
    title: SignalRW[str]
    operator: SignalRW[str]
    run_class: SignalRW[str]
    start_time: SignalR[str]
    stop_time: SignalR[str]
    duration: SignalR[float]
    max_duration: SignalRW[float]
    events: SignalR[float] | None
    max_events: SignalRW[float] | None
    written: SignalR[float] | None
    max_written: SignalRW[float] | None
    closing_message: SignalR[str] | None
    manifest: SignalR[str] | None

    def limits(self) -> list[tuple[SignalR[float], SignalRW[float]]]:
        """Return what is limited, each with its limit; a limit of 0 is none."""
        known = [
            (self.duration, self.max_duration),
            (self.events, self.max_events),
            (self.written, self.max_written),
        ]
        return [(of, limit) for of, limit in known if of is not None and limit is not None]
