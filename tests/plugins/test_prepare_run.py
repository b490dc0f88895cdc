"""What plugins find when they are told of a run, and how long a start waits for those that prepare for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from attpc_ioc.control.runs.run_control import PREPARED_S
from attpc_ioc.model.command import RUN, SYSTEM, ResultCode
from attpc_ioc.model.events import RunEvent
from attpc_ioc.model.run import RunInfo, RunState, RunView
from attpc_ioc.model.states import State
from attpc_ioc.plugin import hookimpl
from tests.support.pace import Stopwatch
from tests.support.probe import covers
from tests.support.rig import Rig, rig
from tests.support.runs import ready, under_way

RUNS = 10


class Preparing:
    """Prepares for each run until it may go on."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = asyncio.Event()

    @hookimpl
    async def attpc_prepare_run(self, event):
        self.begun.set()
        await self.go_on.wait()


class Reader:
    """Reads in the snapshot of the run that it is told of."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, RunInfo, RunView]] = []
        self.ctx: Any = None

    @hookimpl
    def attpc_startup(self, ctx):
        self.ctx = ctx

    @hookimpl
    def attpc_event(self, event):
        if isinstance(event, RunEvent):
            self.seen.append((type(event).__name__, event.run, self.ctx.snapshot().run))


def starts(it: Rig) -> list[str]:
    return [call for call in it.fleet.log.sequence() if call.endswith(".Start")]


@covers("attpc_event")
async def test_the_snapshot_is_never_older_than_the_notification(tmp_path, monkeypatch):
    reader = Reader()
    async with rig(tmp_path, monkeypatch, plugins=[("reader", reader)]) as it:
        await ready(it)
        for _ in range(RUNS):
            assert (await it.submit("Start", RUN)).ok
            assert (await it.submit("Stop", RUN)).ok
        await it.until(lambda: len(reader.seen) == 4 * RUNS, what="all was told")
    on = {"RunStarting": True, "RunStarted": True, "RunStopping": True, "RunStopped": False}
    for kind, told, seen in reader.seen:
        assert seen.info is not None, kind
        assert seen.info.number == told.number, kind
        assert seen.on is on[kind], kind
    starting = [seen.state for kind, _, seen in reader.seen if kind == "RunStarting"]
    assert starting == [RunState.STARTING] * RUNS


@covers("attpc_prepare_run")
async def test_no_module_is_started_before_a_plugin_is_prepared(tmp_path, monkeypatch):
    plugin = Preparing()
    async with rig(tmp_path, monkeypatch, plugins=[("preparing", plugin)]) as it:
        await ready(it)
        it.fleet.log.clear()
        start = under_way(it, "Start")
        # The re-zero goes on meanwhile, and is over long before the second that the start waits.
        await it.until(lambda: it.module("mutant").state is State.PREPARED, what="the re-zero begins")
        await it.until_all(State.READY, "mutant")
        assert starts(it) == []
        plugin.go_on.set()
        assert (await start).ok
        assert sorted(starts(it)) == ["cobo0.Start", "cobo1.Start", "mutant.Start"]
        await it.submit("Stop", RUN)


async def test_a_plugin_that_is_never_prepared_refuses_nothing(tmp_path, monkeypatch):
    plugin = Preparing()
    async with rig(tmp_path, monkeypatch, plugins=[("preparing", plugin)]) as it:
        await ready(it)
        taking = Stopwatch()
        outcome = await it.submit("Start", RUN)
        wall_s, took_s = taking.wall_s, taking.s
        assert outcome.ok, outcome.message
        assert wall_s >= PREPARED_S
        assert took_s < PREPARED_S + 2.0
        plugin.go_on.set()
        await it.submit("Stop", RUN)


@pytest.mark.parametrize(("command", "scope"), [("Stop", RUN), ("Abort", SYSTEM)])
async def test_the_waiting_for_a_plugin_can_be_aborted(tmp_path, monkeypatch, command, scope):
    plugin = Preparing()
    async with rig(tmp_path, monkeypatch, plugins=[("preparing", plugin)], limits="") as it:
        await ready(it)
        it.fleet.log.clear()
        start = under_way(it, "Start")
        await plugin.begun.wait()
        await it.submit(command, scope)
        assert (await start).code is ResultCode.ABORTED
        assert starts(it) == []
        assert it.run.state is RunState.STOPPED
        plugin.go_on.set()
