"""Late tails of closed runs: data that come after Done go into the closed run's folder."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.closing.closings import CLOSING, Closing
from attpc_plugins.data_routers.closing.late import close_late, late_of
from attpc_plugins.data_routers.closing.summary import Summary
from attpc_plugins.data_routers.commands.verify import compare
from attpc_plugins.data_routers.hosts.host import FileHost
from attpc_plugins.data_routers.model import CloseState, FileEntry
from attpc_plugins.data_routers.watch.flow import Count

from tests.data_routers.test_commands import Shell
from tests.support.closings import EXPERIMENT, Side, fill, grow, local_settings, side, sums
from tests.support.datahosts import Place
from tests.support.smalldisk import small_disk
from tests.support.state_dir import kept

S = CloseState


def stream(number: int) -> str:
    """Return the stream of a run: its time is in the name."""
    return f"CoBo0_AsAd0_2026-11-22T04:{number:02d}:00.000"


def part(number: int, late: int = 0, nth: int = 0) -> str:
    return f"{stream(number)}_{nth:04d}{f'.late{late}' if late else ''}.graw"


def folder(staging: Path, number: int) -> Path:
    return staging / EXPERIMENT / f"run_{number:04d}"


def names_in(staging: Path, number: int) -> dict[str, str]:
    """Return the checksums by name that the manifest of a run has."""
    record = manifest.load((folder(staging, number) / "manifest.json").read_bytes(), "it")
    return {file.name: file.sha256 for file in record.files}


@pytest.fixture
async def it(at: Place, tmp_path) -> AsyncIterator[Side]:
    settings = local_settings({"CoBo0": at.staging}, checksums=True)
    async with side(tmp_path / "state", settings, {"CoBo0": at.host()}) as made:
        yield made


async def closed(it: Side, staging: Path, number: int) -> dict[str, str]:
    await it.begin(number)
    written = fill(staging, [part(number)], seed=number)
    it.end(number)
    await it.reach(number, S.DONE)
    await it.until(lambda: it.told(number)[-1:] == ["Done"])
    return written


async def taken(it: Side, staging: Path, number: int, expected: dict[str, str]) -> None:
    """Wait until late data are where they belong, and are recorded."""
    it.closing.look("CoBo0")
    await it.until(lambda: it.entry(number).files == len(expected) and not it.entry(number).late)
    assert sums(folder(staging, number)) == expected
    assert names_in(staging, number) == expected
    size = sum(path.stat().st_size for path in folder(staging, number).glob("*.graw"))
    await it.until(lambda: it.ctx.told and it.ctx.told[-1][1]["files"] == len(expected))
    fields = it.ctx.told[-1][1]
    assert (fields["number"], fields["state"], fields["data_bytes"]) == (number, "Done", size)
    assert {file["name"] for file in json.loads(fields["manifest"])["files"]} == expected.keys()
    assert it.entry(number).state is S.DONE
    assert await verified(it, number) == []


async def verified(it: Side, number: int, host: FileHost | None = None) -> list[str]:
    """Return what `files verify` finds wrong."""
    host = host or it.hosts["CoBo0"]  # type: ignore[assignment]
    assert isinstance(host, FileHost)
    _, faults = await compare(it.settings.router[0], host, it.entry(number).run)
    return faults


async def test_late_tails_after_done(it: Side, at: Place):
    staging = at.staging
    expected = await closed(it, staging, 41)
    for late in (1, 2):
        expected[part(41, late)] = fill(staging, [part(41)], seed=100 + late)[part(41)]
        await taken(it, staging, 41, expected)
        assert sums(staging) == {}
        await it.until(lambda late=late: part(41, late) in it.ctx.published["CoBo0:Router:CloseMessage_RBV"])
    assert it.ctx.published["CoBo0:Router:Close_RBV"] == int(S.DONE)
    # A part that begins late has a name of its own.
    expected |= fill(staging, [part(41, nth=1)], seed=200)
    it.closing.look("CoBo0")
    await it.until(lambda: it.entry(41).files == 4)
    assert sums(folder(staging, 41)) == expected


async def test_late_tails_wait_until_they_are_quiet_and_are_no_strays(it: Side, at: Place):
    expected = await closed(it, at.staging, 41)
    fill(at.staging, [part(41)], seed=7)
    it.closing.look("CoBo0")
    await it.until(lambda: it.closing.expected("CoBo0").files == 1)
    for _ in range(6):
        grow(at.staging / part(41))
        size = (at.staging / part(41)).stat().st_size
        await it.until(lambda size=size: it.closing.expected("CoBo0") == Count(1, size))
        assert not it.closing.unfinished("CoBo0"), "they must not refuse the next start"
        assert it.entry(41).state is S.DONE
    late = sums(at.staging)[part(41)]
    await taken(it, at.staging, 41, expected | {part(41, 1): late})
    await it.until(lambda: it.closing.expected("CoBo0") == Count())


async def test_late_tails_in_the_next_run_are_the_earlier_runs(it: Side, at: Place):
    """Those that are there when it begins, and those that come while it runs, whoever was closed since."""
    one = await closed(it, at.staging, 41)
    fill(at.staging, [part(41)], seed=7)
    await it.begin(42)
    assert it.entry(42).before == {}
    two = fill(at.staging, [part(42)], seed=42)
    grow(at.staging / part(41))
    one[part(41, 1)] = sums(at.staging)[part(41)]
    await taken(it, at.staging, 41, one)
    one[part(41, 2)] = fill(at.staging, [part(41)], seed=8)[part(41)]
    it.end(42)
    await it.reach(42, S.DONE)
    assert sums(folder(at.staging, 42)) == two
    await it.until(lambda: it.entry(41).files == 3)
    assert sums(folder(at.staging, 41)) == one
    await it.until(lambda: it.told(42)[-1:] == ["Done"])
    three = await closed(it, at.staging, 43)
    one[part(41, 3)] = fill(at.staging, [part(41)], seed=9)[part(41)]
    two[part(42, 1)] = fill(at.staging, [part(42)], seed=10)[part(42)]
    it.closing.look("CoBo0")
    await it.until(lambda: it.entry(41).files == 4 and it.entry(42).files == 2)
    for number, expected in ((41, one), (42, two), (43, three)):
        assert sums(folder(at.staging, number)) == names_in(at.staging, number) == expected
    assert sums(at.staging) == {}


async def test_names_without_time_are_strays_as_before(it: Side, at: Place):
    await it.begin(41)
    fill(at.staging, ["a.graw"])
    it.end(41)
    await it.reach(41, S.DONE)
    stray = fill(at.staging, ["a.graw"], seed=3)
    await it.begin(42)
    two = fill(at.staging, [part(42)], seed=42)
    it.end(42)
    await it.reach(42, S.DONE)
    assert sums(folder(at.staging, 42)) == two
    assert sums(at.staging) == stray
    assert it.closing.expected("CoBo0") == Count()


@pytest.mark.parametrize("last", ["kept", "linked", "moved", "amended"])
async def test_a_crash_at_any_point_is_repaired(at: Place, tmp_path, last: str):
    """The step that was the last one before the IOC was killed."""
    state, staging = tmp_path / "state", at.staging
    settings = local_settings({"CoBo0": staging}, checksums=True)
    async with side(state, settings, {"CoBo0": at.host()}) as it:
        expected = await closed(it, staging, 41)
        entry = it.entry(41)
    late = fill(staging, [part(41)], seed=7)[part(41)]
    async with side(state, settings, {"CoBo0": at.host()}) as it:
        for task in tuple(it.ctx._tasks):  # the IOC does not get further than what follows
            task.cancel()
        it.ctx._tasks.clear()
        host = at.host()
        listing = await host.list_staging()

        async def keep(entry: Closing) -> None:
            await it.closings.save(entry)

        if last == "amended":
            summary = Summary("CoBo0", None)
            await close_late(host, entry, listing, str(staging), keep=keep, checksums=True, summary=summary)
        else:
            sizes = {file.name: file.size for file in listing}
            await keep(CLOSING.validate_python(CLOSING.dump_python(entry) | {"late": sizes}))
        if last == "linked":
            os.link(staging / part(41), folder(staging, 41) / part(41, 1))
        if last == "moved":
            await host.move(entry.run, listing, closed=True)
        assert it.entry(41).late
    expected[part(41, 1)] = late
    async with side(state, settings, {"CoBo0": at.host()}) as it:
        await taken(it, staging, 41, expected)
        assert sums(staging) == {}
        assert (folder(staging, 41) / part(41, 1)).stat().st_nlink == 1


async def test_a_closed_folder_that_was_moved_off_is_said_and_starts_go_on(it: Side, at: Place):
    expected = await closed(it, at.staging, 41)
    away = folder(at.staging, 41).with_name("archived")
    folder(at.staging, 41).rename(away)
    late = fill(at.staging, [part(41)], seed=7)[part(41)]
    it.closing.look("CoBo0")
    entry = await it.reach(41, S.INCOMPLETE)
    assert f"late data of this run are still in {at.staging} ({part(41)}): there is no " in entry.message
    await it.until(lambda: it.ctx.published["CoBo0:Router:Close_RBV"] == int(S.INCOMPLETE))
    assert not it.closing.unfinished("CoBo0")
    await it.until(lambda: it.closing.expected("CoBo0").files == 1)
    assert sums(at.staging) == {part(41): late}
    away.rename(folder(at.staging, 41))
    await taken(it, at.staging, 41, expected | {part(41, 1): late})


async def test_late_data_that_somebody_took_away_are_forgotten(it: Side, at: Place):
    await closed(it, at.staging, 41)
    away = folder(at.staging, 41).with_name("archived")
    folder(at.staging, 41).rename(away)
    fill(at.staging, [part(41)], seed=7)
    it.closing.look("CoBo0")
    await it.reach(41, S.INCOMPLETE)
    (at.staging / part(41)).rename(away / part(41, 1))
    it.closing.look("CoBo0")
    await it.reach(41, S.DONE)
    await it.until(lambda: it.closing.expected("CoBo0") == Count())


async def test_another_closings_folder_is_left_alone(it: Side, at: Place):
    await closed(it, at.staging, 41)
    path = folder(at.staging, 41) / "manifest.json"
    document = json.loads(path.read_text()) | {"closing": "another"}
    path.write_text(json.dumps(document))
    late = fill(at.staging, [part(41)], seed=7)
    it.closing.look("CoBo0")
    entry = await it.reach(41, S.INCOMPLETE)
    assert "is of another closing" in entry.message
    assert sums(at.staging) == late
    assert json.loads(path.read_text()) == document


async def test_verify_reports_late_data_that_are_not_moved_yet(at: Place, tmp_path):
    settings = local_settings({"CoBo0": at.staging}, quiet_s=0.2)
    async with side(tmp_path / "state", settings, {"CoBo0": at.host()}) as it:
        await closed(it, at.staging, 41)
    fill(at.staging, [part(41)], seed=7)
    async with side(tmp_path / "state", local_settings({"CoBo0": at.staging}, quiet_s=1000.0)) as it:
        (fault,) = await verified(it, 41, at.host())
        assert f"late data of this run are still in {at.staging}: {part(41)}" in fault


def test_late_data_are_of_the_newest_closed_run_with_the_stream():
    def entry(number: int, phase: str = "done", **fields: object) -> Closing:
        kept = {"run": {"experiment": "e", "number": number}, "router": "CoBo0", "sources": []}
        return CLOSING.validate_python(kept | {"token": str(number), "phase": phase} | fields)

    files = tuple(FileEntry(name, 1, 0.0) for name in (part(1), part(2), part(3), "a.graw"))
    entries = [
        entry(1, streams=[stream(1), stream(2)]),
        entry(2, streams=[stream(2)]),
        entry(3, "dropped", streams=[stream(3)]),
    ]
    found = {token: [file.name for file in late] for token, late in late_of(entries, files).items()}
    assert found == {"1": [part(1)], "2": [part(2)]}
    assert late_of([*entries, entry(4, "closing", chosen={part(2): 1})], files).keys() == {"1"}


async def test_only_the_last_runs_are_kept_and_without_their_manifests(tmp_path, monkeypatch):
    staging, state = tmp_path / "staging", tmp_path / "state"
    staging.mkdir()
    monkeypatch.setattr("attpc_plugins.data_routers.closing.reporting.LATE_RUNS", 2)
    async with side(state, local_settings({"CoBo0": staging})) as it:
        for number in (1, 2, 3):
            await closed(it, staging, number)
        it.closing.look("CoBo0")
        await it.until(lambda: [entry.run.number for entry in it.closings.of()] == [2, 3])
        await it.until(lambda: [bool(entry.manifest) for entry in it.closings.of()] == [False, True])
    assert len(kept(state, "data_routers/closings")) == 2


async def test_a_full_disk_keeps_late_data_and_says_that_the_manifest_lacks_them(at: Place, tmp_path):
    settings = local_settings({"CoBo0": at.staging}, checksums=True)
    with small_disk(at.staging, "1m"):
        async with side(tmp_path / "state", settings, {"CoBo0": at.host()}) as it:
            expected = await closed(it, at.staging, 41)
            late = fill(at.staging, [part(41)], seed=7)[part(41)]
            with contextlib.suppress(OSError), (at.staging / "filler").open("wb", 0) as filler:
                while filler.write(b"x" * 512):
                    pass
            it.closing.look("CoBo0")
            entry = await it.reach(41, S.INCOMPLETE)
            assert "full" in entry.message
            assert entry.late
            expected[part(41, 1)] = late
            assert sums(folder(at.staging, 41)) == expected
            # It is tried again, and not taken for done because nothing is left in the staging folder.
            it.closing.look("CoBo0")
            await it.until(lambda: "not in its manifest yet" in it.entry(41).message)
            (at.staging / "filler").unlink()
            await taken(it, at.staging, 41, expected)


def test_late_data_are_moved_by_hand_where_no_ioc_runs(tmp_path):
    shell = Shell(tmp_path)
    staging = shell.staging["CoBo0"]
    expected = fill(staging, [part(42)])
    closing = ("files", "close", 42, "--experiment", EXPERIMENT, "--router", "CoBo0")
    assert shell(*closing).exit_code == 0
    late = fill(staging, [part(42)], seed=7)[part(42)]
    verified = shell("files", "verify", 42)
    assert verified.exit_code == 1
    assert f"late data of this run are still in {staging}: {part(42)}" in verified.output
    assert "`attpc-ioc files close 42`" in verified.output
    ran = shell(*closing)
    assert ran.exit_code == 0, ran.output
    assert f"late data are beside their files: {part(42, 1)}" in ran.output
    expected[part(42, 1)] = late
    assert sums(shell.place()) == names_in(staging, 42) == expected
    assert sums(staging) == {}
    assert shell("files", "verify", 42, "--router", "CoBo0").exit_code == 0
    # What cannot be moved is a fault of the command.
    fill(staging, [part(42)], seed=8)
    shell.place().rename(shell.place().with_name("archived"))
    ran = shell(*closing)
    assert ran.exit_code == 1
    assert "manifest.json, beside which they belong" in ran.output


async def test_nothing_is_moved_where_closing_is_switched_off(tmp_path):
    staging = tmp_path / "staging"
    staging.mkdir()
    async with side(tmp_path / "state", local_settings({"CoBo0": staging})) as it:
        await closed(it, staging, 41)
    late = fill(staging, [part(41)], seed=7)
    async with side(tmp_path / "state", local_settings({"CoBo0": staging}, enabled=False)) as it:
        for _ in range(3):
            await it.closing._next_round("CoBo0")
        assert it.closing.expected("CoBo0") == Count()
    assert sums(staging) == late


async def test_a_run_that_an_earlier_version_has_closed_gets_its_late_data(at: Place, tmp_path):
    """What that version has kept does not have the streams."""
    settings = local_settings({"CoBo0": at.staging}, checksums=True)
    async with side(tmp_path / "state", settings, {"CoBo0": at.host()}) as it:
        expected = await closed(it, at.staging, 41)
        await it.closings.save(replace(it.entry(41), streams=frozenset()))
    expected[part(41, 1)] = fill(at.staging, [part(41)], seed=7)[part(41)]
    async with side(tmp_path / "state", settings, {"CoBo0": at.host()}) as it:
        await taken(it, at.staging, 41, expected)
