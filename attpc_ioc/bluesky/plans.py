"""Plan stubs: runs inside plans that have staged the detector and opened a Bluesky run."""

from __future__ import annotations

from typing import Any

import bluesky.plan_stubs as bps
from bluesky.utils import MsgGenerator
from ophyd_async.core import TriggerInfo

from .detector import AttpcDetector


def run_for(detector: AttpcDetector, seconds: float, name: str = "primary") -> MsgGenerator[Any]:
    """Take one run of so many seconds, as one event of the stream `name`; returns its readings."""
    yield from bps.prepare(detector, TriggerInfo(livetime=seconds), wait=True)
    return (yield from bps.trigger_and_read([detector], name=name))


def run_during(detector: AttpcDetector, plan: MsgGenerator[Any], name: str = "attpc") -> MsgGenerator[Any]:
    """Take one run that lasts as long as another plan, and return what that returns.

    After the run the stream `NAME` has one event, with the run's readings, and `NAME_files` its files.
    """
    files = f"{name}_files"
    yield from bps.abs_set(detector.length, 0.0, wait=True)
    yield from bps.prepare(detector, TriggerInfo(), wait=True)
    yield from bps.declare_stream(detector, name=files, collect=True)
    yield from bps.kickoff(detector, wait=True)
    result = yield from plan
    yield from bps.complete(detector, wait=True)
    yield from bps.collect(detector, name=files)
    yield from bps.create(name)
    yield from bps.read(detector)
    yield from bps.save()
    return result
