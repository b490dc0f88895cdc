"""The fleet as tests and IOCs use it."""

from __future__ import annotations

import asyncio
import re
import tomllib
from pathlib import Path

import pytest
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from attpc_ioc.model.states import Kind, State
from attpc_ioc.settings import Settings
from attpc_ioc.simulator.durations import INSTANT
from attpc_ioc.simulator.fleet import SimulatedFleet
from tests.support.simfleet import take_up, wait_until


@pytest.mark.parametrize("one_server", [False, True])
async def test_settings_toml_is_accepted(tmp_path: Path, one_server: bool) -> None:
    async with SimulatedFleet(2, durations=INSTANT, one_server=one_server) as fleet:
        text = fleet.settings_toml("T:", tmp_path, ioc='engineer = "me"', poll="quiet_period_s = 0.1")
        settings = Settings.model_validate(tomllib.loads(text))
        assert (settings.ioc.prefix, settings.ioc.state_dir) == ("T:", str(tmp_path))
        assert (settings.ioc.engineer, settings.poll.quiet_period_s) == ("me", 0.1)
        names = ["ecc"] if one_server else ["cobo0", "cobo1", "mutant"]
        assert [ecc.name for ecc in settings.ecc] == names
        assert [ecc.port for ecc in settings.ecc] == [server.port for server in fleet]
        sources = [source.id for ecc in settings.ecc for source in ecc.source]
        assert sources == ["CoBo[0]", "CoBo[1]", "Mutant[master]"]
        types = [link.type for ecc in settings.ecc for source in ecc.source for link in source.link]
        assert types == ["TCP", "TCP", "FDT"]
        assert settings.ecc[-1].kind is (Kind.OTHER if one_server else Kind.MUTANT)


async def test_log_is_in_order_and_get_state_is_only_counted(fleet: SimulatedFleet) -> None:
    await fleet.call("cobo0", "GetState")
    await take_up(fleet, State.DESCRIBED)
    assert fleet["cobo0"].polls == 1
    assert sorted(fleet.log.sequence()) == ["cobo0.Describe", "cobo1.Describe", "mutant.Describe"]
    assert fleet.log[0].server == "mutant"
    first = fleet.log[0]
    assert (first.state_before, first.state_after) == (State.IDLE, State.DESCRIBED)
    assert str(first.ids) == "e20009/e20009/e20009"
    assert "Mutant[master]" in first.table
    begins = [call.begin_s for call in fleet.log]
    assert begins == sorted(begins)
    assert re.search(r"mutant Describe Idle->Described executed code=0$", str(first))
    assert fleet.log.of("cobo1", "Describe") == [call for call in fleet.log if call.server == "cobo1"]


async def test_waiting_for_a_call(fleet: SimulatedFleet) -> None:
    wait = asyncio.create_task(
        fleet.log.wait_for(lambda call: call.operation == "Describe" and bool(call.end_s))
    )
    await fleet.call("cobo1", "Describe")
    assert (await wait).server == "cobo1"
    with pytest.raises(TimeoutError):
        await fleet.log.wait_for(lambda call: call.operation == "Undo", timeout_s=0.01)


async def test_xcfg_folder_of_ones_own(tmp_path: Path) -> None:
    async with SimulatedFleet(1, False, durations=INSTANT, experiments=("x",)) as fleet:
        for file in fleet.xcfg.path.iterdir():
            (tmp_path / file.name).write_text(file.read_text())
    async with SimulatedFleet(1, False, durations=INSTANT, xcfg=tmp_path, experiments=("x",)) as fleet:
        await take_up(fleet, State.RUNNING)
        assert fleet.xcfg.names("configure") == ["x"]
        assert fleet.xcfg.names("describe") == ["cobo0"]


async def test_default_files_are_xml(fleet: SimulatedFleet) -> None:
    files = sorted(fleet.xcfg.path.iterdir())
    assert [file.name for file in files] == [
        "configure-e20009.xcfg",
        "configure-pulser.xcfg",
        "describe-cobo0.xcfg",
        "describe-cobo1.xcfg",
        "describe-e20009.xcfg",
        "describe-pulser.xcfg",
    ]
    assert {etree.parse(file).getroot().tag for file in files} == {"Setup"}


async def test_first_cobo_and_no_mutant() -> None:
    async with SimulatedFleet(2, False, durations=INSTANT, first_cobo=4) as fleet:
        assert list(fleet.servers) == ["cobo4", "cobo5"]
        await take_up(fleet, State.RUNNING)
        assert not any(call.stale for call in fleet.log)


async def test_port_that_is_taken_leaves_nothing_behind() -> None:
    async with SimulatedFleet(1, False, durations=INSTANT) as fleet:
        taken = SimulatedFleet(1, False, durations=INSTANT, first_port=fleet["cobo0"].port)
        with pytest.raises(OSError, match="in use"):
            async with taken:
                pass
        assert not taken.routers["CoBo[0]"].running


async def test_closing_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    async with SimulatedFleet(2, durations=INSTANT) as fleet:
        folder = fleet.xcfg.path
        await take_up(fleet, State.RUNNING)
        fleet["cobo0"].faults.hang()
        hung = asyncio.create_task(fleet.call("cobo0", "Stop"))
        await wait_until(lambda: fleet["cobo0"].transition != 0)
        port = fleet["cobo0"].port
    with pytest.raises(ConnectionResetError):
        await hung
    assert not folder.exists()
    await wait_until(lambda: asyncio.all_tasks() == before)
    async with SimulatedFleet(1, False, durations=INSTANT, first_port=port):
        pass


async def test_polls_of_a_whole_fleet_side_by_side() -> None:
    async with SimulatedFleet(10, durations=INSTANT) as fleet:
        answers = await asyncio.gather(
            *(fleet.call(name, "GetState") for name in fleet.servers for _ in range(20))
        )
        assert {answer.state for answer in answers} == {1}
        assert [server.polls for server in fleet] == [20] * 11
