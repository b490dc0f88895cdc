"""An IOC that hears its own prefix answered by somebody else: a second IOC, a gateway, junk."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from attpc_ioc.app import App, running
from attpc_ioc.ioc.ca.address import from_environment
from attpc_ioc.ioc.ca.seek import Found, answering, find_servers, read_texts
from attpc_ioc.ioc.ca.wire import Command, message
from attpc_ioc.ioc.elsewhere import own_servers
from attpc_ioc.settings import load_settings
from tests.support.ca import LOOPBACK, CaPlace, ca_place, caget, eventually, free_port
from tests.support.others import other_server
from tests.support.process import FORKED, environment, started

TOML = """
[ioc]
prefix = "T:"
state_dir = "{folder}"
server_port = {port}
interfaces = ["127.0.0.1"]
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


@pytest.fixture
def place() -> CaPlace:
    return ca_place()


def settings_file(folder: Path, port: int) -> Path:
    folder.mkdir()
    file = folder / "ioc.toml"
    file.write_text(TOML.format(folder=folder / "state", port=port, ecc=free_port()))
    return file


@pytest.fixture
async def ioc(tmp_path: Path, place: CaPlace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    place.put_into(monkeypatch)
    async with running(load_settings(settings_file(tmp_path / "ioc", place.port))) as app:
        yield app
    place.close()


def shown(app: App) -> tuple[str, str]:
    """Others, and the alarm of the PV."""
    reading = app.server.publisher.reading("T:IOC:OtherServers_RBV")
    assert reading is not None
    return str(reading.value), reading.severity.name


async def test_two_iocs_of_one_prefix(tmp_path: Path, place: CaPlace) -> None:
    """Two processes with state directories of their own; the second hears the first at once."""
    port = free_port()
    first_file, second_file = settings_file(tmp_path / "a", place.port), settings_file(tmp_path / "b", port)
    env = environment(place, tmp_path)
    async with started(FORKED, "run", first_file, env=env, folder=tmp_path) as first:
        await first.until("event=serving")
        place.extra["EPICS_CA_ADDR_LIST"] = f"{LOOPBACK}:{place.port} {LOOPBACK}:{port}"
        env = environment(place, tmp_path)
        async with started(FORKED, "run", second_file, env=env, folder=tmp_path) as second:
            line = await second.until("another server answers for the prefix of this IOC")
            host = socket.gethostname()
            who = f"{LOOPBACK}:{place.port} ({host[:39]}, process {first.process.pid})"
            assert who in line
            assert "level=warning" in line
            place.extra["EPICS_CA_ADDR_LIST"] = f"{LOOPBACK}:{port}"
            await until_shown(place, who)
            ran = await caget(place, "-a", "T:IOC:OtherServers_RBV")
            assert "STATE MINOR" in ran.out
            assert (await caget(place, "-S", "T:AlarmText_RBV")).out.find(who) > 0
            assert (await second.end())[0] == 0
        assert (await first.end())[0] == 0
        assert "another server answers" not in first.text
    place.close()


async def until_shown(place: CaPlace, text: str) -> None:
    async def is_shown() -> bool:
        return text in (await caget(place, "-S", "T:IOC:OtherServers_RBV")).out

    await eventually(is_shown, text, 10.0)


async def test_it_does_not_hear_itself(ioc: App) -> None:
    where = ioc.server.ca.where
    assert await find_servers("T:IOC:HEARTBEAT", where, 1) == (Found(LOOPBACK, ioc.server.port),)
    await ioc.server.elsewhere.poll()
    assert shown(ioc) == ("", "NO_ALARM")
    assert await find_servers("T:IOC:NO_SUCH", where, 2) == ()


async def test_another_server_comes_and_goes(ioc: App, place: CaPlace) -> None:
    async with other_server("T:", place.port) as other:
        await ioc.server.elsewhere.poll()
        assert shown(ioc) == (f"{LOOPBACK}:{other.port} (elsewhere, process 4711)", "MINOR")
        await eventually(lambda: "elsewhere" in str(ioc.server.pvs["T:AlarmText_RBV"].value), "alarm text")
    await ioc.server.elsewhere.poll()
    assert shown(ioc) == ("", "NO_ALARM")


async def test_what_another_server_says_of_itself_is_shown_as_text(ioc: App, place: CaPlace) -> None:
    async with other_server("T:", place.port, host="evil\x1b[2J\nhost"):
        await ioc.server.elsewhere.poll()
        assert r"(evil\x1b[2J host, process 4711)" in shown(ioc)[0]


async def test_a_gateway_in_front_of_this_ioc_is_no_other(ioc: App, place: CaPlace) -> None:
    own = {part: ioc.server.pvs[f"T:IOC:{part}"].value for part in ("HOSTNAME", "PROCESS_ID", "STARTTOD")}
    host, process, began = str(own["HOSTNAME"]), float(str(own["PROCESS_ID"])), str(own["STARTTOD"])
    async with other_server("T:", place.port, host=host, process=process, started=began) as gateway:
        assert Found(LOOPBACK, gateway.port) in await find_servers("T:IOC:HOSTNAME", ioc.server.ca.where, 3)
        await ioc.server.elsewhere.poll()
        assert shown(ioc) == ("", "NO_ALARM")
    # The same machine and number, another start: another IOC, in a container say.
    async with other_server("T:", place.port, host=host, process=process, started="long ago"):
        await ioc.server.elsewhere.poll()
        assert shown(ioc)[1] == "MINOR"


async def test_one_that_does_not_say_who_it_is(ioc: App, place: CaPlace) -> None:
    async with other_server("T:", place.port, names=("HOSTNAME",)) as other:
        await ioc.server.elsewhere.poll()
        text, severity = shown(ioc)
        assert text.startswith(f"{LOOPBACK}:{other.port} (it does not say who it is: ")
        assert severity == "MINOR"


@pytest.mark.parametrize(
    "answer", [b"", b"\xff" * 4096, b"\0" * 15, b"GET / HTTP/1.1\r\n\r\n", b"\0" * 200_000]
)
async def test_junk_of_a_server_is_an_error_in_time(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()  # until the client has had enough
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(OSError, match=r"does not answer|connection"):
            await read_texts(Found(LOOPBACK, port), ["T:IOC:HOSTNAME"], "test", limit_s=0.5)


VALUE = message(Command.READ_NOTIFY, 0, 1, 1, 0, b"elsewhere")


@pytest.mark.parametrize(
    "answer",
    [
        VALUE,
        message(Command.READ_NOTIFY, 0, 1, 1, 77, b"elsewhere"),
        message(Command.CREATE_CHANNEL, 0, 1, 77, 5),
        message(Command.CREATE_CHANNEL, 0, 1, 0, 5) * 2 + VALUE,
    ],
)
async def test_a_value_that_nobody_asked_for_is_not_believed(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()  # until the client has had enough
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(OSError, match="was not requested"):
            await read_texts(Found(LOOPBACK, port), ["T:IOC:HOSTNAME"], "test", limit_s=5.0)


async def test_each_search_has_a_number_of_its_own(ioc: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has heard one search, or read this program, cannot answer the next without hearing it."""
    heard: set[bytes] = set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((LOOPBACK, 0))
        listener.setblocking(False)
        where = replace(ioc.server.ca.where, searches=(listener.getsockname(),))
        monkeypatch.setattr(ioc.server.ca, "where", where)
        for _ in range(2):
            await ioc.server.elsewhere.poll()
            with contextlib.suppress(BlockingIOError):
                while data := listener.recv(2048):
                    heard.add(data[24:32])
    assert len(heard) == 2


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", set()),
        (b"\xff" * 100, set()),
        (message(Command.SEARCH, 5070, 0, 0xFFFFFFFF, 0x417454), {Found("10.0.0.9", 5070)}),
        (message(Command.SEARCH, 5070, 0, 0x0A000001, 0x417454), {Found("10.0.0.1", 5070)}),
        (message(Command.SEARCH, 5070, 0, 0xFFFFFFFF, 7), set()),
        (message(Command.NOT_FOUND, 10, 13, 0x417454, 0x417454), set()),
    ],
)
def test_answers_to_a_search(data: bytes, found: set[Found]) -> None:
    assert answering(data, "10.0.0.9", 0x417454) == found


def test_where_a_server_looks_for_others() -> None:
    environ = {
        "EPICS_CA_ADDR_LIST": "10.0.0.1 10.0.0.2:99 no.such.host.invalid",
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CAS_BEACON_ADDR_LIST": "10.0.0.1",
    }
    assert from_environment(environ, port=7000).searches == (("10.0.0.1", 7000), ("10.0.0.2", 99))
    environ = {"EPICS_CA_ADDR_LIST": "10.0.0.1"}
    where = from_environment(environ, interfaces=["127.0.0.2"], port=7000)
    assert where.searches == (("10.0.0.1", 7000), ("127.0.0.2", 7000))
    assert own_servers(where, 7001) == {Found("127.0.0.2", 7001)}
    everywhere = own_servers(from_environment({}), 7001)
    assert Found(LOOPBACK, 7001) in everywhere
    assert all(re.fullmatch(r".+:7001", str(server)) for server in everywhere)
