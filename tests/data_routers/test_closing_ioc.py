"""Whole runs of a simulated fleet: every host's files are in their place, and the next run is accepted."""

from __future__ import annotations

import re
from dataclasses import replace

from attpc_plugins.data_routers.closing.closings import Phase
from attpc_plugins.data_routers.model import CloseState

from attpc_ioc.model.events import RunFiles
from tests.support.closed_runs import all_in_place, folder_of, written
from tests.support.closings import closings_in
from tests.support.data_rig import (
    alarm,
    data_rig,
    section,
    shown,
    start_run,
    stop_run,
)
from tests.support.probe import Probe
from tests.support.state_dir import make_unwritable, make_writable


async def test_what_is_closed_by_hand_while_the_ioc_is_down_is_reported(tmp_path, monkeypatch):
    probe = Probe()
    async with data_rig(tmp_path, monkeypatch, cobos=1, plugins=[("probe", probe)]) as it:
        host = it.fleet.data["CoBo[0]"]
        await start_run(it)
        await it.until(lambda: written(host), 20.0, "the data was written")
        host.faults.endless = True
        await stop_run(it)
        await it.until(lambda: told_of(probe, "CoBo0") == ["Waiting"], 20.0, "it waits")
        folder = it.app.log.folder
        await it.stop_ioc()
        async with closings_in(folder) as closings:
            (entry,) = closings.of("CoBo0")
            by_hand = replace(entry, phase=Phase.DONE, files=2, data_bytes=10)
            await closings.save(by_hand.in_state(CloseState.DONE, "2 files, by hand"))
        await it.start_ioc()
        await it.until(lambda: told_of(probe, "CoBo0")[-1:] == ["Done"], 20.0, "the rest is told")


def told_of(probe: Probe, router: str) -> list[str]:
    """The states of a router's files that were told."""
    return [event.state for event in probe.of(RunFiles) if event.router == router]


async def test_the_ioc_shows_what_is_wrong_and_continues_on_request(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, cobos=1, text=section(closing={"quiet_s": 0.3})) as it:
        host = it.fleet.data["CoBo[0]"]
        await start_run(it)
        number = it.run.number
        await it.until(lambda: written(host), 20.0, "the data was written")
        folder_of(it, host, number).mkdir(parents=True)
        await stop_run(it)
        await it.until(
            lambda: shown(it, "CoBo0:Router:Close_RBV") == int(CloseState.FAILED), 30.0, "it cannot be closed"
        )
        assert alarm(it, "CoBo0:Router:Close_RBV") == "MAJOR"
        assert "exist" in shown(it, "CoBo0:Router:CloseMessage_RBV")
        await it.until(
            lambda: re.search(r"Major: CoBo0:Router:Close_RBV: run \d+: .*exist", shown(it, "AlarmText_RBV")),
            what=f"the alarm says why: {shown(it, 'AlarmText_RBV')}",
        )
        assert shown(it, "Run:Closing_RBV") == int(CloseState.FAILED)
        assert "CoBo0: Failed: run" in shown(it, "Run:ClosingMessage_RBV")
        await it.until(lambda: any("CoBo0" in str(reason) for reason in it.run.checklist), what="no start")
        folder_of(it, host, number).rmdir()
        await all_in_place(it, number)


async def test_a_state_directory_that_cannot_be_written_moves_nothing_and_holds_up_no_stop(
    tmp_path, monkeypatch
):
    text = section(closing={"quiet_s": 0.3})
    async with data_rig(tmp_path, monkeypatch, cobos=1, text=text) as it:
        host = it.fleet.data["CoBo[0]"]
        await start_run(it)
        number = it.run.number
        await it.until(lambda: written(host), 20.0, "the data was written")
        make_unwritable(tmp_path / "state")
        try:
            await stop_run(it)
            await it.until(
                lambda: "cannot be written" in shown(it, "Plugin:data_routers:Message_RBV"),
                20.0,
                "it is said",
            )
            assert written(host)
            assert not folder_of(it, host, number).exists()
        finally:
            make_writable(tmp_path / "state")
        assert (await all_in_place(it, number))["CoBo0"]


async def test_a_late_tail_is_no_stray_and_refuses_no_start(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, cobos=1, text=section(closing={"quiet_s": 1.0})) as it:
        host = it.fleet.data["CoBo[0]"]
        await start_run(it)
        number = it.run.number
        await it.until(lambda: written(host), 20.0, "the data was written")
        await stop_run(it)
        await all_in_place(it, number)
        name = sorted(path.name for path in folder_of(it, host, number).glob("*.graw"))[0]
        tail = host.staging / name
        tail.write_bytes(b"late")
        await it.until(lambda: shown(it, "CoBo0:Router:Clean_RBV") == 0 or not tail.exists(), 20.0, "seen")
        await it.until(lambda: shown(it, "CoBo0:Router:Clean_RBV") == 1, 20.0, "no stray")
        await start_run(it)
        late = folder_of(it, host, number) / name.replace(".graw", ".late1.graw")
        await it.until(late.exists, 20.0, "it is beside its file")
        assert late.read_bytes() == b"late"
        await stop_run(it)
        files = await all_in_place(it, number + 1)
        assert name not in files["CoBo0"]
        await it.until(lambda: late.name in manifest_of(it, host, number), 20.0, "it is in the manifest")


def manifest_of(it, host, number: int) -> str:
    """Return the text of a run's manifest."""
    return (folder_of(it, host, number) / "manifest.json").read_text()


async def test_data_that_a_router_writes_after_done_are_beside_their_files(tmp_path, monkeypatch):
    """The simulated router opens its file by name for each frame, as the real one does."""
    text = section(closing={"quiet_s": 0.5})
    async with data_rig(tmp_path, monkeypatch, cobos=1, text=text) as it:
        host = it.fleet.data["CoBo[0]"]
        await start_run(it)
        number = it.run.number
        await it.until(lambda: written(host), 20.0, "the data was written")
        host.faults.late_s = 4.0
        await it.until(lambda: host.behind > 20, 20.0, "events that come late")
        await stop_run(it)
        await all_in_place(it, number)
        folder, before = folder_of(it, host, number), host.written_bytes
        await it.until(lambda: host.written_bytes > before and not host.behind, 20.0, "they have come")
        host.faults.late_s = 0.0

        def closed() -> list[int]:
            return [path.stat().st_size for path in folder.glob("*.graw")]

        await it.until(lambda: sum(closed()) == host.written_bytes, 20.0, "they are in the run's folder")
        names = sorted(path.name for path in folder.glob("*.graw"))
        late = [name for name in names if ".late1." in name]
        assert late
        assert [name.replace(".late1", "") for name in late] == [name for name in names if name not in late]
        await it.until(lambda: all(name in manifest_of(it, host, number) for name in names), 20.0, "manifest")
        assert not host.files()
        assert shown(it, "CoBo0:Router:Close_RBV") == int(CloseState.DONE)
        message = "CoBo0:Router:CloseMessage_RBV"
        await it.until(lambda: late[0] in shown(it, message), 20.0, "it is said")
