"""What may run beside what: each row of the table, with clients of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from attpc_ioc.model.command import RUN
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State, Transition
from tests.support.ca import Ran
from tests.support.rig import EXPERIMENT, Rig, rig
from tests.support.trouble import assert_nothing_forbidden

LONG_LIMITS = "describe_s = 20.0\nprepare_s = 20.0\nconfigure_s = 20.0\nstart_s = 20.0\nstop_s = 20.0"

GROUP_COMMANDS = (("Describe", "1"), ("Configure", "1"), ("Reset", "1"), ("GoTo", "Ready"))
RUN_COMMANDS = (("Run:Start", "1"), ("Run:Adopt", "1"))


async def assert_refused(it: Rig, because: str, *commands: tuple[str, str]) -> None:
    """Each put fails with this reason, and nothing is sent."""
    sent = len(it.fleet.log.transitions())
    for name, value in commands:
        await it.refused(name, value, because=because)
    assert len(it.fleet.log.transitions()) == sent


async def assert_setpoints_refused(it: Rig, because: str) -> None:
    """Enable, Config and Experiment stay as they are."""
    before = (it.snapshot.modules["cobo1"].enabled, it.snapshot.modules["cobo1"].selected, it.run.experiment)
    await it.refused("Ecc:cobo1:Enable", "No", because=because)
    await it.refused("Ecc:cobo1:ConfigIndex", "1", because=because)
    for name, text in (
        ("Ecc:cobo1:Config", "cobo1/pulser/pulser"),
        ("Config", "pulser"),
        ("Run:Experiment", "e99999"),
    ):
        assert (await it.put_text(name, text)).code == 1
        assert because in await it.message(name)
    now = (it.snapshot.modules["cobo1"].enabled, it.snapshot.modules["cobo1"].selected, it.run.experiment)
    assert now == before


async def assert_texts_accepted(it: Rig) -> None:
    """The run's texts may change at any time."""
    assert (await it.put_text("Run:Title", "beside")).code == 0
    assert (await it.put_text("Run:Operator", "somebody")).code == 0
    await it.ok("Run:Class", "Beam")


@contextlib.asynccontextmanager
async def hanging(it: Rig, module: str, transition: Transition, name: str, value: str = "1") -> AsyncIterator:
    """Give a command that hangs in one operation until the block ends; yields the client's task."""
    faults = it.fleet[module].faults
    faults.hang(transition.label)
    client = asyncio.create_task(it.put(name, value))
    try:
        await it.until(lambda: it.module(module).transition is transition, what=f"{module} {transition}")
        yield client
    finally:
        faults.clear()
        await client


def ended_well(client: asyncio.Task[Ran]) -> bool:
    return client.result().code == 0


async def test_a_single_module_command_is_running(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=LONG_LIMITS) as it:
        await it.select()
        async with hanging(it, "cobo0", Transition.DESCRIBE, "Ecc:cobo0:Describe") as client:
            await it.ok("Ecc:cobo1:Describe")
            await it.ok("Ecc:cobo1:RefreshConfigs")
            same = [("Ecc:cobo0:Describe", "1"), ("Ecc:cobo0:Undo", "1"), ("Ecc:cobo0:GoTo", "Idle")]
            await assert_refused(it, "cobo0:Describe is running", *same, ("Ecc:cobo0:RefreshConfigs", "1"))
            await assert_refused(
                it, "cobo0:Describe is running", *GROUP_COMMANDS, *RUN_COMMANDS, ("Run:Stop", "1")
            )
            await assert_refused(it, "cobo0:Describe is running", ("Abort", "1"), ("RefreshConfigs", "1"))
            await assert_setpoints_refused(it, "cobo0:Describe")
            await assert_texts_accepted(it)
            assert await it.get("Busy_RBV") == "Busy"
            assert await it.get("Ecc:cobo0:Result_RBV") == "Busy"
            assert not client.done()
        assert ended_well(client)
        assert await it.get("Ecc:cobo0:Result_RBV") == "Done"
        assert_nothing_forbidden(it)


