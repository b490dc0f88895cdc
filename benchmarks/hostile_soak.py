"""All hostile peers at once, while everybody else works normally.

    python -m benchmarks.hostile_soak [--seconds 600] [--lines 10]

One ECC server of eleven, one data host reached by SSH, one reached by a sentry and one host of Channel Access
clients misbehave, each in all the ways that the tests have for it, one after the other. Meanwhile runs
start and stop on the other ten ECC servers, two healthy clients monitor all of them, and a third measures
its round trips. Every line is the same part of the time. Ends with exit code 1 if a command failed,
a healthy client missed an update or was disconnected, round trips took longer than 50 ms and
three times the value before (the ninth decile), or memory or descriptors grew after the first third. If
other programs use the CPU too, the 50 ms are scaled by how much longer work takes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aioca
import psutil

from benchmarks.soak import Screen, connect, flood, reconnect, run_ioc, settle, stall
from benchmarks.support.page import command, processor, write_between_marks
from benchmarks.support.system import COBOS, EXPERIMENT, PREFIX, System, system
from tests.ca.test_fuzz import mutated, session
from tests.security.hostile import all_ways
from tests.support.ca import LOOPBACK, free_port
from tests.support.child import ROUNDS, Child, child, high
from tests.support.hostile_hosts import EACH_IN_TURN, hostile

LEAST_GROWTH_MB = 8.0
"""Memory growth allowed for the allocator, in MB."""
MORE_FILES = 8
"""Descriptors that transient peers may have open."""
PUT_S = 30.0
VICTIM = f"cobo{COBOS - 1}"
MODULES = [*(f"cobo{number}" for number in range(COBOS)), "mutant"]
PARTS = ("State_RBV", "Transition_RBV", "Result_RBV", "ResultCount_RBV", "Message_RBV", "Loaded_RBV")
SYSTEM = ("State_RBV", "Alarm_RBV", "AlarmText_RBV", "Run:Checklist_RBV", "Run:Number_RBV", "Run:State_RBV")
NAMES = [f"{PREFIX}Ecc:{module}:{part}" for module in MODULES for part in PARTS]
NAMES += [f"{PREFIX}{part}" for part in SYSTEM]

HOSTS = """
[plugins.run_history]
enabled = false

[plugins.data_routers]
period_s = 0.5
timeout_s = 1.0
known_hosts = "{folder}/known_hosts"
ssh_config = "{folder}/ssh_config"
interlocks = {{ router_down = "warn", dirty = "warn", disk = "warn", run_exists = "warn" }}

[[plugins.data_routers.router]]
sources = ["CoBo0"]
access = "ssh"
host = "127.0.0.1"
port = {ssh}
staging = "/data"

[[plugins.data_routers.router]]
sources = ["CoBo1"]
access = "sentry"
host = "127.0.0.1"
port = {sentry}
"""


async def _rude(port: int, seconds: float) -> None:
    """Run bad clients: incomplete messages, invalid data, floods, and clients that do not read."""
    end = time.monotonic() + seconds
    chance = random.Random(1)

    async def nonsense() -> None:
        while time.monotonic() < end:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(LOOPBACK, port)
                writer.write(
                    chance.choice((mutated(session(), chance), chance.randbytes(3000), session()[:70]))
                )
                await asyncio.sleep(chance.uniform(0.0, 0.1))
                writer.transport.abort()

    async def again(work: Callable[[], Awaitable[None]]) -> None:
        # A bad client may be disconnected at any time.
        while time.monotonic() < end:
            with contextlib.suppress(OSError, TimeoutError):
                await work()

    await asyncio.gather(
        nonsense(),
        again(lambda: stall(end, port, NAMES)),
        again(lambda: flood(end, port)),
        again(lambda: reconnect(end, port, NAMES)),
    )


def run_rude(port: int, seconds: float) -> None:
    """Run the bad clients for this many seconds."""
    asyncio.run(_rude(port, seconds))


@dataclass
class Result:
    """The measurements; `said` has the printed lines."""

    said: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    runs: int = 0
    ways: int = 0
    echoes_ms: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Print a line and keep it."""
        self.said.append(line)
        print(line, flush=True)


