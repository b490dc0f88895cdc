"""EPICS's environment variables."""

from __future__ import annotations

import asyncio
import socket

import pytest

from attpc_ioc.ioc.ca.address import Addresses, from_environment
from attpc_ioc.ioc.ca.udp import Searches
from attpc_ioc.ioc.ca.wire import Command, message
from tests.support.ca import LOOPBACK, free_port


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
    ("name", "value"),
    [
        ("EPICS_CAS_SERVER_PORT", "many"),
        ("EPICS_CAS_SERVER_PORT", "70000"),
        ("EPICS_CAS_INTF_ADDR_LIST", "no.such.host.invalid"),
        ("EPICS_CAS_BEACON_ADDR_LIST", "10.0.0.1:x"),
        ("EPICS_CAS_BEACON_PERIOD", "often"),
    ],
)
def test_senseless_variables(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"not a number|not a port|not an address"):
        from_environment({name: value})


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
