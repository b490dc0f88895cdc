"""A sentry as seen from the plugin: its answers, its refusals, and nonsense in its place."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web
from attpc_plugins.data_routers.hosts.host import (
    FileHost,
    HostError,
    HostFault,
    HostTimeout,
    HostUnreachable,
    RouterGone,
    RunFolderExists,
    SentryHost,
)
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.make import config_host_for, host_for
from attpc_plugins.data_routers.hosts.sentry import HttpSentryHost
from attpc_plugins.data_routers.model import Polled
from attpc_plugins.data_routers.settings import (
    Access,
    DataRoutersSettings,
    EccHostSettings,
    RouterSettings,
)

from attpc_ioc.model.run import RunRef
from tests.support.ca import free_port

GOOD: dict[str, object] = {
    "disk": "Macintosh HD",
    "process": "dataRouter",
    "data_path": "/Users/attpc/Data",
    "data_written_gb": 1.25,
    "data_path_files": 7,
    "disk_avail_gb": 900.5,
    "disk_total_gb": 1000,
}
LIMITS = CallLimits(poll_s=20, read_s=20, files_s=20, checksums_s=20)
RUN = RunRef("e20009", 42)


class Sentry:
    """An HTTP server that answers what a test puts into it, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body: bytes = json.dumps(GOOD).encode()
        self.headers: dict[str, str] = {}
        self.go = asyncio.Event()
        self.go.set()
        self.asked: list[tuple[str, str, object]] = []
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path, body))
        await self.go.wait()
        return web.Response(status=self.status, body=self.body, headers=self.headers)

    def says(self, **changes: object) -> None:
        self.body = json.dumps(GOOD | changes).encode()


@contextlib.asynccontextmanager
async def sentry() -> AsyncIterator[Sentry]:
    made = Sentry()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        made.go.set()
        await runner.cleanup()


@contextlib.asynccontextmanager
async def client(
    port: int, limits: CallLimits = LIMITS, process: str | None = "dataRouter"
) -> AsyncIterator[HttpSentryHost]:
    router = RouterSettings(
        access=Access.SENTRY, host="127.0.0.1", port=port, sources=("CoBo0",), process=process
    )
    host = HttpSentryHost(router, limits)
    try:
        yield host
    finally:
        await host.disconnect()


async def test_a_status_is_read_as_it_is() -> None:
    async with sentry() as server, client(server.port) as host:
        assert isinstance(host, SentryHost)
        assert not isinstance(host, FileHost)
        expected = Polled(True, 7, 1_250_000_000, 900_500_000_000, 1_000_000_000_000)
        expected = replace(expected, place="127.0.0.1:/Users/attpc/Data")
        assert await host.poll(RUN) == expected
        assert await host.poll(None) == expected
        assert server.asked == [("GET", "/status", None)] * 2
        server.says(extra="more than is known")
        assert await host.poll(None) == expected


async def test_a_run_is_catalogued() -> None:
    async with sentry() as server, client(server.port) as host:
        server.says(data_path_files=0)
        assert (await host.catalog(RUN)).files == 0
        assert server.asked == [("POST", "/catalog", {"experiment": "e20009", "run_number": 42})]
        server.status, server.body = (
            500,
            b'Sentry tried to catalog run 42 but directory "/Data/e20009/run_0042" already exists',
        )
        with pytest.raises(RunFolderExists, match=r"run_0042. already exists"):
            await host.catalog(RUN)
        for name in ("../up", "", "a b", "$(x)"):
            with pytest.raises(HostFault, match="cannot be an experiment's name"):
                await host.catalog(RunRef(name, 1))
        assert len(server.asked) == 2


async def test_a_router_that_does_not_run_is_said_so() -> None:
    async with sentry() as server, client(server.port) as host:
        server.status, server.body = 500, b"Sentry could not find a process with name dataRouter"
        with pytest.raises(RouterGone, match="could not find a process with name dataRouter"):
            await host.poll(None)
        with pytest.raises(RouterGone):
            await host.catalog(RUN)
        server.status = 200
        server.says(process="Inactive")
        polled = await host.poll(None)
        assert (polled.process, polled.note) == (False, "the sentry reports for the router: Inactive")
        server.says(process="")
        assert (await host.poll(None)).process is False


async def test_what_the_sentry_was_set_up_with_is_noted() -> None:
    async with sentry() as server, client(server.port) as host, client(server.port, process="") as other:
        server.says(process="DataExporter", disk="Data HD", disk_total_gb=0.0, disk_avail_gb=0)
        polled = await host.poll(None)
        assert polled.process is True
        assert polled.note == "the sentry watches 'DataExporter'; the sentry finds no disk 'Data HD'"
        assert (polled.disk_free_bytes, polled.disk_total_bytes) == (0, 0)
        assert (await other.poll(None)).note == "the sentry finds no disk 'Data HD'"
        for name in ("DataExporter", "dataRouter"):
            server.says(process=name)
            async with client(server.port, process=None) as default:
                assert (await default.poll(None)).note == ""


