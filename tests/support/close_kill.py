"""Closings that are killed at random moments and begun again, and what must be true after each kill.

Two runs are closed at the same time, except by a sentry, which cannot tell them apart. Data go on coming
by the files' names, as from a router.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from attpc_plugins.data_routers.closing.closings import Closing, Phase
from attpc_plugins.data_routers.closing.whose import frozen
from attpc_plugins.data_routers.model import CloseState, closing_folder

from attpc_ioc.model.run import RunRef
from attpc_ioc.simulator.data.options import Access, DataOptions
from attpc_ioc.simulator.fleet import SimulatedFleet
from tests.support.closing_grid import Router, checked_manifest, names_of
from tests.support.closings import EXPERIMENT, closings_in, entries_of
from tests.support.pages import ROOT
from tests.support.sshd import Sshd

PARTS = 6
ATTEMPTS = 20
"""Maximum attempts without a kill until all is closed."""


@dataclass
class Killed:
    """How often it was killed, over how many runs, and where the files were then.

    A stage tells whether some were in the staging folder, in a closing folder, and in a run's.
    """

    kills: int = 0
    runs: int = 0
    stages: set[tuple[bool, bool, bool]] = field(default_factory=set)


@dataclass
class Pair:
    """Runs that are closed together; `router` writes their files."""

    numbers: list[int]
    router: Router
    state: Path

    @property
    def staging(self) -> Path:
        return self.router.folder

    def folders(self, number: int) -> list[Path]:
        """Return a run's folder, and the one of its closing."""
        run = RunRef(EXPERIMENT, number)
        return [self.staging / EXPERIMENT / name for name in (run.folder, closing_folder(run))]

    def whole(self) -> tuple[bool, bool, bool]:
        """See that every byte is there, once and in order; return which folders have files."""
        for number in self.numbers:
            self.router.check(*self.folders(number), self.staging, names=names_of(number, PARTS))
        gathered = [self.folders(number) for number in self.numbers]
        return (
            any(self.staging.glob("*.graw")),
            any(any(closing.glob("*.graw")) for _, closing in gathered),
            any(any(place.glob("*.graw")) for place, _ in gathered),
        )

    def began_to_move(self) -> bool:
        return any(folder.exists() for number in self.numbers for folder in self.folders(number))

    def is_chosen(self) -> bool:
        return any(entry.chosen or entry.asked for entry in entries_of(self.state))

    def closed(self) -> bool:
        entries = [entry for entry in entries_of(self.state) if entry.run.number in self.numbers]
        done = [entry for entry in entries if entry.state is CloseState.DONE and not entry.late]
        return len(done) == len(self.numbers) and not any(self.staging.glob("*.graw"))

    def text(self) -> str:
        """Return what is left, and the states of the runs."""
        entries = [entry for entry in entries_of(self.state) if entry.run.number in self.numbers]
        left = sorted(path.name for path in self.staging.glob("*.graw"))
        return f"{left} {[(entry.state, entry.message, entry.late) for entry in entries]}"

    def tidy(self) -> None:
        """Do what a person is told where a sentry was interrupted."""
        place, _ = self.folders(self.numbers[0])
        for path in self.staging.glob("*.graw"):
            to = place / path.name
            late = 0
            while to.exists():
                late += 1
                to = place / path.name.replace(".graw", f".late{late}.graw")
            path.rename(to)


