"""A name server that does not answer: whoever asks for a name waits, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from attpc_ioc import lookups
from attpc_ioc.app import running
from attpc_ioc.settings import load_settings
from tests.support.ca import ca_place

HUNG = "hung.example"
TOML = """
[ioc]
prefix = "T:"
state_dir = "{folder}"
server_port = {port}
interfaces = ["127.0.0.1"]
[[ecc]]
name = "cobo0"
host = "{host}"
port = 8083
[[ecc.source]]
id = "CoBo[0]"
[[ecc.source.link]]
name = "data0"
address = "127.0.0.1"
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Have one name hang until the test ends; gives the names that were looked up."""
    names: list[str] = []
    end = threading.Event()
    real = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **more: Any) -> Any:
        names.append(host)
        if host == HUNG and not (more.get("flags", 0) & socket.AI_NUMERICHOST):
            end.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return real(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield names
    end.set()


async def test_a_name_that_hangs_holds_up_nothing_else(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ca_place()
    place.put_into(monkeypatch)
    file = tmp_path / "ioc.toml"
    file.write_text(TOML.format(folder=tmp_path / "state", port=place.port, host=HUNG))
    async with running(load_settings(file)), aiohttp.ClientSession() as session:
        for _ in range(40):  # as a host that is asked each second, for a while
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await session.get(f"http://{HUNG}/")
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(lambda: "done") == "done"
            assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        hung = [thread for thread in threading.enumerate() if thread.name == f"look up {HUNG}"]
        # The ECC client and the session ask for different ports.
        assert 1 <= len(hung) <= 4
        assert all(thread.daemon for thread in hung)


async def test_errors_and_limits_of_looking_up(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = lookups.Lookups(asyncio.get_running_loop())
    with pytest.raises(socket.gaierror):
        await names.getaddrinfo("no such name", 80)
    monkeypatch.setattr(lookups, "MOST", 1)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.02):
            await names.getaddrinfo(HUNG, 80)
    with pytest.raises(socket.gaierror, match="too many names"):
        await names.getaddrinfo("localhost", 80)
    assert asked.count(HUNG) == 1
