"""Links, pipes and the like below a staging folder: told with their path and kind, and left alone.

Who can write into a staging folder may put them there. No file elsewhere is read, written, moved or made.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from attpc_plugins.data_routers.configs.spool import BackupFault, Spool
from attpc_plugins.data_routers.hosts.host import FileHost, HostFault, RunFolderExists
from attpc_plugins.data_routers.hosts.local.folders import RunFolders
from attpc_plugins.data_routers.hosts.ssh import wire
from attpc_plugins.data_routers.model import FileEntry, MoveOutcome, closing_folder
from attpc_plugins.data_routers.state import Records

from tests.data_routers.test_hosts_agent import ask_agent
from tests.support.data_rig import data_rig, shown
from tests.support.datahosts import RUN, Place, sums_of, write_files

FILE = FileEntry("a.graw", 100, 0.0)

STEPS: dict[str, Callable[[FileHost], Awaitable[object]]] = {
    "begin": lambda host: host.begin(RUN),
    "move": lambda host: host.move(RUN, [FILE]),
    "gathered": lambda host: host.gathered(RUN, closed=False, checksums=True),
    "verify": lambda host: host.gathered(RUN, closed=True, checksums=True),
    "finish": lambda host: host.finish(RUN, b"{}"),
    "manifest": lambda host: host.manifest(RUN),
}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """Give a folder that is nobody's business, with a file that must stay as it is."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "precious").write_text("precious")
    return folder


def is_untouched(elsewhere: Path) -> bool:
    return os.listdir(elsewhere) == ["precious"] and (elsewhere / "precious").read_text() == "precious"


@pytest.mark.parametrize("step", STEPS)
async def test_no_step_goes_through_a_link_of_the_experiment(at: Place, elsewhere: Path, step: str) -> None:
    sums = write_files(at.staging, ["a.graw"])
    at.closing.parent.symlink_to(elsewhere)
    with pytest.raises(HostFault, match=r"/e20009' is not a folder but a symbolic link"):
        await STEPS[step](at.host())
    assert is_untouched(elsewhere)
    assert sums_of(at.staging) == sums


@pytest.mark.parametrize("step", ["begin", "move", "gathered", "finish"])
async def test_no_step_goes_through_a_link_of_the_closing_folder(
    at: Place, elsewhere: Path, step: str
) -> None:
    sums = write_files(at.staging, ["a.graw"])
    at.closing.parent.mkdir()
    at.closing.symlink_to(elsewhere)
    with pytest.raises(HostFault, match=r"/\.run_0042\.closing' is not a folder but a symbolic link"):
        await STEPS[step](at.host())
    assert is_untouched(elsewhere)
    assert sums_of(at.staging) == sums


@pytest.mark.parametrize("step", ["verify", "manifest"])
async def test_a_closed_run_is_not_read_through_a_link(at: Place, elsewhere: Path, step: str) -> None:
    (elsewhere / "manifest.json").write_text("{}")
    at.closed.parent.mkdir()
    at.closed.symlink_to(elsewhere)
    with pytest.raises(HostFault, match=r"/run_0042' is not a folder but a symbolic link"):
        await STEPS[step](at.host())
    # That it has what the manifest would have does not make it this closing's work.
    with pytest.raises(RunFolderExists):
        await at.host().finish(RUN, b"{}")


@pytest.mark.parametrize("name", [".manifest.json.new", "manifest.json"])
@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
async def test_no_manifest_is_written_through_what_is_no_file(
    at: Place, elsewhere: Path, name: str, kind: str
) -> None:
    sums = write_files(at.staging, ["a.graw"])
    host = at.host()
    await host.begin(RUN)
    await host.move(RUN, await host.list_staging())
    place = at.closing / name
    match kind:
        case "link":
            place.symlink_to(elsewhere / "precious")
        case "dangling":
            place.symlink_to(elsewhere / "made")
        case "pipe":
            os.mkfifo(place)
        case _:
            place.mkdir()
    words = {"pipe": "a pipe", "folder": "a folder"}.get(kind, "a symbolic link")
    with pytest.raises(HostFault, match=f"/{name}' is not a regular file but {words}"):
        await host.finish(RUN, b"{}")
    assert is_untouched(elsewhere)
    assert name in os.listdir(at.closing)
    assert sums_of(at.closing) == sums
    place.rmdir() if kind == "folder" else place.unlink()
    await host.finish(RUN, b"{}")
    assert sums_of(at.closed) == sums


