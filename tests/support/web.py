"""The page and the HTTP API in one test: an IOC with the plugin `web`, and clients of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from attpc_plugins.web import plugin as Web
from attpc_plugins.web.tokens import Role, make

from tests.support.ca import free_port
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig, rig

NAME = "web"


@dataclass
class WebRig:
    """An IOC that serves the page, and a client."""

    rig: Rig
    plugin: Web
    url: str
    client: aiohttp.ClientSession

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        """Return status and body, as JSON where it is."""
        return await self.ask("GET", path, **options)

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Return status and body, as JSON where it is."""
        async with self.client.request(method, self.url + path, **options) as response:
            text = await response.text()
            return response.status, json.loads(text) if "json" in response.content_type else text

    def token(self, name: str, role: Role = Role.OPERATOR, days: float = 1.0) -> str:
        """Return the text of a new token."""
        token, text = make(name, role, days)
        assert self.plugin.tokens is not None
        self.plugin.tokens.add(token)
        return text

    async def put(
        self, part: str, value: object, token: str = "", *, query: str = "", **headers: str
    ) -> tuple[int, Any]:
        """Put a PV as a program does; underscores of header names stand for hyphens."""
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        if token:
            named["Authorization"] = f"Bearer {token}"
        path = f"/api/v1/pvs/{self.rig.prefix}{part}{query}"
        return await self.ask("PUT", path, json={"value": value}, headers=named)

    async def value(self, part: str) -> dict[str, Any]:
        """Return what the API says of a PV."""
        status, body = await self.get(f"/api/v1/pvs/{self.rig.prefix}{part}")
        assert status == 200, body
        return body


@contextlib.asynccontextmanager
async def web_rig(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: str = "",
    answered_s: float = PATIENCE_S,
    **options: Any,
) -> AsyncIterator[WebRig]:
    """Serve a fleet of one CoBo (`options` are those of `rig`), with the page.

    A put is answered when it is done, unless that takes longer than `answered_s`.
    """
    monkeypatch.setattr("attpc_plugins.web.puts.REFUSED_S", answered_s)
    port = free_port()
    web = Web()
    options = {"cobos": 1, "mutant": False} | options
    plugins = [*options.pop("plugins", ()), (NAME, web)]
    section = {f"plugins.{NAME}": f"port = {port}\n{more}"}
    async with rig(tmp_path, monkeypatch, plugins=plugins, **options, **section) as it:
        timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
        async with aiohttp.ClientSession(timeout=timeout) as client:
            yield WebRig(it, web, f"http://127.0.0.1:{port}", client)


class Stream:
    """A live stream that is read."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.pvs: dict[str, dict[str, Any]] = {}
        """What the PVs show, as of the last message."""
        self.messages: list[tuple[str, dict[str, Any]]] = []

    async def next(self) -> tuple[str, dict[str, Any]]:
        """Return the next event: its kind and content."""
        async with asyncio.timeout(PATIENCE_S):
            kind = (await self._line()).removeprefix("event: ")
            content = json.loads((await self._line()).removeprefix("data: "))
            assert await self._line() == ""
        if "pvs" in content:
            self.pvs |= content["pvs"]
        self.messages.append((kind, content))
        return kind, content

    async def until(self, name: str, value: object) -> dict[str, Any]:
        """Read until a PV shows a value or a label."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                shown = self.pvs.get(name, {})
                if value in (shown.get("value"), shown.get("label")):
                    return shown
                await self.next()

    async def _line(self) -> str:
        line = await self._response.content.readline()
        assert line, "the stream has ended"
        return line.decode().rstrip("\n")


@contextlib.asynccontextmanager
async def streaming(it: WebRig, **options: Any) -> AsyncIterator[Stream]:
    """Read the live stream."""
    # A snapshot is one line.
    async with it.client.get(
        f"{it.url}/api/v1/stream", timeout=aiohttp.ClientTimeout(), read_bufsize=2**22, **options
    ) as response:
        assert response.status == 200, await response.text()
        yield Stream(response)
