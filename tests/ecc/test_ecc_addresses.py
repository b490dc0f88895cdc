"""A host whose name has several addresses: one that takes no connection leaves time for the next."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from attpc_ioc.errors import EccUnreachable
from tests.support.ecc_client import Call, ask_configs, client_of, prepare
from tests.support.ecc_raw import envelope, http, raw_server, state_xml, text_xml

TIMEOUT_S = 4.0


@pytest.fixture
def dead() -> Iterator[int]:
    """A port to which connecting hangs: its backlog is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        # The kernel takes one connection more than the backlog, and lets the rest wait.
        waiting = [socket.socket() for _ in range(3)]
        for sock in waiting:
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for sock in waiting:
            sock.close()


def addresses_are(monkeypatch: pytest.MonkeyPatch, *ports: int) -> list[str]:
    """Let every name lead to these ports of this machine, in this order; returns the names asked for."""
    asked: list[str] = []

    async def look_up(host: str, *_args: object, **_more: object) -> object:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    return asked


async def test_a_poll_goes_on_with_the_next_address(monkeypatch: pytest.MonkeyPatch, dead: int) -> None:
    async with raw_server(http(envelope(state_xml()))) as server:
        asked = addresses_are(monkeypatch, dead, server.port)
        async with client_of(f"http://ecc-host:{server.port}/", poll_timeout_s=TIMEOUT_S) as client:
            assert (await client.get_state()).round_trip_ms >= 400 * TIMEOUT_S
            # The address that answered is kept, and comes first when the name is looked up again.
            await client.get_state()
            assert asked == ["ecc-host"]
            monkeypatch.setattr(client._transport, "_resolve_at_s", 0.0)
            assert [address.place[1] for address in await client._transport._addresses(1.0)] == [
                server.port,
                dead,
            ]


async def test_a_poll_goes_on_after_two_dead_addresses(monkeypatch: pytest.MonkeyPatch, dead: int) -> None:
    async with raw_server(http(envelope(state_xml()))) as server:
        addresses_are(monkeypatch, dead, dead, server.port)
        async with client_of(f"http://ecc-host:{server.port}/", poll_timeout_s=TIMEOUT_S) as client:
            assert (await client.get_state()).round_trip_ms >= 400 * TIMEOUT_S


async def test_dead_addresses_take_no_longer_than_one(monkeypatch: pytest.MonkeyPatch, dead: int) -> None:
    addresses_are(monkeypatch, dead, dead, dead)
    async with client_of(f"http://ecc-host:{dead}/", poll_timeout_s=0.9) as client:
        began = asyncio.get_running_loop().time()
        with pytest.raises(EccUnreachable, match=r"^no connection to http://ecc-host:\d+/ within 0.9 s$"):
            await client.get_state()
        assert 0.85 <= asyncio.get_running_loop().time() - began < 5.0


@pytest.mark.parametrize("call", [ask_configs, prepare])
async def test_other_calls_go_on_with_the_next_address(
    monkeypatch: pytest.MonkeyPatch, dead: int, call: Call
) -> None:
    async with raw_server(http(envelope(text_xml(text="&lt;ConfigIdSet/&gt;")))) as server:
        addresses_are(monkeypatch, dead, server.port)
        async with client_of(f"http://ecc-host:{server.port}/") as client:
            await call(client)
            assert len(server.requests) == 1
