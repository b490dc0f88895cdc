"""Rule 22: what `Result_RBV` shows after a failure, over scopes and what comes after it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from attpc_ioc.errors import Refused
from attpc_ioc.model.command import RUN, SYSTEM, ResultCode, Scope, ScopeResult, Who
from attpc_ioc.model.states import State
from tests.support.patience import HANGS_S
from tests.support.rig import Rig, ecc, rig
from tests.support.runs import call_of, outside, running, under_way

COBO, MUTANT = ecc("cobo0"), ecc("mutant")
HEADS = {SYSTEM: "", RUN: "Run:", COBO: "Ecc:cobo0:", MUTANT: "Ecc:mutant:"}
HUNG_STOP = f"stop_s = {HANGS_S}\nstop_mutant_s = 0.3\narrival_grace_s = 0.1"

Step = Callable[[Rig], Awaitable[None]]


def shown(it: Rig, scope: Scope) -> tuple[str, str]:
    """Value and severity of a scope's `Result_RBV`, as published."""
    reading = it.posted(f"{HEADS[scope]}Result_RBV")
    assert reading is not None
    assert isinstance(reading.value, int)
    return ResultCode(reading.value).label, reading.severity.name


def message(it: Rig, scope: Scope) -> str:
    reading = it.posted(f"{HEADS[scope]}Message_RBV")
    assert reading is not None
    return str(reading.value)


def count(it: Rig, scope: Scope) -> int:
    reading = it.posted(f"{HEADS[scope]}ResultCount_RBV")
    assert reading is not None
    return int(str(reading.value))


def command(name: str, scope: Scope, ends: str = "Done", target: State | None = None) -> Step:
    """A command that ends so."""

    async def step(it: Rig) -> None:
        outcome = await it.submit(name, scope, target)
        assert outcome.code.label == ends, outcome.message

    return step


def goto(scope: Scope, target: State, ends: str = "Done") -> Step:
    return command("GoTo", scope, ends, target)


def setpoint(name: str, scope: Scope, value: float | str, *, taken: bool) -> Step:
    async def step(it: Rig) -> None:
        with contextlib.nullcontext() if taken else pytest.raises(Refused):
            it.app.controller.set(name, scope, value, Who("tester"))

    return step


def fault(server: str, operation: str) -> Step:
    """Have the server's next call of an operation fail."""

    async def step(it: Rig) -> None:
        it.fleet[server].faults.fail(operation)

    return step


def hung(server: str, operation: str) -> Step:
    async def step(it: Rig) -> None:
        it.fleet[server].faults.hang(operation)

    return step


def freed(server: str, state: State) -> Step:
    """Let what hangs go on, until the server is in a state."""

    async def step(it: Rig) -> None:
        it.fleet[server].faults.clear()
        await it.until_all(state, server)

    return step


def aborted(name: str, scope: Scope, target: State | None, server: str, operation: str) -> Step:
    """A command that hangs in an operation of a server, and is aborted; the operation then goes on."""

    async def step(it: Rig) -> None:
        it.fleet.log.clear()
        it.fleet[server].faults.hang(operation)
        task = asyncio.create_task(it.submit(name, scope, target))
        await call_of(it, server, operation)
        assert (await it.submit("Abort")).ok
        assert (await task).code is ResultCode.ABORTED
        it.fleet[server].faults.clear()
        await it.until(lambda: not it.module(server).moving)

    return step


async def idle(_it: Rig) -> None:
    """Nothing to do: all modules are Idle with their configs selected."""


async def in_a_run(it: Rig) -> None:
    await running(it)


@dataclass(frozen=True)
class Case:
    """What fails in `scope`, and what each further step makes its `Result_RBV` show."""

    name: str
    scope: Scope
    failure: tuple[Step, ...]
    shows: str
    after: tuple[tuple[Step, str, str], ...]
    limits: str = ""


