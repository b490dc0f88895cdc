"""ECC servers whose answers come late: what is sent, what is never sent, and what is said of it."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest

from attpc_ioc.model.command import RUN, SYSTEM, Outcome, ResultCode
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from tests.support.pace import Stopwatch
from tests.support.rig import Rig, ecc
from tests.support.runs import boards_running, call_of, outside, ready, running, under_way
from tests.support.simfleet import take_up
from tests.support.slowfleet import Wires, limits_text, slow_rig

STALE_S = 0.4
"""Each direction: an answer is 0.8 s old then, more than `freshness_s` and less than the time-out."""
DEAF_S = 1.5
"""Each direction: a poll takes longer than its time-out of 2 s, and the servers are shown as Offline."""

LIMIT_S = 2.5

ONE_OPERATION = [
    ("Describe", State.IDLE, None),
    ("Prepare", State.DESCRIBED, None),
    ("Configure", State.PREPARED, None),
    ("Reset", State.READY, None),
    ("Reset", State.PREPARED, None),
    ("GoTo", State.IDLE, State.READY),
    ("GoTo", State.READY, State.IDLE),
    ("GoTo", State.DESCRIBED, State.PREPARED),
]
"""Commands of the system and of a module, where they begin, and where GoTo leads."""

OF_A_MODULE = [
    *ONE_OPERATION,
    ("Start", State.READY, None),
    ("Breakup", State.READY, None),
    ("Undo", State.PREPARED, None),
]


def stale(outcome: Outcome, *names: str) -> None:
    """The command timed out before anything was sent, and says why for each of these modules."""
    assert outcome.code is ResultCode.TIMED_OUT, outcome.message
    for name in names:
        assert f"{name}: " in outcome.message, outcome.message
    assert re.search(r"was not sent within 2.5 s: answers to GetState take [\d.]+ s", outcome.message)
    assert "limits.freshness_s is 0.5 s" in outcome.message


@pytest.mark.parametrize(("command", "start", "target"), ONE_OPERATION)
async def test_a_group_command_ends_at_its_limit_and_is_never_sent_later(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    start: State,
    target: State | None,
) -> None:
    async with slow_rig(tmp_path, monkeypatch) as (it, wires):
        await it.take_to(start)
        it.fleet.log.clear()
        await wires.slow(STALE_S)
        began = time.monotonic()
        outcome = await it.submit(command, SYSTEM, target)
        assert LIMIT_S <= time.monotonic() - began < LIMIT_S + 15.0
        stale(outcome)
        await wires.heal()
        assert it.fleet.log.sequence() == []
        assert set(it.states().values()) == {start.label}
        outcome = await it.submit(command, SYSTEM, target)
        assert outcome.ok, outcome.message


async def test_commands_of_a_module_end_at_their_limit_and_are_never_sent_later(tmp_path, monkeypatch):
    names = [f"cobo{number}" for number in range(len(OF_A_MODULE))]
    async with slow_rig(tmp_path, monkeypatch, cobos=len(names), mutant=False) as (it, wires):
        await it.select()
        for name, (_, start, _) in zip(names, OF_A_MODULE, strict=True):
            await take_up(it.fleet, start, name)
            await it.until_all(start, name)
        it.fleet.log.clear()
        await wires.slow(STALE_S)
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(
                it.submit(command, ecc(name), target)
                for name, (command, _, target) in zip(names, OF_A_MODULE, strict=True)
            )
        )
        assert LIMIT_S <= time.monotonic() - began < LIMIT_S + 15.0
        for name, outcome in zip(names, outcomes, strict=True):
            stale(outcome, name)
        await wires.heal()
        assert it.fleet.log.sequence() == []
        assert [it.module(n).state for n in names] == [start for _, start, _ in OF_A_MODULE]


async def test_answers_that_are_slow_but_fresh_delay_commands_only(tmp_path, monkeypatch):
    limits = limits_text(20.0, stop_s=20.0, stop_mutant_s=5.0, freshness_s=2.0)
    async with slow_rig(tmp_path, monkeypatch, limits=limits) as (it, wires):
        await it.select()
        await wires.slow(0.1)
        for name, scope, target in (
            ("GoTo", SYSTEM, State.READY),
            ("Start", RUN, None),
            ("Stop", RUN, None),
            ("Breakup", ecc("cobo0"), None),
            ("RefreshConfigs", SYSTEM, None),
            ("GoTo", SYSTEM, State.IDLE),
        ):
            outcome = await it.submit(name, scope, target)
            assert outcome.ok, outcome.message


@pytest.mark.parametrize(("command", "start", "target"), ONE_OPERATION[:6])
async def test_abort_ends_a_command_that_waits_to_be_sent_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, start: State, target: State | None
) -> None:
    async with slow_rig(tmp_path, monkeypatch, limits=limits_text(60.0)) as (it, wires):
        await it.take_to(start)
        it.fleet.log.clear()
        await wires.slow(STALE_S)
        waiting = asyncio.create_task(it.submit(command, SYSTEM, target))
        await it.until(lambda: it.snapshot.active)
        began = time.monotonic()
        assert (await it.submit("Abort")).ok
        assert (await waiting).code is ResultCode.ABORTED
        assert time.monotonic() - began < 20.0
        await wires.heal()
        assert it.fleet.log.sequence() == []


async def test_abort_of_refresh_configs_does_not_wait_for_the_servers(tmp_path, monkeypatch):
    async with slow_rig(tmp_path, monkeypatch) as (it, _):
        it.fleet["cobo0"].faults.hang("GetConfigIDs")
        waiting = asyncio.create_task(it.submit("RefreshConfigs"))
        await it.until(lambda: it.snapshot.active)
        taking = Stopwatch(programs=True)
        assert (await it.submit("Abort")).ok
        outcome = await waiting
        assert outcome.code is ResultCode.ABORTED, outcome.message
        assert taking.s < 4.0
        it.fleet["cobo0"].faults.clear()


async def slow_after(it: Rig, wires: Wires, server: str, operation: str) -> None:
    """Let the answers become slow when a server has taken up an operation."""
    await call_of(it, server, operation, 10.0)
    wires.delay(STALE_S)


async def test_the_later_stages_of_go_to_are_not_sent_after_their_limit(tmp_path, monkeypatch):
    async with slow_rig(tmp_path, monkeypatch) as (it, wires):
        await it.select()
        goto = asyncio.create_task(it.submit("GoTo", SYSTEM, State.READY))
        await slow_after(it, wires, "mutant", "Describe")
        outcome = await goto
        stale(outcome, "mutant")
        assert "Prepare was not sent" in outcome.message
        sent = it.fleet.log.sequence()
        await wires.heal()
        assert it.fleet.log.sequence() == sent
        assert sorted(sent) == ["cobo0.Describe", "cobo1.Describe", "mutant.Describe"]


async def test_a_start_that_waits_to_be_sent_ends_and_gives_its_number_back(tmp_path, monkeypatch):
    async with slow_rig(tmp_path, monkeypatch) as (it, wires):
        number = await ready(it)
        await wires.slow(STALE_S)
        outcome = await it.submit("Start", RUN)
        stale(outcome, "mutant")
        assert f"run number {number} was released" in outcome.message
        await wires.heal()
        assert it.fleet.log.sequence() == []
        assert (await it.submit("Start", RUN)).ok
        assert it.run.number == number


@pytest.mark.parametrize("end", ["limit", "Abort", "Stop"])
async def test_a_start_is_rolled_back_though_the_answers_are_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """The CoBos have started, the MuTAnT's Start waits: it is never sent, and the CoBos are stopped."""
    limit_s = LIMIT_S if end == "limit" else 60.0
    async with slow_rig(tmp_path, monkeypatch, limits=limits_text(limit_s)) as (it, wires):
        await ready(it)
        start = under_way(it, "Start")
        await slow_after(it, wires, "cobo1", "Start")
        await it.until(lambda: boards_running(it) == ["CoBo[0]", "CoBo[1]"], 10.0)
        if end != "limit":
            await it.until_all(State.RUNNING, "cobo0", "cobo1", limit_s=10.0)
            stopped = await it.submit(end, SYSTEM if end == "Abort" else RUN)
            assert stopped.ok, stopped.message
        outcome = await start
        code = ResultCode.TIMED_OUT if end == "limit" else ResultCode.ABORTED
        assert outcome.code is code, outcome.message
        assert "roll-back" not in outcome.message
        assert boards_running(it) == []
        await wires.heal()
        assert it.fleet.log.of("mutant", "Start") == []
        assert [len(it.fleet.log.of(name, "Stop")) for name in ("cobo0", "cobo1")] == [1, 1]


