"""One IOC for many ECC servers: the cost of each, and delays.

    python -m benchmarks.scale [--servers 12,100,1000] [--seconds 10]
        [--page docs/explanation/channel-access-server.md]

Fleet, IOC and client are separate processes; every idle server is polled once a second.
Measured for each number of servers: CPU and memory of the idle IOC; the age of the oldest poll, checked
every 50 ms; how late the event loop is; the time from a server's arrival in a state to the monitor of its
`State_RBV` at a libca client while one module at a time is moved; and the time of `GoTo` for all servers at
once. For comparison, the worst delay of a process that only sleeps: that is due to the machine.
Goals: linear; 1000 servers in under half a core; a state change seen within 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from benchmarks.support.page import about, command, write_between_marks
from benchmarks.support.system import EXPERIMENT, PREFIX, System, system

POLL = "\n[poll]\nquiet_period_s = 1.0\n"
LOOK_S = 0.05
MOVES = 20
LIMIT_S = 300.0


@dataclass(slots=True)
class Seen:
    """What the IOC's process noted since the last request; seconds."""

    ages_s: list[float] = field(default_factory=list)
    lates_s: list[float] = field(default_factory=list)


async def _ioc(pipe: Connection, file: Path) -> None:
    from attpc_ioc.app import running, spare_collections
    from attpc_ioc.settings import load_settings

    async with running(load_settings(file)) as app:
        noted = [Seen()]

        async def look() -> None:
            while True:
                due = time.monotonic() + LOOK_S
                await asyncio.sleep(LOOK_S)
                now = time.monotonic()
                noted[0].lates_s.append(now - due)
                answers = [module.answers for module in app.controller.modules.values()]
                last = [one.last.seen_at_s for one in answers if one.last]
                if len(last) == len(app.controller.modules):
                    noted[0].ages_s.append(now - min(last))

        spare_collections()
        task = asyncio.create_task(look())
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, pipe.recv):
            pipe.send(noted[0])
            noted[0] = Seen()
        task.cancel()


def _run_ioc(pipe: Connection, file: Path) -> None:
    from attpc_ioc.log import set_up_logging

    set_up_logging(level="ERROR")
    asyncio.run(_ioc(pipe, file))


def _sleep(pipe: Connection) -> None:
    """Sleep `LOOK_S` repeatedly; report on request the worst delay of waking since the last one."""
    worst_s = 0.0
    while True:
        due = time.monotonic() + LOOK_S
        time.sleep(LOOK_S)
        worst_s = max(worst_s, time.monotonic() - due)
        if pipe.poll():
            if not pipe.recv():
                return
            pipe.send(worst_s)
            worst_s = 0.0


