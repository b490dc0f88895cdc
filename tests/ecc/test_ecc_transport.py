"""The connection of every call: names with several addresses, and a server that comes back elsewhere."""

from __future__ import annotations

import asyncio
import socket

import pytest

from attpc_ioc.ecc.http1 import HttpReply
from attpc_ioc.ecc.transport import Transport
from attpc_ioc.errors import EccTimeout, EccUnreachable
from tests.support.ca import free_port

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"envelope")
    writer.write(ANSWER)
    await writer.drain()
    writer.close()


async def exchange(transport: Transport, timeout_s: float | None = 2.0) -> tuple[HttpReply, float]:
    request = transport.request(b"envelope")
    return await transport.exchange(request, "GetState", limit=1000, timeout_s=timeout_s)


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
        transport = Transport(f"http://a-name.invalid:{port}/", 2.0)
        for _ in range(2):
            reply, sent_at_s = await exchange(transport)
            assert (reply.status, reply.body) == (200, b"body")
            assert sent_at_s > 0
        places[:] = places[:1]
        server.close()
        with pytest.raises(EccUnreachable, match="Connection refused"):
            await exchange(transport)
    finally:
        server.close()
        await server.wait_closed()


async def test_one_limit_covers_connecting_and_the_reply() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        transport = Transport(f"http://127.0.0.1:{listener.getsockname()[1]}/", 2.0)
        with pytest.raises(EccTimeout, match=r"no answer within 0\.2 s"):
            await exchange(transport, 0.2)


async def test_nothing_is_left_of_one_that_is_cancelled() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        transport = Transport(f"http://127.0.0.1:{listener.getsockname()[1]}/", 2.0)
        task = asyncio.create_task(exchange(transport))
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
