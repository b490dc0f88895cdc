"""From the events of runs to files in their place, over real folders of this machine."""

from __future__ import annotations

import json
import os
import time

import pytest
from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.model import CloseState

from attpc_ioc.model.run import RunRef
from tests.support.closings import EXPERIMENT, everywhere, fill, grow, local_settings, side, sums

D = CloseState.DONE


@pytest.fixture
def staging(tmp_path):
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


async def test_a_run_of_two_hosts(tmp_path, state):
    folders = {name: tmp_path / name for name in ("CoBo0", "MuTAnT")}
    for folder in folders.values():
        folder.mkdir()
    async with side(state, local_settings(folders)) as it:
        await it.begin(42)
        written = {n: fill(f, ["a.graw", "b c.graw"], seed=i) for i, (n, f) in enumerate(folders.items())}
        it.end(42)
        for name, folder in folders.items():
            await it.reach(42, D, name)
            place = folder / EXPERIMENT / "run_0042"
            assert sums(place) == written[name]
            assert os.listdir(folder) == [EXPERIMENT]
            record = manifest.load((place / "manifest.json").read_bytes(), "here")
            assert record.run == RunRef(EXPERIMENT, 42)
            assert record.router == name
            assert record.sources == (name,)
            assert {f.name: f.size for f in record.files} == {
                f: (place / f).stat().st_size for f in written[name]
            }
            assert (record.started_s, record.stopped_s, record.note) == (2042.0, 3042.0, "")
        await it.until(lambda: it.told(42).count("Done") == 2)  # told after it was shown
        assert it.ctx.published["Run:Closing_RBV"] == int(D)
        assert it.ctx.published["Run:ClosingMessage_RBV"] == "2 of 2 data routers done"
        assert it.ctx.published["CoBo0:Router:Close_RBV"] == int(D)
        assert it.ctx.published["CoBo0:Router:CloseProgress_RBV"] == 100.0
        assert "2 files" in it.ctx.published["MuTAnT:Router:CloseMessage_RBV"]
        done = [
            fields for _, fields in it.ctx.told if fields["state"] == "Done" and fields["router"] == "CoBo0"
        ]
        assert json.loads(done[0]["manifest"])["run"] == 42
        assert done[0]["files"] == 2
        assert done[0]["location"] == str(folders["CoBo0"] / EXPERIMENT / "run_0042")


async def test_checksums_are_in_the_manifest_where_they_are_asked_for(staging, state):
    async with side(state, local_settings({"CoBo0": staging}, checksums=True)) as it:
        await it.begin(1)
        written = fill(staging, ["a.graw"])
        it.end(1)
        entry = await it.reach(1, D)
        assert {f.name: f.sha256 for f in manifest.load(entry.manifest.encode(), "it").files} == written


async def test_a_run_without_a_file_has_its_folder_and_a_manifest(staging, state):
    async with side(state, local_settings({"CoBo0": staging})) as it:
        await it.begin(7)
        it.end(7)
        entry = await it.reach(7, D)
        assert (entry.files, entry.data_bytes) == (0, 0)
        assert os.listdir(staging / EXPERIMENT / "run_0007") == ["manifest.json"]


async def test_strays_stay_where_they_are(staging, state):
    strays = fill(staging, ["stray.graw"], seed=9)
    async with side(state, local_settings({"CoBo0": staging})) as it:
        await it.begin(5)
        written = fill(staging, ["run.graw"])
        it.end(5)
        await it.reach(5, D)
        assert sums(staging / EXPERIMENT / "run_0005") == written
        assert sums(staging) == strays