async def test_a_run_is_stopped_though_the_answers_are_slow(tmp_path, monkeypatch):
    async with slow_rig(tmp_path, monkeypatch) as (it, wires):
        await running(it)
        await wires.slow(STALE_S)
        outcome = await it.submit("Stop", RUN)
        assert outcome.ok, outcome.message
        assert it.run.state is RunState.STOPPED
        assert boards_running(it) == []
        assert it.fleet.log.sequence()[0] == "mutant.Stop"
        assert sorted(it.fleet.log.sequence()) == ["cobo0.Stop", "cobo1.Stop", "mutant.Stop"]


async def test_a_stop_that_meets_the_transition_of_another_client_is_sent_again(tmp_path, monkeypatch):
    limits = limits_text(stop_s=30.0)
    async with slow_rig(tmp_path, monkeypatch, limits=limits, cobos=1, mutant=False) as (it, wires):
        await running(it)
        await wires.slow(STALE_S)
        it.fleet["cobo0"].faults.hang("Pause")
        pause = asyncio.create_task(it.fleet.call("cobo0", "Pause", timeout_s=30.0))
        await call_of(it, "cobo0", "Pause")
        stop = under_way(it, "Stop")
        await call_of(it, "cobo0", "Stop", 10.0)
        it.fleet["cobo0"].faults.clear()
        await pause
        outcome = await stop
        assert outcome.ok, outcome.message
        assert boards_running(it) == []