async def _put(name: str, value: object) -> None:
    await aioca.caput(f"{PREFIX}{name}", value, wait=True, timeout=PUT_S)


async def _runs(end: float, result: Result) -> None:
    """Start and stop runs on all but the hostile server."""
    while time.monotonic() < end:
        for name, value in (("GoTo", "Ready"), ("Run:Start", 1), ("Run:Stop", 1)):
            try:
                await _put(name, value)
            except Exception as error:  # of Channel Access, or what the IOC says
                text = await aioca.caget(
                    f"{PREFIX}Message_RBV", datatype=aioca.DBR_CHAR_STR, timeout=PUT_S, throw=False
                )
                result.faults.append(f"{name}: {error}: {text}")
        result.runs += 1


async def _in_turn(end: float, ecc: Child, echo: Child, result: Result) -> None:
    """Make the ECC server misbehave in one way after the other, and measure how long everybody else waits."""
    # No command goes to the disabled module: while one runs, group commands are refused.
    for way in itertools.cycle(way for way in all_ways() if way.startswith("ALL:")):
        if time.monotonic() > end:
            break
        await ecc.ask(way)
        result.ways += 1
        for _ in range(2):
            result.echoes_ms += json.loads(await echo.ask(str(ROUNDS)))
    await ecc.ask("ALL:good")


async def soak(
    it: System, pipe: Connection, process: psutil.Process, ecc: Child, args: argparse.Namespace
) -> Result:
    """Run everything; faults are in the result's `faults`."""
    result = Result()
    loop = asyncio.get_running_loop()
    async with child(
        "tests.security.echo", str(process.pid), f"{PREFIX}Ecc:cobo0:State_RBV", env=it.place.env
    ) as echo:
        # Before the crowd connects: an existing connection stays.
        used = ("GoTo", "Run:Start", "Run:Stop", "Message_RBV")
        await aioca.connect([f"{PREFIX}{name}" for name in used], timeout=PUT_S)
        await _put(f"Ecc:{VICTIM}:Enable", 0)
        await _put("Config", EXPERIMENT)
        usual_ms = high(json.loads(await echo.ask("200")))
        screens = [Screen(NAMES) for _ in range(2)]
        await connect(screens, it.place.port)
        end = time.monotonic() + args.seconds
        context = multiprocessing.get_context("spawn")
        rude = context.Process(target=run_rude, args=(it.place.port, args.seconds))
        rude.start()
        works = [asyncio.ensure_future(_runs(end, result))]
        works.append(asyncio.ensure_future(_in_turn(end, ecc, echo, result)))
        seen = 0
        for number in range(args.lines):
            await asyncio.sleep(args.seconds / args.lines)
            if number == args.lines - 1:
                await asyncio.gather(*works)
                await loop.run_in_executor(None, rude.join)
                await settle(screens)
            told = await loop.run_in_executor(None, _ask, pipe)
            result.memory_mb.append(process.memory_info().rss / 1e6)
            result.files.append(process.num_fds())
            part_ms, seen = result.echoes_ms[seen:], len(result.echoes_ms)
            result.say(
                f"resident {result.memory_mb[-1]:6.1f} MB  descriptors {result.files[-1]:3}"
                f"  tasks {told['tasks']:3}  runs {result.runs:4}  ways of the ECC server {result.ways:3}"
                f"  updates {sum(sum(screen.counts) for screen in screens):7}  replaced {told['replaced']}"
                f"  echo {high(part_ms):4.1f} ms, most {max(part_ms):5.1f} ms"
                f"  bad clients: disconnected {told['disconnected']}, updates replaced {told['dropped']}"
            )
            if told["replaced"] or any(screen.ended for screen in screens):
                result.faults.append(f"a healthy client was disconnected or lost updates: {told}")
    _judge(result, screens, usual_ms, args.echo_ms)
    for screen in screens:
        assert screen.transport is not None
        screen.transport.abort()
    return result