async def test_a_group_command_is_running(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=LONG_LIMITS) as it:
        await it.select()
        async with hanging(it, "mutant", Transition.DESCRIBE, "Describe") as client:
            because = "Describe is running; Abort ends that"
            await assert_refused(it, because, *GROUP_COMMANDS, *RUN_COMMANDS, ("Run:Stop", "1"))
            await assert_refused(it, because, ("Ecc:cobo0:Prepare", "1"), ("Ecc:cobo1:GoTo", "Idle"))
            await assert_refused(it, because, ("RefreshConfigs", "1"), ("Ecc:cobo0:RefreshConfigs", "1"))
            await assert_setpoints_refused(it, "Describe")
            await assert_texts_accepted(it)
            await it.ok("Abort")
            assert (await client).code == 1
            assert await it.get("Result_RBV") == "Aborted"
        await it.until_all(State.DESCRIBED)
        assert_nothing_forbidden(it)


async def test_the_start_of_a_run_is_running(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=LONG_LIMITS) as it:
        for end in ("Run:Stop", "Abort"):
            await it.take_to(State.READY)
            async with hanging(it, "mutant", Transition.BREAKUP, "Run:Start") as client:
                because = "a run is being started; Run:Stop or Abort ends that"
                await assert_refused(it, because, *GROUP_COMMANDS, *RUN_COMMANDS)
                await assert_refused(it, because, ("Ecc:cobo0:Start", "1"), ("Ecc:cobo1:GoTo", "Idle"))
                await assert_setpoints_refused(it, "Run:Start")
                await assert_texts_accepted(it)
                await it.ok(end)
                assert (await client).code == 1
                assert "Run:Start Aborted" in await it.get_text("Run:Message_RBV") or end == "Run:Stop"
            await it.until_all(State.PREPARED, "mutant")
            assert it.fleet.log.of(operation="Start") == []
            assert await it.get("Run:State_RBV") == "Stopped"
        assert_nothing_forbidden(it)


async def test_the_start_is_ended_when_the_cobos_have_started(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=LONG_LIMITS) as it:
        for end in ("Run:Stop", "Abort"):
            await it.take_to(State.READY)
            it.fleet.log.clear()
            it.fleet["mutant"].faults.slow("Start", extra_s=0.5)
            client = asyncio.create_task(it.put("Run:Start"))
            await it.until(lambda: it.module("mutant").transition is Transition.START)
            await it.ok(end)
            # What had started is stopped, and what starts late as well.
            await it.until_all(State.READY, limit_s=10)
            assert (await client).code == 1
            assert sorted(c.server for c in it.fleet.log.of(operation="Stop")) == ["cobo0", "cobo1", "mutant"]
            assert it.run.state is RunState.STOPPED
            it.fleet["mutant"].faults.clear()
        assert_nothing_forbidden(it)


async def test_a_run_is_on(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=LONG_LIMITS) as it:
        await it.start_run()
        number = it.run.number
        on = f"run {number} is on"
        await assert_refused(it, on, *GROUP_COMMANDS, *RUN_COMMANDS, ("Abort", "1"), ("RefreshConfigs", "1"))
        running = [("Ecc:cobo0:Stop", "1"), ("Ecc:cobo0:Breakup", "1"), ("Ecc:mutant:GoTo", "Idle")]
        await assert_refused(it, f"{on} and this module is Running: use Run:Stop", *running)
        await assert_setpoints_refused(it, on)
        await assert_texts_accepted(it)
        assert it.run.info is not None
        assert it.run.info.texts.title == "beside"

        # A module that is not seen Running may be worked on, but is never started again inside the run.
        it.fleet["cobo0"].restart()
        await it.until_all(State.IDLE, "cobo0")
        await it.ok("Ecc:cobo0:GoTo", "Ready")
        because = f"{on}: a module is never started inside a run"
        await assert_refused(it, because, ("Ecc:cobo0:Start", "1"))
        async with hanging(it, "cobo0", Transition.BREAKUP, "Ecc:cobo0:Breakup") as client:
            await assert_refused(it, "cobo0:Breakup is running", ("Ecc:cobo0:Undo", "1"))
            await it.ok("Run:Stop")
            assert not client.done()
        assert ended_well(client)
        assert it.run.state is RunState.STOPPED
        assert it.fleet.log.of("cobo0", "Stop") == []
        assert_nothing_forbidden(it)


