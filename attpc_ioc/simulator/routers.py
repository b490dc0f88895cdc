"""Data routers: what the boards connect to during Configure."""

from __future__ import annotations

import asyncio
import os

from .documents import Link

_CONNECT_LIMIT_S = 20.0


class DataRouter:
    """Listens on TCP and swallows what comes; it can be stopped and started while the fleet runs."""

    def __init__(self, name: str, host: str, port: int = 0) -> None:
        self.name = name
        self.host = host
        self.port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """How many boards are connected."""
        return len(self._writers)

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    async def start(self) -> None:
        """Listen, on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection, as a process that ends does."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for writer in list(self._writers):
            writer.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2)
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while await reader.read(1 << 16):
                pass
        except ConnectionError:
            pass  # a board that went away is no concern of the router
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()


class LinkFailed(Exception):
    """A board could not connect to its data router; the text is the ECC server's."""


async def open_link(link: Link) -> asyncio.StreamWriter:
    """Connect as the board does; raises `LinkFailed` with the ECC server's message."""
    try:
        async with asyncio.timeout(_CONNECT_LIMIT_S):
            _, writer = await asyncio.open_connection(link.address, link.port)
    except TimeoutError:
        reason = "Connection timed out (errno=110)"
    except OSError as fault:
        number = fault.errno or 0
        reason = f"{os.strerror(number)} (errno={number})"
    else:
        return writer
    raise LinkFailed(
        f"Could not connect data sender '{link.sender}' to its data router: Failed to connect to "
        f"data router of type '{link.type}': TCP connection to {link.address}:{link.port} failed: {reason}."
    )
