"""The state directory: files that are damaged, kept aside and reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from attpc_ioc.control.runs.numbers import set_next_number
from attpc_ioc.model.command import RUN, ResultCode
from attpc_ioc.model.run import UNNAMED, RunState
from attpc_ioc.model.states import State
from tests.support.rig import Rig, rig
from tests.support.runs import boards_running, ready, running
from tests.support.state_dir import put_row


async def restart_with(it: Rig, tmp_path: Path, topic: str, text: str, key: str = "") -> None:
    """Restart the IOC on a state database in which one row was spoilt."""
    await it.stop_ioc()
    put_row(tmp_path / "state", topic, key, text)
    await restart(it)


async def restart_with_a_damaged_database(it: Rig, tmp_path: Path) -> None:
    await it.stop_ioc()
    database = tmp_path / "state" / "state.db"
    database.write_bytes(database.read_bytes()[:5000])
    await restart(it)


async def restart(it: Rig) -> None:
    await it.start_ioc()
    await it.until(lambda: all(m.offered is not None for m in it.snapshot.modules.values()))


@pytest.mark.parametrize("text", ["{", '{"info": 3}', '{"open": true}'])
async def test_a_damaged_record_of_runs(tmp_path, monkeypatch, text):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        assert (await it.submit("Stop", RUN)).ok
        await restart_with(it, tmp_path, "run", text)
        # Everything else works.
        await it.until_all(State.READY)
        message = await it.refused("Run:Start", because="the record of runs in")
        assert "is damaged" in message
        assert "Run:Stop acknowledges it" in message
        assert it.run.state is RunState.STOPPED
        await it.put_text("Run:Title", "set again")
        # A restart does not make it good, Run:Stop acknowledges it; the numbers go on.
        await it.stop_ioc()
        await it.start_ioc()
        await it.until_all(State.READY)
        assert (await it.submit("Start", RUN)).code is ResultCode.REFUSED
        await it.ok("Run:Stop")
        assert "acknowledged" in await it.message("Run:Stop")
        await it.ok("Run:Start")
        assert it.run.number == 1
        assert it.run.texts.title == "set again"


async def test_a_damaged_record_while_modules_run(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        await restart_with(it, tmp_path, "run", "{")
        await it.until_run(RunState.ORPHAN)
        assert len(boards_running(it)) == 3
        assert (await it.submit("Stop", RUN)).ok
        assert boards_running(it) == []


async def test_damaged_numbers_are_never_guessed(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        assert (await it.submit("Stop", RUN)).ok
        await restart_with(it, tmp_path, "numbers", "[1]", UNNAMED)
        await it.until_all(State.READY)
        for _ in range(2):
            await it.refused("Run:Start", because="give the next number with `attpc-ioc next-number`")
            assert await it.get("Run:NextNumber_RBV") == "-1"
            assert "the next number of unnamed: Input should be" in await it.get_text("Run:Checklist_RBV")
            # A restart forgets nothing.
            await it.stop_ioc()
            await it.start_ioc()
            await it.until_all(State.READY)
        # Everything else works.
        await it.ok("GoTo", "Prepared")
        await it.ok("GoTo", "Ready")
        await it.stop_ioc()
        await set_next_number(tmp_path / "state", UNNAMED, 17)
        await it.start_ioc()
        await it.until_all(State.READY)
        await it.ok("Run:Start")
        assert it.run.number == 17


async def test_a_damaged_record_of_modules_leaves_what_is_loaded_unknown(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        await restart_with(it, tmp_path, "modules", "{{", "cobo0")
        await it.until_all(State.READY)
        assert str(it.module("cobo0").loaded) == "?/?/?"
        await it.refused("Run:Start", because="what is loaded is not known")
        await it.take_to(State.IDLE)
        await it.take_to(State.READY)
        await it.ok("Run:Start")


async def test_a_damaged_database_is_set_aside_and_nothing_of_it_is_guessed(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        await restart_with_a_damaged_database(it, tmp_path)
        (kept_as,) = (tmp_path / "state").glob("state.db.damaged-*[0-9]")
        assert kept_as.stat().st_size == 5000
        # The boards run on, and can be stopped.
        await it.until_run(RunState.ORPHAN)
        await it.ok("Run:Stop")
        assert boards_running(it) == []
        for _ in range(2):
            # A restart forgets nothing.
            checklist = await it.get_text("Run:Checklist_RBV")
            assert f"state.db is damaged; it is kept as {kept_as.name}" in checklist
            assert "give the next number with `attpc-ioc next-number`" in checklist
            assert str(it.module("cobo0").loaded) == "?/?/?"
            await it.stop_ioc()
            await restart(it)
            await it.until_all(State.READY)
        await it.stop_ioc()
        await set_next_number(tmp_path / "state", UNNAMED, 17)
        await restart(it)
        await it.until_all(State.READY)
        await it.ok("Run:Stop")
        await it.take_to(State.IDLE)
        await it.take_to(State.READY)
        await it.ok("Run:Start")
        assert it.run.number == 17
