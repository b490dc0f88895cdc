"""A Channel Access client on a bare socket, that can be as rude as a test wants.

Requests are made, and replies read, by caproto's classes: the reference for what this server sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import caproto
from caproto import CLIENT, VirtualCircuit

from tests.support.ca import LOOPBACK
from tests.support.patience import PATIENCE_S

NORMAL = caproto.CAStatus.ECA_NORMAL.value.code_with_severity


class Raw:
    """One TCP connection; `inbox` has what came and was not asked for yet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.inbox: deque[Any] = deque()
        self._parser = VirtualCircuit(CLIENT, (LOOPBACK, 0), 0)
        self._cid = 0

    def send(self, *commands: Any) -> None:
        for command in commands:
            self.writer.write(command if isinstance(command, bytes) else bytes(command))

    async def read(self, limit_s: float = PATIENCE_S) -> Any:
        """The next message; raises ConnectionError at the end."""
        async with asyncio.timeout(limit_s):
            while not self.inbox:
                data = await self.reader.read(1 << 20)
                if not data:
                    raise ConnectionError("closed by the server")
                commands, _ = self._parser.recv(data)
                self.inbox.extend(commands)
        return self.inbox.popleft()

    async def until(self, kind: type, limit_s: float = PATIENCE_S) -> Any:
        """The next message of a kind; others before it are dropped."""
        while True:
            command = await self.read(limit_s)
            if isinstance(command, kind):
                return command

    async def echo(self) -> list[Any]:
        """Everything that came before the answer to an echo sent now."""
        self.send(caproto.EchoRequest())
        seen = []
        while not isinstance(command := await self.read(), caproto.EchoResponse):
            seen.append(command)
        return seen

    async def channel(self, name: str) -> Any:
        """Connect a channel; returns the CreateChanResponse."""
        self._cid += 1
        self.send(caproto.CreateChanRequest(name, self._cid, 13))
        return await self.until(caproto.CreateChanResponse)

    async def closed(self, limit_s: float = PATIENCE_S) -> None:
        """Wait until the server has closed the connection."""
        with contextlib.suppress(ConnectionError):
            while True:
                await self.read(limit_s)


@contextlib.asynccontextmanager
async def raw_client(
    port: int, user: str = "raw", receive_bytes: int = 0, address: str = ""
) -> AsyncIterator[Raw]:
    """Connect, from `address`, say who we are, and close at the end of the block."""
    sock = socket.socket()
    if address:
        sock.bind((address, 0))
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (LOOPBACK, port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=receive_bytes or 1 << 16)
    raw = Raw(reader, writer)
    raw.send(caproto.VersionRequest(0, 13), caproto.HostNameRequest("bench"), caproto.ClientNameRequest(user))
    await raw.until(caproto.VersionResponse)
    try:
        yield raw
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
