"""What a host does to folders and files, the same over each way to it."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import pytest
from attpc_plugins.data_routers.hosts.host import FileHost, HostFault, RunFolderExists
from attpc_plugins.data_routers.model import FileEntry, MoveOutcome
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attpc_ioc.model.run import RunRef
from tests.support.datahosts import RUN, Place, closed_run, place, sums_of, write_files
from tests.support.smalldisk import make_larger, small_disk
from tests.support.sshd import Sshd

STRANGE = [
    b"plain.graw",
    b"with space.graw",
    b"quote'\"`.graw",
    b"new\nline.graw",
    b"$(touch executed).graw",
    b"; touch executed;.graw",
    b"-rf.graw",
    b"--help.graw",
    b"\\back\\slash.graw",
    b"tab\tand\x7f.graw",
    "Größe-ж.graw".encode(),
    b"\xff\xfe latin-1 \xe9.graw",
    b"*.graw",
    b".graw",
    b".hidden.graw",
    b"%s%n.graw",
    b"x" * 250 + b".graw",
]

NAMES = st.binary(min_size=0, max_size=40).map(
    lambda raw: raw.replace(b"\0", b"0").replace(b"/", b"-") + b".graw"
)


def outcomes(moved: object) -> dict[str, MoveOutcome]:
    assert isinstance(moved, tuple)
    return {one.name: one.outcome for one in moved}


async def test_a_run_is_closed_and_nothing_changes_in_any_file(at: Place) -> None:
    host = at.host()
    assert isinstance(host, FileHost)
    sums = write_files(at.staging, STRANGE)
    (at.staging / "notes.txt").write_text("stays")
    files = await host.list_staging()
    assert [os.fsencode(file.name) for file in files] == sorted(sums)
    assert {file.size for file in files} == {100, max(file.size for file in files)}
    await host.begin(RUN)
    moved = await host.move(RUN, files)
    assert [one.name for one in moved] == [file.name for file in files]
    assert {(one.outcome, one.text) for one in moved} == {(MoveOutcome.MOVED, "")}
    gathered = await host.gathered(RUN, closed=False, checksums=True)
    assert {os.fsencode(file.name): file.sha256 for file in gathered} == sums
    assert not at.closed.exists()
    assert await host.manifest(RUN) is None
    await host.finish(RUN, b'{"version": 1}\n')
    assert await host.manifest(RUN) == b'{"version": 1}\n'
    assert sums_of(at.closed) == sums
    assert sorted(path.name for path in at.staging.iterdir()) == ["e20009", "notes.txt"]
    assert sorted(path.name for path in at.closed.parent.iterdir()) == ["run_0042"]
    again = await host.gathered(RUN, closed=True, checksums=False)
    assert [(file.name, file.size, file.sha256) for file in again] == [
        (file.name, file.size, "") for file in gathered
    ]
    assert await host.list_staging() == ()
    assert not list(at.staging.rglob("executed"))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(NAMES, min_size=1, max_size=6))
async def test_any_name_is_handled_and_never_executed(at: Place, names: set[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sums = write_files(Path(folder), names)
        host = at.host(staging=folder)
        files = await host.list_staging()
        assert {os.fsencode(file.name) for file in files} == names
        await host.begin(RUN)
        moved = await host.move(RUN, files)
        assert {(one.outcome, one.text) for one in moved} == {(MoveOutcome.MOVED, "")}
        await host.finish(RUN, b"{}")
        closed = Path(folder, RUN.experiment, RUN.folder)
        assert sums_of(closed) == sums
        found = await host.gathered(RUN, closed=True, checksums=True)
        assert {os.fsencode(file.name): file.sha256 for file in found} == sums


@pytest.mark.parametrize(
    "part", ["a b", "q'\"", "$(touch executed)", "-dash", "né-ж", "semi;colon", "back`tick`"]
)
async def test_a_staging_folder_of_any_name(at: Place, part: str) -> None:
    staging = at.staging / part
    staging.mkdir()
    write_files(staging, ["a.graw"])
    host = at.host(staging=str(staging), log=str(staging / "a.graw"))
    polled = await host.poll(RUN)
    assert (polled.files, polled.data_bytes, polled.next_exists) == (1, 100, False)
    assert (await host.tail(1)).startswith(b"0 a.graw")
    await closed_run(host, RUN)
    assert (staging / RUN.experiment / RUN.folder / "a.graw").exists()
    assert not list(at.staging.rglob("executed"))


@pytest.mark.parametrize(
    "experiment", ["", ".", "..", "../up", "a/b", "a b", "-x", "$(x)", "a\nb", "é", "x" * 64]
)
async def test_an_experiment_that_names_no_folder_is_refused(at: Place, experiment: str) -> None:
    host = at.host()
    run = RunRef(experiment, 1)
    for call in (
        lambda: host.poll(run),
        lambda: host.begin(run),
        lambda: host.move(run, ()),
        lambda: host.gathered(run, closed=True, checksums=False),
        lambda: host.finish(run, b""),
        lambda: host.manifest(run),
    ):
        with pytest.raises(HostFault, match="cannot be an experiment's name"):
            await call()
    assert list(at.staging.iterdir()) == []
    with pytest.raises(HostFault, match="number cannot be -1"):
        await host.begin(RunRef("e1", -1))


async def test_only_regular_files_are_data(at: Place) -> None:
    sums = write_files(at.staging, ["a.graw"])
    outside = at.staging.parent / "outside.bin"
    outside.write_bytes(b"not ours")
    (at.staging / "link.graw").symlink_to(outside)
    (at.staging / "nowhere.graw").symlink_to("/nonexistent")
    (at.staging / "folder.graw").mkdir()
    os.mkfifo(at.staging / "pipe.graw")
    (at.staging / "a.graw.txt").write_text("x")
    (at.staging / "b.GRAW").write_text("x")
    host = at.host()
    assert [file.name for file in await host.list_staging()] == ["a.graw"]
    assert (await host.poll(None)).files == 1
    await host.begin(RUN)
    asked = [FileEntry(name, 8, 0.0) for name in ("link.graw", "folder.graw", "pipe.graw")]
    kinds = {"link.graw": "a symbolic link", "folder.graw": "a folder", "pipe.graw": "a pipe"}
    for one in await host.move(RUN, asked):
        assert one.outcome is MoveOutcome.FAILED
        assert one.text == f"{str(at.staging / one.name)!r} is not a regular file but {kinds[one.name]}"
    assert sums_of(at.staging / "..") == {}
    assert list(at.closing.iterdir()) == []
    assert outside.read_bytes() == b"not ours"
    (at.staging / "folder.graw").rmdir()
    for name in ("link.graw", "nowhere.graw", "pipe.graw"):
        (at.staging / name).unlink()
    assert sums_of(at.staging) == sums


@pytest.mark.parametrize(
    "name", ["../up.graw", "a/b.graw", "/etc/x.graw", "nul\0.graw", "passwd", "", ".", ".."]
)
async def test_a_name_that_is_none_of_a_data_file_is_not_moved(at: Place, name: str) -> None:
    (at.staging.parent / "up.graw").write_bytes(b"x")
    host = at.host()
    write_files(at.staging, ["a.graw"], 10)
    await host.begin(RUN)
    moved = await host.move(RUN, [FileEntry(name, 1, 0.0), FileEntry("a.graw", 10, 0.0)])
    assert [one.outcome for one in moved] == [MoveOutcome.FAILED, MoveOutcome.MOVED]
    assert moved[0].name == name
    assert "cannot be the name" in moved[0].text
    assert (at.staging.parent / "up.graw").exists()


async def test_what_is_not_as_it_was_listed_stays_where_it_is(at: Place) -> None:
    sums = write_files(at.staging, ["good.graw", "grown.graw", "shrunk.graw", "there.graw", "gone.graw"])
    host = at.host()
    files = await host.list_staging()
    with (at.staging / "grown.graw").open("ab") as file:
        file.write(b"more")
    os.truncate(at.staging / "shrunk.graw", 50)
    (at.staging / "gone.graw").unlink()
    await host.begin(RUN)
    (at.closing / "there.graw").write_bytes(b"somebody's")
    moved = {one.name: one for one in await host.move(RUN, files)}
    assert {name: one.outcome.name for name, one in moved.items()} == {
        "good.graw": "MOVED",
        "grown.graw": "GROWN",
        "shrunk.graw": "GROWN",
        "there.graw": "MOVED",
        "gone.graw": "VANISHED",
    }
    assert moved["grown.graw"].text == "it has 104 bytes now, and was listed with 100"
    assert moved["shrunk.graw"].text == "it has 50 bytes now, and was listed with 100"
    assert (moved["there.graw"].text, moved["there.graw"].kept_as) == ("", "there.late1.graw")
    assert moved["gone.graw"].text == f"{str(at.staging / 'gone.graw')!r} no longer exists"
    assert sorted(path.name for path in at.staging.glob("*.graw")) == [
        "grown.graw",
        "shrunk.graw",
    ]
    assert (at.closing / "there.graw").read_bytes() == b"somebody's"
    assert sums_of(at.closing)[b"there.late1.graw"] == sums[b"there.graw"]
    assert sums_of(at.closing)[b"good.graw"] == sums[b"good.graw"]


async def test_a_run_folder_that_exists_is_never_touched(at: Place) -> None:
    write_files(at.staging, ["a.graw"])
    host = at.host()
    at.closed.mkdir(parents=True)
    for full in (False, True):
        if full:
            (at.closed / "old.graw").write_bytes(b"old")
        with pytest.raises(RunFolderExists, match=r"run_0042.* exists already"):
            await host.begin(RUN)
        at.closing.mkdir(exist_ok=True)
        with pytest.raises(RunFolderExists, match=r"run_0042.* exists already"):
            await host.finish(RUN, b"{}")
        assert [path.name for path in at.closed.iterdir()] == (["old.graw"] if full else [])
        assert (at.staging / "a.graw").exists()
    assert (await host.poll(RUN)).next_exists is True
    assert (await host.poll(RunRef("e20009", 43))).next_exists is False


@pytest.mark.parametrize("kind", ["file", "link"])
async def test_a_run_folder_that_is_none_counts_as_existing(at: Place, kind: str) -> None:
    host = at.host()
    at.closed.parent.mkdir()
    if kind == "file":
        at.closed.write_text("a file")
    else:
        at.closed.symlink_to("/nonexistent")
    assert (await host.poll(RUN)).next_exists is True
    with pytest.raises(RunFolderExists):
        await host.begin(RUN)
    at.closing.mkdir()
    with pytest.raises(RunFolderExists):
        await host.finish(RUN, b"{}")
    assert at.closed.is_symlink() or at.closed.read_text() == "a file"


@pytest.mark.parametrize("part", ["experiment", "closing"])
async def test_a_file_where_a_folder_is_needed(at: Place, part: str) -> None:
    host = at.host()
    path = at.closing if part == "closing" else at.closing.parent
    path.parent.mkdir(exist_ok=True)
    path.write_text("a file")
    with pytest.raises(HostFault, match="not a folder"):
        await host.begin(RUN)
    assert path.read_text() == "a file"


async def test_an_earlier_attempt_is_found_and_ended_the_same(at: Place) -> None:
    sums = write_files(at.staging, [f"{number}.graw" for number in range(6)])
    host = at.host()
    files = await host.list_staging()
    await host.begin(RUN)
    await host.move(RUN, files[:2])
    os.link(at.staging / "3.graw", at.closing / "3.graw")  # killed between link and unlink
    (at.closing / ".manifest.json.new").write_text("half a mani")
    await host.begin(RUN)
    moved = await host.move(RUN, files)
    assert outcomes(moved) == {file.name: MoveOutcome.MOVED for file in files}
    assert outcomes(await host.move(RUN, files)) == outcomes(moved)
    await host.finish(RUN, b"{}")
    assert sums_of(at.closed) == sums
    assert {path.stat().st_nlink for path in at.closed.iterdir()} == {1}
    assert sorted(path.name for path in at.closed.iterdir())[-1] == "manifest.json"
    assert len(list(at.closed.iterdir())) == 7
    # The reply was lost: asked again with the same manifest it has been done, with another it was not.
    await host.finish(RUN, b"{}")
    with pytest.raises(RunFolderExists):
        await host.finish(RUN, b"{ }")
    assert await host.manifest(RUN) == b"{}"


async def test_a_file_that_grew_in_the_closing_folder_is_reported(at: Place) -> None:
    write_files(at.staging, ["a.graw"])
    host = at.host()
    files = await host.list_staging()
    await host.begin(RUN)
    await host.move(RUN, files)
    with (at.closing / "a.graw").open("ab") as file:
        file.write(b"the router still had it open")
    moved = await host.move(RUN, files)
    assert moved[0].outcome is MoveOutcome.MOVED
    assert moved[0].text == "it has 128 bytes there, and was listed with 100"


async def test_folders_that_are_not_there(at: Place) -> None:
    host = at.host(staging=str(at.staging / "missing"))
    for call in (lambda: host.poll(RUN), host.list_staging, lambda: host.begin(RUN)):
        with pytest.raises(HostFault, match=r"there is no '.*/missing'"):
            await call()
    assert not (at.staging / "missing").exists()
    other = at.host()
    for call in (
        lambda: other.move(RUN, [FileEntry("a.graw", 1, 0.0)]),
        lambda: other.gathered(RUN, closed=False, checksums=False),
        lambda: other.gathered(RUN, closed=True, checksums=True),
        lambda: other.finish(RUN, b"{}"),
    ):
        with pytest.raises(HostFault, match="there is no "):
            await call()
    assert await other.manifest(RUN) is None
    assert list(at.staging.iterdir()) == []


async def test_a_full_disk_leaves_all_as_it_was_and_can_be_repeated(at: Place) -> None:
    with small_disk(at.staging):
        sums = write_files(at.staging, ["a.graw", "b.graw"])
        host = at.host()
        await host.begin(RUN)
        await host.move(RUN, await host.list_staging())
        with pytest.raises(HostFault, match=r"the disk is full: '.*manifest.json' cannot be written"):
            await host.finish(RUN, b"{}" * 100_000)
        assert not at.closed.exists()
        assert sums_of(at.closing) == sums
        assert sorted(path.name for path in at.closing.iterdir()) == ["a.graw", "b.graw"]
        await asyncio.to_thread(make_larger, at.staging)
        await host.finish(RUN, b"{}" * 100_000)
        assert sums_of(at.closed) == sums
        assert await host.manifest(RUN) == b"{}" * 100_000


async def test_a_manifest_that_is_no_file(at: Place) -> None:
    host = at.host()
    (at.closed / "manifest.json").mkdir(parents=True)
    with pytest.raises(HostFault, match="not a regular file"):
        await host.manifest(RUN)


async def test_times_and_large_sizes_are_reported_exactly(at: Place) -> None:
    path = at.staging / "huge.graw"
    with path.open("wb") as file:
        file.truncate(6 << 40)
    os.utime(path, (1_700_000_000, 1_700_000_000.25))
    host = at.host()
    (entry,) = await host.list_staging()
    assert (entry.size, entry.modified_s) == (6 << 40, 1_700_000_000.25)
    assert (await host.poll(None)).data_bytes == 6 << 40


async def test_a_disk_as_the_system_sees_it(at: Place) -> None:
    polled = await at.host().poll(None)
    disk = os.statvfs(at.staging)
    assert polled.next_exists in (False, None)
    assert polled.disk_total_bytes == pytest.approx(disk.f_blocks * disk.f_frsize, rel=0.01)
    assert 0 < polled.disk_free_bytes <= polled.disk_total_bytes
    assert polled.disk_free_bytes == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.2)


async def test_a_thousand_files_are_closed_at_once(shared_sshd: Sshd, tmp_path: Path) -> None:
    async with place(tmp_path / "staging", shared_sshd) as at:
        names = [f"CoBo{number % 12}_AsAd0_2026-03-01T12:00:00_{number:04d}.graw" for number in range(1000)]
        sums = write_files(at.staging, names)
        host = at.host()
        await host.poll(RUN)
        files = await host.list_staging()
        await host.begin(RUN)
        assert set(outcomes(await host.move(RUN, files)).values()) == {MoveOutcome.MOVED}
        await host.finish(RUN, b"{}")
        assert sums_of(at.closed) == sums