@pytest.mark.parametrize(("delay_s", "stop_s"), [(DEAF_S, 8.0), (3.0, 14.0)])
async def test_a_run_is_stopped_though_no_answer_is_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delay_s: float, stop_s: float
) -> None:
    """Its end cannot be seen: the stop is Incomplete and says why. It is seen when answers are in time."""
    async with slow_rig(tmp_path, monkeypatch, limits=limits_text(stop_s=stop_s)) as (it, wires):
        await running(it)
        await wires.offline(delay_s)
        outcome = await it.submit("Stop", RUN)
        assert boards_running(it) == []
        assert outcome.code is ResultCode.INCOMPLETE, outcome.message
        for name in ("cobo0", "cobo1", "mutant"):
            assert f"{name}: Stop was answered with success, and then the server was lost" in outcome.message
        assert "no answer within 2 s" in outcome.message
        await wires.heal()
        await it.until_run(RunState.STOPPED)
        assert sorted(it.fleet.log.sequence()) == ["cobo0.Stop", "cobo1.Stop", "mutant.Stop"]


@pytest.mark.parametrize("deaf", [False, True], ids=["slow", "no answer in time"])
async def test_orphans_and_single_modules_are_stopped_on_the_last_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    async with slow_rig(tmp_path, monkeypatch, limits=limits_text(stop_s=8.0)) as (it, wires):
        await ready(it)
        await outside(it, "Start", "cobo0", "cobo1")
        await it.until_all(State.RUNNING, "cobo0", "cobo1")
        it.fleet.log.clear()
        await (wires.offline(DEAF_S) if deaf else wires.slow(STALE_S))
        outcome = await it.submit("Stop", ecc("cobo0"))
        assert outcome.ok is not deaf, outcome.message
        assert boards_running(it) == ["CoBo[1]"]
        outcome = await it.submit("Stop", RUN)
        assert outcome.ok is not deaf, outcome.message
        assert boards_running(it) == []
        await wires.heal()
        # Where the end of the first Stop was not seen, the second command sends another.
        assert set(it.fleet.log.sequence()) == {"cobo0.Stop", "cobo1.Stop"}


async def test_a_late_arrival_is_stopped_though_the_answers_are_slow(tmp_path, monkeypatch):
    async with slow_rig(tmp_path, monkeypatch) as (it, wires):
        await ready(it)
        it.fleet["cobo1"].faults.hang("Start")
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.TIMED_OUT, outcome.message
        wires.delay(STALE_S)
        it.fleet["cobo1"].faults.clear()
        await call_of(it, "cobo1", "Stop", 15.0)
        await it.until(lambda: boards_running(it) == [], 10.0)