async def test_the_stop_of_a_run_is_running(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=f"{LONG_LIMITS}\nstop_mutant_s = 15.0") as it:
        await it.start_run()
        async with hanging(it, "mutant", Transition.STOP, "Run:Stop") as first:
            because = "the run is being stopped"
            await assert_refused(it, because, *GROUP_COMMANDS, *RUN_COMMANDS)
            await assert_refused(it, because, ("Ecc:cobo0:Stop", "1"), ("Ecc:cobo0:Breakup", "1"))
            await assert_setpoints_refused(it, "Run:Stop")
            await assert_texts_accepted(it)
            second = asyncio.create_task(it.put("Run:Stop"))
            await it.until(lambda: len(it.snapshot.active) == 2, what="the second stop")
            assert not first.done()
            assert not second.done()
        assert ended_well(first)
        assert (await second).code == 0
        assert it.fleet.log.sequence().count("mutant.Stop") == 1
        assert it.run.state is RunState.STOPPED
        assert_nothing_forbidden(it)


async def test_abort_ends_only_the_waiting_of_a_stop(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=f"{LONG_LIMITS}\nstop_mutant_s = 0.1") as it:
        await it.start_run()
        async with hanging(it, "mutant", Transition.STOP, "Run:Stop") as client:
            await it.until_all(State.READY, "cobo0", "cobo1")
            await it.ok("Abort")
            assert (await client).code == 1
            assert await it.get("Run:Result_RBV") == "Aborted"
            assert await it.get("Run:State_RBV") == "Stopping"
            # The stop itself goes on, and what it waits for is not lost sight of.
            await it.refused("Run:Start", because="the run is being stopped")
        await it.until_run(RunState.STOPPED)
        assert_nothing_forbidden(it)


async def test_nothing_is_running(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        assert (await it.put_text("Config", EXPERIMENT)).code == 0
        assert (await it.put_text("Run:Experiment", EXPERIMENT)).code == 0
        await it.ok("Ecc:cobo1:Enable", "No")
        await it.ok("Ecc:cobo1:Enable", "Yes")
        await it.ok("RefreshConfigs")
        await it.ok("Run:Stop")
        await it.ok("Ecc:cobo0:Describe")
        await it.ok("GoTo", "Ready")
        await it.ok("Run:Start")
        assert it.run.info is not None
        assert it.run.info.experiment == EXPERIMENT


async def test_two_clients_at_once_on_one_command(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(State.DESCRIBED)
        it.fleet["mutant"].faults.slow("Prepare", extra_s=0.6)
        puts = await asyncio.gather(*(it.put("Prepare") for _ in range(2)))
        assert sorted(ran.code for ran in puts) == [0, 1]
        assert it.fleet.log.sequence().count("mutant.Prepare") == 1
        assert await it.get("Result_RBV") == "Done"
        assert (await it.submit("Configure")).ok
        it.fleet["mutant"].faults.slow("Breakup", extra_s=0.6)
        puts = await asyncio.gather(*(it.put("Run:Start") for _ in range(2)))
        assert sorted(ran.code for ran in puts) == [0, 1]
        assert it.fleet.log.sequence().count("mutant.Breakup") == 1
        puts = await asyncio.gather(*(it.put("Run:Stop") for _ in range(2)))
        assert [ran.code for ran in puts] == [0, 0]
        assert it.fleet.log.sequence().count("mutant.Stop") == 1
        assert (await it.submit("Start", RUN)).ok
        assert_nothing_forbidden(it)
