"""The PVAccess server of an IOC: state, environment, others on its host, and clients that misbehave."""

from __future__ import annotations

import socket
import sys
import threading

import psutil
import pytest

from attpc_ioc.errors import AttpcError
from attpc_ioc.ioc.ask import clients_answer
from attpc_ioc.ioc.pva_conf import pva_conf
from attpc_ioc.settings import PvaSettings
from tests.support.ca import ca_place, eventually, run
from tests.support.pva import p4p_client, pvget, pvput
from tests.support.rig import rig

ENVIRON = {"EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1"}


def conf(settings: PvaSettings | None = None, **environ: str) -> dict[str, str]:
    found = pva_conf(settings or PvaSettings(), None, ENVIRON | environ)
    assert found.faults == ()
    return found.values


def test_the_settings_go_before_the_environment():
    assert conf()["EPICS_PVAS_SERVER_PORT"] == "5075"
    assert conf()["EPICS_PVAS_BROADCAST_PORT"] == "5076"
    assert conf(EPICS_PVA_SERVER_PORT="7000")["EPICS_PVAS_SERVER_PORT"] == "7000"
    assert conf(EPICS_PVA_SERVER_PORT="7000", EPICS_PVAS_SERVER_PORT="0")["EPICS_PVAS_SERVER_PORT"] == "0"
    assert conf(PvaSettings(server_port=7001), EPICS_PVAS_SERVER_PORT="1")["EPICS_PVAS_SERVER_PORT"] == "7001"
    assert conf(PvaSettings(interfaces=("127.0.0.2",)))["EPICS_PVAS_INTF_ADDR_LIST"] == "127.0.0.2"
    assert pva_conf(PvaSettings(), ("127.0.0.3",), {}).values["EPICS_PVAS_INTF_ADDR_LIST"] == "127.0.0.3"
    assert "EPICS_PVAS_INTF_ADDR_LIST" not in pva_conf(PvaSettings(), None, {}).values


def test_beacons():
    assert conf()["EPICS_PVAS_AUTO_BEACON_ADDR_LIST"] == "YES"
    found = conf(EPICS_PVA_ADDR_LIST="localhost 10.0.0.255:5099", EPICS_PVA_AUTO_ADDR_LIST="NO")
    assert found["EPICS_PVAS_BEACON_ADDR_LIST"] == "127.0.0.1 10.0.0.255:5099"
    assert found["EPICS_PVAS_AUTO_BEACON_ADDR_LIST"] == "NO"
    group = "224.0.1.1,3@127.0.0.1 [::1]:5076"
    assert conf(EPICS_PVAS_BEACON_ADDR_LIST=group)["EPICS_PVAS_BEACON_ADDR_LIST"] == group
    found = conf(PvaSettings(beacon_addresses=("10.0.0.255",)), EPICS_PVA_ADDR_LIST="10.1.0.255")
    assert found["EPICS_PVAS_BEACON_ADDR_LIST"] == "10.0.0.255"
    assert found["EPICS_PVAS_AUTO_BEACON_ADDR_LIST"] == "NO"


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("EPICS_PVAS_SERVER_PORT", "none", "is not a port from 0 to 65535: 5075 is used"),
        ("EPICS_PVA_BROADCAST_PORT", "65536", "is not a port from 0 to 65535: 5076 is used"),
        ("EPICS_PVAS_BEACON_ADDR_LIST", "no.such.host.invalid", "does not resolve"),
        ("EPICS_PVAS_IGNORE_ADDR_LIST", "1.2.3.4:x", "'1.2.3.4:x' is left out"),
        ("EPICS_PVAS_AUTO_BEACON_ADDR_LIST", "maybe", "is neither YES nor NO: YES is used"),
        ("EPICS_PVA_CONN_TMO", "-1", "is not a number of seconds above 0: 30 is used"),
    ],
)
def test_what_is_wrong_in_the_environment_is_said_and_left_out(name, value, fault):
    found = pva_conf(PvaSettings(), None, {**ENVIRON, name: value})
    assert [text for text in found.faults if name in text and fault in text], found.faults
    assert found.values["EPICS_PVAS_SERVER_PORT"] == "5075"


