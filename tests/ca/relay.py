"""A relay between real clients and a server, which keeps what the clients send: recorded traffic."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import cast

from attpc_ioc.ioc.ca.wire import HEADER, Command
from tests.support.ca import LOOPBACK, CaPlace, ca_place


class _Datagrams(asyncio.DatagramProtocol):
    """Forwards searches, and puts the relay's TCP port into the replies."""

    def __init__(self, relay: Relay, server_port: int) -> None:
        self._relay = relay
        self._server = (LOOPBACK, server_port)
        self._client: tuple[str, int] | None = None
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        if addr != self._server:
            self._client = addr
            self._relay.datagrams.append(data)
            self._transport.sendto(data, self._server)
        elif self._client is not None:
            self._transport.sendto(with_port(data, self._relay.port), self._client)


def with_port(data: bytes, port: int) -> bytes:
    """Return search replies with another TCP port in them."""
    changed, offset = bytearray(data), 0
    while offset + HEADER.size <= len(data):
        command, size, *_ = HEADER.unpack_from(data, offset)
        if command == Command.SEARCH:
            struct.pack_into(">H", changed, offset + 4, port)
        offset += HEADER.size + size
    return bytes(changed)


class Relay:
    """`sessions` has what each client sent over TCP, `datagrams` what came over UDP."""

    def __init__(self, place: CaPlace) -> None:
        self.place = place
        self.port = place.port
        self.sessions: list[bytearray] = []
        self.datagrams: list[bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, server_port: int
    ) -> None:
        """Serve one client."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        session = bytearray()
        self.sessions.append(session)
        from_server, to_server = await asyncio.open_connection(LOOPBACK, server_port)

        async def back() -> None:
            while data := await from_server.read(1 << 16):
                writer.write(data)

        answering = asyncio.create_task(back())
        try:
            while data := await reader.read(1 << 16):
                session += data
                to_server.write(data)
        finally:
            answering.cancel()
            to_server.transport.abort()
            writer.transport.abort()
            self._tasks.discard(task)

    async def close(self) -> None:
        """End every connection."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def relay(server_port: int) -> AsyncIterator[Relay]:
    """Relay to a server that searches reach at the same UDP port as its TCP port; use `place` for clients."""
    with contextlib.closing(ca_place()) as place:
        it = Relay(place)
        listener = await asyncio.start_server(
            lambda reader, writer: it.take(reader, writer, server_port), LOOPBACK, place.port
        )
        datagrams, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Datagrams(it, server_port), (LOOPBACK, place.port)
        )
        try:
            yield it
        finally:
            datagrams.close()
            listener.close()
            await it.close()
            await listener.wait_closed()
