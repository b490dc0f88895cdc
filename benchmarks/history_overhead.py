"""The time that the run history adds to `Run:Start` and `Run:Stop`; a database that hangs.

    python -m benchmarks.history_overhead [runs]

Two IOCs on two simulated fleets, one with the history on an embedded database with all its durability and one
without, start and stop runs in turns, so that both see the same machine. Neighbours are compared: a
start with it and the following one without. Between two commands both IOCs become idle, as between those
of an operator; otherwise deferred work of one would count for the next. Then the waits of a start are
timed separately: a number, and an event or a put on record.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pytest
from attpc_plugins.run_history.embedded.processes import servers_in

from attpc_ioc.model.command import RUN, Put, Who
from attpc_ioc.model.states import State
from tests.support.history import EXPERIMENT, NAME, connected, given_plugins, service
from tests.support.rig import Rig, rig

REST_S = 0.1


async def timed(it: Rig, name: str) -> float:
    """Give a command and return its duration in ms."""
    began_s = time.perf_counter()
    outcome = await it.submit(name, RUN)
    took_ms = 1e3 * (time.perf_counter() - began_s)
    assert outcome.ok, outcome.message
    return took_ms


def line(what: str, values_ms: list[float]) -> str:
    """Return median and 90th percentile as a line."""
    ordered = sorted(values_ms)
    most = ordered[len(ordered) * 9 // 10]
    return f"{what:32} median {statistics.median(ordered):7.2f} ms, 90 % {most:7.2f} ms"


async def at_rest(it: Rig) -> None:
    """Wait until the database has everything, and for a moment more."""
    await it.until(lambda: service(it).writer.drained, 30.0, "all recorded")
    await asyncio.sleep(REST_S)


async def parts(it: Rig, count: int) -> None:
    """Time what a start or a put waits for, in an otherwise idle IOC."""
    times: dict[str, list[float]] = {}
    for number in range(count):
        began_s = time.perf_counter()
        await it.app.host.reserve_number("parts", 2.0)
        times.setdefault("a number alone", []).append(1e3 * (time.perf_counter() - began_s))
        began_s = time.perf_counter()
        await recorded(it, number)
        times.setdefault("a put on record alone", []).append(1e3 * (time.perf_counter() - began_s))
        await asyncio.sleep(0.01)
    began_s = time.perf_counter()
    await asyncio.gather(*(recorded(it, number) for number in range(100)))
    times["100 puts on record at once"] = [1e3 * (time.perf_counter() - began_s)]
    for what, values in times.items():
        print(line(what, values))


async def recorded(it: Rig, number: int) -> None:
    """Emit a put, and wait until it is on record."""
    handled = it.app.emitter.put(Put("a PV", Who("benchmark"), "", str(number), ok=True))
    assert handled is not None
    await handled


async def main(runs: int, place: Path) -> None:
    """Measure and print."""
    section = {f"plugins.{NAME}": f'data_dir = "{place / "db"}"'}
    off = {f"plugins.{NAME}": "enabled = false"} if not given_plugins() else {}
    monkeypatch = pytest.MonkeyPatch()
    for name in ("with", "without"):
        (place / name).mkdir()
    try:
        async with (
            rig(place / "without", monkeypatch, alone=False, **off) as bare,
            rig(place / "with", monkeypatch, plugins=given_plugins(), alone=False, **section) as recorded_ioc,
        ):
            await connected(recorded_ioc, 30.0)
            await recorded_ioc.ok("Run:Experiment", EXPERIMENT)
            for it in (recorded_ioc, bare):
                await it.take_to(State.READY)
            await recorded_ioc.until(lambda: recorded_ioc.run.experiment == EXPERIMENT)
            times: dict[str, list[float]] = {}
            for _ in range(runs):
                for what, it in (("with history", recorded_ioc), ("without", bare)):
                    for command in ("Start", "Stop"):
                        await at_rest(recorded_ioc)
                        times.setdefault(f"Run:{command} {what}", []).append(await timed(it, command))
            for what, values in times.items():
                print(line(what, values))
            for command in ("Start", "Stop"):
                pairs = zip(*(times[f"Run:{command} {w}"] for w in ("with history", "without")), strict=True)
                adds = [a - b for a, b in pairs]
                a, b = (statistics.median(times[f"Run:{command} {w}"]) for w in ("with history", "without"))
                added = statistics.median(adds)
                print(f"Run:{command}: history adds {added:.2f} ms (median), {a / b:.3f} times as long")
            await parts(recorded_ioc, runs)
            await timed(recorded_ioc, "Start")
            pids = [p.pid for p in servers_in(place / "db" / "data", place / "db" / "server.lock")]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            print(line("Run:Stop with a hung database", [await timed(recorded_ioc, "Stop")]))
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            await recorded_ioc.until(lambda: service(recorded_ioc).writer.drained, 30.0, "all recorded")
            await connected(recorded_ioc, 30.0)
    finally:
        monkeypatch.undo()


if __name__ == "__main__":
    # A folder that any account may pass, because the database is no server of root's.
    folder = Path(tempfile.mkdtemp(prefix="attpc-overhead-"))
    folder.chmod(0o711)
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50, folder))
    shutil.rmtree(folder)