async def test_without_p4p_the_ioc_runs_and_says_so(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name == "p4p" or name.startswith("p4p.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "p4p", None)
    async with rig(tmp_path, monkeypatch) as it:
        assert await it.get("IOC:PvAccess_RBV") == "Failed"
        assert await it.severity("IOC:PvAccess_RBV") == "MINOR"
        assert "p4p is not installed" in await it.get_text("IOC:PvAccessText_RBV")
        await it.ok("Run:Class", "Beam")


async def test_it_can_be_switched_off(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, pva="enabled = false") as it:
        assert await it.get("IOC:PvAccess_RBV") == "Off"
        assert await it.severity("IOC:PvAccess_RBV") == "NO_ALARM"
        with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
            sock.connect(("127.0.0.1", it.place.pva_port))


async def test_an_interface_of_another_host_is_an_error(tmp_path, monkeypatch):
    with pytest.raises(BaseExceptionGroup) as error:
        async with rig(tmp_path, monkeypatch, pva='interfaces = ["192.0.2.1"]', alone=False):
            pass
    found = error.value.subgroup(AttpcError)
    assert found is not None
    assert "PVAccess cannot be served on 192.0.2.1" in str(found.exceptions[0])
    assert "pva.interfaces" in str(found.exceptions[0])


async def test_two_iocs_on_one_host(tmp_path, monkeypatch):
    """The second one is given the same ports: it gets a free TCP port, and shares the UDP one."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    async with rig(tmp_path / "one", monkeypatch, alone=False) as one:
        place = ca_place()
        place.pva_port = one.place.pva_port
        monkeypatch.setattr("tests.support.rig.ca_place", lambda: place)
        async with rig(tmp_path / "two", monkeypatch, alone=False) as two:
            ports = {it.app.server.pvaccess.server.port for it in (one, two)}
            assert len(ports) == 2
            for it in (one, two):
                ran = await pvget(place, f"{it.prefix}State_RBV", "-M", "raw")
                assert ran.code == 0, ran.both
            ran = await run(place, "pvlist", "-w", "20")
            assert all(f"127.0.0.1:{port}" in ran.out for port in ports), ran.both
            for it in (one, two):
                ran = await run(place, "pvlist", f"127.0.0.1:{it.app.server.pvaccess.server.port}")
                assert f"{it.prefix}State_RBV" in ran.out.split()


async def test_clients_are_counted_and_listed(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        pvaccess = it.app.server.pvaccess
        async with p4p_client(it.place) as client:
            await client.put(it.prefix + "Run:Class", 1)
            await pvaccess.count_clients()
            assert pvaccess.stats.clients == 1
            assert pvaccess.stats.pvs == 1
            (found,) = clients_answer(it.app.server.ca, pvaccess.connections, {})["pvaccess"]
            assert found["address"].startswith("127.0.0.1:")
            assert found["user"]
        await eventually(lambda: pvaccess.stats.pvs == 0, what="no PV followed")
        assert all(pv.follower is None for pv in it.app.server.pvs.values())
        await pvaccess.count_clients()
        assert pvaccess.stats.clients == 0


async def test_monitors_show_every_change_in_order(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it, p4p_client(it.place) as client:
        seen: list[int] = []

        async def see(value: object) -> None:
            seen.append(value.value)  # type: ignore[attr-defined]

        subscription = client.monitor(
            it.prefix + "Run:Number_RBV", see, request="field()record[queueSize=100]", notify_disconnect=False
        )
        await eventually(lambda: seen == [-1])
        pv = it.app.server.pvs[it.prefix + "Run:Number_RBV"]
        for number in range(50):
            pv.post(number)
        await eventually(lambda: seen[-1] == 49)
        assert seen == [-1, *range(50)]
        subscription.close()


async def test_a_restarted_server_is_found_again(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, alone=False) as it, p4p_client(it.place) as client:
        seen: list[object] = []

        async def see(value: object) -> None:
            seen.append(value)

        subscription = client.monitor(it.prefix + "State_RBV", see)
        await eventually(lambda: len(seen) >= 1)
        await it.stop_ioc()
        before = len(seen)
        await it.start_ioc()
        await eventually(lambda: len(seen) > before, limit_s=60)
        subscription.close()


async def test_no_thread_and_no_socket_is_left(tmp_path, monkeypatch):
    """Threads of the operating system, pvxs's own included; `rig` looks at sockets."""
    numbers: list[int] = []
    async with rig(tmp_path, monkeypatch) as it:
        for _ in range(4):
            ran = await pvput(it.place, it.prefix + "Run:Title", "hello")
            assert ran.code == 0, ran.both
            await it.stop_ioc()
            assert not [thread.name for thread in threading.enumerate() if "pva" in thread.name]
            numbers.append(psutil.Process().num_threads())
            await it.start_ioc()
    # The threads of asyncio's executor come with use, up to a few more than there are processors.
    assert numbers[-1] <= numbers[0] + 2, numbers
