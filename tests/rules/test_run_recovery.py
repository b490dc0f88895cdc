"""Rule 19: the IOC as a real process, killed with SIGKILL in each stage of a run and started again."""

from __future__ import annotations

import asyncio
import datetime
import random
import time
from pathlib import Path
from typing import Any

import pytest

from attpc_ioc.model.run import UNNAMED
from attpc_ioc.model.states import State
from tests.support.ca import caput, eventually
from tests.support.iocprocess import IocProcess, ioc_process
from tests.support.rig import EXPERIMENT, Rig, rig
from tests.support.runs import boards_running, call_of, outside
from tests.support.simfleet import take_up
from tests.support.state_dir import kept, put_row
from tests.support.thorough import examples

SECOND_LIMITS = """\
start_s = 5.0
stop_s = 1.0
stop_mutant_s = 0.4
recovery_s = 20.0
arrival_grace_s = 0.2"""


async def take_to_ready(it: Rig) -> None:
    """Take all modules up by the IOC's own commands, so that it knows what is loaded."""
    for name in it.fleet.servers:

        async def offered(name: str = name) -> bool:
            return await it.get(f"Ecc:{name}:ConfigCount_RBV") != "0"

        await eventually(offered, f"configs of {name}")
    ran = await it.put_text("Config", EXPERIMENT)
    assert ran.code == 0, ran.both
    await it.ok("GoTo", "Ready")


def transitions(it: Rig) -> list[str]:
    """Every transition that any server was sent."""
    return it.fleet.log.sequence()


def run_on_disk(tmp_path: Path) -> dict[str, Any]:
    """The run as the killed IOC left it; whole, whenever that was."""
    return kept(tmp_path / "state", "run")[""]


async def restart_and_nothing_moves(ioc: IocProcess) -> None:
    """Start the IOC again; every member is polled, and nothing is sent to any."""
    before = transitions(ioc.it)
    polls = {name: server.polls for name, server in ioc.it.fleet.servers.items()}
    await ioc.start()
    await eventually(
        lambda: all(
            s.polls > polls[n] + 2 for n, s in ioc.it.fleet.servers.items() if s.alive and not s.faults
        ),
        "polls of every server",
    )
    assert transitions(ioc.it) == before


STAGES = ("mutant.Breakup", "mutant.Configure", "cobo0.Start", "mutant.Start")


@pytest.mark.parametrize("stage", STAGES)
async def test_rule_19_killed_in_a_stage_of_the_start(tmp_path, monkeypatch, stage):
    server, operation = stage.split(".")
    async with rig(tmp_path, monkeypatch, start=False, limits=SECOND_LIMITS) as it, ioc_process(it) as ioc:
        await take_to_ready(it)
        it.fleet.log.clear()  # of the Configure that took it there
        it.fleet[server].faults.hang(operation)
        assert (await it.put("Run:Start", limit_s=0.2)).code == 0  # not waited for: the time is up
        await call_of(it, server, operation)
        if stage == "cobo0.Start":
            await eventually(lambda: it.fleet["cobo1"].state is State.RUNNING)
        await ioc.kill()
        assert kept(tmp_path / "state", "numbers") == {UNNAMED: 1}
        await restart_and_nothing_moves(ioc)
        # The call goes on in its server: until that is over, nobody knows what the run is.
        assert await it.get("Run:State_RBV") == "Unknown"
        assert await it.severity("Run:State_RBV") == "INVALID"
        await it.refused("Run:Start", because="it is not known yet whether run 0 is still on")
        sent = transitions(it)
        it.fleet[server].faults.clear()
        if operation == "Start":
            await ioc.shows("Run:State_RBV", "Running")
            lost = await it.get_text("Run:Lost_RBV")
            assert lost == ("mutant" if server == "cobo0" else "")
            assert await it.severity("Run:State_RBV") == ("MAJOR" if lost else "NO_ALARM")
            assert await ioc.number() == (0, 1)
            await it.ok("Run:Stop")
            assert boards_running(it) == []
        else:
            await ioc.shows("Run:State_RBV", "Interrupted")
            assert await it.severity("Run:State_RBV") == "MAJOR"
            assert transitions(it) == sent
            assert await ioc.number() == (0, 1)
        # No number is used twice, and a start is possible, also from Interrupted. What a Configure loaded,
        # the end of which nobody saw, is not known, so it is done again.
        if operation == "Configure":
            await it.refused("Run:Start", because="mutant: what is loaded is not known")
            await it.ok("GoTo", "Prepared")
        await it.ok("GoTo", "Ready")
        await it.ok("Run:Start")
        assert await ioc.number() == (1, 2)
        assert await it.get("Run:State_RBV") == "Running"


async def test_rule_19_killed_while_the_number_is_written(tmp_path, monkeypatch):
    """The number is on disk before anything is sent: killed between the two, it is simply never used."""
    async with rig(tmp_path, monkeypatch, start=False) as it, ioc_process(it) as ioc:
        await take_to_ready(it)
        await ioc.kill()
        put_row(tmp_path / "state", "numbers", UNNAMED, "5")
        await restart_and_nothing_moves(ioc)
        await ioc.shows("Run:State_RBV", "Stopped")
        assert await ioc.number() == (-1, 5)
        await it.ok("Run:Start")
        assert await ioc.number() == (5, 6)


