"""Two IOCs as processes of their own: two fleets, one database, one experiment, starts at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from attpc_ioc.model.states import State
from tests.ca.raw import raw_client
from tests.support.forked import forked
from tests.support.history_kill import Client
from tests.support.puts import INT, as_chars, packed
from tests.support.rig import EXPERIMENT, Rig, rig

START_LIMIT_S = 40.0
END_LIMIT_S = 30.0


@dataclass(frozen=True)
class Done:
    """What one IOC's client saw: the number of each run, and when its start began and had completed."""

    prefix: str
    numbers: list[int]
    began_s: float
    ended_s: float


@contextlib.asynccontextmanager
async def ioc_process(it: Rig) -> AsyncIterator[None]:
    """Run the IOC of a rig as a process, which is ended in order."""
    with (it.settings_file.parent / "ioc.log").open("ab") as log:
        process = await forked("tests.support.history_ioc", it.settings_file, env=it.place.env, stderr=log)
        try:
            yield
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(END_LIMIT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
                raise AssertionError(f"the IOC did not end within {END_LIMIT_S} s") from None


@contextlib.asynccontextmanager
async def connected_client(it: Rig) -> AsyncIterator[Client]:
    """Connect to the IOC of a rig as soon as it listens."""
    end_s = time.monotonic() + START_LIMIT_S
    async with contextlib.AsyncExitStack() as exits:
        while True:
            try:
                raw = await exits.enter_async_context(raw_client(it.place.port))
                break
            except ConnectionRefusedError:
                assert time.monotonic() < end_s, "the IOC does not listen"
                await asyncio.sleep(0.05)
        yield Client(raw, it.prefix)


async def make_ready(client: Client) -> None:
    """Select configs and experiment and take the fleet to Ready; the history records by then."""
    end_s = time.monotonic() + START_LIMIT_S
    while not await client.put(as_chars("Config", EXPERIMENT)):
        assert time.monotonic() < end_s, "the configs cannot be selected"
        await asyncio.sleep(0.05)
    assert await client.put(as_chars("Run:Experiment", EXPERIMENT))
    while "are recorded" not in (said := await client.get_text("Plugin:run_history:Message_RBV")):
        assert time.monotonic() < end_s, f"nothing is recorded: {said}"
        await asyncio.sleep(0.05)
    assert await client.put(packed("GoTo", INT, State.READY)), await client.get_text("Message_RBV")


async def make_runs(client: Client, prefix: str, starts: int) -> Done:
    """Start and stop runs, one after the other."""
    numbers: list[int] = []
    began_s = time.monotonic()
    for _ in range(starts):
        started = await client.put(packed("Run:Start", INT, 1))
        assert started, f"{prefix}: {await client.get_text('Run:Message_RBV')}"
        numbers.append(await client.get("Run:Number_RBV"))
        assert await client.put(packed("Run:Stop", INT, 1)), await client.get_text("Run:Message_RBV")
    return Done(prefix, numbers, began_s, time.monotonic())


async def two_iocs(folder: Path, monkeypatch: pytest.MonkeyPatch, dsn: str, starts: int) -> tuple[Done, Done]:
    """Have two IOCs start so many runs each at the same time; returns what their clients saw."""
    section = {"plugins.run_history": f'dsn = "{dsn}"'}
    async with contextlib.AsyncExitStack() as exits:
        clients: list[tuple[Client, str]] = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            it = await exits.enter_async_context(
                rig(folder / name, monkeypatch, start=False, alone=False, **section)
            )
            await exits.enter_async_context(ioc_process(it))
            clients.append((await exits.enter_async_context(connected_client(it)), it.prefix))
        await asyncio.gather(*(make_ready(client) for client, _ in clients))
        first, second = await asyncio.gather(
            *(make_runs(client, prefix, starts) for client, prefix in clients)
        )
        # An IOC that ends at once leaves the last events to the journal, and to the next time it is started.
        await until_recorded(dsn, 2 * starts)
    return first, second


async def until_recorded(dsn: str, count: int) -> None:
    """Wait until the database has so many runs, and the end of each."""
    from attpc_plugins.run_history.store.model.history import RunFilter, Stage

    from tests.support.history import reading

    end_s = time.monotonic() + END_LIMIT_S
    async with reading(dsn) as store:
        while True:
            runs = (await store.runs(RunFilter(experiment=EXPERIMENT), limit=500)).runs
            left = [run.number for run in runs if run.stage is not Stage.ENDED]
            if len(runs) == count and not left:
                return
            assert time.monotonic() < end_s, f"{len(runs)} runs are recorded, without an end: {left}"
            await asyncio.sleep(0.05)


async def check(dsn: str, first: Done, second: Done) -> None:
    """See that no number was given twice, and that the database has every run as it was."""
    from attpc_plugins.run_history.store.model.history import RunFilter, Stage

    from tests.support.history import reading

    given = first.numbers + second.numbers
    assert sorted(given) == list(range(len(given))), "distinct, and without a gap"
    assert max(first.began_s, second.began_s) < min(first.ended_s, second.ended_s)
    assert max(min(first.numbers), min(second.numbers)) < min(max(first.numbers), max(second.numbers))
    async with reading(dsn) as store:
        page = await store.runs(RunFilter(experiment=EXPERIMENT), limit=500)
    of = {run.number: run for run in page.runs}
    assert sorted(of) == sorted(given)
    for done in (first, second):
        assert {of[number].ioc for number in done.numbers} == {done.prefix}
    assert {run.stage for run in page.runs} == {Stage.ENDED}