async def test_nothing_is_moved_before_all_is_quiet(staging, state):
    async with side(state, local_settings({"CoBo0": staging}, quiet_s=0.6)) as it:
        await it.begin(5)
        fill(staging, ["run.graw"])
        it.end(5)
        await it.reach(5, CloseState.WAITING)
        last_s = time.monotonic()
        for number in range(6):
            grow(staging / "run.graw")
            last_s = time.monotonic()
            before = it.ctx.published["CoBo0:Router:CloseProgress_RBV"]
            await it.until(lambda before=before: it.ctx.published["CoBo0:Router:CloseProgress_RBV"] != before)
            assert (staging / "run.graw").exists(), number
        fill(staging, ["late.graw"], seed=3)
        expected = sums(staging)
        await it.reach(5, D)
        assert time.monotonic() - last_s > 0.6
        assert sums(staging / EXPERIMENT / "run_0005") == expected


async def test_a_file_that_never_rests_is_named_and_stays_and_is_taken_when_it_does(staging, state):
    async with side(state, local_settings({"CoBo0": staging}, quiet_s=0.5, limit_s=1.0)) as it:
        await it.begin(5)
        fill(staging, ["still.graw", "restless.graw"])
        it.end(5)

        def failed():
            grow(staging / "restless.graw")
            return it.entry(5).state is CloseState.FAILED

        await it.until(failed)
        message = it.entry(5).message
        assert "restless.graw" in message
        assert "still.graw" not in message
        assert len(sums(staging)) == 2
        expected = sums(staging)
        await it.reach(5, D)
        assert sums(staging / EXPERIMENT / "run_0005") == expected


async def test_a_start_that_failed_without_a_number_leaves_nothing(staging, state):
    async with side(state, local_settings({"CoBo0": staging})) as it:
        info = await it.begin(5)
        it.closing.run_failed(info, released=True)
        await it.until(lambda: not it.entries(5))
        assert os.listdir(staging) == []


async def test_a_start_that_failed_and_used_its_number_is_closed(staging, state):
    async with side(state, local_settings({"CoBo0": staging})) as it:
        info = await it.begin(5)
        written = fill(staging, ["a.graw"])
        it.closing.run_failed(info, released=False)
        await it.reach(5, D)
        assert sums(staging / EXPERIMENT / "run_0005") == written


async def test_the_next_run_begins_while_the_files_of_the_last_still_grow(staging, state):
    async with side(state, local_settings({"CoBo0": staging}, quiet_s=0.6)) as it:
        await it.begin(41)
        fill(staging, ["first.graw"])
        it.end(41)
        await it.reach(41, CloseState.WAITING)
        await it.begin(42)
        assert set(it.entry(41).chosen) == {"first.graw"}
        assert it.entry(41).frozen
        second = fill(staging, ["second.graw"], seed=2)
        grow(staging / "first.graw")
        first = sums(staging, ["first.graw"])
        await it.reach(41, D)
        assert sums(staging) == second
        it.end(42)
        await it.reach(42, D)
        assert sums(staging / EXPERIMENT / "run_0041") == first
        assert sums(staging / EXPERIMENT / "run_0042") == second
        # What is over and told stays for checks, without its manifest; a put to Run:CloseAgain looks at once.
        await it.until(lambda: it.told(42)[-1:] == ["Done"])
        it.closing.again()
        await it.until(
            lambda: [(e.run.number, e.manifest != "") for e in it.closings.of()] == [(41, False), (42, True)]
        )


async def test_a_run_that_was_found_without_a_record_takes_what_is_there_and_says_so(staging, state):
    async with side(state, local_settings({"CoBo0": staging})) as it:
        written = fill(staging, ["a.graw"])
        it.go_on(3)
        await it.until(lambda: it.entries(3) and it.entry(3).settled)
        it.end(3)
        entry = await it.reach(3, D)
        assert sums(staging / EXPERIMENT / "run_0003") == written
        assert "not known" in entry.message
        assert "not known" in manifest.load(entry.manifest.encode(), "it").note