async def test_no_manifest_is_written_into_another_name_of_a_file(at: Place, elsewhere: Path) -> None:
    host = at.host()
    await host.begin(RUN)
    os.link(elsewhere / "precious", at.closing / ".manifest.json.new")
    await host.finish(RUN, b"{}")
    assert await host.manifest(RUN) == b"{}"
    assert is_untouched(elsewhere)


async def test_no_file_is_read_through_a_link(at: Place, elsewhere: Path) -> None:
    host = at.host(log=str(at.staging / "router.log"))
    (at.staging / "router.log").symlink_to(elsewhere / "precious")
    with pytest.raises(HostFault, match=r"/router\.log' is not a regular file but a symbolic link"):
        await host.tail(10)
    at.closed.mkdir(parents=True)
    (at.closed / "manifest.json").symlink_to(elsewhere / "precious")
    with pytest.raises(HostFault, match=r"/manifest\.json' is not a regular file but a symbolic link"):
        await host.manifest(RUN)
    (at.closed / "a.graw").symlink_to(elsewhere / "precious")
    assert await host.gathered(RUN, closed=True, checksums=True) == ()


async def test_the_folders_that_the_settings_name_may_be_reached_through_links(at: Place) -> None:
    (at.staging / "true").mkdir()
    (at.staging / "way").symlink_to("true")
    sums = write_files(at.staging / "true", ["a.graw"])
    (at.staging / "true" / "router.log").write_text("one\n")
    host = at.host(staging=str(at.staging / "way"), log=str(at.staging / "way" / "router.log"))
    await host.begin(RUN)
    await host.move(RUN, await host.list_staging())
    await host.finish(RUN, b"{}")
    assert sums_of(at.staging / "true" / RUN.experiment / RUN.folder) == sums
    assert await host.tail(1) == b"one\n"


async def test_what_is_in_the_place_of_a_data_file_is_reported(at: Place, elsewhere: Path) -> None:
    host = at.host()
    assert (await host.poll(RUN)).odd == ""
    (at.staging / "b.graw").symlink_to(elsewhere / "precious")
    polled = await host.poll(RUN)
    assert polled.odd == f"{str(at.staging / 'b.graw')!r} is a symbolic link and is left alone"
    assert (polled.files, polled.next_exists) == (0, False)
    os.mkfifo(at.staging / "a.graw")
    at.closing.parent.symlink_to(elsewhere)
    polled = await host.poll(RUN)
    assert polled.odd == f"{str(at.staging / 'a.graw')!r} is a pipe and is left alone, and 2 more like it"
    assert (polled.files, polled.next_exists) == (0, True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"CoBo0_AsAd0_\xff_0000.graw", "has a name that is not UTF-8: the merger will refuse its run"),
        (b"CoBo0_AsAd0_2026_10000.graw", "is a part beyond 9999"),
        (b"CoBo0_AsAd0_2026_0000.graw.sha256", "has a data file's name in its own and is none"),
    ],
)
async def test_what_the_merger_cannot_read_is_reported(at: Place, name: bytes, text: str) -> None:
    write_files(at.staging, ["CoBo0_AsAd0_2026_9999.graw", "notes.graw.txt", name])
    polled = await at.host().poll(RUN)
    assert text in polled.odd
    assert polled.files == 1 + name.endswith(b".graw")