async def close_and_kill(
    folder: Path, kills: int, rng: random.Random, way: str, server: Sshd | None = None
) -> Killed:
    """Close runs, reached in a `way` of the grid, by an IOC or by hand, and kill who does it so often.

    After each kill every byte is there; in the end all are in the folder of their run, and nowhere else.
    """
    state = folder / "state"
    seen = Killed()
    longest_s = 0.06 if way == "folder" else 0.2
    async with _router(folder, way, server) as (staging, settings), _zygote() as process:
        while seen.kills < kills or (len(seen.stages) < 2 and seen.kills < 4 * kills):
            first = seen.runs + 1
            pair = Pair([first] if way == "sentry" else [first, first + 1], Router(staging, rng), state)
            seen.runs += len(pair.numbers)
            await _over(pair)
            order = {"state": str(state), "settings": settings, "runs": pair.numbers}
            moments = (lambda: True, pair.is_chosen, pair.began_to_move)
            # A busy machine takes longer than that to log in at all.
            reach_s = longest_s * 4 ** (seen.kills // kills)
            for moment in rng.choices(moments, k=4):
                order["by_hand"] = rng.random() < 0.5
                delay_s = rng.choice((0.0, rng.uniform(0, reach_s)))
                late = partial(_write_some, pair, rng) if rng.random() < 0.7 else None
                if await _once(process, order, moment, delay_s, late) != -signal.SIGKILL:
                    break
                seen.kills += 1
                seen.stages.add(pair.whole())
            for _ in range(ATTEMPTS):
                order["by_hand"] = rng.random() < 0.5
                assert await _once(process, order, None) == 0
                pair.whole()
                if pair.closed():
                    break
                if way == "sentry" and pair.began_to_move():
                    pair.tidy()
            assert pair.closed(), pair.text()
            for number in pair.numbers:
                place, closing = pair.folders(number)
                assert not closing.exists()
                if way != "sentry":
                    record = checked_manifest(place)
                    assert (record.run.number, record.missing) == (number, ())
    return seen


async def _over(pair: Pair) -> None:
    """Have runs of many files that have ended; the second began while the first was not closed."""
    earlier: dict[str, int] = {}
    async with closings_in(pair.state) as closings:
        for number in pair.numbers:
            names = names_of(number, PARTS)
            for name in names:
                pair.router.write(name, 300)
            run = RunRef(EXPERIMENT, number)
            entry = Closing(
                run,
                "CoBo0",
                ("CoBo0",),
                Phase.CLOSING,
                began_s=float(number),
                settled=True,
                before=earlier,
            ).in_state(CloseState.WAITING, "the run is over")
            if number != pair.numbers[-1]:
                earlier = {name: len(pair.router.wrote[name]) for name in names}
                entry = frozen(entry, earlier)
            await closings.save(entry)


def _write_some(pair: Pair, rng: random.Random) -> None:
    number = rng.choice(pair.numbers)
    pair.router.write(rng.choice(names_of(number, PARTS)), 300)


@contextlib.asynccontextmanager
async def _router(folder: Path, way: str, server: Sshd | None) -> AsyncIterator[tuple[Path, dict[str, Any]]]:
    """Give a staging folder, and the settings with which it is reached."""
    router: dict[str, Any] = {"sources": ["CoBo0"]}
    settings = {"period_s": 0.02, "closing": {"quiet_s": 0.03, "checksums": True}, "router": [router]}
    async with contextlib.AsyncExitStack() as stack:
        if way in ("ssh", "sentry"):
            access = Access(way)
            data = DataOptions(folder=folder, access=(access,), catalog_wait_s=0.03)
            fleet = await stack.enter_async_context(SimulatedFleet(cobos=1, mutant=False, data=data))
            host = fleet.data["CoBo[0]"]
            assert host.gate is not None
            staging = host.staging
            router |= {"access": way, "host": host.gate.host, "port": host.gate.port}
            if keys := fleet.data.ssh_keys:
                settings |= {"ssh_config": str(keys.config), "known_hosts": str(keys.known_hosts)}
        else:
            staging = folder / "staging"
            staging.mkdir()
            router |= {"access": "local" if server is None else "ssh", "process": ""}
            if server is not None:
                router |= {"host": "127.0.0.1", "port": server.port, "user": server.user}
                settings |= {"ssh_config": str(server.config), "known_hosts": str(server.known_hosts)}
        if way != "sentry":
            router["staging"] = str(staging)
        yield staging, settings


@contextlib.asynccontextmanager
async def _zygote() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.closing_child",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.stdin.close()
        await process.wait()


async def _once(
    process: asyncio.subprocess.Process,
    order: dict[str, Any],
    kill_when: Callable[[], bool] | None,
    delay_s: float = 0.0,
    late: Callable[[], None] | None = None,
) -> int:
    """Run one IOC's side, or a command, killed some time after a condition holds unless that is None.

    `late` is called in between. Returns the exit code.
    """
    process.stdin.write(json.dumps(order).encode() + b"\n")
    pid = int(await process.stdout.readline())
    ended = asyncio.ensure_future(process.stdout.readline())
    if kill_when is not None:
        while not ended.done() and not kill_when():  # noqa: ASYNC110 - only looking can tell
            await asyncio.sleep(0.001)
        await asyncio.wait((ended,), timeout=delay_s / 2)
        if late is not None:
            late()
        await asyncio.wait((ended,), timeout=delay_s / 2)
        if not ended.done():
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)
    word, code = (await ended).split()
    assert word == b"ended"
    return int(code)
