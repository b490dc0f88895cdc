"""Rule 11: the number of a run is reserved from its owner before anything is sent, or nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from attpc_ioc.model.command import RUN, ResultCode, Who
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from attpc_ioc.plugin import hookimpl
from tests.support.pace import Stopwatch
from tests.support.rig import SHORT_LIMITS, rig
from tests.support.runs import outside, ready, running, under_way
from tests.support.state_dir import kept


class Owner:
    """An owner of run numbers that does what a test says."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.answer: object = 41
        self.released: list[int] = []
        self.asked = 0
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    @hookimpl
    def attpc_run_numbers(self):
        return self

    async def open_run(self):
        return None

    async def reserve(self, experiment):
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.meanwhile is not None:
            await self.meanwhile()
        return self.answer

    async def release(self, experiment, number):
        self.released.append(number)

    def next(self, experiment):
        return 41


@pytest.mark.parametrize(
    ("answer", "because"),
    [
        (RuntimeError("database gone"), "RuntimeError: database gone"),
        ("12", "gave '12', not a run number"),
        (-1, "gave -1, not a run number"),
        (True, "gave True, not a run number"),
        (None, "gave None, not a run number"),
    ],
)
async def test_rule_11_an_owner_that_fails_refuses_the_start(tmp_path, monkeypatch, answer, because):
    owner = Owner()
    owner.answer = answer
    async with rig(tmp_path, monkeypatch, plugins=[("history", owner)]) as it:
        await ready(it)
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.REFUSED
        assert because in outcome.message
        assert "history" in outcome.message
        # Never a fallback to another source, and nothing was sent.
        assert kept(tmp_path / "state", "numbers") == {}
        assert it.fleet.log.sequence() == []
        assert it.run.state is RunState.STOPPED
        owner.answer = 41
        assert (await it.submit("Start", RUN)).ok
        assert it.run.number == 41


async def test_rule_11_an_owner_that_is_slow_refuses_the_start(tmp_path, monkeypatch):
    owner = Owner()
    owner.delay_s = 30.0
    async with rig(tmp_path, monkeypatch, plugins=[("history", owner)], limits=SHORT_LIMITS) as it:
        await ready(it)
        taking = Stopwatch(programs=True)
        message = await it.refused("Run:Start", because="history gave no run number: it took more than 0.5 s")
        assert taking.s < 2.0
        assert message.startswith("Run:Start Refused")
        assert it.fleet.log.sequence() == []


async def test_rule_11_the_checks_run_once_more_after_the_number(tmp_path, monkeypatch):
    owner = Owner()
    async with rig(tmp_path, monkeypatch, plugins=[("history", owner)]) as it:
        await ready(it)

        # The state changes while the owner works: the answer waits until the IOC has seen it.
        async def breakup() -> None:
            await outside(it, "Breakup", "cobo1")
            await it.until(lambda: it.module("cobo1").state is State.PREPARED)

        owner.meanwhile = breakup
        outcome = await it.submit("Start", RUN)
        assert owner.asked == 1
        assert outcome.code is ResultCode.REFUSED
        assert "cobo1: is in Prepared, not Ready" in outcome.message
        assert owner.released == [41]
        assert it.fleet.log.sequence() == ["cobo1.Breakup"]


async def test_run_stop_while_the_number_is_reserved_sends_nothing(tmp_path, monkeypatch):
    owner = Owner()
    owner.delay_s = 0.2
    async with rig(tmp_path, monkeypatch, plugins=[("history", owner)]) as it:
        await ready(it)
        start = under_way(it, "Start")
        await it.until(lambda: owner.asked)
        stop = await it.submit("Stop", RUN)
        assert stop.ok, stop.message
        assert (await start).code is ResultCode.ABORTED
        assert owner.released == [41]
        assert it.fleet.log.sequence() == []


async def test_texts_that_come_while_the_number_is_reserved_are_the_new_runs(tmp_path, monkeypatch):
    owner = Owner()
    async with rig(tmp_path, monkeypatch, plugins=[("history", owner)]) as it:
        await running(it)
        assert (await it.submit("Stop", RUN)).ok
        first = it.run.info

        async def retitle() -> None:
            it.app.controller.set("title", RUN, "the next one", Who("tester"))
            assert it.app.controller.run_control.record.info == first

        owner.answer, owner.meanwhile = 42, retitle
        assert (await it.submit("Start", RUN)).ok
        assert it.run.info is not None
        assert (it.run.info.number, it.run.info.texts.title) == (42, "the next one")
