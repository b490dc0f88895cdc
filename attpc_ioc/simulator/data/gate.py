"""The TCP port of a simulated host: forwards everything to the server behind it, or does not."""

from __future__ import annotations

import asyncio
import contextlib


class Gate:
    """A port in front of a server, with the faults of a remote host.

    `hung`: connections are accepted, but nothing passes until it is false again; `delay_s`: everything that
    passes is delayed by this time, each way.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        self.host = host
        self.port = port
        self.delay_s = 0.0
        self._target: tuple[str, int] = ("", 0)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._passes = asyncio.Event()
        self._passes.set()

    @property
    def is_open(self) -> bool:
        """Whether it accepts connections."""
        return self._server is not None

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._tasks)

    @property
    def hung(self) -> bool:
        """Whether nothing passes."""
        return not self._passes.is_set()

    @hung.setter
    def hung(self, on: bool) -> None:
        if on:
            self._passes.clear()
        else:
            self._passes.set()

    async def lead_to(self, host: str, port: int) -> None:
        """Listen, and forward to the server at `host` and `port`; raises `OSError` if the port is taken."""
        self._target = (host, port)
        await self.open()

    async def open(self) -> None:
        """Listen, on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self.host, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Refuse connections; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def until_left(self, limit_s: float) -> None:
        """Wait until no connection is open, for at most so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit_s)

    async def close(self) -> None:
        """Refuse connections, and reset those that are open."""
        self.refuse()
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        inner: asyncio.StreamWriter | None = None
        try:
            await self._passes.wait()
            answers, inner = await asyncio.open_connection(*self._target)
            self._writers.add(inner)
            await asyncio.gather(self._pass(reader, inner), self._pass(answers, writer))
        except OSError:
            # One side broke the connection; the other is closed too.
            for side in (writer, inner):
                if side is not None:
                    side.transport.abort()
        except asyncio.CancelledError:
            pass  # `close` ends this task: the stream server would take a cancellation for a fault
        finally:
            self._tasks.discard(task)
            for side in (writer, inner):
                if side is not None:
                    self._writers.discard(side)
                    side.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self._passes.wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()