@contextlib.contextmanager
def sleeper() -> Iterator[Connection]:
    """Run a process that only sleeps; yields the pipe to ask for its delay."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_sleep, args=(there,))
    process.start()
    try:
        yield here
    finally:
        here.send(False)
        process.join(30)
        process.kill()


@contextlib.contextmanager
def ioc(it: System) -> Iterator[tuple[Connection, psutil.Process]]:
    """Run the IOC; yields the pipe to ask for its notes, and its process."""
    it.file.write_text(it.file.read_text(encoding="utf-8") + POLL, encoding="utf-8")
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run_ioc, args=(there, it.file))
    process.start()
    assert process.pid is not None
    try:
        it.wait_ioc()
        yield here, psutil.Process(process.pid)
    finally:
        here.send(False)
        process.join(30)
        process.kill()


def ask(pipe: Connection) -> Seen:
    """Return what the IOC noted since this was last called."""
    pipe.send(True)
    return pipe.recv()


def machine_late_ms(peer: Connection) -> float:
    """Return the worst delay of a process that only sleeps since the last call."""
    peer.send(True)
    return 1e3 * peer.recv()


async def measure(
    it: System, pipe: Connection, process: psutil.Process, peer: Connection, args: argparse.Namespace
) -> dict[str, float]:
    """Measure one number of servers."""
    import aioca

    count = int(await aioca.caget(f"{PREFIX}Count_RBV", timeout=LIMIT_S))
    await _until(f"{PREFIX}Online_RBV", count)
    await asyncio.sleep(args.settle)  # the polls begin together, and spread with time
    ask(pipe)
    machine_late_ms(peer)
    cpu_s = sum(process.cpu_times()[:2])
    began = time.monotonic()
    await asyncio.sleep(args.seconds)
    cpu_s = sum(process.cpu_times()[:2]) - cpu_s
    share = cpu_s / (time.monotonic() - began)
    rest = ask(pipe)
    row = {
        "CPU at rest, % of a core": 100 * share,
        "CPU a poll, ms": 1e3 * share / count,
        "resident, MB": process.memory_info().rss / 1e6,
        "oldest poll, s": max(rest.ages_s),
        "loop late, worst, ms": 1e3 * max(rest.lates_s),
        "a process that only sleeps late, at rest, ms": machine_late_ms(peer),
    }
    print(row, flush=True)
    await _select()
    ask(pipe)
    row |= await _moves(it, pipe, count)
    row["a process that only sleeps late, while moving, ms"] = machine_late_ms(peer)
    if args.all:
        began = time.monotonic()
        await aioca.caput(f"{PREFIX}GoTo", 2, wait=True, timeout=LIMIT_S)
        row["GoTo of all, s"] = time.monotonic() - began
        row["loop late then, worst, ms"] = 1e3 * max(ask(pipe).lates_s)
    aioca.purge_channel_caches()
    return row


async def _until(pv: str, value: int) -> None:
    import aioca

    there = asyncio.Event()
    monitor = aioca.camonitor(pv, lambda now: there.set() if int(now) == value else None)
    await asyncio.wait_for(there.wait(), LIMIT_S)
    monitor.close()


async def _select() -> None:
    """Select the configs, once every server has reported its own; raises TimeoutError with the reason."""
    import aioca

    end = time.monotonic() + 60
    while not (await aioca.caput(f"{PREFIX}Config", EXPERIMENT.encode() + b"\0", wait=True, throw=False)).ok:
        if time.monotonic() > end:
            message = await aioca.caget(f"{PREFIX}Message_RBV", datatype=aioca.DBR_CHAR_STR)
            raise TimeoutError(str(message))
        await asyncio.sleep(1)


async def _moves(it: System, pipe: Connection, count: int) -> dict[str, float]:
    """Move one module at a time up and down again."""
    import aioca

    names = [f"cobo{i * (count - 1) // MOVES}" for i in range(min(MOVES, count - 1))]
    seen: dict[str, list[tuple[float, int]]] = defaultdict(list)
    monitors = [
        aioca.camonitor(
            f"{PREFIX}Ecc:{name}:State_RBV",
            lambda value, name=name: seen[name].append((time.monotonic(), int(value))),
            all_updates=True,
        )
        for name in names
    ]
    await asyncio.sleep(0.5)
    it.ended()
    failed = 0
    for name in names:
        for move in ("Describe", "Undo"):
            done = await aioca.caput(f"{PREFIX}Ecc:{name}:{move}", 1, wait=True, timeout=LIMIT_S, throw=False)
            if not done.ok:
                failed += 1
                reason = await aioca.caget(f"{PREFIX}Ecc:{name}:Message_RBV", datatype=aioca.DBR_CHAR_STR)
                print(f"{name}: {move}: {reason}", flush=True)
    times = sorted(
        1e3
        * (min(t for t, state in seen[call.server] if state == call.state and t >= call.end_s) - call.end_s)
        for call in it.ended()
        if call.server in seen
    )
    for monitor in monitors:
        monitor.close()
    return {
        "moves that failed": failed,
        "arrival to monitor, median, ms": statistics.median(times),
        "arrival to monitor, worst, ms": times[-1],
        "loop late while moving, worst, ms": 1e3 * max(ask(pipe).lates_s),
    }


def table(found: dict[int, dict[str, float]]) -> str:
    """Return the table in Markdown."""
    lines = ["| ECC servers | " + " | ".join(map(str, found)) + " |", "|---|" + "---|" * len(found)]
    for name in next(iter(found.values())):
        lines.append(f"| {name} | " + " | ".join(f"{row[name]:.3g}" for row in found.values()) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and write it into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--servers", default="12,100,1000")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--settle", type=float, default=20.0, help="seconds of rest before")
    parser.add_argument("--all", action=argparse.BooleanOptionalAction, default=True, help="GoTo of all, too")
    parser.add_argument("--page", type=Path, help="write the table into this page, between its marks")
    args = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    found: dict[int, dict[str, float]] = {}
    for count in map(int, args.servers.split(",")):
        # libca reads its variables once, so every number has a client process of its own.
        context = multiprocessing.get_context("spawn")
        queue: multiprocessing.Queue[dict[str, float]] = context.Queue()
        process = context.Process(target=_one, args=(queue, count, args))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{count} servers: failed")
        found[count] = queue.get()
        print(f"{count}: {found[count]}", flush=True)
    text = table(found)
    print(text)
    if args.page:
        write_between_marks(args.page, "scale", f"{about(command('benchmarks.scale'))}\n\n{text}")


def _one(queue: multiprocessing.Queue[dict[str, float]], count: int, args: argparse.Namespace) -> None:
    with system(count - 1) as it, ioc(it) as (pipe, process), sleeper() as peer:
        queue.put(asyncio.run(measure(it, pipe, process, peer, args)))


if __name__ == "__main__":
    main()
