"""The stages of a stop: the CoBos wait for the MuTAnT only as long as its Stop may still arrive (rule 17)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from attpc_ioc.model.command import RUN, ResultCode
from attpc_ioc.model.states import Kind, State
from tests.support.rig import Rig, rig
from tests.support.runs import boards_running, outside, ready, running

LONG = "stop_s = 60.0\nstop_mutant_s = 30.0\narrival_grace_s = 0.1"
SOON_S = 10.0
"""Much less than `stop_mutant_s`, also on a busy machine."""


def board_dies(it: Rig) -> None:
    it.fleet["mutant"].faults.board_dead()


def fails(it: Rig) -> None:
    it.fleet["mutant"].faults.fail("Stop", times=None)


def lies(it: Rig) -> None:
    it.fleet["mutant"].faults.lie("Stop")


@pytest.mark.parametrize("trouble", [board_dies, fails, lies], ids=lambda t: t.__name__)
async def test_cobos_do_not_wait_for_a_mutant_whose_stop_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble
) -> None:
    async with rig(tmp_path, monkeypatch, limits=LONG) as it:
        await running(it)
        trouble(it)
        outcome = await it.submit("Stop", RUN)
        assert outcome.code is ResultCode.INCOMPLETE
        assert "mutant: Stop " in outcome.message
        assert "cobo" not in outcome.message
        assert outcome.duration_s < SOON_S
        assert [len(it.fleet.log.of(name, "Stop")) for name in it.fleet.servers] == [1, 1, 1]
        first = it.fleet.log.of("mutant", "Stop")[0]
        assert all(first.begin_s < it.fleet.log.of(name, "Stop")[0].begin_s for name in ("cobo0", "cobo1"))


async def test_cobos_do_not_wait_for_a_mutant_that_cannot_be_reached(tmp_path, monkeypatch):
    """It is tried until the limit all the same: its server may come back, still Running."""
    limits = LONG.replace("stop_s = 60.0", "stop_s = 40.0")
    async with rig(tmp_path, monkeypatch, limits=limits) as it:
        await running(it)
        it.fleet["mutant"].faults.refuse()
        await it.until(lambda: not it.module("mutant").online)
        stop = asyncio.create_task(it.submit("Stop", RUN))
        await it.until(lambda: boards_running(it) == ["Mutant[master]"], SOON_S, "the CoBos stopped")
        assert not stop.done()
        it.fleet["mutant"].faults.clear()
        outcome = await stop
        assert outcome.ok, outcome.message
        assert boards_running(it) == []


async def test_orphans_do_not_wait_for_a_mutant_whose_stop_has_failed(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=LONG) as it:
        await ready(it)
        await outside(it, "Start", "cobo0", "mutant")
        await it.until_all(State.RUNNING, "cobo0", "mutant")
        fails(it)
        outcome = await it.submit("Stop", RUN)
        assert outcome.code is ResultCode.INCOMPLETE
        assert outcome.duration_s < SOON_S
        assert boards_running(it) == ["Mutant[master]"]


async def test_each_stage_waits_from_its_own_begin(tmp_path, monkeypatch):
    """The MuTAnT fails at once, a CoBo hangs: the third stage goes out one wait after the second."""
    limits = "stop_s = 60.0\nstop_mutant_s = 4.0\narrival_grace_s = 0.1"
    order = 'stop = [["mutant"], ["cobo"], ["other"]]'
    async with rig(tmp_path, monkeypatch, limits=limits, order=order, start=False) as it:
        servers = [
            e.model_copy(update={"kind": Kind.OTHER}) if e.name == "cobo1" else e for e in it.settings.ecc
        ]
        it.settings = it.settings.model_copy(update={"ecc": tuple(servers)})
        await it.start_ioc()
        await running(it)
        fails(it)
        it.fleet["cobo0"].faults.hang("Stop")
        log = it.fleet.log
        stop = asyncio.create_task(it.submit("Stop", RUN))
        await it.until(lambda: log.of("cobo1", "Stop"), 20.0)
        waited = log.of("cobo1", "Stop")[0].begin_s - log.of("cobo0", "Stop")[0].begin_s
        assert 3.8 <= waited < 7.0
        it.fleet["cobo0"].faults.clear()
        assert (await stop).code is ResultCode.INCOMPLETE
