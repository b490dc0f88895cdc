"""The simulated sentry, by HTTP as a client sees it."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from attpc_ioc.model.states import State
from attpc_ioc.simulator.data.host import DataHost, Writing
from attpc_ioc.simulator.data.options import Access, DataOptions
from attpc_ioc.simulator.data.orders import HostFault, clear, faults_on, switch
from attpc_ioc.simulator.durations import INSTANT
from attpc_ioc.simulator.fleet import SimulatedFleet
from tests.support.patience import PATIENCE_S
from tests.support.simfleet import take_up, wait_until

WAIT_S = 0.3
DATA = DataOptions(access=(Access.SENTRY,), catalog_wait_s=WAIT_S, drain_s=0.1, tick_s=0.02, disk_free_gb=400)


@pytest.fixture
async def fleet() -> AsyncIterator[SimulatedFleet]:
    async with SimulatedFleet(1, durations=INSTANT, data=DATA) as made:
        yield made


@pytest.fixture
def host(fleet: SimulatedFleet) -> DataHost:
    return fleet.data["CoBo[0]"]


async def ask(host: DataHost, path: str, timeout_s: float = PATIENCE_S, **kwargs: object) -> tuple[int, str]:
    assert host.gate is not None
    method = "POST" if kwargs else "GET"
    limit = aiohttp.ClientTimeout(timeout_s)
    async with (
        aiohttp.ClientSession(timeout=limit) as session,
        session.request(method, f"http://{host.gate.host}:{host.gate.port}{path}", **kwargs) as reply,  # type: ignore[arg-type]
    ):
        return reply.status, await reply.text()


async def status(host: DataHost) -> dict[str, object]:
    import json

    code, text = await ask(host, "/status")
    assert code == 200
    return json.loads(text)


async def with_files(fleet: SimulatedFleet, host: DataHost) -> list[str]:
    """Take some data and stop; returns the names of the files."""
    await take_up(fleet, State.RUNNING)
    await wait_until(lambda: len(host.files()) == 4 and host.written_bytes > 100_000)
    await fleet.call("cobo0", "Stop")
    await wait_until(lambda: host.writing is Writing.IDLE)
    return [path.name for path in host.files()]


async def test_status_counts_what_is_written(fleet: SimulatedFleet, host: DataHost) -> None:
    assert await status(host) == {
        "disk": "Macintosh HD",
        "process": "dataRouter",
        "data_path": str(host.staging),
        "data_path_files": 0,
        "data_written_gb": 0.0,
        "disk_avail_gb": pytest.approx(400.0),
        "disk_total_gb": pytest.approx(1000.0),
    }
    await with_files(fleet, host)
    seen = await status(host)
    assert seen["data_path_files"] == 4
    assert seen["data_written_gb"] == pytest.approx(host.written_bytes * 1e-9)
    assert seen["disk_avail_gb"] == pytest.approx(400.0 - host.written_bytes * 1e-9)


async def test_catalog_waits_and_moves_the_files(fleet: SimulatedFleet, host: DataHost) -> None:
    names = await with_files(fleet, host)
    began_s = asyncio.get_running_loop().time()
    code, text = await ask(host, "/catalog", json={"experiment": "e20009", "run_number": 42})
    assert asyncio.get_running_loop().time() - began_s >= WAIT_S
    assert (code, '"data_path_files":0' in text) == (200, True)
    folder = host.staging / "e20009" / "run_0042"
    assert sorted(path.name for path in folder.iterdir()) == names
    code, text = await ask(host, "/catalog", json={"experiment": "e20009", "run_number": 42})
    assert code == 500
    assert text == f'Sentry tried to catalog run 42 but directory "{folder}" already exists'


async def test_a_caller_that_hangs_up_has_stopped_it(fleet: SimulatedFleet, host: DataHost) -> None:
    names = await with_files(fleet, host)
    with pytest.raises(TimeoutError):
        await ask(host, "/catalog", 0.1, json={"experiment": "e20009", "run_number": 1})
    code, _ = await ask(host, "/catalog", json={"experiment": "e20009", "run_number": 2})
    assert code == 200
    assert [path.name for path in (host.staging / "e20009").iterdir()] == ["run_0002"]
    assert len(list((host.staging / "e20009" / "run_0002").iterdir())) == len(names)


async def test_without_the_process_files_are_moved_and_the_answer_is_a_failure(
    fleet: SimulatedFleet, host: DataHost
) -> None:
    names = await with_files(fleet, host)
    await fleet.routers["CoBo[0]"].stop()
    gone = (500, "Sentry could not find a process with name dataRouter")
    assert await ask(host, "/status") == gone
    assert await ask(host, "/catalog", json={"experiment": "e20009", "run_number": 3}) == gone
    assert len(list((host.staging / "e20009" / "run_0003").iterdir())) == len(names)


async def test_bad_requests(host: DataHost) -> None:
    assert (await ask(host, "/catalog", data=b"{}"))[0] == 415
    head = {"Content-Type": "application/json"}
    assert (await ask(host, "/catalog", data=b"{", headers=head))[0] == 400
    assert (await ask(host, "/catalog", json={"experiment": "e"}))[0] == 422
    assert (await ask(host, "/catalog"))[0] == 405
    assert (await ask(host, "/catalog", json={"experiment": "e", "run_number": 2**31}))[0] == 422
    code, text = await ask(host, "/catalog", json={"experiment": "a\0b", "run_number": 1})
    assert (code, "not able to communicate with the disk" in text) == (500, True)


@pytest.mark.parametrize("way", ["../../x", "absolute"])
async def test_it_catalogues_any_path_that_it_is_given(
    fleet: SimulatedFleet, host: DataHost, tmp_path: Path, way: str
) -> None:
    names = await with_files(fleet, host)
    experiment = str(tmp_path) if way == "absolute" else way
    (host.staging / "dir.graw").mkdir()
    (host.staging / ".graw").touch()
    code, _ = await ask(host, "/catalog", json={"experiment": experiment, "run_number": -1})
    assert code == 200
    folder = tmp_path if way == "absolute" else host.folder.parent / "x"
    assert sorted(path.name for path in (folder / "run_-001").iterdir()) == names


async def test_it_moves_what_is_there_after_the_wait_whatever_run_it_is_of(
    fleet: SimulatedFleet, host: DataHost
) -> None:
    names = await with_files(fleet, host)
    order = asyncio.create_task(ask(host, "/catalog", json={"experiment": "e20009", "run_number": 5}))
    await wait_until(lambda: host.sentry.catalogs)
    assert (await ask(host, "/status"))[0] == 200
    (host.staging / "late.graw").touch()
    assert (await order)[0] == 200
    found = sorted(path.name for path in (host.staging / "e20009" / "run_0005").iterdir())
    assert found == [*names, "late.graw"]


async def test_an_older_one_counts_any_file_and_what_the_router_wrote(
    fleet: SimulatedFleet, host: DataHost
) -> None:
    names = await with_files(fleet, host)
    (host.staging / ".DS_Store").write_bytes(bytes(1000))
    (host.staging / "e20009").mkdir()
    assert (await status(host))["data_path_files"] == len(names)
    await switch(host, HostFault.SENTRY_OLD)
    seen = await status(host)
    assert seen["data_path_files"] == len(names) + 1
    assert seen["data_written_gb"] == pytest.approx(host.written_bytes * 1e-9)
    for path in host.files():
        path.unlink()
    assert (await status(host))["data_written_gb"] == seen["data_written_gb"]
    await fleet.routers["CoBo[0]"].stop()
    await fleet.routers["CoBo[0]"].start()
    await wait_until(lambda: host.process_bytes == 0)
    assert (await status(host))["data_written_gb"] == 0


async def test_a_wrong_disk_name(host: DataHost) -> None:
    await switch(host, HostFault.SENTRY_DISK)
    seen = await status(host)
    assert (seen["disk_avail_gb"], seen["disk_total_gb"]) == (0, 0)
    assert seen["disk"] != "Macintosh HD"


async def test_a_deaf_one_shows_nothing_while_it_catalogues(fleet: SimulatedFleet, host: DataHost) -> None:
    await switch(host, HostFault.SENTRY_DEAF)
    assert (await ask(host, "/status"))[0] == 200
    order = asyncio.create_task(ask(host, "/catalog", json={"experiment": "e20009", "run_number": 6}))
    await wait_until(lambda: host.sentry.catalogs)
    with pytest.raises(TimeoutError):
        await ask(host, "/status", WAIT_S / 2)
    assert (await ask(host, "/status"))[0] == 200
    assert (await order)[0] == 200


async def test_killed_in_the_middle_it_leaves_the_files_half_moved(
    fleet: SimulatedFleet, host: DataHost
) -> None:
    names = await with_files(fleet, host)
    await switch(host, HostFault.SENTRY_KILL)
    with pytest.raises(aiohttp.ClientError):
        await ask(host, "/catalog", json={"experiment": "e20009", "run_number": 7})
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(host, "/status")
    assert faults_on(host) == (HostFault.SENTRY_KILL,)
    moved = [path.name for path in (host.staging / "e20009" / "run_0007").iterdir()]
    left = [path.name for path in host.files()]
    assert len(moved) == len(left) == 2
    assert sorted(moved + left) == names
    await switch(host, HostFault.SENTRY_KILL, on=False)
    assert (await ask(host, "/status"))[0] == 200


@pytest.mark.parametrize("busy", [False, True])
async def test_sigterm_finishes_the_catalogue(fleet: SimulatedFleet, host: DataHost, busy: bool) -> None:
    assert host.gate is not None
    gate = host.gate
    names = await with_files(fleet, host)
    if busy:
        order = asyncio.create_task(ask(host, "/catalog", json={"experiment": "e20009", "run_number": 8}))
        await wait_until(lambda: host.sentry.catalogs)
    await switch(host, HostFault.SENTRY_TERM)
    await wait_until(lambda: not gate.is_open)
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(host, "/status")
    if busy:
        assert (await order)[0] == 200
        assert len(list((host.staging / "e20009" / "run_0008").iterdir())) == len(names)
    await wait_until(lambda: not gate.connections)
    await clear(host)
    assert (await ask(host, "/status"))[0] == 200


async def test_the_process_has_the_name_that_it_was_given() -> None:
    data = replace(DATA, process="DataExporter", access=(Access.SENTRY, Access.LOCAL))
    async with SimulatedFleet(1, durations=INSTANT, data=data) as fleet:
        assert (await status(fleet.data["CoBo[0]"]))["process"] == "DataExporter"
        read = tomllib.loads(fleet.settings_toml(data_routers=True))
        routers = read["plugins"]["data_routers"]["router"]
        assert [router["process"] for router in routers] == ["DataExporter", ""]


async def test_a_folder_that_is_gone(host: DataHost) -> None:
    elsewhere = host.folder / "elsewhere"
    host.staging.rename(elsewhere)
    code, text = await ask(host, "/status")
    assert (code, "non-directory path" in text) == (500, True)
    elsewhere.rename(host.staging)
    assert (await ask(host, "/status"))[0] == 200


async def test_a_host_that_hangs_is_slow_or_is_down(host: DataHost) -> None:
    gate = host.gate
    assert gate is not None
    gate.hung = True
    with pytest.raises(TimeoutError):
        await ask(host, "/status", 0.2)
    gate.hung = False
    assert (await ask(host, "/status"))[0] == 200
    gate.delay_s = 0.1
    began_s = asyncio.get_running_loop().time()
    assert (await ask(host, "/status"))[0] == 200
    assert asyncio.get_running_loop().time() - began_s >= 0.2
    gate.delay_s = 0.0
    port = gate.port
    await gate.close()
    with pytest.raises(aiohttp.ClientConnectorError):
        await ask(host, "/status")
    await gate.open()
    assert gate.port == port
    assert (await ask(host, "/status"))[0] == 200


async def test_down_resets_what_is_under_way(fleet: SimulatedFleet, host: DataHost) -> None:
    assert host.gate is not None
    await with_files(fleet, host)
    order = asyncio.create_task(ask(host, "/catalog", json={"experiment": "e20009", "run_number": 4}))
    await asyncio.sleep(0)
    await wait_until(lambda: host.gate is not None and bool(host.gate.connections))
    await host.gate.close()
    with pytest.raises(aiohttp.ClientError):
        await order
    assert len(host.files()) == 4
