"""Channel Access on chosen interfaces: name search, connections and beacons keep to them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from attpc_ioc.app import App, running
from attpc_ioc.ioc.ca.wire import Command, message
from attpc_ioc.settings import load_settings
from tests.support.ca import CaPlace, ca_place, caget, free_port

TOML = """
[ioc]
prefix = "T:"
state_dir = "{folder}"
server_port = {port}
{interfaces}
[[ecc]]
name = "cobo0"
host = "127.0.0.1"
port = {ecc}
[[ecc.source]]
id = "CoBo[0]"
[[ecc.source.link]]
name = "data0"
address = "127.0.0.1"
[plugins.run_history]
enabled = false
"""
CHOSEN, ALSO, OTHER = "127.0.0.11", "127.0.0.12", "127.0.0.13"


@pytest.fixture
def place() -> Iterator[CaPlace]:
    place = ca_place()
    yield place
    place.close()


@contextlib.asynccontextmanager
async def ioc_on(
    folder: Path, place: CaPlace, monkeypatch: pytest.MonkeyPatch, interfaces: str, **environ: str
) -> AsyncIterator[App]:
    place.put_into(monkeypatch)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    file = folder / "ioc.toml"
    text = TOML.format(folder=folder / "state", port=place.port, ecc=free_port(), interfaces=interfaces)
    file.write_text(text)
    async with running(load_settings(file)) as app:
        yield app


async def answered(address: str, port: int) -> bool:
    """Whether a search sent to this address is answered; the system says at once where nobody listens."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect((address, port))
        sock.send(message(Command.SEARCH, 5, 13, 1, 1, b"T:State_RBV\0"))
        try:
            reply = await asyncio.wait_for(loop.sock_recv(sock, 1000), 5)
        except ConnectionRefusedError:
            return False
    assert struct.unpack(">H", reply[16:18]) == (Command.SEARCH,)
    return True


async def connected(address: str, port: int) -> bool:
    """Whether somebody listens there over TCP."""
    try:
        _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def test_search_and_connections_keep_to_the_interfaces(tmp_path, place, monkeypatch) -> None:
    chosen = f'interfaces = ["{CHOSEN}", "{ALSO}"]'
    async with ioc_on(tmp_path, place, monkeypatch, chosen) as app:
        port = app.server.port
        addresses = (CHOSEN, ALSO, OTHER, "127.0.0.1")
        assert [await answered(a, place.port) for a in addresses] == [True, True, False, False]
        assert [await connected(a, port) for a in addresses] == [True, True, False, False]
        for address, out in ((CHOSEN, "T:"), (OTHER, "")):
            place.extra["EPICS_CA_ADDR_LIST"] = address
            ran = await caget(place, "-t", "-w", "0.5", "-S", "T:IOC:HOSTNAME.NAME")
            assert ran.out.startswith(out), ran.both
            assert (ran.code == 0) is bool(out)


async def test_the_setting_goes_before_the_variable(tmp_path, place, monkeypatch) -> None:
    async with ioc_on(
        tmp_path, place, monkeypatch, f'interfaces = ["{CHOSEN}"]', EPICS_CAS_INTF_ADDR_LIST=OTHER
    ):
        assert [await answered(a, place.port) for a in (CHOSEN, OTHER)] == [True, False]


async def test_without_a_setting_the_variable_holds(tmp_path, place, monkeypatch) -> None:
    async with ioc_on(tmp_path, place, monkeypatch, "", EPICS_CAS_INTF_ADDR_LIST=f"{CHOSEN} {ALSO}"):
        assert [await answered(a, place.port) for a in (CHOSEN, ALSO, OTHER)] == [True, True, False]


def listening(address: str, port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((address, port))
    return sock


async def senders(sock: socket.socket, count: int) -> set[tuple[str, str]]:
    """Where beacons came from: the sender's address, and the one that the beacon names."""
    loop = asyncio.get_running_loop()
    found = set()
    for _ in range(count):
        data, peer = await asyncio.wait_for(loop.sock_recvfrom(sock, 1000), 5)
        command, *_, address = struct.unpack(">HHHHII", data)
        assert command == Command.BEACON
        found.add((peer[0], socket.inet_ntoa(address.to_bytes(4, "big"))))
    return found


async def test_beacons_come_from_the_interfaces_and_go_where_they_are_to(
    tmp_path, place, monkeypatch
) -> None:
    with listening(CHOSEN) as listed, listening("127.0.0.14", listed.getsockname()[1]) as not_listed:
        port = listed.getsockname()[1]
        environ = {"EPICS_CAS_BEACON_ADDR_LIST": CHOSEN, "EPICS_CAS_BEACON_PORT": str(port)}
        async with ioc_on(tmp_path, place, monkeypatch, f'interfaces = ["{CHOSEN}", "{ALSO}"]', **environ):
            # Each interface sends its own, and names itself: a client connects to where the beacon says.
            assert await senders(listed, 4) == {(CHOSEN, CHOSEN), (ALSO, ALSO)}
            with pytest.raises(BlockingIOError):
                not_listed.recv(1000)


async def test_beacons_of_chosen_interfaces_go_to_their_own_networks(tmp_path, place, monkeypatch) -> None:
    """With the automatic list a loopback interface tells itself, and no other network hears of the IOC."""
    with listening(CHOSEN) as own:
        port = own.getsockname()[1]
        with listening(OTHER, port) as other:
            environ = {
                "EPICS_CAS_BEACON_ADDR_LIST": "",
                "EPICS_CA_ADDR_LIST": "",
                "EPICS_CA_AUTO_ADDR_LIST": "YES",
                "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "YES",
                "EPICS_CAS_BEACON_PORT": str(port),
            }
            async with ioc_on(tmp_path, place, monkeypatch, f'interfaces = ["{CHOSEN}"]', **environ) as app:
                where = app.server.ca.where
                assert where.beacons == ((CHOSEN, port),)
                assert where.searches == ((CHOSEN, place.port),)
                assert await senders(own, 2) == {(CHOSEN, CHOSEN)}
                with pytest.raises(BlockingIOError):
                    other.recv(1000)
