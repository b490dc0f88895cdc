"""What simulated data routers write, and when."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from attpc_plugins.data_routers.settings import DataRoutersSettings

from attpc_ioc.model.states import State
from attpc_ioc.simulator.data.host import DataHost, Writing
from attpc_ioc.simulator.data.options import Access, DataOptions
from attpc_ioc.simulator.durations import INSTANT
from attpc_ioc.simulator.fleet import SimulatedFleet
from tests.support.graw import read_graw
from tests.support.simfleet import take_up, wait_until

NAME = re.compile(r"(CoBo\d+_AsAd\d|MuTanT)_\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}_\d{4}\.graw")


def options(folder: Path, **changes: object) -> DataOptions:
    quick = {"cobo_bytes_s": 4e6, "drain_s": 0.3, "tick_s": 0.02}
    return DataOptions(folder=folder, **(quick | changes))  # type: ignore[arg-type]


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[SimulatedFleet]:
    async with SimulatedFleet(2, durations=INSTANT, data=options(tmp_path / "data")) as made:
        yield made


def size(host: DataHost) -> int:
    return sum(host.sizes())


async def test_files_grow_while_the_board_runs_and_a_while_after_stop(fleet: SimulatedFleet) -> None:
    host = fleet.data["CoBo[0]"]
    await take_up(fleet, State.READY)
    assert host.files() == ()
    began_s = asyncio.get_running_loop().time()
    await fleet.call("cobo0", "Start")
    await fleet.call("mutant", "Start")
    await wait_until(lambda: size(host) > 1_000_000)
    assert size(host) <= 1.3 * 4e6 * (asyncio.get_running_loop().time() - began_s)
    assert [path.name[:11] for path in host.files()] == [f"CoBo0_AsAd{i}" for i in range(4)]
    assert all(NAME.fullmatch(path.name) for path in host.files())
    assert fleet.data["CoBo[1]"].files() == ()
    await fleet.call("cobo0", "Stop")
    at_stop = size(host)
    await wait_until(lambda: host.writing is Writing.IDLE)
    assert 0.15 * 4e6 < size(host) - at_stop < 0.8 * 4e6
    assert size(host) == host.written_bytes
    text = host.log.path.read_text()
    assert f"opened {host.files()[0]}" in text
    assert text.rstrip().endswith("nothing more to write: all is written")


async def test_without_a_trigger_nothing_comes(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.READY)
    await fleet.call("cobo0", "Start")
    await wait_until(lambda: fleet.data["CoBo[0]"].writing is Writing.TAKING)
    await fleet.call("cobo0", "Stop")
    await wait_until(lambda: fleet.data["CoBo[0]"].writing is Writing.IDLE)
    assert fleet.data["CoBo[0]"].files() == ()


async def test_boards_are_in_step_and_each_run_begins_at_0(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.READY)
    for number in range(2):
        for operation in ("Breakup", "Configure") if number else ():
            await fleet.call("mutant", operation)
        for name in ("cobo0", "cobo1", "mutant"):
            await fleet.call(name, "Start")
        await wait_until(lambda: size(fleet.data["Mutant[master]"]) > 20 * 64)
        for name in ("mutant", "cobo0", "cobo1"):
            await fleet.call(name, "Stop")
        await wait_until(lambda: all(host.writing is Writing.IDLE for host in fleet.data))
        paths = [path for host in fleet.data for path in host.files()]
        assert len(paths) == 4 + 4 + 1
        assert all(NAME.fullmatch(path.name) for path in paths)
        read = [read_graw(path) for path in paths]
        assert all(found.rest == 0 for found in read)
        assert [found.events for found in read] == [list(range(len(read[-1].frames)))] * len(paths)
        assert [(f.frames[0].cobo, f.frames[0].asad) for f in read] == [
            *((cobo, asad) for cobo in (0, 1) for asad in range(4)),
            (-1, -1),
        ]
        times = [[frame.ticks for frame in found.frames] for found in read]
        apart = [{a - b for a, b in zip(one, times[-1], strict=True)} for one in times]
        assert [len(found) for found in apart] == [1] * len(paths), "constant"
        assert times[-1] == sorted(set(times[-1]))
        assert times[-1][-1] - times[-1][0] == pytest.approx(len(times[-1]) * 2e6, rel=0.3), "ticks of 10 ns"
        for path in paths:
            path.unlink()


async def test_the_newest_events_of_hosts_differ_because_of_their_buffers(tmp_path: Path) -> None:
    more = options(tmp_path, trigger_hz=500.0, drain_s=0.5)
    async with SimulatedFleet(3, durations=INSTANT, data=more) as fleet:
        await take_up(fleet, State.RUNNING)
        await wait_until(lambda: all(size(host) > 0 for host in fleet.data))
        assert len({host.behind for host in fleet.data}) > 1


async def test_cobo_10_has_another_clock(tmp_path: Path) -> None:
    async with SimulatedFleet(2, durations=INSTANT, first_cobo=9, data=options(tmp_path, asads=1)) as fleet:
        await take_up(fleet, State.RUNNING)
        hosts = fleet.data["CoBo[9]"], fleet.data["CoBo[10]"]
        await wait_until(lambda: all(size(host) > 500_000 for host in hosts))
        near, far = (read_graw(host.files()[0]).frames for host in hosts)
    apart = {b.ticks - a.ticks for a, b in zip(near, far, strict=False)}
    assert len(apart) == 1
    assert apart.pop() > 1e12


async def test_events_come_and_stop_with_the_mutant_and_go_on_without_a_configure(
    fleet: SimulatedFleet,
) -> None:
    host = fleet.data["CoBo[0]"]
    await take_up(fleet, State.RUNNING)
    await wait_until(lambda: size(host) > 0)
    await fleet.call("mutant", "Stop")
    await wait_until(lambda: not host.behind)
    seen = size(host)
    await fleet.call("mutant", "Start")
    await wait_until(lambda: size(host) > seen)
    assert len(host.files()) == 4
    found = read_graw(host.files()[0])
    assert found.events == list(range(len(found.frames)))


async def test_a_dead_board_sends_nothing_though_its_server_says_running(fleet: SimulatedFleet) -> None:
    host = fleet.data["CoBo[1]"]
    await take_up(fleet, State.RUNNING)
    await wait_until(lambda: size(host) > 0)
    fleet["cobo1"].faults.board_dead()
    await wait_until(lambda: host.writing is Writing.IDLE)
    seen, other = size(host), size(fleet.data["CoBo[0]"])
    await wait_until(lambda: size(fleet.data["CoBo[0]"]) > other + 100_000)
    assert size(host) == seen
    assert (await fleet.call("cobo1", "GetState")).state == State.RUNNING


async def test_a_router_that_ended_gets_data_again_when_it_is_connected_again(fleet: SimulatedFleet) -> None:
    host = fleet.data["CoBo[0]"]
    await take_up(fleet, State.RUNNING)
    await wait_until(lambda: size(host) > 0)
    await fleet.routers["CoBo[0]"].stop()
    await wait_until(lambda: host.writing is Writing.IDLE)
    seen = len(host.files())
    await fleet.routers["CoBo[0]"].start()
    for operation in ("Stop", "Breakup", "Configure", "Start"):
        await fleet.call("cobo0", operation)
    await wait_until(lambda: len(host.files()) == seen + 4)
    text = host.log.path.read_text()
    assert text.index("data arrive") < text.index("terminated") < text.rindex("started")


async def test_a_restart_is_noticed_however_short_it_is(fleet: SimulatedFleet) -> None:
    host = fleet.data["CoBo[0]"]
    await take_up(fleet, State.RUNNING)
    await wait_until(lambda: size(host) > 0)
    await fleet.routers["CoBo[0]"].stop()
    await fleet.routers["CoBo[0]"].start()
    await wait_until(lambda: host.writing is Writing.IDLE)
    assert not host.behind
    for operation in ("Stop", "Breakup", "Configure", "Start"):
        await fleet.call("cobo0", operation)
    await wait_until(lambda: len(host.files()) == 8, what="new streams")


async def test_a_full_file_is_followed_by_the_next(tmp_path: Path) -> None:
    more = options(tmp_path, file_limit_bytes=200_000, asads=1)
    async with SimulatedFleet(1, durations=INSTANT, data=more) as fleet:
        host = fleet.data["CoBo[0]"]
        await take_up(fleet, State.RUNNING)
        await wait_until(lambda: len(host.files()) >= 4)
        await fleet.call("cobo0", "Stop")
        await wait_until(lambda: host.writing is Writing.IDLE)
        sizes = [path.stat().st_size for path in host.files()]
        read = [read_graw(path) for path in host.files()]
        for part in read[:-1]:
            assert part.frames[-1].offset <= 200_000 < part.frames[-1].offset + part.frames[-1].length
        assert sizes[-1] <= 200_000
        assert [path.name[-9:-5] for path in host.files()] == [f"{i:04d}" for i in range(len(sizes))]
        assert len({path.name[:-10] for path in host.files()}) == 1
        events = [event for part in read for event in part.events]
        assert (events, [part.rest for part in read]) == (list(range(len(events))), [0] * len(read))


async def test_a_file_that_is_moved_is_followed_by_one_of_the_same_name(fleet: SimulatedFleet) -> None:
    host = fleet.data["CoBo[0]"]
    await take_up(fleet, State.RUNNING)
    await wait_until(lambda: size(host) > 0)
    first = host.files()[0]
    moved = first.rename(host.staging / "moved")
    await wait_until(lambda: first.exists() and first.stat().st_size > 0)
    early, late = read_graw(moved), read_graw(first)
    assert (early.rest, late.rest) == (0, 0)
    events = early.events + late.events
    assert events == list(range(len(events)))


@pytest.mark.parametrize("real_bytes", [False, True])
async def test_sparse_files_use_no_disk_and_real_ones_do(tmp_path: Path, real_bytes: bool) -> None:
    async with SimulatedFleet(1, durations=INSTANT, data=options(tmp_path, real_bytes=real_bytes)) as fleet:
        host = fleet.data["CoBo[0]"]
        await take_up(fleet, State.RUNNING)
        await wait_until(lambda: size(host) > 500_000)
        await fleet.call("cobo0", "Stop")
        await wait_until(lambda: host.writing is Writing.IDLE)
        used = sum(path.stat().st_blocks * 512 for path in host.files())
        assert (used > 0.9 * size(host)) if real_bytes else (0 < used < 0.4 * size(host))
        frames = [frame for path in host.files() for frame in read_graw(path, items=True).frames]
        samples = {item for frame in frames for item in frame.items}
        assert (len(samples) > 1000) if real_bytes else (samples == {0})


async def test_older_runs_than_those_to_keep_are_removed_at_the_start(tmp_path: Path) -> None:
    for number in (7, 8, 9999, 10000):
        (tmp_path / "cobo0" / "data" / "e20009" / f"run_{number:04d}").mkdir(parents=True)
    stray = tmp_path / "cobo0" / "data" / "stray.graw"
    stray.write_bytes(b"1")
    async with SimulatedFleet(1, durations=INSTANT, data=options(tmp_path, keep_runs=2)) as fleet:
        found = sorted(path.name for path in (fleet.data["CoBo[0]"].staging / "e20009").iterdir())
    assert found == ["run_10000", "run_9999"]
    assert stray.exists()


async def test_the_settings_for_the_data_hosts(fleet: SimulatedFleet) -> None:
    more = {"plugins.data_routers": "period_s = 0.5", "plugins.data_routers.closing": "quiet_s = 1.0"}
    read = tomllib.loads(fleet.settings_toml("T:", data_routers=True, **more))
    found = DataRoutersSettings.model_validate(read["plugins"]["data_routers"])
    assert (found.period_s, found.closing.quiet_s) == (0.5, 1.0)
    assert [router.sources for router in found.router] == [("CoBo0",), ("CoBo1",), ("MuTAnT",)]
    assert {router.access for router in found.router} == {Access.LOCAL.value}
    assert [router.staging for router in found.router] == [str(host.staging) for host in fleet.data]
    assert [ecc.names for ecc in found.ecc] == [("cobo0",), ("cobo1",), ("mutant",)]
    assert {ecc.xcfg for ecc in found.ecc} == {str(fleet.xcfg.path)}
    await fleet.call("cobo0", "Describe")
    assert found.ecc[0].log == str(fleet.ecc_logs["cobo0"])
    text = fleet.ecc_logs["cobo0"].read_text()
    assert f"listening on {fleet['cobo0'].url}" in text
    assert "Describe Idle->Described executed code=0" in text
    assert "plugins" not in tomllib.loads(fleet.settings_toml("T:"))


async def test_a_temporary_folder_is_gone_at_the_end() -> None:
    async with SimulatedFleet(1, durations=INSTANT, data=DataOptions()) as fleet:
        folder = fleet.data.folder
        assert fleet.data["CoBo[0]"].staging.is_dir()
    assert not folder.exists()


async def test_a_fleet_without_data_hosts_says_so() -> None:
    async with SimulatedFleet(1, durations=INSTANT) as fleet:
        with pytest.raises(RuntimeError, match="without data hosts"):
            _ = fleet.data


@pytest.mark.parametrize("wrong", [{"access": ()}, {"asads": 0}, {"tick_s": 0.0}, {"trigger_hz": 0.0}])
def test_options_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        DataOptions(**wrong)  # type: ignore[arg-type]
