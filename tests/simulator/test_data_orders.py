"""The faults of data hosts, as they are ordered, and what they do."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from attpc_plugins.data_routers.settings import Access as Reach
from attpc_plugins.data_routers.settings import DataRoutersSettings

from attpc_ioc.model.states import State
from attpc_ioc.simulator.admin import Admin
from attpc_ioc.simulator.data.host import DataHost, Writing
from attpc_ioc.simulator.data.options import Access, DataOptions
from attpc_ioc.simulator.data.orders import HostFault, faults_on
from attpc_ioc.simulator.durations import INSTANT
from attpc_ioc.simulator.fleet import SimulatedFleet
from tests.simulator.test_shell import command, simulating
from tests.support.simfleet import take_up, wait_until

DATA = DataOptions(access=(Access.SENTRY, Access.LOCAL), drain_s=0.1, tick_s=0.02)


@pytest.fixture
async def fleet() -> AsyncIterator[SimulatedFleet]:
    async with SimulatedFleet(2, durations=INSTANT, data=DATA) as made:
        yield made


@pytest.fixture
async def admin(fleet: SimulatedFleet) -> AsyncIterator[Admin]:
    made = Admin(fleet)
    await made.start()
    yield made
    await made.stop()


async def order(admin: Admin, server: str, fault: str, **values: object) -> tuple[int, str]:
    body = {"server": server, "fault": fault, **values}
    async with aiohttp.ClientSession() as session, session.post(admin.url + "fault", json=body) as reply:
        return reply.status, (await reply.json())["message"]


def size(host: DataHost) -> int:
    return sum(path.stat().st_size for path in host.files())


@pytest.mark.parametrize("fault", list(HostFault))
async def test_each_fault_is_switched_on_shown_and_off(
    fleet: SimulatedFleet, admin: Admin, fault: HostFault
) -> None:
    host = fleet.data["CoBo[0]"]
    assert await order(admin, "cobo0", fault) == (200, f"cobo0: {fault} is on")
    assert [faults_on(each) for each in fleet.data] == [(fault,), (), ()]
    async with aiohttp.ClientSession() as session, session.get(admin.url) as reply:
        shown = json.loads(await reply.text())["hosts"]
    assert [each["faults"] for each in shown] == [[fault], [], []]
    assert (await order(admin, "cobo0", fault, on=False))[0] == 200
    assert faults_on(host) == ()
    await order(admin, "cobo0", fault)
    assert (await order(admin, "all", "clear"))[0] == 200
    assert faults_on(host) == ()


async def test_a_folder_has_no_port_that_can_be_shut(fleet: SimulatedFleet, admin: Admin) -> None:
    code, message = await order(admin, "cobo1", "host-down")
    assert (code, "reached by its folder" in message) == (400, True)
    assert (await order(admin, "all", "host-down"))[0] == 200
    assert [faults_on(each) for each in fleet.data] == [("host-down",), (), ()]


async def test_what_a_host_has_not_is_refused(fleet: SimulatedFleet, admin: Admin) -> None:
    code, message = await order(admin, "cobo1", "sentry-old")
    assert (code, message) == (400, "sentry-old is not about cobo1: it has no sentry, it is reached by local")
    code, message = await order(admin, "mutant", "data-full")
    assert (code, message) == (400, "data-full is not about mutant: the MuTAnT's frames have one length")
    code, message = await order(admin, "cobo0", "data-behind", factor=2)
    assert (code, "needs a factor below 1" in message) == (400, True)
    assert (await order(admin, "all", "data-full"))[0] == 200
    assert [faults_on(each) for each in fleet.data] == [("data-full",), ("data-full",), ()]


async def test_amounts(fleet: SimulatedFleet, admin: Admin) -> None:
    faults = fleet.data["CoBo[0]"].faults
    await order(admin, "cobo0", "data-late", extra_s=0.5)
    await order(admin, "cobo0", "data-behind", factor=0.25)
    await order(admin, "cobo0", "data-lose", factor=0.5)
    await order(admin, "cobo0", "data-shift", events=-3)
    await order(admin, "cobo0", "data-clock", extra_s=1e-8)
    given = (faults.late_s, faults.pace, faults.lost, faults.shift, faults.clock_s)
    assert given == (0.5, 0.25, 0.5, -3, 1e-8)
    for fault in ("data-late", "data-behind", "data-lose", "data-shift", "data-clock"):
        await order(admin, "cobo0", fault)
    given = (faults.late_s, faults.pace, faults.lost, faults.shift, faults.clock_s)
    assert given == (5.0, 0.5, 0.1, 1, 1.0)


async def test_a_fleet_without_hosts_refuses() -> None:
    async with SimulatedFleet(1, durations=INSTANT) as fleet:
        admin = Admin(fleet)
        await admin.start()
        try:
            code, message = await order(admin, "cobo0", "disk-full")
        finally:
            await admin.stop()
    assert (code, "this simulator has none" in message) == (400, True)


async def test_faults_of_the_data(fleet: SimulatedFleet, admin: Admin) -> None:
    host, other = fleet.data["CoBo[0]"], fleet.data["CoBo[1]"]
    await take_up(fleet, State.RUNNING)
    await wait_until(lambda: size(host) > 50_000)
    await order(admin, "cobo0", "data-slow", factor=0.5)
    slow, full = size(host), size(other)
    await wait_until(lambda: size(other) > full + 1_000_000)
    assert 0.35 < (size(host) - slow) / (size(other) - full) < 0.65
    await order(admin, "cobo0", "data-slow", on=False)
    for fault in ("data-stop", "disk-full"):
        await order(admin, "cobo0", fault)
        await wait_until(lambda: fault == "data-stop" or torn(host))  # noqa: B023
        seen, running = size(host), size(other)
        await wait_until(lambda: size(other) > running + 100_000)  # noqa: B023
        assert size(host) == seen
        await order(admin, "cobo0", fault, on=False)
        await wait_until(lambda: size(host) > seen)  # noqa: B023
    assert "ERROR cannot write: No space left on device" in host.log.path.read_text()


def torn(host: DataHost) -> bool:
    return all(path.stat().st_size % 256 for path in host.files())


async def test_files_that_never_come_to_rest(fleet: SimulatedFleet, admin: Admin) -> None:
    host, other = fleet.data["CoBo[0]"], fleet.data["CoBo[1]"]
    await take_up(fleet, State.RUNNING)
    await wait_until(lambda: size(host) > 0 and size(other) > 0)
    await order(admin, "cobo0", "data-endless")
    await fleet.call("cobo0", "Stop")
    await fleet.call("cobo1", "Stop")
    await wait_until(lambda: other.writing is Writing.IDLE)
    seen = size(host)
    await wait_until(lambda: size(host) > seen + 100_000)
    await order(admin, "cobo0", "data-endless", on=False)
    await wait_until(lambda: host.writing is Writing.IDLE)


async def test_data_at_the_shell(tmp_path: Path) -> None:
    settings = tmp_path / "ioc.toml"
    words = f"--cobos 3 --access ssh --access sentry --access local --data {tmp_path / 'data'} --drain-s 0"
    async with simulating(*words.split(), "--settings", str(settings), "--rate-mb-s", "5") as running:
        read = tomllib.loads(settings.read_text())
        found = DataRoutersSettings.model_validate(read["plugins"]["data_routers"])
        reach = [router.access for router in found.router]
        assert reach == [Reach.SSH, Reach.SENTRY, Reach.LOCAL, Reach.LOCAL]
        assert found.router[2].staging == str(tmp_path / "data" / "cobo2" / "data")
        assert re.search(r"^cobo1 +sentry: 127\.0\.0\.1:\d+, ", running.greeting, re.MULTILINE)
        code, output = await command("fault", "cobo1", "host-hung", "--admin", running.admin)
        assert (code, output) == (0, "cobo1: host-hung is on\n")
        shift = ("fault", "cobo2", "data-shift", "--events", "-2")
        code, output = await command(*shift, "--admin", running.admin)
        assert (code, output) == (0, "cobo2: data-shift is on\n")
        code, output = await command("fault", "--admin", running.admin)
        assert code == 0
        assert re.search(r"^cobo1 +sentry +idle +0 files, 0\.0 MB .*host-hung$", output, re.MULTILINE)
    code, output = await command("simulate", "--data", str(tmp_path), "--access", "ftp", "--admin-port", "0")
    assert code == 2
    assert "ftp is not an access; use one of local, ssh, sentry" in " ".join(output.split())