async def test_a_restart_goes_on(staging, state):
    settings = local_settings({"CoBo0": staging}, quiet_s=0.3)
    async with side(state, settings) as it:
        await it.begin(3)
        written = fill(staging, ["a.graw"])
    async with side(state, settings) as it:
        it.show_run(it.info(3), it.ctx.fleet.run.state.RUNNING, it.ctx.fleet.modules["eccCoBo0"].state)
        it.end(3)
        await it.reach(3, CloseState.WAITING)
    async with side(state, settings) as it:
        await it.reach(3, D)
        assert sums(staging / EXPERIMENT / "run_0003") == written
        await it.until(lambda: it.told(3)[-1:] == ["Done"])
    async with side(state, settings) as it:
        # What was told is not told again, and shown again.
        assert it.ctx.published["CoBo0:Router:Close_RBV"] == int(D)
        assert it.told(3) == []


async def test_a_router_without_a_member_of_the_run_is_left_alone(tmp_path, state):
    folders = {name: tmp_path / name for name in ("CoBo0", "CoBo1")}
    for folder in folders.values():
        folder.mkdir()
    async with side(state, local_settings(folders)) as it:
        info = it.info(4)
        info = type(info)(4, EXPERIMENT, ("eccCoBo0",), began_s=1.0)
        it.show_run(info, it.ctx.fleet.run.state.STARTING, it.ctx.fleet.modules["eccCoBo0"].state)
        await it.closing.run_starting(info)
        await it.until(lambda: it.entry(4).settled)
        fill(folders["CoBo0"], ["a.graw"])
        other = fill(folders["CoBo1"], ["b.graw"])
        it.closing.run_stopped(info)
        await it.reach(4, D)
        assert sums(folders["CoBo1"]) == other
        assert list(everywhere(folders["CoBo1"]).values()) == [["b.graw"]]
        assert [entry.router for entry in it.entries(4)] == ["CoBo0"]


async def test_a_router_that_took_no_part_keeps_no_message_of_an_earlier_run(tmp_path, state):
    folders = {name: tmp_path / name for name in ("CoBo0", "CoBo1")}
    for folder in folders.values():
        folder.mkdir()
    async with side(state, local_settings(folders)) as it:
        await it.begin(4)
        it.end(4)
        for label in folders:
            await it.reach(4, D, label)
        await it.until(lambda: it.ctx.published["Run:ClosingMessage_RBV"].startswith("2 of 2"))
        info = type(it.info(5))(5, EXPERIMENT, ("eccCoBo0",), began_s=1005.0)
        it.show_run(info, it.ctx.fleet.run.state.STARTING, it.ctx.fleet.modules["eccCoBo0"].state)
        await it.closing.run_starting(info)
        assert it.ctx.published["Run:ClosingMessage_RBV"].startswith("2 of 2"), "until the run has ended"
        fill(folders["CoBo0"], ["a.graw"])
        it.closing.run_stopped(info)
        await it.until(lambda: it.ctx.published["Run:ClosingMessage_RBV"] == "1 of 1 data router done")
        assert it.ctx.published["CoBo1:Router:Close_RBV"] == int(CloseState.NONE)
        assert it.ctx.published["CoBo1:Router:CloseMessage_RBV"] == ""
        assert it.ctx.published["CoBo0:Router:CloseMessage_RBV"].startswith("run 5: ")


async def test_a_stray_that_grows_in_a_run_belongs_to_it(staging, state):
    strays = fill(staging, ["still.graw", "grows.graw"], seed=9)
    async with side(state, local_settings({"CoBo0": staging})) as it:
        await it.begin(5)
        grow(staging / "grows.graw")
        grown = sums(staging, ["grows.graw"])
        it.end(5)
        entry = await it.reach(5, D)
        assert sums(staging / EXPERIMENT / "run_0005") == grown
        assert sums(staging) == {"still.graw": strays["still.graw"]}
        assert (entry.files, entry.data_bytes) == (
            1,
            (staging / EXPERIMENT / "run_0005" / "grows.graw").stat().st_size,
        )
