"""`RunNumbers.open_run`: the open run that the owner of the numbers knows, where the core knows of none."""

from __future__ import annotations

import time

from attpc_ioc.model.command import RUN
from attpc_ioc.model.run import RunInfo, RunOutcome, RunState
from attpc_ioc.model.states import State
from attpc_ioc.plugin import hookimpl
from tests.support.probe import covers
from tests.support.rig import rig
from tests.support.simfleet import take_up


class Remembers:
    """A plugin with a run on record."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.asked = 0
        self.number = 0
        self.fault = fault
        self.info = RunInfo(
            7, "e20009", ("cobo0", "cobo1", "mutant"), started_s=time.time() - 60, began_s=time.time() - 61
        )

    @hookimpl
    def attpc_run_numbers(self):
        return self

    def next(self, experiment):
        return self.number

    async def reserve(self, experiment):
        self.number += 1
        return self.number - 1

    async def release(self, experiment, number):
        self.number = number

    async def open_run(self):
        self.asked += 1
        if self.fault:
            raise self.fault
        return self.info


@covers("attpc_run_numbers")
async def test_a_run_that_still_runs_is_found_again(tmp_path, monkeypatch):
    memory = Remembers()
    async with rig(tmp_path, monkeypatch, plugins=[("memory", memory)], start=False) as it:
        await take_up(it.fleet, State.RUNNING)
        await it.start_ioc()
        await it.until_run(RunState.RUNNING)
        assert it.run.number == 7
        assert it.run.experiment == "e20009"
        assert it.run.duration_s >= 60
        assert (await it.submit("Stop", RUN)).ok


async def test_a_run_that_is_over_is_interrupted(tmp_path, monkeypatch):
    memory = Remembers()
    async with rig(tmp_path, monkeypatch, plugins=[("memory", memory)]) as it:
        await it.until_run(RunState.INTERRUPTED)
        assert it.run.info is not None
        assert it.run.info.outcome is RunOutcome.INTERRUPTED
        # From now on the state directory's own record counts.
        await it.stop_ioc()
        await it.start_ioc()
        await it.until_run(RunState.INTERRUPTED)
        assert memory.asked == 1


async def test_a_plugin_that_fails_is_as_good_as_none(tmp_path, monkeypatch):
    memory = Remembers(RuntimeError("the record burnt"))
    async with rig(tmp_path, monkeypatch, plugins=[("memory", memory)]) as it:
        await it.until_run(RunState.STOPPED)
        assert memory.asked == 1
