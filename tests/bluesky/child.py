"""Plans at a RunEngine: `python -m tests.bluesky.child PREFIX CASE` prints as a line of JSON what came of it.

ophyd-async has one PVAccess client in a process, and a RunEngine wants a main thread: each test has a
process of its own. Of each case `docs` has the documents, `error` how the plan failed, and `run` the
number and state of the run after it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
from bluesky import RunEngine
from bluesky.run_engine import RunEngineInterrupted
from ophyd_async.core import TriggerInfo, init_devices, soft_signal_rw

from attpc_ioc.bluesky import AttpcDetector, run_during, run_for

LIMIT_S = 60.0


class Bench:
    """A RunEngine, the detector and a knob to scan."""

    def __init__(self, prefix: str) -> None:
        self.engine = RunEngine(context_managers=[])
        with init_devices(timeout=LIMIT_S):
            det = AttpcDetector(prefix, close_timeout_s=LIMIT_S)
            knob = soft_signal_rw(float, 0.0)
        self.det, self.knob = det, knob
        self.docs: list[tuple[str, Any]] = []
        self.engine.subscribe(lambda name, doc: self.docs.append((name, doc)))
        self.value(lambda: self.det.config.set("e20009", timeout=LIMIT_S))

    def value(self, ask: Callable[[], Any]) -> Any:
        """What comes of something in the RunEngine's event loop."""

        async def wait() -> Any:
            return await ask()

        return asyncio.run_coroutine_threadsafe(wait(), self.engine.loop).result(LIMIT_S)

    def now(self, *signals: Any) -> list[Any]:
        return [self.value(signal.get_value) for signal in signals]

    def run(self, plan: Any) -> dict[str, Any]:
        self.docs = []
        error = ""
        try:
            self.engine(plan)
        except RunEngineInterrupted:
            raise
        except Exception as exception:
            error = f"{exception} {exception.__cause__}"
        return self.result(error)

    def result(self, error: str = "") -> dict[str, Any]:
        return {
            "docs": self.docs,
            "error": error,
            "run": self.now(self.det.run.number, self.det.run.state),
        }

    def when_running(self, then: Callable[[], Any]) -> threading.Thread:
        """Do something in a thread of its own, once a run is on."""

        def wait() -> None:
            pause = threading.Event()
            while self.now(self.det.run.state) != ["Running"]:
                pause.wait(0.05)
            then()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        return thread


def scan(bench: Bench) -> Any:
    """A scan of five points."""

    def plan() -> Any:
        yield from bps.mv(bench.det.run.title, "scan", bench.det.run.run_class, "Beam")
        yield from bps.mv(bench.det.length, 1.0)
        yield from bp.scan([bench.det], bench.knob, 1, 5, 5)

    return bench.run(plan())


def for_seconds(bench: Bench) -> Any:
    """Runs of two lengths, one that another plan is in, and flying in single steps."""
    det = bench.det

    def inner() -> Any:
        for at in range(3):
            yield from bps.mv(bench.knob, at)
            yield from bps.trigger_and_read([bench.knob], name="knob")
            yield from bps.sleep(0.2)
        return "inner"

    returned = []

    @bpp.stage_decorator([det])
    @bpp.run_decorator()
    def plan() -> Any:
        yield from run_for(det, 2.0)
        yield from run_for(det, 0.7)
        returned.append((yield from run_during(det, inner())))
        yield from bps.prepare(det, TriggerInfo(livetime=1.2), wait=True)
        yield from bps.declare_stream(det, name="flown", collect=True)
        yield from bps.kickoff(det, wait=True)
        yield from bps.complete(det, wait=True)
        yield from bps.collect(det, name="flown")

    seen = bench.run(plan())
    return {**seen, "returned": returned}


def ends(bench: Bench) -> Any:
    """Ends of a run that are not by its length."""
    det = bench.det

    def other(length: float, max_duration: float) -> Any:
        yield from bps.mv(det.length, length, det.run.max_duration, max_duration)
        yield from bp.count([det])

    def stop() -> None:
        bench.value(lambda: det.run.do_stop.trigger(timeout=LIMIT_S))

    seen = {
        "endless": bench.run(other(0.0, 0.0)),
        "limit": bench.run(other(0.0, 1.0)),
        "shorter": bench.run(other(600.0, 1.0)),
    }
    bench.when_running(stop)
    seen["operator"] = bench.run(other(0.0, 600.0))
    return seen


def count(bench: Bench) -> Any:
    """One point."""
    bench.value(lambda: bench.det.length.set(0.5))
    return bench.run(bp.count([bench.det]))


def long(bench: Bench) -> Any:
    """One point, long enough for the IOC to be started again."""
    bench.value(lambda: bench.det.length.set(4.0))
    return bench.run(bp.count([bench.det]))


def start(bench: Bench) -> None:
    """Start a run as another client does, again until the IOC is ready for it."""
    ends = time.monotonic() + LIMIT_S
    while True:
        try:
            return bench.value(lambda: bench.det.run.do_start.trigger(timeout=LIMIT_S))
        except Exception:
            if time.monotonic() > ends:
                raise
            threading.Event().wait(0.1)


def other(bench: Bench) -> Any:
    """A run of somebody else is on, and goes on."""
    bench.value(lambda: bench.det.go_to.set("Ready", timeout=LIMIT_S))
    start(bench)
    return bench.run(bp.count([bench.det]))


def followed(bench: Bench) -> Any:
    """Somebody else starts a run while the files of the point are closed."""
    thread = bench.when_running(lambda: start(bench))
    seen = count(bench)
    thread.join(LIMIT_S)
    return {**seen, **bench.result(), "docs": seen["docs"]}


def aborted(bench: Bench) -> Any:
    """Plans that end while a run is on: by RE.abort, by an exception, and after a pause."""
    det = bench.det
    seen = {}

    def endless() -> Any:
        yield from bps.mv(det.length, 600.0)
        yield from bp.count([det])

    def fails() -> Any:
        yield from bps.sleep(0.1)
        raise RuntimeError("the inner plan has failed")

    @bpp.stage_decorator([det])
    @bpp.run_decorator()
    def during() -> Any:
        yield from run_during(det, fails())

    bench.docs = []
    bench.when_running(lambda: bench.engine.request_pause())
    try:
        bench.engine(endless())
    except RunEngineInterrupted:
        before = bench.now(det.run.number)
        bench.engine.abort("by the test")
    seen["abort"] = {**bench.result(), "before": before}
    seen["exception"] = bench.run(during())

    def shorter() -> Any:
        yield from bps.mv(det.length, 2.0)
        yield from bp.count([det], num=2)

    bench.docs = []
    bench.when_running(lambda: bench.engine.request_pause())
    try:
        bench.engine(shorter())
    except RunEngineInterrupted:
        bench.engine.resume()
    seen["resumed"] = bench.result()
    return seen


CASES = {case.__name__: case for case in (scan, for_seconds, ends, count, long, other, followed, aborted)}


if __name__ == "__main__":
    print(json.dumps(CASES[sys.argv[2]](Bench(sys.argv[1])), default=str))