async def test_a_folder_that_is_exchanged_all_the_time_leads_nothing_away(at: Place, elsewhere: Path) -> None:
    """Files are moved while somebody exchanges the closing folder for a link, and back, as fast as he can."""
    names = [f"{number:04d}.graw" for number in range(400)]
    sums = await asyncio.to_thread(write_files, at.staging, names)
    host = at.host()
    files = await host.list_staging()
    await host.begin(RUN)
    aside, over = at.closing.with_name("aside"), threading.Event()

    def exchange() -> None:
        while not over.is_set():
            at.closing.rename(aside)
            at.closing.symlink_to(elsewhere)
            at.closing.unlink()
            aside.rename(at.closing)

    exchanging = asyncio.create_task(asyncio.to_thread(exchange))
    try:
        for _ in range(10):
            with contextlib.suppress(HostFault):
                await host.move(RUN, files)
            with contextlib.suppress(HostFault):
                await host.gathered(RUN, closed=False, checksums=False)
    finally:
        over.set()
        await exchanging
    assert is_untouched(elsewhere)
    assert sums_of(at.staging) | sums_of(at.closing) == sums
    moved = await host.move(RUN, files)
    assert {one.outcome for one in moved} == {MoveOutcome.MOVED}
    await host.finish(RUN, b"{}")
    assert sums_of(at.closed) == sums


@pytest.mark.parametrize("moved_away", [False, True])
def test_the_agent_goes_back_to_the_same_staging_folder_without_proc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved_away: bool
) -> None:
    """Where a system has no names for open folders, as macOS, the way back is `../..`, and looked at."""
    plain = wire.script()
    assert b"/proc/self/fd/" in plain
    script = plain.replace(b"/proc/self/fd/", b"/none/")
    staging, other = tmp_path / "staging", tmp_path / "other" / "x"
    run = RunFolders(bytes(staging), RUN)
    closing = staging / RUN.experiment / closing_folder(RUN)
    closing.mkdir(parents=True)
    sums = write_files(staging, ["a.graw"])
    if moved_away:
        # Whoever can write there moves the closing folder away once the agent is in it.
        other.mkdir(parents=True)
        write_files(tmp_path, ["a.graw"])
        away = f'rename "{closing}", "{other / "c"}"; my @answer;'.encode()
        script = script.replace(b"    my @answer;\n    while (my ($name", away + b"\n    while (my ($name")
        assert away in script
    monkeypatch.setattr("tests.data_routers.test_hosts_agent.script", lambda: script)
    asked = run.staging, *run.names(closed=False), b"0", b"a.graw", b"100"
    (line,) = ask_agent([wire.request("move", 30, asked)])
    word = wire.answer(line)[0]
    if moved_away:
        assert word == b"other"
        assert sums_of(staging) == sums_of(tmp_path) == sums
    else:
        assert word == b"moved"
        assert sums_of(closing) == sums


async def test_a_link_in_the_place_of_a_data_file_is_shown_to_operators(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with data_rig(tmp_path, monkeypatch) as it:
        await it.until(lambda: shown(it, "CoBo0:Router:Online_RBV") == 1, what="CoBo0's router online")
        link = tmp_path / "hosts" / "cobo0" / "data" / "x.graw"
        link.symlink_to("/nowhere")
        message = "Plugin:data_routers:Message_RBV"
        await it.until(lambda: "x.graw' is a symbolic link" in str(shown(it, message)), what="the link told")
        link.unlink()
        await it.until(lambda: "symbolic link" not in str(shown(it, message)), what="the link told no more")


@pytest.mark.parametrize("part", ["experiment", "run", "file", "unfinished"])
async def test_copies_of_configuration_files_are_led_nowhere(
    records: Records, tmp_path: Path, elsewhere: Path, part: str
) -> None:
    backup = tmp_path / "backup"
    backup.mkdir()
    spool = Spool(records, backup)
    await spool.put(RUN, {"describe-a.xcfg": b"text"})
    folder = backup / RUN.experiment / RUN.folder
    match part:
        case "experiment":
            folder.parent.symlink_to(elsewhere)
        case "run":
            folder.parent.mkdir()
            folder.symlink_to(elsewhere)
        case "file":
            folder.mkdir(parents=True)
            (folder / "describe-a.xcfg").symlink_to(elsewhere / "precious")
        case _:
            folder.mkdir(parents=True)
            (folder / ".describe-a.xcfg.part").symlink_to(elsewhere / "precious")
    if part in ("experiment", "run"):
        with pytest.raises(BackupFault, match="is not a folder but a symbolic link"):
            await spool.flush()
        assert spool.waiting() == [RUN]
    else:
        assert len(await spool.flush()) == (part == "file")
        assert (folder / f"describe-a{'.1' * (part == 'file')}.xcfg").read_bytes() == b"text"
    assert is_untouched(elsewhere)