def _judge(result: Result, screens: list[Screen], usual_ms: float, most_ms: float) -> None:
    counts = [screen.counts for screen in screens]
    sent = [max(both) for both in zip(*counts, strict=True)]
    missed = sum(most - count for one in counts for most, count in zip(sent, one, strict=True))
    echo_ms = high(result.echoes_ms)
    third = len(result.files) // 3
    grown_mb = result.memory_mb[-1] - result.memory_mb[third]
    result.say(
        f"runs {result.runs}, commands that failed {len(result.faults)}; updates for each healthy client "
        f"{sum(sent)}, missed {missed}; echo {echo_ms:.1f} ms (before {usual_ms:.1f} ms), "
        f"without the waits for a processor; memory after the first third {grown_mb:+.1f} MB"
    )
    if missed:
        result.faults.append(f"{missed} updates missed")
    if echo_ms > max(most_ms, 3 * usual_ms):
        result.faults.append(f"round trips of {echo_ms:.1f} ms, before {usual_ms:.1f} ms")
    if grown_mb > LEAST_GROWTH_MB or result.files[-1] > result.files[third] + MORE_FILES:
        result.faults.append(f"memory grew by {grown_mb:.1f} MB, descriptors {result.files}")
    if not result.runs:
        result.faults.append("no run")


def _ask(pipe: Connection) -> dict[str, int]:
    pipe.send(True)
    return pipe.recv()


async def _all_hostile(it: System, args: argparse.Namespace) -> Result:
    """Start the hostile peers and the IOC, and soak."""
    lasts_s = args.seconds + 300.0
    folder = Path(it.file).parent
    context: Any = multiprocessing.get_context("spawn")
    port = free_port()
    async with (
        hostile("ssh", EACH_IN_TURN, lasts_s) as ssh,
        hostile("sentry", EACH_IN_TURN, lasts_s) as sentry,
        child("tests.security.hostile", str(port), env=it.place.env) as ecc,
    ):
        (folder / "known_hosts").write_text(ssh.known)
        (folder / "ssh_config").write_text("")
        text = it.file.read_text(encoding="utf-8")
        head, module, rest = text.partition(f'name = "{VICTIM}"')
        before, _, after = rest.partition("port = ")
        text = f"{head}{module}{before}port = {port}\n{after.partition(chr(10))[2]}"
        text += HOSTS.format(folder=folder, ssh=ssh.port, sentry=sentry.port)
        it.file.write_text(text, encoding="utf-8")
        here, there = context.Pipe()
        process = context.Process(target=run_ioc, args=(there, it.file))
        process.start()
        try:
            await asyncio.to_thread(it.wait_ioc)
            return await soak(it, here, psutil.Process(process.pid), ecc, args)
        finally:
            here.send(False)
            await asyncio.to_thread(process.join, 10)
            process.kill()


def main() -> None:
    """Soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--lines", type=int, default=10, help="how many lines are printed")
    parser.add_argument("--echo-ms", type=float, default=50.0, help="how long round trips may take")
    parser.add_argument("--page", type=Path, help="write the lines into this page, between its marks")
    args = parser.parse_args()
    with system() as it:
        result = asyncio.run(_all_hostile(it, args))
    for fault in result.faults[:20]:
        result.say(fault)
    result.say("flat, and nobody else noticed" if not result.faults else "NOT GOOD")
    if args.page:
        load = os.getloadavg()[0]
        made = f"`{command('benchmarks.hostile_soak')}` on {processor()}, {os.cpu_count()} cores"
        on = f"{made}, load average {load:.1f}."
        write_between_marks(args.page, "soak", "\n".join((f"{on}\n", "```text", *result.said, "```")))
    raise SystemExit(1 if result.faults else 0)


if __name__ == "__main__":
    main()
