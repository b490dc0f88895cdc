"""A TCP relay on loopback that can be slow, silent or cut, between a client and a real server."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator


class Wire:
    """A relay. `delay_s` holds up each piece of data; while `open` is cleared nothing comes through."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.port = 0
        self.delay_s = 0.0
        self._left = -1
        self.open = asyncio.Event()
        self.open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection until one side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._relay(reader, back), self._relay(there, writer))
        except OSError:
            pass  # cut, or one side broke off
        except asyncio.CancelledError:
            pass  # the end of the relay: asyncio's server would log it as an error
        finally:
            for one in (writer, back):
                self._writers.discard(one)
                one.close()

    async def _relay(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self.open.wait()
            if 0 <= self._left < len(data):
                self._left = -1
                self.cut()
                return
            if self._left >= 0:
                self._left -= len(data)
            sink.write(data)
            await sink.drain()
        sink.close()

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def cut_after(self, size: int) -> None:
        """Break every connection, once, when that many bytes have come through from now on."""
        self._left = size

    async def end(self) -> None:
        """End all relays."""
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Door:
    """A relay's port that can be shut: connecting then hangs, as to a host behind a broken line."""

    def __init__(self, relay: Wire) -> None:
        self._relay = relay
        self._loop = asyncio.get_running_loop()
        self._sock = socket.socket()
        self._sock.setblocking(False)
        self._sock.bind(("127.0.0.1", 0))
        self._sock.listen(0)
        self.port = relay.port = self._sock.getsockname()[1]
        self._waiting: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.open()

    def open(self) -> None:
        """Take connections, those that have waited too."""
        self._let_go()
        self._loop.add_reader(self._sock, self._take)

    def shut(self) -> None:
        """Take none; the kernel takes one more than the backlog, and lets the rest wait."""
        self._loop.remove_reader(self._sock)
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", self.port))
            self._waiting.append(sock)

    def _let_go(self) -> None:
        for sock in self._waiting:
            sock.close()
        self._waiting.clear()

    def _take(self) -> None:
        with contextlib.suppress(BlockingIOError):
            taken, _ = self._sock.accept()
            task = self._loop.create_task(self._serve(taken))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, taken: socket.socket) -> None:
        await self._relay.accept(*await asyncio.open_connection(sock=taken))

    async def end(self) -> None:
        """Take nothing any more and end what is relayed."""
        self._loop.remove_reader(self._sock)
        self._sock.close()
        self._let_go()
        await self._relay.end()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def door(target: int) -> AsyncIterator[Door]:
    """Relay to a port of this machine for the length of a block, through a port that can be shut."""
    it = Door(Wire(target))
    try:
        yield it
    finally:
        await it.end()


@contextlib.asynccontextmanager
async def wire(target: int) -> AsyncIterator[Wire]:
    """Relay to a port of this machine for the length of a block."""
    relay = Wire(target)
    server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield relay
    finally:
        server.close()
        await relay.end()
        await server.wait_closed()
