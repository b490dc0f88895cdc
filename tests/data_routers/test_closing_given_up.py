"""Files of runs that are mixed or given up are moved into no later run's folder; messages say what is so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
from attpc_plugins.data_routers.closing.closings import Closing, Phase
from attpc_plugins.data_routers.closing.summary import Summary
from attpc_plugins.data_routers.closing.whose import own_files, settle
from attpc_plugins.data_routers.commands.by_hand import Wishes, carry_out
from attpc_plugins.data_routers.hosts.make import host_for
from attpc_plugins.data_routers.model import CloseState, FileEntry

from attpc_ioc.model.run import RunRef
from tests.data_routers.test_commands import Shell
from tests.support.closings import EXPERIMENT, closings_in, fill, local_settings, side, sums
from tests.support.denied import denied

S = CloseState


def entry_of(number: int, **fields) -> Closing:
    return Closing(RunRef(EXPERIMENT, number), "CoBo0", ("CoBo0",), Phase.CLOSING, began_s=number, **fields)


def listed(*names: str) -> tuple[FileEntry, ...]:
    return tuple(FileEntry(name, 1, 0.0) for name in names)


def own(entry: Closing, entries: Sequence[Closing], *names: str) -> set[str]:
    return {file.name for file in own_files(entry, entries, listed(*names))}


def mixed_two() -> tuple[Closing, ...]:
    return settle([entry_of(16, settled=True), entry_of(17)], listed("a", "b"), early=False)


def test_a_third_run_that_is_listed_late_is_mixed_as_well():
    entries = settle([*mixed_two(), entry_of(18)], listed("a", "b", "c"), early=False)
    (text,) = {entry.mixed for entry in entries}
    assert "files of runs 16, 17, 18 may be mixed" in text
    assert text.endswith(
        ": `attpc-ioc files close 16 --router CoBo0 --only '*TIME*'`, "
        "`attpc-ioc files close 17 --router CoBo0 --only '*TIME*'`, then "
        "`attpc-ioc files close 18 --router CoBo0 --all`"
    )


def test_a_third_run_that_is_listed_in_time_is_not():
    entries = settle([*mixed_two(), entry_of(18)], listed("a", "b"), early=True)
    assert [bool(entry.mixed) for entry in entries] == [True, True, False]
    assert own(entries[2], entries, "a", "b", "c") == {"c"}


def test_one_that_was_never_listed_gets_nothing_of_mixed_ones():
    entries = settle([*mixed_two(), entry_of(18), entry_of(19)], listed("a", "b", "c"), early=True)
    assert [bool(entry.mixed) for entry in entries] == [True, True, True, False]
    assert own(entries[3], entries, "a", "b", "c", "d") == {"d"}


@pytest.mark.parametrize("known", ["waiting", "mixed"])
def test_files_of_runs_that_were_given_up_are_no_later_runs(known):
    if known == "mixed":
        earlier = mixed_two()
    else:
        earlier = (entry_of(16, settled=True, before={}, chosen={"a": 1, "b": 1}),)
    given_up = [replace(entry, phase=Phase.DROPPED) for entry in earlier]
    *_, last = entries = settle([*given_up, entry_of(18)], listed("a", "b", "c"), early=False)
    assert (last.before, last.mixed) == (None, "")
    assert own(last, entries, "a", "b", "c", "d") == {"c", "d"}


async def test_runs_that_are_given_up_leave_their_files_where_they_are(tmp_path):
    staging = tmp_path / "staging"
    staging.mkdir()
    async with side(tmp_path / "state", local_settings({"CoBo0": staging}, quiet_s=30.0)) as it:
        await it.begin(1)
        kept = fill(staging, ["a.graw", "b.graw"])
        it.end(1)
        await it.until(lambda: len(it.entry(1).chosen) == 2)
        async with it.closings.locked("CoBo0", 5.0):
            await it.closings.save(replace(it.entry(1), phase=Phase.DROPPED))
    for number in (2, 3):
        async with side(tmp_path / "state", local_settings({"CoBo0": staging})) as it:
            it.go_on(number)  # nobody has seen how it began
            await it.until(lambda number=number, it=it: it.entries(number))
            written = fill(staging, [f"c{number}.graw"], seed=number)
            it.end(number)
            await it.reach(number, S.DONE)
            assert sums(staging / EXPERIMENT / f"run_{number:04d}") == written
            assert sums(staging) == kept
    # Once they are moved by hand, their names are free again.
    for name in kept:
        (staging / name).rename(tmp_path / name)
    async with side(tmp_path / "state", local_settings({"CoBo0": staging})) as it:
        await it.begin(4)
        written = fill(staging, ["a.graw"], seed=4)
        it.end(4)
        await it.reach(4, S.DONE)
        assert sums(staging / EXPERIMENT / "run_0004") == written


# ---------------------------------------------------------------------------- what messages say


async def test_another_file_of_a_name_is_late_data_and_counted(tmp_path):
    staging = tmp_path / "staging"
    gathering = staging / EXPERIMENT / ".run_0042.closing"
    gathering.mkdir(parents=True)
    (gathering / "a.graw").write_bytes(b"of somebody else")
    settings = local_settings({"CoBo0": staging})
    async with side(tmp_path / "state", settings) as it:
        await it.begin(42)
        written = fill(staging, [f"{letter}.graw" for letter in "abcd"])
        it.end(42)
        entry = await it.reach(42, S.DONE)
        assert entry.files == 5
        place = staging / EXPERIMENT / "run_0042"
        assert (place / "a.graw").read_bytes() == b"of somebody else"
        assert sums(place)["a.late1.graw"] == written["a.graw"]


async def test_where_the_files_are_when_the_closing_folder_cannot_be_made(tmp_path):
    staging = tmp_path / "staging"
    folder = staging / EXPERIMENT
    folder.mkdir(parents=True)
    async with side(tmp_path / "state", local_settings({"CoBo0": staging})) as it:
        await it.begin(42)
        written = fill(staging, ["a.graw", "b.graw"])
        with denied(folder):
            it.end(42)
            entry = await it.reach(42, S.FAILED)
            assert "the folder to move them to cannot be made: " in entry.message
            assert f"2 of 2 files are in {staging}" in entry.message
            assert sums(staging) == written
            await it.until(lambda: it.ctx.published["CoBo0:Router:CloseProgress_RBV"] == 0.0)
        it.closing.again()
        await it.reach(42, S.DONE)


def test_a_file_that_was_there_and_is_gone_was_written(tmp_path):
    shell = Shell(tmp_path)
    shell.put(42, Phase.CLOSING, chosen={"a.graw": 5})
    ran = shell("files", "close", 42, "--router", "CoBo0")
    assert ran.exit_code == 1
    assert "gone from the staging folder: a.graw" in ran.output
    ran = shell("files", "close", 42, "--router", "CoBo0", "--without-missing")
    assert ran.exit_code == 0, ran.output
    assert "none of its files is left" in ran.output
    assert "without a.graw" in ran.output
    assert "no file was written" not in ran.output


# ---------------------------------------------------------------------------- the command beside the IOC


async def test_the_command_judges_by_its_own_rounds(tmp_path):
    staging = tmp_path / "staging"
    staging.mkdir()
    written = fill(staging, ["a.graw"])
    settings = local_settings({"CoBo0": staging})
    async with closings_in(tmp_path / "state") as closings:
        await closings.save(entry_of(42, settled=True, before={}))
        hosts = {router.label: host_for(router, settings) for router in settings.router}
        lines: list[str] = []
        wishes = Wishes(RunRef(EXPERIMENT, 42), ("CoBo0",))
        summaries = {"CoBo0": Summary("CoBo0", None)}
        work = carry_out(
            wishes, settings, hosts, closings, summaries, lambda text, _wrong: lines.append(text)
        )
        closing = asyncio.create_task(work)
        said = False
        while not closing.done():
            async with closings.locked("CoBo0", 5.0):
                entry = closings.find(RunRef(EXPERIMENT, 42), "CoBo0")
                assert entry is not None
                if entry.state is S.WAITING and not said:
                    text = "still growing or changing after 600 s: a.graw"
                    await closings.save(entry.in_state(S.FAILED, text))
                    said = True
            await asyncio.sleep(0.01)
        assert said
        assert closing.result(), lines
        for host in hosts.values():
            await host.disconnect()
    assert sums(staging / EXPERIMENT / "run_0042") == written


async def test_the_limit_begins_anew_when_a_closing_is_begun_anew(tmp_path):
    staging = tmp_path / "staging"
    staging.mkdir()
    settings = local_settings({"CoBo0": staging}, quiet_s=0.5, limit_s=1.0)
    async with side(tmp_path / "state", settings) as it:
        await it.begin(42)
        it.end(42)
        restless = staging / "a.graw"

        def grown(state: CloseState) -> bool:
            with restless.open("ab") as file:
                file.write(b"more")
            return it.entry(42).state is state

        await it.until(lambda: grown(S.FAILED))
        async with it.closings.locked("CoBo0", 5.0):
            await it.closings.save(it.entry(42).in_state(S.WAITING, "begun at the shell"))
        again_s = time.monotonic()
        it.closing.again()
        await it.until(lambda: time.monotonic() - again_s > 0.7 or grown(S.FAILED))
        # On a machine that was busy with something else the new limit may be over as well.
        failed = it.entry(42).state is S.FAILED
        assert not failed or time.monotonic() - again_s >= 1.0, "it failed at once"
        if failed:
            it.closing.again()
        await it.reach(42, S.DONE)
