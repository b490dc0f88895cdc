"""A host whose EPICS variables are wrong: the IOC serves all the same, and `check` says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from attpc_ioc.simulator.fleet import SimulatedFleet
from tests.service.test_interfaces import TOML
from tests.support.ca import CaPlace, ca_place, caget, free_port
from tests.support.process import ATTPC_IOC, environment, started

WRONG = {
    "EPICS_CA_ADDR_LIST": "gateway.invalid ::1 127.0.0.1:x",
    "EPICS_CA_AUTO_ADDR_LIST": "perhaps no",
    "EPICS_CA_REPEATER_PORT": "many",
    "EPICS_CA_BEACON_PERIOD": "nan",
    "EPICS_CA_MAX_ARRAY_BYTES": "nan",
    "EPICS_CA_AUTO_ARRAY_BYTES": "perhaps",
    "EPICS_CA_CONN_TMO": "soon",
    "EPICS_CA_MCAST_TTL": "-1",
    "EPICS_CA_NAME_SERVERS": "gateway.invalid",
    "EPICS_CAS_INTF_ADDR_LIST": "127.0.0.1 console.invalid",
    "EPICS_CAS_BEACON_ADDR_LIST": "127.0.0.1:70000",
    "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "perhaps",
    "EPICS_CAS_BEACON_PORT": "0",
    "EPICS_CAS_BEACON_PERIOD": "often",
    "EPICS_CAS_IGNORE_ADDR_LIST": "noisy.invalid",
}
TOLD = (
    *(
        "EPICS_CA_ADDR_LIST",
        "EPICS_CA_AUTO_ADDR_LIST",
        "EPICS_CAS_INTF_ADDR_LIST",
        "EPICS_CAS_BEACON_ADDR_LIST",
    ),
    *("EPICS_CAS_AUTO_BEACON_ADDR_LIST", "EPICS_CAS_BEACON_PORT", "EPICS_CAS_BEACON_PERIOD"),
    *(
        "EPICS_CAS_IGNORE_ADDR_LIST",
        "gateway.invalid",
        "::1",
        "127.0.0.1:x",
        "console.invalid",
        "noisy.invalid",
    ),
)


@pytest.fixture
def place() -> Iterator[CaPlace]:
    place = ca_place()
    yield place
    place.close()


def settings_file(folder: Path, place: CaPlace) -> Path:
    file = folder / "ioc.toml"
    file.write_text(TOML.format(folder=folder / "state", port=place.port, ecc=free_port(), interfaces=""))
    return file


async def test_an_ioc_serves_where_every_variable_is_wrong(tmp_path: Path, place: CaPlace) -> None:
    file = settings_file(tmp_path, place)
    async with started(
        ATTPC_IOC, "run", file, env=environment(place, tmp_path, WRONG), folder=tmp_path
    ) as ioc:
        await ioc.until("event=serving")
        assert (await caget(place, "-t", "-w", "5", "T:IOC:HOSTNAME.NAME")).out.strip() == "T:IOC:HOSTNAME"
        for name in TOLD:
            assert any(name in line and "level=warning" in line for line in ioc.lines), (
                f"{name} in\n{ioc.text}"
            )
        assert "Traceback" not in ioc.text
        code, _ = await ioc.end()
        assert code == 0


async def test_interfaces_that_are_all_of_other_hosts_end_the_start_with_one_line(
    tmp_path: Path, place: CaPlace
) -> None:
    file = settings_file(tmp_path, place)
    more = {"EPICS_CAS_INTF_ADDR_LIST": "203.0.113.77 203.0.113.78"}
    async with started(
        ATTPC_IOC, "run", file, env=environment(place, tmp_path, more), folder=tmp_path
    ) as ioc:
        assert await ioc.wait() == 1
        assert "Traceback" not in ioc.text
        assert "Channel Access cannot be served on 203.0.113.77, 203.0.113.78" in ioc.text
        assert "EPICS_CAS_INTF_ADDR_LIST" in ioc.text


async def test_the_online_check_reports_what_is_wrong_in_the_variables(
    tmp_path: Path, place: CaPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SimulatedFleet(cobos=1) as fleet:
        file = tmp_path / "ioc.toml"
        file.write_text(fleet.settings_toml("T:"))
        env = environment(place, tmp_path, {"COLUMNS": "200"})
        async with started(ATTPC_IOC, "check", file, "--online", env=env, folder=tmp_path) as right:
            assert await right.wait() == 0, right.text
        env |= WRONG | {"EPICS_CA_SERVER_PORT": "4000"}
        async with started(ATTPC_IOC, "check", file, "--online", env=env, folder=tmp_path) as wrong:
            assert await wrong.wait() == 1
    for name in (*TOLD, "EPICS_CA_SERVER_PORT='4000'"):
        assert any(name in line and line.startswith("environment: ") for line in wrong.lines), wrong.text
    assert wrong.lines[-1] == "not right: environment"


def test_the_demos_hint_names_the_port_that_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    from attpc_ioc.cli.demo import _setting

    monkeypatch.setenv("EPICS_CA_SERVER_PORT", "many")
    assert "EPICS_CA_SERVER_PORT=5064" in _setting(Path("demo.toml"))
