"""The state directory: files that are damaged, kept aside and reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from attpc_ioc.control.numbers import set_next_number
from attpc_ioc.control.store import StateStore
from attpc_ioc.model.command import RUN, ResultCode
from attpc_ioc.model.run import UNNAMED, RunState
from attpc_ioc.model.states import State
from tests.support.rig import Rig, rig
from tests.support.runs import boards_running, ready, running
from tests.support.state_dir import save

GARBAGE = ["", "{", "[1, 2]", '"text"', "\x00\x01", "[" * 100_000, '{"open": tru']


async def restart_with(it: Rig, tmp_path: Path, name: str, text: str) -> None:
    """Restart the IOC on a state directory in which one file was spoilt."""
    await it.stop_ioc()
    (tmp_path / "state" / f"{name}.json").write_text(text, encoding="utf-8")
    await it.start_ioc()
    await it.until(lambda: all(m.offered is not None for m in it.snapshot.modules.values()))


def aside(tmp_path: Path, name: str) -> list[str]:
    """What was kept aside of a document."""
    return [f.read_text() for f in (tmp_path / "state").glob(f"{name}.damaged-*")]


@pytest.mark.parametrize("text", ["{", '{"info": 3}', '{"open": true}'])
async def test_a_damaged_record_of_runs(tmp_path, monkeypatch, text):
    async with rig(tmp_path, monkeypatch) as it:
        await running(it)
        assert (await it.submit("Stop", RUN)).ok
        await restart_with(it, tmp_path, "run", text)
        assert aside(tmp_path, "run") == [text]
        # Everything else works.
        await it.until_all(State.READY)
        message = await it.refused("Run:Start", because="run.json")
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
        await restart_with(it, tmp_path, "numbers", '{"next": [1]}')
        assert aside(tmp_path, "numbers") == ['{"next": [1]}']
        await it.until_all(State.READY)
        for _ in range(2):
            await it.refused("Run:Start", because="give the next number with `attpc-ioc next-number`")
            assert await it.get("Run:NextNumber_RBV") == "-1"
            assert "numbers.json" in await it.get_text("Run:Checklist_RBV")
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
        await restart_with(it, tmp_path, "modules", "{{")
        assert aside(tmp_path, "modules") == ["{{"]
        await it.until_all(State.READY)
        assert str(it.module("cobo0").loaded) == "?/?/?"
        await it.refused("Run:Start", because="what is loaded is not known")
        await it.take_to(State.IDLE)
        await it.take_to(State.READY)
        await it.ok("Run:Start")


@pytest.mark.parametrize("text", GARBAGE)
async def test_a_damaged_file_is_kept_aside_and_reported_until_there_is_a_new_one(tmp_path, text):
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    for _ in range(2):
        store = StateStore(tmp_path)
        store.open()
        assert store.load("run") is None
        assert "run.json" in store.damaged["run"]
        assert "damaged" in store.damaged["run"]
        await store.close()
    assert [f.read_text() for f in tmp_path.glob("run.damaged-*")] == [text]
    await save(tmp_path, "run", {"open": False})
    store = StateStore(tmp_path)
    assert store.load("run") == {"open": False}
    assert store.damaged == {}


async def test_a_file_that_cannot_be_read_is_reported(tmp_path):
    (tmp_path / "run.json").mkdir()
    store = StateStore(tmp_path)
    assert store.load("run") is None
    assert "cannot be read" in store.damaged["run"]
