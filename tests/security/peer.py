"""What hostile peers share: which way one answers is told on stdin, and it counts how often it has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.support.child import answer_lines

from .ways import PIECE, Way

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class HostilePeer:
    """A server that answers in one of `ways`; `told`, the latest line of stdin, names it.

    `connections` are the writers of the clients that are connected now.
    """

    def __init__(self, ways: dict[str, Way], told: str) -> None:
        self.told = told
        self.connections: set[asyncio.StreamWriter] = set()
        self._ways = ways
        self._answered = 0

    def tell(self, line: str) -> str:
        """Take a line of stdin; returns how many answers were given in the way that it names."""
        if line != self.told:
            self.told, self._answered = line, 0
            # Whoever is connected has to come again.
            for writer in self.connections:
                writer.transport.abort()
        return str(self._answered)

    async def misbehave(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, good: bytes
    ) -> None:
        """Answer in the way that was told, until that or the connection ends."""
        self._answered += 1
        answer = asyncio.ensure_future(self._ways[self.told](writer, good))
        gone = asyncio.create_task(_until_gone(reader))
        await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
        for task in (answer, gone):
            task.cancel()
        await asyncio.gather(answer, gone, return_exceptions=True)

    async def run(self, serve: Serve, port: int) -> None:
        """Serve until stdin ends."""
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        await answer_lines(self.tell)
        server.close()


async def _until_gone(reader: asyncio.StreamReader) -> None:
    while await reader.read(PIECE):
        pass
