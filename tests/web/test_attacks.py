"""Whoever attacks the page gets nothing, and costs a bounded amount."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import re
import socket
import time

import aiohttp
import psutil
import pytest
from attpc_plugins.web.app import MAX_BODY
from attpc_plugins.web.tokens import Role

from tests.support.patience import PATIENCE_S
from tests.support.simfleet import wait_until
from tests.support.web import WebRig, streaming, web_rig
from tests.web.test_sessions import browser, sign_in

SCRIPT = "<script>alert(1)</script>\"'&"


def port_of(it: WebRig) -> int:
    """The page's port."""
    return int(it.url.rpartition(":")[2])


async def raw(it: WebRig, text: bytes) -> bytes:
    """Send bytes, and return everything until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(it))
    try:
        writer.write(text)
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                return await reader.read()
        return b""
    finally:
        writer.close()


def statuses(answer: bytes) -> list[int]:
    """The status codes of all answers in some bytes."""
    return [int(code) for code in re.findall(rb"^HTTP/1\.1 (\d{3}) ", answer, re.MULTILINE)]


async def test_a_foreign_page_cannot_write(tmp_path, monkeypatch):
    """By the cookie of somebody who is signed in: fetch, forms, and scripts that guess."""
    async with web_rig(tmp_path, monkeypatch) as it, browser(it) as page:
        own = await sign_in(page, it.token("alice"))
        path = f"/api/v1/pvs/{it.rig.prefix}Run:Title"
        body = json.dumps({"value": "stolen"})
        as_json = {"Content-Type": "application/json"}
        for headers, status in (
            (own | as_json | {"Origin": "https://evil.example"}, 403),
            (own | as_json | {"Origin": it.url.replace("127.0.0.1", "localhost")}, 403),
            (own | as_json | {"Origin": "null"}, 403),
            (as_json | {"X-CSRF-Token": own["X-CSRF-Token"]}, 403),
            (as_json | {"Origin": it.url}, 403),
            (as_json | {"Origin": it.url, "X-CSRF-Token": "0" * 40}, 403),
            (as_json | {"Origin": it.url, "X-CSRF-Token": ""}, 403),
            (own | {"Content-Type": "text/plain"}, 415),
            (own | {"Content-Type": "application/x-www-form-urlencoded"}, 415),
            (own | {"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ):
            found, problem = await page.ask("PUT", path, data=body, headers=headers)
            assert found == status, (headers, problem)
        assert (await page.ask("POST", path, data=body, headers=own))[0] == 405
        for headers in ({}, {"Origin": "https://evil.example"}):
            assert (await page.ask("DELETE", "/api/v1/session", headers=headers))[0] == 403
        assert await it.rig.get_text("Run:Title") != "stolen"
        # Nor can it sign somebody in as somebody else, or read an answer.
        token = {"token": it.token("mallory")}
        evil = {"Origin": "https://evil.example"}
        assert (await it.ask("POST", "/api/v1/session", json=token, headers=evil))[0] == 403
        async with page.client.options(it.url + path, headers=evil) as response:
            assert response.status == 405
            assert not [name for name in response.headers if name.lower().startswith("access-control")]
        assert (await page.ask("PUT", path, data=body, headers=own | as_json))[0] == 200


async def test_the_csrf_token_of_one_is_not_that_of_another(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it, browser(it) as alice, browser(it) as mallory:
        own, other = await sign_in(alice, it.token("alice")), await sign_in(mallory, it.token("mallory"))
        assert own["X-CSRF-Token"] != other["X-CSRF-Token"]
        assert (await alice.put("Run:Title", "x", **other))[0] == 403


async def test_texts_with_scripts_stay_texts(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        edna = it.token("edna", Role.EXPERT)
        assert (await it.put("Run:Title", SCRIPT, edna))[0] == 200
        name = f"{it.rig.prefix}Run:Title"
        for path in (f"/api/v1/pvs/{name}", "/api/v1/snapshot", f"/api/v1/pvs/{SCRIPT}", f"/{SCRIPT}"):
            async with it.client.get(it.url + path) as response:
                assert "json" in response.content_type
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                assert "script-src 'self'" in response.headers["Content-Security-Policy"]
                await response.json(content_type=None)
        assert (await it.value("Run:Title"))["value"] == SCRIPT
        status, text = await it.get("/metrics")
        assert (status, "<script>" in text) == (200, False)


@pytest.mark.parametrize(
    "path",
    [
        "/static/../settings.py",
        "/static/..%2f..%2fsettings.py",
        "/static/%2e%2e/%2e%2e/settings.py",
        "/static//etc/passwd",
        "//etc/passwd",
        "/static/..\\..\\settings.py",
        "/static/index.html%00.py",
        "/api/v1/pvs/../../../etc/passwd",
        "http://evil.example/etc/passwd",
    ],
)
async def test_no_file_of_the_disk_is_served(tmp_path, monkeypatch, path):
    async with web_rig(tmp_path, monkeypatch) as it:
        answer = await raw(
            it, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        assert statuses(answer)[0] in (400, 404, 421), answer
        assert b"root:" not in answer
        assert b"WebSettings" not in answer


HEAD = "PUT /api/v1/pvs/X HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
SMUGGLED = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
        f"{HEAD}Content-Length: 5\r\nContent-Length: 50\r\n\r\n{SMUGGLED}",
        f"{HEAD}Content-Length: -1\r\n\r\n{SMUGGLED}",
        f"{HEAD}Content-Length: 1e1\r\n\r\n{SMUGGLED}",
        f"{HEAD}Transfer-Encoding: xchunked\r\n\r\n{SMUGGLED}",
        f"{HEAD}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
        f"{HEAD}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{SMUGGLED}",
        f"GET / HTTP/1.1\nHost: localhost\n\n{SMUGGLED}",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n{SMUGGLED}",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nX y: a\r\n\r\n{SMUGGLED}",
        f"GET / HTTP/1.1\r\nHost: localhost\r\n X: folded\r\n\r\n{SMUGGLED}",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x00\r\n\r\n{SMUGGLED}",
        f"GET /{'a' * 20_000} HTTP/1.1\r\nHost: localhost\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nX: {'a' * 20_000}\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n" + "".join(f"X{n}: a\r\n" for n in range(5000)) + "\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=lambda text: re.sub(r"[^ -~]+", " ", text[:40] if not text.startswith("PUT") else text[80:125]),
)
async def test_requests_that_two_could_read_differently_are_refused(tmp_path, monkeypatch, text):
    """By a proxy and by the page: nothing after such a request is taken for another one."""
    async with web_rig(tmp_path, monkeypatch) as it:
        answer = await raw(it, text.encode("latin-1"))
        assert statuses(answer) in ([400], []), answer
        assert b"ok\n" not in answer
        assert (await it.get("/healthz")) == (200, "ok\n")


async def test_headers_of_an_answer_cannot_be_split(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        for path in ("/%0d%0aSet-Cookie:%20a=b", "/api/v1/pvs/x%0d%0aX-Evil:%201"):
            answer = await raw(
                it, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            head = answer.partition(b"\r\n\r\n")[0]
            assert statuses(answer) == [404]
            assert b"Set-Cookie" not in head
            assert b"X-Evil" not in head


async def test_bodies_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("attpc_plugins.web.problems.BODY_S", 0.3)
    async with web_rig(tmp_path, monkeypatch) as it:
        alice = it.token("alice")
        path = f"/api/v1/pvs/{it.rig.prefix}Run:Title"
        headers = {"Authorization": f"Bearer {alice}", "Content-Type": "application/json"}

        async def endless():
            while True:
                yield b"x" * 65536

        for body, status in (
            (b'{"value": "' + b"x" * MAX_BODY + b'"}', 413),
            (b"[" * (MAX_BODY // 2), 400),
            (b'{"value": ' + b"1" * (MAX_BODY // 2) + b"}", 400),
            (b'{"value": NaN}', 400),
            (b'{"value": 1e999}', 422),
            (b'{"value": 1, "value": 2, "more": 3}', 422),
            (b"", 400),
            (b"\xff\xfe", 400),
            (b"null", 422),
        ):
            found, problem = await it.ask("PUT", path, data=body, headers=headers)
            assert found == status, (body[:40], problem)
        with contextlib.suppress(aiohttp.ClientConnectionError):
            assert (await it.ask("PUT", path, data=endless(), headers=headers))[0] == 413
        # A body that does not come.
        text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        began = time.monotonic()
        answer = await raw(
            it,
            (
                f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{text}"
                "Content-Length: 10\r\n\r\n{"
            ).encode(),
        )
        assert statuses(answer) == [408]
        assert time.monotonic() - began < 10.0
        packed = headers | {"Content-Encoding": "gzip"}
        assert (await it.ask("PUT", path, data=gzip.compress(b" " * 10**6), headers=packed))[0] == 415
        assert (await it.put("Run:Title", "still here", alice))[0] == 200


async def test_there_is_no_web_socket(tmp_path, monkeypatch):
    async with web_rig(tmp_path, monkeypatch) as it:
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Origin": "https://evil.example",
        }
        for path in ("/", "/api/v1/session", "/ws", "/healthz"):
            async with it.client.get(it.url + path, headers=upgrade) as response:
                assert response.status in (200, 404)


async def test_many_requests_delay_no_epics_client(tmp_path, monkeypatch):
    """100,000 requests on many connections, with wrong tokens; meanwhile `caput` and `caget` are answered."""
    async with web_rig(tmp_path, monkeypatch, "max_connections = 50") as it:
        good = it.token("alice")
        await it.rig.ok("Run:Title", "before")
        request = (
            f"GET /api/v1/pvs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {good[:-5]}{{:05}}\r\n\r\n"
        )
        requests = "".join(request.format(n) for n in range(500)).encode()
        sent, answers = 0, set[int]()

        async def flood() -> None:
            nonlocal sent
            while sent < 100_000:
                sent += 500
                answers.update(statuses(await raw(it, requests)))

        process = psutil.Process(os.getpid())
        floods = [asyncio.create_task(flood()) for _ in range(4)]
        await wait_until(lambda: sent > 10_000, PATIENCE_S, "the flood")
        resident = process.memory_info().rss
        for number in range(3):
            await it.rig.ok("Run:Title", f"{number}", limit_s=5.0)
        await asyncio.gather(*floods)
        assert answers == {401, 429}
        assert process.memory_info().rss - resident < 20e6
        assert await it.rig.get_text("Run:Title") == "2"


@pytest.mark.parametrize("path", ["/api/v1/stream", "/api/v1/snapshot"])
async def test_who_reads_nothing_is_dropped(tmp_path, monkeypatch, path):
    monkeypatch.setattr("attpc_plugins.web.door.STALLED_S", 0.3)
    monkeypatch.setattr("attpc_plugins.web.live.PERIOD_S", 0.005)
    async with web_rig(tmp_path, monkeypatch) as it:
        assert it.plugin.service is not None
        inside, live = it.plugin.service._door.inside, it.plugin.service._web.live
        lazy = socket.socket()
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.setblocking(False)
        await asyncio.get_running_loop().sock_connect(lazy, ("127.0.0.1", port_of(it)))
        with lazy:
            lazy.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * (1 if "stream" in path else 90)
            )
            await wait_until(lambda: len(inside) == 1, PATIENCE_S, "the page")
            (guard,) = inside
            most = 0

            def dropped() -> bool:
                nonlocal most
                transport = guard._transport
                most = max(most, transport.get_write_buffer_size())
                for entry in it.rig.app.table:
                    live._posted(entry.name)
                return not inside

            await wait_until(dropped, PATIENCE_S, "its end")
            assert most < 1e6
        async with streaming(it) as stream:
            assert (await stream.next())[0] == "snapshot"
