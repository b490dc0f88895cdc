"""Whole runs of a simulated fleet: every host's files are in their place, and the next run is accepted."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from attpc_plugins.data_routers import manifest
from attpc_plugins.data_routers.closings import Phase
from attpc_plugins.data_routers.model import CloseState

from attpc_ioc.simulator.data.host import DataHost
from attpc_ioc.simulator.data.options import Access
from tests.support.closings import closings_in
from tests.support.data_rig import (
    ALL_ACCESS,
    QUICK_DATA,
    alarm,
    data_rig,
    section,
    shown,
    start_run,
    stop_run,
)
from tests.support.probe import Probe
from tests.support.rig import Rig
from tests.support.state_dir import make_unwritable, make_writable

DONE = int(CloseState.DONE)
GIGABYTE = 1_000_000_000


def folder_of(it: Rig, host: DataHost, number: int) -> Path:
    return host.staging / it.run.experiment / f"run_{number:04d}"


def written(host: DataHost) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in host.staging.glob("*.graw")}


async def all_in_place(it: Rig, number: int) -> dict[str, dict[str, int]]:
    """Wait until every host is done, and return the files with their sizes by source."""
    hosts = list(it.fleet.data)

    def done() -> bool:
        return all(shown(it, f"{host.source}:Router:Close_RBV") == DONE for host in hosts) and all(
            f"run {number}:" in shown(it, f"{host.source}:Router:CloseMessage_RBV") for host in hosts
        )

    await it.until(done, 60.0, f"run {number} is closed")
    found: dict[str, dict[str, int]] = {}
    for host in hosts:
        place = folder_of(it, host, number)
        found[host.source] = {path.name: path.stat().st_size for path in place.glob("*.graw")}
        assert written(host) == {}
        assert alarm(it, f"{host.source}:Router:Close_RBV") == "NO_ALARM"
        if host.access is not Access.SENTRY:
            record = manifest.load((place / "manifest.json").read_bytes(), host.source)
            assert {file.name: file.size for file in record.files} == found[host.source]
            assert (record.run.experiment, record.run.number) == (it.run.experiment, number)
            assert record.sources == (host.source,)
    return found


@pytest.mark.timing
@pytest.mark.parametrize("access", ALL_ACCESS)
async def test_two_runs_of_twelve_hosts_with_a_gigabyte_in_all(tmp_path, monkeypatch, access):
    data = replace(QUICK_DATA, cobo_bytes_s=40e6, mutant_bytes_s=1e6)
    # Twelve hosts, their servers and the IOC share this machine: none is to seem gone because it is busy.
    patient = section(watch={"timeout_s": 5.0})
    async with data_rig(tmp_path, monkeypatch, access=access, data=data, cobos=11, text=patient) as it:
        before = 0
        for run in range(2):
            await start_run(it)
            number = it.run.number
            floor = before + (GIGABYTE if run == 0 else GIGABYTE // 10)
            await it.until(
                lambda floor=floor: sum(host.written_bytes for host in it.fleet.data) >= floor,
                60.0,
                "the data was written",
            )
            await stop_run(it)
            found = await all_in_place(it, number)
            total = sum(host.written_bytes for host in it.fleet.data)
            assert sum(size for files in found.values() for size in files.values()) == total - before
            assert all(found.values())
            before = total
            assert shown(it, "Run:Closing_RBV") == DONE
            await it.until(lambda: not it.run.checklist, 20.0, "the next start is possible")


async def test_what_is_closed_by_hand_while_the_ioc_is_down_is_told(tmp_path, monkeypatch):
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
            (entry,) = closings.entries("CoBo0")
            by_hand = replace(entry, phase=Phase.DONE, files=2, data_bytes=10)
            await closings.save(by_hand.said(CloseState.DONE, "2 files, by hand"))
        await it.start_ioc()
        await it.until(lambda: told_of(probe, "CoBo0")[-1:] == ["Done"], 20.0, "the rest is told")


def told_of(probe: Probe, router: str) -> list[str]:
    """The states of a router's files that were told."""
    return [event.state for event in probe.of("attpc_run_files") if event.router == router]


async def test_the_ioc_shows_what_is_wrong_and_goes_on_when_it_is_told(tmp_path, monkeypatch):
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
