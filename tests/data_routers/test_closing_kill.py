"""The IOC is killed at random moments of closing, again and again, and it ends the same."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from attpc_plugins.data_routers import manifest
from attpc_plugins.data_routers.closing_journal import Entry, Journal, Phase
from attpc_plugins.data_routers.model import RunKey

from tests.support.closings import EXPERIMENT, fill, sums
from tests.support.pages import ROOT

FILES = [f"CoBo0_AsAd{asad}_{number:04d}.graw" for asad in range(4) for number in range(15)]
KILLS = {"local": 50, "ssh": 25}


@contextlib.asynccontextmanager
async def zygote():
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


async def once(process, order, kill_when: Callable[[], bool] | None, delay_s: float = 0.0) -> int:
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


def chosen(journal: Journal, run: RunKey) -> bool:
    entry = journal.find(run, "CoBo0")
    return entry is not None and bool(entry.chosen)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["local", "ssh"])
async def test_killed_at_any_moment_and_repeated_it_ends_the_same(way, request, tmp_path):
    staging, state = tmp_path / "staging", tmp_path / "state"
    staging.mkdir()
    router = {"access": way, "sources": ["CoBo0"], "staging": str(staging), "process": ""}
    settings = {"period_s": 0.02, "closing": {"quiet_s": 0.03, "checksums": True}, "router": [router]}
    if way == "ssh":
        server = request.getfixturevalue("shared_sshd")
        router |= {"host": "127.0.0.1", "port": server.port, "user": server.user}
        settings |= {"ssh_config": str(server.config), "known_hosts": str(server.known_hosts)}
    rng = random.Random(20009)
    journal = Journal(state)
    kills, number = 0, 0
    stages: set[tuple[bool, bool, bool]] = set()
    async with zygote() as process:
        while kills < KILLS[way]:
            number += 1
            run = RunKey(EXPERIMENT, number)
            place, gathering = (staging / EXPERIMENT / name for name in (run.folder, run.closing_folder))
            expected = fill(staging, FILES, seed=number, size=300)
            entry = Entry(run, "CoBo0", ("CoBo0",), Phase.RUNNING, began_s=float(number), settled=True)
            journal.save(replace(entry, before=frozenset()))
            order = {"state": str(state), "settings": settings, "run": number}
            # At any time of its life, when it begins to move, and while it moves.
            moments = (lambda: True, partial(chosen, journal, run), gathering.exists)
            for moment in rng.choices(moments, k=4):
                if await once(process, order, moment, rng.uniform(0, 0.06)) == 0:
                    break
                kills += 1
                found = [sums(folder) for folder in (staging, gathering, place)]
                assert found[0] | found[1] | found[2] == expected
                stages.add((bool(found[0]), bool(found[1]), bool(found[2])))
            assert await once(process, order, None) == 0
            assert sums(place) == expected
            assert sums(staging) == {}
            assert sorted(os.listdir(staging / EXPERIMENT)) == [f"run_{n:04d}" for n in range(1, number + 1)]
            record = manifest.load((place / "manifest.json").read_bytes(), "it")
            assert {file.name: file.sha256 for file in record.files} == expected
            assert (record.run, record.missing) == (run, ())
    assert len(stages) > 1, f"it was never killed at work: {stages}"