REFUSED_STARTS = {
    SYSTEM: command("Configure", SYSTEM, "Refused"),
    COBO: command("Start", COBO, "Refused"),
    RUN: command("Start", RUN, "Refused"),
}
FAILED_DESCRIBE = (fault("cobo0", "Describe"), command("Describe", SYSTEM, "Failed"))
FAILED_COBO = (fault("cobo0", "Describe"), command("Describe", COBO, "Failed"))
FAILED_GOTO = (fault("mutant", "Configure"), goto(SYSTEM, State.READY, "Failed"))
FAILED_START = (goto(SYSTEM, State.READY), fault("mutant", "Start"), command("Start", RUN, "Failed"))
INCOMPLETE = (in_a_run, hung("mutant", "Stop"), command("Stop", RUN, "Incomplete"))

CASES = [
    Case(
        "refused, set and asked over a failed group command",
        SYSTEM,
        FAILED_DESCRIBE,
        "Failed",
        (
            (REFUSED_STARTS[SYSTEM], "Refused", "MAJOR"),
            (setpoint("config", SYSTEM, "nope", taken=False), "Refused", "MAJOR"),
            (setpoint("config", SYSTEM, "e20009", taken=True), "Done", "MAJOR"),
            (command("RefreshConfigs", SYSTEM), "Done", "MAJOR"),
            (command("Abort", SYSTEM, "Refused"), "Refused", "MAJOR"),
            (goto(SYSTEM, State.READY), "Done", "NO_ALARM"),
            (command("Describe", SYSTEM, "Refused"), "Refused", "MINOR"),
        ),
    ),
    Case(
        "aborted over a failed group command",
        SYSTEM,
        FAILED_GOTO,
        "Failed",
        (
            (aborted("GoTo", SYSTEM, State.IDLE, "cobo0", "Breakup"), "Aborted", "MAJOR"),
            (goto(SYSTEM, State.READY), "Done", "NO_ALARM"),
        ),
    ),
    Case(
        "a group command to elsewhere succeeds after a failed one",
        SYSTEM,
        FAILED_GOTO,
        "Failed",
        ((goto(SYSTEM, State.IDLE), "Done", "NO_ALARM"),),
    ),
    Case(
        "single-module commands take the modules of a failed group command to where they were to go",
        SYSTEM,
        (fault("cobo0", "Configure"), goto(SYSTEM, State.READY, "Failed")),
        "Failed",
        (
            (command("Undo", COBO), "Failed", "MAJOR"),
            (goto(COBO, State.READY), "Failed", "MAJOR"),
            (command("Configure", SYSTEM, "Done"), "Done", "NO_ALARM"),
        ),
    ),
    Case(
        "the last of them ends it",
        SYSTEM,
        (fault("cobo0", "Configure"), goto(SYSTEM, State.READY, "Failed")),
        "Failed",
        (
            (goto(COBO, State.READY), "Failed", "MAJOR"),
            (command("Describe", SYSTEM, "Refused"), "Refused", "MAJOR"),
            (goto(MUTANT, State.READY), "Refused", "MINOR"),
        ),
    ),
    Case(
        "refused over a failed command of one module, and a group command takes it where it was to go",
        COBO,
        FAILED_COBO,
        "Failed",
        (
            (REFUSED_STARTS[COBO], "Refused", "MAJOR"),
            (setpoint("config", COBO, "nope", taken=False), "Refused", "MAJOR"),
            (command("RefreshConfigs", SYSTEM), "Refused", "MAJOR"),
            (command("RefreshConfigs", COBO), "Done", "MAJOR"),
            (goto(SYSTEM, State.READY), "Done", "NO_ALARM"),
        ),
    ),
    Case(
        "a group command that fails elsewhere has taken this module along",
        COBO,
        FAILED_COBO,
        "Failed",
        (
            (fault("mutant", "Configure"), "Failed", "MAJOR"),
            (goto(SYSTEM, State.READY, "Failed"), "Done", "NO_ALARM"),
        ),
    ),
    Case(
        "a group command takes the module elsewhere",
        COBO,
        (goto(SYSTEM, State.PREPARED), fault("cobo0", "Configure"), command("Configure", COBO, "Failed")),
        "Failed",
        ((goto(SYSTEM, State.IDLE), "Done", "NO_ALARM"),),
    ),
    Case(
        "a late arrival is a success too",
        COBO,
        (goto(SYSTEM, State.PREPARED), hung("cobo0", "Configure"), command("Configure", COBO, "TimedOut")),
        "TimedOut",
        (
            (command("Undo", COBO, "Refused"), "Refused", "MAJOR"),
            (freed("cobo0", State.READY), "Refused", "MINOR"),
        ),
        f"configure_s = {HANGS_S}",
    ),
    Case(
        "the stop of a run ends what a single Stop has left",
        MUTANT,
        (
            goto(SYSTEM, State.READY),
            command("Start", MUTANT),
            fault("mutant", "Stop"),
            command("Stop", MUTANT, "Failed"),
        ),
        "Failed",
        (
            (REFUSED_STARTS[RUN], "Failed", "MAJOR"),
            (command("Stop", RUN), "Done", "NO_ALARM"),
        ),
    ),
    Case(
        "refused starts and setpoints over an incomplete stop, until the rest was stopped",
        RUN,
        INCOMPLETE,
        "Incomplete",
        (
            (REFUSED_STARTS[RUN], "Refused", "MAJOR"),
            (setpoint("max_duration", RUN, -1.0, taken=False), "Refused", "MAJOR"),
            (setpoint("max_duration", RUN, 0.0, taken=True), "Done", "MAJOR"),
            (command("Adopt", RUN, "Refused"), "Refused", "MAJOR"),
            (command("Stop", RUN, "Incomplete"), "Incomplete", "MAJOR"),
            (REFUSED_STARTS[RUN], "Refused", "MAJOR"),
            (freed("mutant", State.READY), "Done", "NO_ALARM"),
        ),
        HUNG_STOP,
    ),
    Case(
        "a failed start is over with the next one",
        RUN,
        FAILED_START,
        "Failed",
        (
            (command("Adopt", RUN, "Refused"), "Refused", "MAJOR"),
            (command("Breakup", MUTANT), "Refused", "MAJOR"),
            (command("Configure", MUTANT), "Refused", "MAJOR"),
            (command("Start", RUN), "Done", "NO_ALARM"),
        ),
    ),
    Case(
        "a failed start is over when nothing is left to stop",
        RUN,
        FAILED_START,
        "Failed",
        ((command("Stop", RUN), "Done", "NO_ALARM"),),
    ),
    Case(
        "a failed start is over when a group command has taken all modules to Ready",
        RUN,
        FAILED_START,
        "Failed",
        ((goto(SYSTEM, State.READY), "Done", "NO_ALARM"),),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_rule_22_a_failure_stays_an_alarm_until_its_modules_are_there(tmp_path, monkeypatch, case):
    more = {"limits": case.limits} if case.limits else {}
    async with rig(tmp_path, monkeypatch, cobos=1, **more) as it:
        await it.select()
        for step in case.failure:
            await step(it)
        failed = message(it, case.scope)
        assert shown(it, case.scope)[0] == case.shows
        for number, (step, value, severity) in enumerate(case.after):
            await step(it)
            assert shown(it, case.scope) == (value, severity), (number, message(it, case.scope))
            if severity == "MAJOR":
                # Whatever came after it, what is wrong can still be read.
                assert failed in message(it, case.scope)


async def test_rule_22_every_attempt_is_posted_while_a_failure_stands(tmp_path, monkeypatch):
    """Over Channel Access: value and count are the refused attempt's, the alarm is the failure's."""
    async with rig(tmp_path, monkeypatch, cobos=1, limits=HUNG_STOP) as it:
        await running(it)
        it.fleet["mutant"].faults.hang("Stop")
        await it.refused("Run:Stop", because="mutant: was not seen out of Running")
        attempts = int(await it.get("Run:ResultCount_RBV"))
        text = await it.refused("Run:Start", because="Run:Start Refused: the stop of run 0 is not complete")
        assert "; still unresolved: Run:Stop Incomplete: stop again to go on with the rest; mutant: " in text
        assert await it.get("Run:Result_RBV") == "Refused"
        assert await it.severity("Run:Result_RBV") == "MAJOR"
        assert int(await it.get("Run:ResultCount_RBV")) == attempts + 1
        assert "Run:Stop Incomplete" in await it.get_text("AlarmText_RBV")
        it.fleet["mutant"].faults.clear()
        await it.ok("Run:Stop")
        assert await it.severity("Run:Result_RBV") == "NO_ALARM"
        assert "unresolved" not in await it.message("Run:Stop")


async def test_rule_22_a_module_that_was_taken_out_does_not_hold_the_alarm_of_the_others(
    tmp_path, monkeypatch
):
    async with rig(tmp_path, monkeypatch, cobos=2) as it:
        await it.select()
        it.fleet["cobo1"].faults.fail("Describe")
        assert (await it.submit("Describe")).code is ResultCode.FAILED
        await it.ok("Ecc:cobo1:Enable", "No")
        assert shown(it, SYSTEM) == ("Failed", "MAJOR")
        assert (await it.submit("GoTo", SYSTEM, State.READY)).ok
        assert shown(it, SYSTEM) == ("Done", "NO_ALARM")


async def test_rule_22_a_stop_that_nobody_waits_for_says_that_it_is_incomplete(tmp_path, monkeypatch):
    """`Abort` ends the waiting only: what then becomes of the stop is no less an alarm."""
    async with rig(tmp_path, monkeypatch, cobos=1, limits=HUNG_STOP) as it:
        await running(it)
        it.fleet["mutant"].faults.hang("Stop")
        stop = under_way(it, "Stop")
        await call_of(it, "mutant", "Stop")
        assert (await it.submit("Abort")).ok
        assert (await stop).code is ResultCode.ABORTED
        await it.until(lambda: shown(it, RUN) == ("Incomplete", "MAJOR"), what="the end of the stop")
        assert "mutant: was not seen out of Running" in message(it, RUN)
        it.fleet["mutant"].faults.clear()
        await it.until(lambda: shown(it, RUN) == ("Done", "NO_ALARM"), what="the rest stopped")


@pytest.mark.parametrize("ends", ["Failed", "TimedOut", "Refused"])
async def test_rule_04_an_external_text_leaves_the_reason_of_what_failed(tmp_path, monkeypatch, ends):
    async with rig(tmp_path, monkeypatch, cobos=1, limits=f"describe_s = {HANGS_S}") as it:
        await it.select()
        faults = it.fleet["cobo0"].faults
        if ends == "Failed":
            faults.fail("Describe", message="Exception: the board is on fire.")
        elif ends == "TimedOut":
            faults.hang("Describe")
        name = "Start" if ends == "Refused" else "Describe"
        assert (await it.submit(name, COBO)).code.label == ends
        told = message(it, COBO)
        attempts = count(it, COBO)
        if ends == "TimedOut":
            faults.fail("Describe", message="Exception: too late.")
            faults.clear("hang")
            await it.until(lambda: "Late: Describe failed" in message(it, COBO))
            assert message(it, COBO).endswith(told)
            faults.clear()
        await outside(it, "Describe", "cobo0")
        await it.until(lambda: "External: Idle -> Described" in message(it, COBO))
        assert message(it, COBO).endswith(told)
        await outside(it, "Undo", "cobo0")
        await it.until(lambda: "External: Described -> Idle" in message(it, COBO))
        assert message(it, COBO).endswith(told)
        assert message(it, COBO).count("External") == 1
        assert count(it, COBO) == attempts
        assert shown(it, COBO) == (ends, "MINOR" if ends == "Refused" else "MAJOR")


def test_a_note_that_no_longer_holds_leaves_the_reason_of_the_last_command():
    failed = ScopeResult(ResultCode.FAILED, 1, "Describe Failed: no", unresolved=("Describe Failed: no",))
    assert failed.noted("External: Idle -> Described").unnoted == failed
    assert ScopeResult(message="Done").noted("External: Idle -> Described").unnoted.text == ""
    assert ScopeResult(unresolved=failed.unresolved).text == "still unresolved: Describe Failed: no"
