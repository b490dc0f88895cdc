"""Closings that are killed at random moments and begun again, and what must be true after each kill."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.closing.closings import Closing, Phase
from attpc_plugins.data_routers.model import closing_folder

from attpc_ioc.model.run import RunRef
from tests.support.closings import EXPERIMENT, closings_in, entries_of, fill, sums
from tests.support.pages import ROOT
from tests.support.sshd import Sshd

FILES = [f"CoBo0_AsAd{asad}_{number:04d}.graw" for asad in range(4) for number in range(15)]


@dataclass
class Killed:
    """How often it was killed, over how many runs, and where the files were then.

    A stage tells whether some were in the staging folder, in the closing folder, and in the run's.
    """

    kills: int = 0
    runs: int = 0
    stages: set[tuple[bool, bool, bool]] = field(default_factory=set)


async def close_and_kill(folder: Path, kills: int, rng: random.Random, server: Sshd | None = None) -> Killed:
    """Close runs of 60 files, over SSH with a server, and kill who does it so often.

    After each kill every file is there, unchanged; in the end all are in the folder of their run, and nowhere
    else.
    """
    staging, state = folder / "staging", folder / "state"
    staging.mkdir()
    settings = _settings(staging, server)
    seen = Killed()
    async with _zygote() as process:
        while seen.kills < kills:
            seen.runs += 1
            run = RunRef(EXPERIMENT, seen.runs)
            place, gathering = (staging / EXPERIMENT / name for name in (run.folder, closing_folder(run)))
            expected = fill(staging, FILES, seed=seen.runs, size=300)
            entry = Closing(run, "CoBo0", ("CoBo0",), Phase.RUNNING, began_s=float(seen.runs), settled=True)
            async with closings_in(state) as closings:
                await closings.save(replace(entry, before={}))
            order = {"state": str(state), "settings": settings, "run": seen.runs}
            # At any time of its life, when it begins to move, and while it moves.
            moments = (lambda: True, partial(_chosen, state, run), gathering.exists)
            for moment in rng.choices(moments, k=4):
                if await _once(process, order, moment, rng.uniform(0, 0.06)) == 0:
                    break
                seen.kills += 1
                found = [sums(there) for there in (staging, gathering, place)]
                assert found[0] | found[1] | found[2] == expected
                seen.stages.add((bool(found[0]), bool(found[1]), bool(found[2])))
            assert await _once(process, order, None) == 0
            assert sums(place) == expected
            assert sums(staging) == {}
            folders = [f"run_{number:04d}" for number in range(1, seen.runs + 1)]
            assert sorted(os.listdir(staging / EXPERIMENT)) == folders
            record = manifest.load((place / "manifest.json").read_bytes(), "it")
            assert {file.name: file.sha256 for file in record.files} == expected
            assert (record.run, record.missing) == (run, ())
    return seen


def _settings(staging: Path, server: Sshd | None) -> dict[str, Any]:
    way = "local" if server is None else "ssh"
    router: dict[str, Any] = {"access": way, "sources": ["CoBo0"], "staging": str(staging), "process": ""}
    settings = {"period_s": 0.02, "closing": {"quiet_s": 0.03, "checksums": True}, "router": [router]}
    if server is not None:
        router |= {"host": "127.0.0.1", "port": server.port, "user": server.user}
        settings |= {"ssh_config": str(server.config), "known_hosts": str(server.known_hosts)}
    return settings


@contextlib.asynccontextmanager
async def _zygote() -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.closing_child",
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
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
) -> int:
    """Run one IOC's side, killed some time after a condition holds unless that is None; its exit code."""
    process.stdin.write(json.dumps(order).encode() + b"\n")
    pid = int(await process.stdout.readline())
    ended = asyncio.ensure_future(process.stdout.readline())
    if kill_when is not None:
        while not ended.done() and not kill_when():  # noqa: ASYNC110 - only looking can tell
            await asyncio.sleep(0.001)
        await asyncio.wait((ended,), timeout=delay_s)
        if not ended.done():
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)
    word, code = (await ended).split()
    assert word == b"ended"
    return int(code)


def _chosen(state: Path, run: RunRef) -> bool:
    return any(entry.chosen for entry in entries_of(state) if entry.run == run)