@pytest.mark.parametrize("key", GOOD)
async def test_an_answer_without_a_part_is_refused_by_its_name(key: str) -> None:
    async with sentry() as server, client(server.port) as host:
        server.body = json.dumps({name: value for name, value in GOOD.items() if name != key}).encode()
        with pytest.raises(HostFault, match=f"without '{key}'"):
            await host.poll(None)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("process", "3"),
        ("disk", "null"),
        ("data_path", "[]"),
        ("data_written_gb", '"1.0"'),
        ("data_written_gb", "NaN"),
        ("data_written_gb", "-0.5"),
        ("disk_avail_gb", "Infinity"),
        ("disk_avail_gb", "1e300"),
        ("disk_avail_gb", "null"),
        ("disk_total_gb", "true"),
        ("disk_total_gb", "{}"),
        ("disk_total_gb", "9" * 4000),
        ("data_path_files", "1.5"),
        ("data_path_files", "-1"),
        ("data_path_files", "false"),
        ("data_path_files", "9" * 4000),
    ],
)
async def test_an_answer_of_the_wrong_kind_is_refused_by_its_name(key: str, text: str) -> None:
    async with sentry() as server, client(server.port) as host:
        parts = [f'"{name}": {text if name == key else json.dumps(value)}' for name, value in GOOD.items()]
        server.body = ("{" + ", ".join(parts) + "}").encode()
        with pytest.raises(HostFault, match=f"impossible status: '{key}'"):
            await host.poll(None)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not JSON"),
        (b"<html>proxy</html>", "not JSON: <html>proxy</html>"),
        (b'{"disk": ', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "not a status"),
        (b"null", "not a status"),
        (b'"text"', "not a status"),
        (b"[" * 60_000, "not JSON"),
        (b"9" * 60_000, "not "),
        (b" " * 200_000, "far too long"),
    ],
)
async def test_nonsense_in_place_of_an_answer_is_refused(body: bytes, words: str) -> None:
    async with sentry() as server, client(server.port) as host:
        server.body = body
        with pytest.raises(HostFault, match=words):
            await host.poll(None)
        server.body = json.dumps(GOOD).encode()
        assert (await host.poll(None)).files == 7


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (
            500,
            b"Sentry was not able to communicate with the disk: No space left",
            "HTTP 500: .* No space left",
        ),
        (500, b"", "HTTP 500: without a reason"),
        (404, b"no such page, it already exists elsewhere", "HTTP 404"),
        (422, b"run_number: invalid type", "HTTP 422: run_number: invalid type"),
        (302, b"", "HTTP 302"),
        (500, b"\xff" * 100_000, "HTTP 500"),
    ],
)
async def test_a_refusal_is_reported_in_the_sentrys_words(status: int, body: bytes, words: str) -> None:
    async with sentry() as server, client(server.port) as host:
        server.status, server.body, server.headers = status, body, {"Location": "http://192.0.2.1/"}
        for call in (host.poll(None), host.catalog(RUN)):
            with pytest.raises(HostFault, match=words) as refused:
                await call
            assert type(refused.value) is HostFault
            assert len(str(refused.value)) < 400


async def test_a_sentry_that_is_gone_hangs_or_breaks_off() -> None:
    async with client(free_port()) as host:
        with pytest.raises(HostUnreachable, match=r"^the sentry at 127.0.0.1:\d+: Connection refused$"):
            await host.poll(None)
    short = replace(LIMITS, poll_s=0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with client(silent.getsockname()[1], short) as host:
            began = time.monotonic()
            with pytest.raises(HostTimeout, match=r"within 0\.5 s"):
                await host.poll(None)
            assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", HostUnreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{", HostUnreachable),
        (b"SSH-2.0-OpenSSH_9.2\r\n", HostFault),
    ],
)
async def test_what_breaks_off_or_is_no_sentry(said: bytes, error: type[HostError]) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(break_off, "127.0.0.1", 0)
    async with server, client(server.sockets[0].getsockname()[1]) as host:
        with pytest.raises(error):
            await host.poll(None)


async def test_cataloguing_may_take_longer_than_a_look() -> None:
    async with sentry() as server, client(server.port, replace(LIMITS, poll_s=0.3)) as host:
        server.go.clear()
        working = asyncio.create_task(host.catalog(RUN))
        with pytest.raises(HostTimeout):
            await host.poll(None)
        assert not working.done()
        server.go.set()
        assert (await working).files == 7
        assert (await host.poll(None)).files == 7


async def test_a_sentry_shows_no_logs() -> None:
    async with client(free_port()) as host:
        with pytest.raises(HostFault, match="shows no logs"):
            await host.tail(5)


async def test_the_back_end_that_the_settings_ask_for() -> None:
    settings = DataRoutersSettings(timeout_s=2.5)
    for access, host, kind in (
        (Access.LOCAL, "", FileHost),
        (Access.SSH, "daq3", FileHost),
        (Access.SENTRY, "::1", SentryHost),
    ):
        router = RouterSettings(access=access, host=host, sources=("CoBo0",), staging="/data")
        made = host_for(router, settings)
        assert isinstance(made, kind)
        await made.disconnect()
    for access, host in ((Access.LOCAL, ""), (Access.SSH, "ecc3")):
        config = config_host_for(EccHostSettings(access=access, host=host, xcfg="/nowhere"), settings)
        with pytest.raises(HostFault, match="cannot be the name"):
            await config.read("../x")
        await config.disconnect()
    limits = CallLimits.of(settings)
    assert (limits.poll_s, limits.checksums_s) == (2.5, 1800.0)
