"""What version 0.1 kept in files is taken over once: from a state directory with closings pending."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from attpc_plugins.data_routers.closing.closings import Phase
from attpc_plugins.data_routers.model import CloseState
from attpc_plugins.data_routers.state import ONLY, Baseline, ConfigsRead, Records
from attpc_plugins.data_routers.take_over import take_over
from attpc_plugins.data_routers.watch.flow import Count

from attpc_ioc.model.run import RunRef
from attpc_ioc.simulator.data.options import Access
from tests.data_routers.test_commands import Shell
from tests.support.closings import entries_of, fill, records_in, sums
from tests.support.data_rig import SECTION, data_rig, section, shown
from tests.support.state_dir import kept, make_unwritable, make_writable

LEFT = Path(__file__).with_name("state_of_0_1")
"""Run 0 is closed on the MuTAnT's host and pending on CoBo0's; run 1 is on; copies of both runs wait."""

FIRST, SECOND = RunRef("unnamed", 0), RunRef("unnamed", 1)
FILES = [f"CoBo0_AsAd{asad}_2026-11-29T09:35:55.468_0000.graw" for asad in range(2)]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return Path(shutil.copytree(LEFT, tmp_path / "state"))


def own(state: Path) -> Path:
    return state / "plugins" / "data_routers"


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def check(records: Records) -> None:
    """All of it is there."""
    closings = records.closings
    assert [(e.run, e.router, e.phase, e.state) for e in closings.of()] == [
        (FIRST, "CoBo0", Phase.CLOSING, CloseState.WAITING),
        (FIRST, "MuTAnT", Phase.DONE, CloseState.DONE),
        (SECOND, "CoBo0", Phase.RUNNING, CloseState.NONE),
        (SECOND, "MuTAnT", Phase.RUNNING, CloseState.NONE),
    ]
    pending, after = closings.find(FIRST, "CoBo0"), closings.find(SECOND, "CoBo0")
    assert pending is not None
    assert after is not None
    assert pending.chosen == dict.fromkeys(FILES, 1198397)
    assert (pending.token, pending.frozen, pending.reported) == (
        "9ee24c98b10146c5aee26b8e3e31dacf",
        True,
        "Waiting",
    )
    assert after.before == dict.fromkeys(FILES)
    assert after.remarks[0].startswith("started in spite of: ")
    assert records.baseline.values == {
        ONLY: Baseline(SECOND, {"CoBo0": Count(2, 2000488), "MuTAnT": Count(0, 0)})
    }
    assert records.configs_read.values == {ONLY: ConfigsRead(FIRST)}
    assert records.loaded.values.keys() == {
        f"{module}.{part}" for module in ("cobo0", "mutant") for part in ("describe", "configure")
    }
    assert records.loaded.values["cobo0.describe"].name == "cobo0"
    read = (LEFT / "plugins" / "data_routers" / "configs" / "unnamed" / "run_0001").iterdir()
    assert records.waiting.values.keys() == {str(FIRST), str(SECOND)}
    assert records.waiting.values[str(SECOND)].files == {path.name: path.read_bytes() for path in read}
    assert closings.fault == ""


async def test_all_is_taken_over_and_the_files_are_put_away(state):
    async with records_in(state) as records:
        await take_over(records, own(state))
        check(records)
        assert not own(state).exists()
        assert names(state / "before-0.2" / "data_routers") == names(LEFT / "plugins" / "data_routers")
    async with records_in(state) as records:
        await take_over(records, own(state))
        check(records)


async def test_after_a_kill_before_they_were_put_away_what_is_in_the_database_counts(state):
    async with records_in(state) as records:
        await take_over(records, own(state))
    shutil.copytree(LEFT / "plugins" / "data_routers", own(state))
    async with records_in(state) as records:
        pending = records.closings.find(FIRST, "CoBo0")
        assert pending is not None
        await records.closings.save(pending.in_state(CloseState.FAILED, "as it is now"))
        await take_over(records, own(state))
        assert records.closings.find(FIRST, "CoBo0") == pending.in_state(CloseState.FAILED, "as it is now")
        assert len(records.closings.of()) == 4
        assert not own(state).exists()
        assert (state / "before-0.2" / "data_routers-2").is_dir()


async def test_where_nothing_can_be_written_it_is_taken_over_the_next_time(state):
    async with records_in(state) as records:
        # The folder is read, and the database is not to be had.
        place = Path(shutil.copytree(own(state), state.with_name("x") / "plugins" / "data_routers"))
        make_unwritable(state)
        await take_over(records, place)
        check(records)
        assert names(place)
        make_writable(state)
        await take_over(records, place)
        assert not names(place)
    assert len(entries_of(state)) == 4


@pytest.mark.parametrize("raw", ["", "[]", "{}", '{"version": 2}', "[" * 100_000])
async def test_a_damaged_file_is_said_and_the_others_count(state, raw):
    closing = own(state) / "closing"
    (closing / "unnamed.run_0000.CoBo0.json").write_text(raw)
    (closing / "old.damaged-1").write_text("set aside by 0.1")
    for name in ("baselines.json", "configs-last.json", "loaded/cobo0.describe"):
        (own(state) / name).write_bytes(b"\xff")
    async with records_in(state) as records:
        await take_over(records, own(state))
        assert len(records.closings.of()) == 3
        for text in ("unnamed.run_0000.CoBo0.json is damaged", "old.damaged-1 was damaged", "before-0.2"):
            assert text in records.closings.fault
        assert not records.baseline.values
        assert len(records.loaded.values) == 3
    kept_aside = state / "before-0.2" / "data_routers" / "closing" / "unnamed.run_0000.CoBo0.json"
    assert kept_aside.read_text() == raw


def test_a_command_that_comes_first_takes_it_over(tmp_path):
    shell = Shell(tmp_path)
    shutil.copytree(LEFT, shell.state)
    written = fill(shell.staging["CoBo0"], FILES)
    ran = shell("files", "close", 0, "--router", "CoBo0")
    assert ran.exit_code == 0, ran.output
    assert sums(shell.staging["CoBo0"] / "unnamed" / "run_0000") == written
    assert [entry.phase for entry in shell.entries()].count(Phase.DONE) == 2
    assert not own(shell.state).exists()
    # And what was the core's as well, which an IOC would otherwise find no more.
    assert kept(shell.state, "run")[""]["info"]["number"] == 1
    assert (shell.state / "before-0.2" / "run.json").is_file()


async def test_an_ioc_goes_on_with_what_0_1_has_left(state, tmp_path, monkeypatch):
    backup = tmp_path / "backup"
    backup.mkdir()
    text = section() + f'\n[{SECTION}.backup]\nfolder = "{backup}"'
    async with data_rig(
        tmp_path, monkeypatch, access=Access.LOCAL, cobos=1, text=text, start=False, wait=False
    ) as it:
        staging = it.fleet.data["CoBo[0]"].staging
        first = fill(staging, FILES)
        second = fill(staging, ["CoBo0_AsAd0_of_run_1.graw"], seed=2)
        await it.start_ioc()
        last = staging / "unnamed" / "run_0001" / "manifest.json"
        await it.until(last.exists, 60.0, "run 1 is closed")
        done = int(CloseState.DONE)
        await it.until(lambda: shown(it, "Run:Closing_RBV") == done, 60.0, "both runs are closed")
        assert sums(staging / "unnamed" / "run_0000") == first
        assert sums(staging / "unnamed" / "run_0001") == second
        assert sums(staging) == {}
        await it.until(lambda: len(list(backup.rglob("*.xcfg"))) == 6, 20.0, "the copies are there")
        await it.stop_ioc()
        assert os.listdir(state / "before-0.2") != []
        assert names(state / "before-0.2" / "data_routers") == names(LEFT / "plugins" / "data_routers")
