"""The bare socket under `GetState`: names with several addresses, and a server that comes back elsewhere."""

from __future__ import annotations

import asyncio
import socket

import pytest

from attpc_ioc.ecc.quick import QuickTransport
from attpc_ioc.errors import EccTimeout, EccUnreachable
from tests.support.ca import free_port

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"envelope")
    writer.write(ANSWER)
    await writer.drain()
    writer.close()


def quick(url: str, timeout_s: float = 2.0) -> QuickTransport:
    return QuickTransport(url, lambda: b"envelope", timeout_s, timeout_s)


async def test_an_address_that_refuses_is_followed_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name can lead to an address that nobody serves, as `localhost` to ::1 where all have IPv4."""
    server = await asyncio.start_server(answer, "127.0.0.1", free_port())
    port = server.sockets[0].getsockname()[1]
    places = [("127.0.0.2", port), ("127.0.0.1", port)]

    async def look_up(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", place) for place in places]

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "getaddrinfo", look_up, raising=False)
    try:
        transport = quick(f"http://a-name.invalid:{port}/")
        for _ in range(2):
            reply, sent_at_s = await transport.exchange("GetState")
            assert (reply.status, reply.body) == (200, b"body")
            assert sent_at_s > 0
        places[:] = places[:1]
        server.close()
        with pytest.raises(EccUnreachable, match="Connection refused"):
            await transport.exchange("GetState")
    finally:
        server.close()
        await server.wait_closed()


async def test_one_limit_covers_connecting_and_the_reply() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        transport = quick(f"http://127.0.0.1:{listener.getsockname()[1]}/", 0.2)
        with pytest.raises(EccTimeout, match=r"no answer within 0\.2 s"):
            await transport.exchange("GetState")


async def test_nothing_is_left_of_one_that_is_cancelled() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        transport = quick(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        task = asyncio.create_task(transport.exchange("GetState"))
        loop = asyncio.get_running_loop()
        listener.setblocking(False)
        peer, _ = await asyncio.wait_for(loop.sock_accept(listener), 2)
        with peer:
            assert await loop.sock_recv(peer, 1000)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # The other end sees the connection closed.
            assert await asyncio.wait_for(loop.sock_recv(peer, 1000), 2) == b""
