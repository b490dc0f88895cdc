"""The state directory of version 0.1: taken over once, and kept.

`state_of_0_1/` is what an IOC of that version left when it was killed in its second run.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from attpc_ioc.control.runs.numbers import set_next_number
from attpc_ioc.control.take_over import read_before
from attpc_ioc.errors import StateDirError
from attpc_ioc.model.command import RUN, ResultCode
from attpc_ioc.model.run import UNNAMED, RunState
from attpc_ioc.model.states import State
from tests.support.rig import Rig, rig
from tests.support.runs import boards_running, running
from tests.support.state_dir import kept

BEFORE = Path(__file__).parent / "state_of_0_1"
FILES = ("modules.json", "numbers.json", "run.json")


async def left_by_0_1(it: Rig, state: Path) -> None:
    """Have a fleet in a run, and the state directory that version 0.1 has left of it."""
    await it.start_ioc()
    await running(it)
    await it.stop_ioc()
    shutil.rmtree(state)
    shutil.copytree(BEFORE, state)
    urls = {ecc.name: ecc.url for ecc in it.settings.ecc}
    for name in FILES:
        document = json.loads((BEFORE / name).read_text(encoding="utf-8"))
        for module, entry in document.get("modules", {}).items():
            entry["url"] = urls[module]
        (state / name).write_text(json.dumps(document), encoding="utf-8")


async def test_an_open_run_of_version_0_1_goes_on(tmp_path, monkeypatch):
    state = tmp_path / "state"
    async with rig(tmp_path, monkeypatch, start=False) as it:
        await left_by_0_1(it, state)
        texts = {name: (state / name).read_text() for name in FILES}
        await it.start_ioc()
        await it.until_run(RunState.RUNNING)
        assert it.run.number == 1
        before = json.loads(texts["run.json"])["texts"]
        assert (it.run.texts.title, it.run.texts.operator) == (before["title"], before["operator"])
        assert it.run.texts.title
        info = it.run.info
        assert info is not None
        assert info.started_s == pytest.approx(1795942841.05, abs=0.01)
        assert info.who.user == "shift"
        assert {m.name: str(m.loaded) for m in it.snapshot.modules.values()} == info.loaded
        assert it.run.next_number == 2
        await it.ok("Run:Stop")
        assert boards_running(it) == []
        # The old files are kept as they were, out of the way, and are not taken over once more.
        assert {f.name: f.read_text() for f in (state / "before-0.2").iterdir()} == texts
        assert not [name for name in FILES if (state / name).exists()]
        await it.ok("Run:Start")
        assert it.run.number == 2
        await it.stop_ioc()
        await it.start_ioc()
        await it.until_run(RunState.RUNNING)
        assert it.run.number == 2


async def test_killed_while_the_files_are_put_away(tmp_path, monkeypatch):
    state = tmp_path / "state"
    async with rig(tmp_path, monkeypatch, start=False) as it:
        await left_by_0_1(it, state)
        await it.start_ioc()
        await it.until_run(RunState.RUNNING)
        await it.ok("Run:Stop")
        await it.stop_ioc()
        # As a kill after the first of them leaves it: an older record than that of the database.
        (state / "before-0.2" / "run.json").rename(state / "run.json")
        await it.start_ioc()
        await it.until_all(State.READY)
        assert it.run.state is RunState.STOPPED
        assert sorted(f.name for f in (state / "before-0.2").iterdir()) == list(FILES)


async def test_next_number_takes_over_too(tmp_path):
    state = tmp_path / "state"
    shutil.copytree(BEFORE, state)
    with pytest.raises(StateDirError, match="give 2 or more"):
        await set_next_number(state, UNNAMED, 1)
    assert await set_next_number(state, UNNAMED, 9) == 2
    assert kept(state, "numbers") == {UNNAMED: 9}
    assert kept(state, "run")[""]["open"] is True


async def test_damaged_files_of_version_0_1_are_lost_as_they_were_then(tmp_path, monkeypatch):
    state = tmp_path / "state"
    async with rig(tmp_path, monkeypatch, start=False) as it:
        await left_by_0_1(it, state)
        for name in ("run.json", "numbers.json"):
            (state / name).write_text("{")
        await it.start_ioc()
        await it.until_run(RunState.ORPHAN)
        checklist = await it.get_text("Run:Checklist_RBV")
        for name in ("run.json", "numbers.json"):
            assert f"it is kept as before-0.2/{name}" in checklist
            assert (state / "before-0.2" / name).read_text() == "{"
        await it.ok("Run:Stop")
        assert (await it.submit("Start", RUN)).code is ResultCode.REFUSED
        await it.stop_ioc()
        await set_next_number(state, UNNAMED, 17)
        await it.start_ioc()
        await it.until_all(State.READY)
        await it.ok("Run:Stop")
        await it.ok("Run:Start")
        assert it.run.number == 17


def test_everything_that_a_module_had_is_taken_over(tmp_path):
    entry = {
        "url": "http://cobo0:8083/",
        "enabled": False,
        "selected": "a/b/c",
        "loaded": {"describe": "a", "prepare": "?", "configure": None},
        "clock_stale": True,
        "unclocked": True,
        "unseen_end": {"operation": "Prepare", "target": 3},
        "board_fault": {"text": "a board does not answer", "back_to": "Idle"},
    }
    documents = {"bad": 3, "cobo0": entry, "plain": {"url": "u", "board_fault": None, "unseen_end": None}}
    (tmp_path / "modules.json").write_text(json.dumps({"modules": documents}))
    rows = {key: json.loads(value) for topic, key, value in read_before(tmp_path).kept if topic == "modules"}
    assert rows["cobo0"] == entry | {
        "selected": {"describe": "a", "prepare": "b", "configure": "c"},
        "board_fault": {"text": "a board does not answer", "back_to": 1},
    }
    assert rows["plain"]["enabled"] is True
    assert sorted(rows) == ["cobo0", "plain"]


@pytest.mark.parametrize(
    ("numbers", "good", "lost"),
    [
        ({"next": {"a": 5}, "lost": ""}, {"a": 5}, ""),
        ({"next": {"a": 5, "x": "y"}}, {"a": 5}, "next.x is 'y', not a number"),
        ({"next": {"a": 5, "x": "y"}, "lost": "of the first fault"}, {"a": 5}, "of the first fault"),
        ({"next": {"a": 5}, "lost": 3}, {"a": 5}, "lost is 3, not a text"),
        ({"next": [1]}, {}, "numbers.json is damaged"),
        ([], {}, "numbers.json is damaged"),
    ],
)
def test_numbers_of_version_0_1_are_never_guessed(tmp_path, numbers, good, lost):
    (tmp_path / "numbers.json").write_text(json.dumps(numbers))
    earlier = read_before(tmp_path)
    assert {key: json.loads(value) for _, key, value in earlier.kept} == good
    assert lost in earlier.lost.get("numbers", "")
    assert bool(earlier.lost) is bool(lost)


def test_what_version_0_1_has_set_aside_stays_lost(tmp_path):
    (tmp_path / "run.damaged-5").write_text("{")
    assert "run.json was damaged and is kept as before-0.2/run.damaged-5" in read_before(tmp_path).lost["run"]