@pytest.mark.parametrize("delay_s", [DEAF_S, 3.0])
async def test_other_commands_are_refused_with_the_reason_while_no_answer_is_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, delay_s: float
) -> None:
    async with slow_rig(tmp_path, monkeypatch) as (it, wires):
        await ready(it)
        await wires.offline(delay_s)
        for name, scope, target in [
            *((command, SYSTEM, target) for command, _, target in ONE_OPERATION),
            *((command, ecc("cobo0"), target) for command, _, target in OF_A_MODULE),
            ("Stop", ecc("cobo0"), None),
            ("RefreshConfigs", SYSTEM, None),
            ("Start", RUN, None),
        ]:
            outcome = await it.submit(name, scope, target)
            assert outcome.code is ResultCode.REFUSED, f"{name}: {outcome.message}"
            assert "no answer within 2 s" in outcome.message, f"{name}: {outcome.message}"
        assert (await it.submit("Stop", RUN)).ok
        await wires.heal()
        assert it.fleet.log.sequence() == []


async def test_the_undo_of_a_wrong_board_has_its_limit_too(tmp_path, monkeypatch):
    async with slow_rig(tmp_path, monkeypatch, limits=limits_text(5.0)) as (it, wires):
        await it.select()
        wrong = it.fleet.xcfg.path / "describe-cobo1.xcfg"
        (it.fleet.xcfg.path / "describe-cobo0.xcfg").write_text(wrong.read_text())
        it.fleet["cobo0"].faults.hang("Describe")
        describe = asyncio.create_task(it.submit("Describe", ecc("cobo0")))
        await slow_after(it, wires, "cobo0", "Describe")
        it.fleet["cobo0"].faults.clear()
        outcome = await describe
        assert "this ECC server drives CoBo[0]; Undo " in outcome.message
        message = "Undo was not sent within 5 s: answers to GetState take 0."
        await it.until(lambda: message in it.module("cobo0").result.message, 15.0, "the end of the Undo")
        await wires.heal()
        assert it.fleet.log.sequence() == ["cobo0.Describe"]


async def test_the_undo_of_a_wrong_board_is_not_sent_after_abort(tmp_path, monkeypatch):
    async with slow_rig(tmp_path, monkeypatch, limits=limits_text(30.0)) as (it, wires):
        await it.select()
        wrong = it.fleet.xcfg.path / "describe-cobo1.xcfg"
        (it.fleet.xcfg.path / "describe-cobo0.xcfg").write_text(wrong.read_text())
        it.fleet["cobo0"].faults.hang("Describe")
        describe = asyncio.create_task(it.submit("Describe"))
        await call_of(it, "cobo1", "Describe")
        await slow_after(it, wires, "cobo0", "Describe")
        it.fleet["cobo0"].faults.clear()
        await it.until_all(State.DESCRIBED, "cobo0", limit_s=10.0)
        assert (await it.submit("Abort")).ok
        assert (await describe).code is ResultCode.ABORTED
        await wires.heal()
        assert "Undo was not sent: the command had ended" in it.module("cobo0").result.message
        assert it.fleet.log.of("cobo0", "Undo") == []


async def test_poll_time_is_in_alarm_before_and_when_answers_are_too_old(tmp_path, monkeypatch):
    async with slow_rig(tmp_path, monkeypatch) as (it, wires):
        pv = "Ecc:cobo0:PollTime_RBV"
        assert [float(await it.get(f"{pv}.{field}")) for field in ("HIGH", "HIHI")] == [250.0, 500.0]
        assert [await it.get(f"{pv}.{field}") for field in ("HSV", "HHSV")] == ["MINOR", "MAJOR"]
        for delay_s, severity in ((0.17, "MINOR"), (STALE_S, "MAJOR")):
            wires.delay(delay_s, "cobo0")
            async with asyncio.timeout(20):
                while await it.severity(pv) != severity:
                    pass
        # The first answer that is too slow may have had the shorter delay on its way there.
        said = await it.get_text("AlarmText_RBV")
        found = re.search(r"Major: cobo0:PollTime_RBV: Round trip of the last poll: ([\d.]+) ms", said)
        assert found is not None, said
        assert float(found[1]) >= 500.0
        await wires.offline(DEAF_S, "cobo0")
        async with asyncio.timeout(20):
            while await it.severity(pv) != "NO_ALARM":
                pass
