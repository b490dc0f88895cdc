"""What has timed out or was aborted before there was a connection is never sent (rule 1)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from attpc_ioc.control.engine import Engine
from attpc_ioc.control.jobs import future
from attpc_ioc.model.command import RUN, SYSTEM, Command, CommandName, ResultCode, Scope, Who
from attpc_ioc.model.states import Operation, State
from tests.support.rig import Rig, ecc, rig
from tests.support.runs import boards_running
from tests.support.slowfleet import POLL, limits_text
from tests.support.slowwire import Door, door

LIMIT_S = 1.0


@contextlib.asynccontextmanager
async def shut_when_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: str
) -> AsyncIterator[tuple[Rig, Door, list[Operation]]]:
    """A rig with one MuTAnT, whose door shuts at the moment in which the IOC sends an operation.

    The operations of the list are let through before that.
    """
    async with (
        rig(tmp_path, monkeypatch, cobos=0, limits=limits, poll=POLL, start=False) as it,
        door(it.fleet["mutant"].port) as way,
    ):
        (server,) = it.settings.ecc
        it.settings = it.settings.model_copy(update={"ecc": (server.model_copy(update={"port": way.port}),)})
        try:
            await it.start_ioc()
            await it.until(lambda: it.module("mutant").offered is not None, what="the server seen")
            through: list[Operation] = []

            class Shut(logging.Handler):
                """Hears at once what is sent: before the event loop has opened a connection for it."""

                def emit(self, record: logging.LogRecord) -> None:
                    operation = it.module("mutant").outstanding
                    if operation is not None and operation not in through:
                        through.append(operation)
                        way.shut()

            shut, log = Shut(), logging.getLogger("attpc_ioc.control.modules.module")
            monkeypatch.setattr(log, "level", logging.INFO)
            log.manager._clear_cache()  # type: ignore[attr-defined]
            log.addHandler(shut)
            try:
                yield it, way, through
            finally:
                log.removeHandler(shut)
        finally:
            await it.stop_ioc()


async def nothing_comes(it: Rig, way: Door) -> None:
    """Open the door, and let the server be polled so often that whatever was to come would have."""
    await it.until(
        lambda: not any(task.get_name().endswith(" mutant") for task in calls()), what="no call under way"
    )
    it.fleet.log.clear()
    way.open()
    polls = it.fleet["mutant"].polls
    await it.until(lambda: it.fleet["mutant"].polls >= polls + 20 and it.module("mutant").online, 30.0)
    assert it.fleet.log.sequence() == []


def calls() -> list[asyncio.Task[object]]:
    names = tuple(f"{operation} mutant" for operation in Operation)
    return [task for task in asyncio.all_tasks() if task.get_name() in names]


@pytest.mark.parametrize("scope", [SYSTEM, ecc("mutant")], ids=str)
async def test_a_call_without_a_connection_is_taken_back_at_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: Scope
) -> None:
    async with shut_when_sent(tmp_path, monkeypatch, limits_text(LIMIT_S)) as (it, way, _):
        await it.select()
        outcome = await it.submit("Describe", scope)
        assert outcome.code is ResultCode.TIMED_OUT, outcome.message
        url = it.settings.ecc[0].url
        assert (
            f"Describe was not sent: no connection to {url} within the 1 s of the command" in outcome.message
        )
        assert it.module("mutant").outstanding is None
        await nothing_comes(it, way)
        assert it.module("mutant").state is State.IDLE


async def test_a_call_without_a_connection_is_taken_back_by_abort(tmp_path, monkeypatch):
    async with shut_when_sent(tmp_path, monkeypatch, limits_text(60.0)) as (it, way, _):
        await it.select()
        describe = asyncio.create_task(it.submit("Describe"))
        await it.until(lambda: it.module("mutant").outstanding is Operation.DESCRIBE)
        assert (await it.submit("Abort")).ok
        assert (await describe).code is ResultCode.ABORTED
        await nothing_comes(it, way)


async def test_a_stop_without_a_connection_is_taken_back_when_the_stop_of_the_run_ends(tmp_path, monkeypatch):
    limits = limits_text(20.0, stop_s=1.5, stop_mutant_s=1.0)
    async with shut_when_sent(tmp_path, monkeypatch, limits) as (it, way, through):
        through += [operation for operation in Operation if operation is not Operation.STOP]
        await it.start_run()
        outcome = await it.submit("Stop", RUN)
        assert outcome.code is ResultCode.INCOMPLETE, outcome.message
        await nothing_comes(it, way)
        assert boards_running(it) == ["Mutant[master]"]
        assert (await it.submit("Stop", RUN)).ok


async def test_what_is_aborted_while_its_answer_comes_is_not_sent(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, cobos=1, mutant=False) as it:
        await it.select()
        controller, abort = it.app.controller, future()
        answers = controller.modules["cobo0"].answers
        before = answers.before

        async def aborted_just_then(operation: Operation, limit_s: float) -> None:
            await before(operation, limit_s)
            abort.set_result(None)

        monkeypatch.setattr(answers, "before", aborted_just_then)
        plan = it.app.host.plan(Command(SYSTEM, CommandName.DESCRIBE), it.snapshot)
        assert plan.steps == 1
        engine = Engine(controller.state, controller.modules, it.settings.limits, it.settings.order)
        result = await engine.run(plan, Who("tester"), abort)
        assert result.aborted
        assert it.fleet.log.sequence() == []