async def test_rule_19_killed_in_a_run_it_is_adopted(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, start=False, limits=SECOND_LIMITS) as it, ioc_process(it) as ioc:
        await take_to_ready(it)
        await it.put_text("Run:Title", "kept")
        await it.ok("Run:Start")
        started = await it.get("Run:StartTime_RBV")
        await ioc.kill()
        # One member is held back: the run is Unknown until it was seen.
        it.fleet["cobo1"].faults.refuse()
        await restart_and_nothing_moves(ioc)
        for _ in range(3):
            assert await it.get("Run:State_RBV") == "Unknown"
            assert await it.severity("Run:State_RBV") == "INVALID"
        assert await it.get("Run:Number_RBV") == "0"
        await it.refused("Ecc:cobo0:Stop", because="is not known yet")
        it.fleet["cobo1"].faults.clear()
        await ioc.shows("Run:State_RBV", "Running")
        assert await it.severity("Run:State_RBV") == "NO_ALARM"
        assert await ioc.number() == (0, 1)
        assert await it.get("Run:StartTime_RBV") == started
        assert await it.get_text("Run:Title") == "kept"
        assert await it.get_text("Ecc:cobo0:Loaded_RBV") == "cobo0/e20009/e20009"
        # Its length goes on from its start, not from the IOC's.
        begun = datetime.datetime.fromisoformat(started).timestamp()
        length = float(await it.get("Run:Duration_RBV"))
        assert abs(length - (time.time() - begun)) < 2.0
        await it.ok("Run:Stop")
        assert boards_running(it) == []
        await it.ok("Run:Start")
        assert await ioc.number() == (1, 2)


async def test_rule_19_lost_ones_are_named_and_a_stop_is_accepted_meanwhile(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, start=False, limits=SECOND_LIMITS) as it, ioc_process(it) as ioc:
        await take_to_ready(it)
        await it.ok("Run:Start")
        await ioc.kill()
        await outside(it, "Stop", "cobo0")
        await restart_and_nothing_moves(ioc)
        await ioc.shows("Run:State_RBV", "Running")
        await ioc.shows("Run:Lost_RBV", "cobo0")
        assert await it.severity("Run:State_RBV") == "MAJOR"
        # Again, and this time Run:Stop comes while the run is Unknown.
        await ioc.kill()
        it.fleet["mutant"].faults.refuse()
        await restart_and_nothing_moves(ioc)
        assert await it.get("Run:State_RBV") == "Unknown"
        message = await it.refused("Run:Stop", because="mutant: was not seen out of Running")
        assert message.startswith("Run:Stop Incomplete")
        assert await it.get("Run:State_RBV") == "Stopping"
        assert boards_running(it) == ["Mutant[master]"]
        it.fleet["mutant"].faults.clear()
        await ioc.shows("Ecc:mutant:Online_RBV", "Online")
        await it.ok("Run:Stop")
        assert boards_running(it) == []
        assert await it.get("Run:State_RBV") == "Stopped"
        assert await ioc.number() == (0, 1)


async def test_rule_19_a_run_that_ended_unseen_is_interrupted(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, start=False, limits=SECOND_LIMITS) as it, ioc_process(it) as ioc:
        await take_to_ready(it)
        await it.ok("Run:Start")
        await eventually(_lasts(it, 2.0), "two seconds of running")
        killed_s = time.time()
        await ioc.kill()
        await outside(it, "Stop", "mutant", "cobo0", "cobo1")
        await eventually(lambda: time.time() > killed_s + 1.5, "time for the difference to show")
        await restart_and_nothing_moves(ioc)
        await ioc.shows("Run:State_RBV", "Interrupted")
        assert await it.severity("Run:State_RBV") == "MAJOR"
        # Closed with the last moment that it was seen running, as far as the save period allows.
        stopped = datetime.datetime.fromisoformat(await it.get("Run:StopTime_RBV")).timestamp()
        assert killed_s - 4.0 <= stopped <= killed_s + 0.1
        document = run_on_disk(tmp_path)
        assert document["interrupted"] is True
        assert document["open"] is False
        assert isinstance(document["info"], dict)
        assert document["info"]["outcome"] == "interrupted"
        # It stays over another restart, and Run:Stop acknowledges it.
        assert await ioc.terminate() == 0
        await restart_and_nothing_moves(ioc)
        assert await it.get("Run:State_RBV") == "Interrupted"
        await it.ok("Run:Stop")
        assert "acknowledged" in await it.message("Run:Stop")
        assert await it.get("Run:State_RBV") == "Stopped"
        assert await it.severity("Run:State_RBV") == "NO_ALARM"


