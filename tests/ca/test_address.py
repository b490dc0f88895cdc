"""EPICS's environment variables."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from attpc_ioc.ioc.ca import CAServer, variables
from attpc_ioc.ioc.ca.address import Addresses, from_environment
from attpc_ioc.ioc.ca.udp import Searches
from attpc_ioc.ioc.ca.wire import Command, message
from tests.support.ca import LOOPBACK, CaPlace, free_port


@pytest.mark.parametrize(
    ("environ", "port", "beacons"),
    [
        ({"EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO"}, 5064, ()),
        ({"EPICS_CA_SERVER_PORT": "6000", "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "no"}, 6000, ()),
        (
            {
                "EPICS_CA_SERVER_PORT": "6000",
                "EPICS_CAS_SERVER_PORT": "7000",
                "EPICS_CAS_BEACON_ADDR_LIST": "10.0.0.1 10.0.0.2:99 10.0.0.1",
                "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
                "EPICS_CA_REPEATER_PORT": "5099",
            },
            7000,
            (("10.0.0.1", 5099), ("10.0.0.2", 99)),
        ),
        (
            {"EPICS_CA_ADDR_LIST": "127.0.0.1:6000", "EPICS_CA_AUTO_ADDR_LIST": "NO"},
            5064,
            (("127.0.0.1", 5065),),
        ),
        ({"EPICS_CAS_INTF_ADDR_LIST": "127.0.0.1"}, 5064, (("127.0.0.1", 5065),)),
    ],
)
def test_variables(environ: dict[str, str], port: int, beacons: tuple[tuple[str, int], ...]) -> None:
    found = from_environment(environ)
    assert (found.port, found.beacons, found.beacon_period_s) == (port, beacons, 15.0)


def test_arguments_go_first() -> None:
    environ = {"EPICS_CAS_INTF_ADDR_LIST": "127.0.0.2", "EPICS_CAS_SERVER_PORT": "7000"}
    found = from_environment(environ, interfaces=[LOOPBACK], port=8000)
    assert (found.interfaces, found.port) == ((LOOPBACK,), 8000)


def test_everything_is_listened_to_by_default() -> None:
    found = from_environment({"EPICS_CAS_BEACON_PERIOD": "30", "EPICS_CAS_IGNORE_ADDR_LIST": "10.1.1.1"})
    heard = frozenset({"10.1.1.1"})
    assert found == Addresses(("0.0.0.0",), 5064, found.beacons, 30.0, heard, found.searches)
    assert found.beacons
    assert found.searches == tuple((address, 5064) for address, _ in found.beacons)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("EPICS_CAS_SERVER_PORT", "many", "not a port from 5001 to 65535: 5064 is used"),
        ("EPICS_CAS_SERVER_PORT", "70000", "not a port from 5001 to 65535: 5064 is used"),
        ("EPICS_CA_REPEATER_PORT", "-1", "not a port from 5001 to 65535: 5065 is used"),
        ("EPICS_CAS_INTF_ADDR_LIST", "no.such.host.invalid", "does not resolve"),
        ("EPICS_CAS_INTF_ADDR_LIST", "no.such.host.invalid", "served on all"),
        ("EPICS_CAS_INTF_ADDR_LIST", "224.0.0.9", "multicast"),
        (
            "EPICS_CAS_INTF_ADDR_LIST",
            "203.0.113.77 127.0.0.1",
            "'203.0.113.77' is left out: it is not an address of this host",
        ),
        ("EPICS_CAS_INTF_ADDR_LIST", "0.0.0.0 127.0.0.1", "all interfaces"),
        ("EPICS_CAS_BEACON_ADDR_LIST", "10.0.0.1:x", "neither HOST nor HOST:PORT"),
        ("EPICS_CAS_BEACON_ADDR_LIST", "10.0.0.1:70000", "70000 is not a port"),
        ("EPICS_CAS_IGNORE_ADDR_LIST", "10.0.0.256", "not an IPv4 address"),
        ("EPICS_CA_ADDR_LIST", "fe80::1", "neither HOST nor HOST:PORT"),
        ("EPICS_CA_AUTO_ADDR_LIST", "No", "means YES"),
        ("EPICS_CAS_AUTO_BEACON_ADDR_LIST", "true", "means NO"),
        *(
            ("EPICS_CAS_BEACON_PERIOD", text, "15 is used")
            for text in ("often", "nan", "inf", "1e999", "0", "-3")
        ),
    ],
)
def test_invalid_addresses_are_left_out_and_reported(name: str, value: str, told: str) -> None:
    found = from_environment({"EPICS_CAS_INTF_ADDR_LIST": LOOPBACK, name: value})
    assert any(fault.startswith(name) and told in fault for fault in found.faults), found.faults
    assert found.port == 5064
    assert found.beacon_period_s == 15.0
    assert found.interfaces in ((LOOPBACK,), ("0.0.0.0",))


def test_good_variables_are_no_faults() -> None:
    environ = {
        "EPICS_CAS_INTF_ADDR_LIST": f"{LOOPBACK} 127.0.0.2",
        "EPICS_CAS_SERVER_PORT": "6000",
        "EPICS_CAS_BEACON_PERIOD": " 2.5 ",
        "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "no",
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_ADDR_LIST": "localhost:6001 10.0.0.1",
    }
    found = from_environment(environ)
    assert found.faults == ()
    assert (found.port, found.beacon_period_s, found.interfaces) == (6000, 2.5, (LOOPBACK, "127.0.0.2"))
    assert found.searches == ((LOOPBACK, 6001), ("10.0.0.1", 6000))


async def test_a_resolver_that_hangs_holds_up_neither_the_loop_nor_the_start(
    place: CaPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(host: str) -> str:
        if host == "hangs":
            answer.wait()
        return LOOPBACK

    answer = threading.Event()
    monkeypatch.setattr(socket, "gethostbyname", look)
    monkeypatch.setattr(variables, "RESOLVE_S", 0.5)
    place.put_into(monkeypatch)
    monkeypatch.setenv("EPICS_CAS_BEACON_ADDR_LIST", f"hangs answers:{free_port()}")
    server = CAServer([], put=lambda *_: None)
    starting = asyncio.create_task(server.start())
    try:
        turns = 0
        while not starting.done():
            await asyncio.sleep(0.01)
            turns += 1
        await starting
        assert turns > 5
        assert [address for address, _ in server.where.beacons] == [LOOPBACK]
        assert server.where.faults == (
            "EPICS_CAS_BEACON_ADDR_LIST: 'hangs' is left out: the name does not resolve to an IPv4 address",
        )
    finally:
        answer.set()
        await server.stop()


async def test_an_ignored_host_gets_no_answer() -> None:
    port = free_port()
    request = message(Command.SEARCH, 5, 13, 1, 1, b"X\0")
    searches = Searches(LOOPBACK, port, lambda _: b"12345678", frozenset({"127.0.0.2"}))
    loop = asyncio.get_running_loop()
    try:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ignored,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard,
        ):
            ignored.bind(("127.0.0.2", 0))
            ignored.setblocking(False)
            heard.setblocking(False)
            await loop.sock_sendto(ignored, request, (LOOPBACK, port))
            await loop.sock_sendto(heard, request, (LOOPBACK, port))
            assert await asyncio.wait_for(loop.sock_recv(heard, 100), 3)
            with pytest.raises(BlockingIOError):
                ignored.recv(100)
    finally:
        searches.close()