@pytest.mark.parametrize("stage", ["mutant.Stop", "cobo0.Stop"])
async def test_rule_19_killed_in_a_stage_of_the_stop(tmp_path, monkeypatch, stage):
    server, operation = stage.split(".")
    async with rig(tmp_path, monkeypatch, start=False, limits=SECOND_LIMITS) as it, ioc_process(it) as ioc:
        await take_to_ready(it)
        await it.ok("Run:Start")
        it.fleet[server].faults.hang(operation)
        ran = await caput(it.place, "-t", it.prefix + "Run:Stop", "1")  # its end is not waited for
        assert ran.code == 0, ran.both
        await call_of(it, server, operation)
        if server == "cobo0":
            await eventually(lambda: it.fleet["cobo1"].state is State.READY)
        await ioc.kill()
        await restart_and_nothing_moves(ioc)
        assert await it.get("Run:State_RBV") == "Unknown"
        it.fleet[server].faults.clear()
        if server == "cobo0":
            # All members have left: nobody saw when the last one did.
            await ioc.shows("Run:State_RBV", "Interrupted")
        else:
            # The CoBos were never told: the run is found again, without its MuTAnT.
            await ioc.shows("Run:State_RBV", "Running")
            assert await it.get_text("Run:Lost_RBV") == "mutant"
        await it.ok("Run:Stop")
        assert boards_running(it) == []
        await it.ok("Run:Start")
        assert await ioc.number() == (1, 2)


async def test_rule_19_members_that_stay_away_are_waited_for_no_longer_than_the_limit(tmp_path, monkeypatch):
    limits = SECOND_LIMITS.replace("recovery_s = 20.0", "recovery_s = 1.0")
    async with rig(tmp_path, monkeypatch, start=False, limits=limits) as it, ioc_process(it) as ioc:
        await take_to_ready(it)
        await it.ok("Run:Start")
        await ioc.kill()
        it.fleet["cobo1"].faults.refuse()
        await restart_and_nothing_moves(ioc)
        await ioc.shows("Run:State_RBV", "Running")
        assert await it.get_text("Run:Lost_RBV") == "cobo1"
        it.fleet["cobo1"].faults.clear()
        await ioc.shows("Run:Lost_RBV", "")
        assert await it.get("Run:State_RBV") == "Running"


async def test_rule_20_orphans_after_a_restart_with_no_run_open(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, start=False) as it:
        await take_up(it.fleet, State.RUNNING)
        async with ioc_process(it) as ioc:
            await ioc.shows("Run:State_RBV", "Orphan")
            assert await it.severity("Run:State_RBV") == "MAJOR"
            assert it.fleet.log.of("cobo0", "Stop") == []


# ---------------------------------------------------------------------- at random moments

SEED = 20260101
ROUNDS = examples(6, 20)
LIMIT_S = 30.0


async def test_rule_19_killed_at_random_moments(tmp_path, monkeypatch):
    """Over runs under way: no number twice, no state invented, nothing moved by a start-up."""
    dice = random.Random(SEED)
    end_s = time.monotonic() + LIMIT_S
    async with rig(tmp_path, monkeypatch, start=False, limits=SECOND_LIMITS) as it, ioc_process(it) as ioc:
        await take_to_ready(it)
        used: set[int] = set()
        for _ in range(ROUNDS):
            if time.monotonic() > end_s:
                break
            state = await it.get("Run:State_RBV")
            command = "Run:Stop" if state == "Running" and dice.random() < 0.6 else "Run:Start"
            if state != "Running":
                # By way of Prepared: what an unseen Configure has loaded is not known.
                await it.ok("GoTo", "Prepared")
                await it.ok("GoTo", "Ready")
            sent = len(transitions(it))
            put = asyncio.create_task(it.put(command, limit_s=5.0))
            if command == "Run:Start" and state != "Running":
                await eventually(lambda sent=sent: len(transitions(it)) > sent, "the start")
            # A whole start or stop takes some 0.1 s.
            await asyncio.sleep(dice.random() * 0.15)
            before, after = set(boards_running(it)), transitions(it)
            await ioc.kill()
            await put
            await eventually(
                lambda: all(s.transition == 0 for s in it.fleet), "transitions that go on to end"
            )
            boards = set(boards_running(it))
            number = run_on_disk(tmp_path)["info"]["number"]
            await restart_and_nothing_moves(ioc)
            assert len(transitions(it)) >= len(after)
            await eventually(_known(it), "a state")
            shown = await it.get("Run:State_RBV")
            if boards:
                assert shown == "Running", (shown, boards, before)
                missing = sorted(set(it.fleet.boards) - boards)
                names = sorted(n for n in it.fleet.servers if it.fleet[n].state is not State.RUNNING)
                assert len(names) == len(missing)
                assert sorted(filter(None, (await it.get_text("Run:Lost_RBV")).split(", "))) == names
            else:
                assert shown in ("Interrupted", "Stopped"), shown
            current, following = await ioc.number()
            assert current == number
            assert following > current
            if command == "Run:Start" and state != "Running":
                assert current not in used, "a number was used twice"
            used.add(current)
        await it.ok("Run:Stop")
        assert boards_running(it) == []


def _lasts(it: Rig, seconds: float):
    async def lasts() -> bool:
        return float(await it.get("Run:Duration_RBV")) >= seconds

    return lasts


def _known(it: Rig):
    async def known() -> bool:
        return await it.get("Run:State_RBV") not in ("Unknown", "Starting", "Stopping")

    return known
