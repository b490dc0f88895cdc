"""Stands where systemd is: a real datagram socket that services tell their state to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.patience import PATIENCE_S


class Manager:
    """What a service said: one entry a field of a message, in order; `status` is its latest line."""

    def __init__(self, sock: socket.socket, name: str) -> None:
        self.name = name
        """What `NOTIFY_SOCKET` is to be."""
        self.told: list[tuple[str, str]] = []
        self.at: list[float] = []
        """When each came, in seconds of the event loop's clock."""
        self._socket = sock
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @property
    def names(self) -> list[str]:
        """The names of all fields that came."""
        return [name for name, _ in self.told]

    @property
    def status(self) -> str:
        """The latest status; empty before the first."""
        return next((value for name, value in reversed(self.told) if name == "STATUS"), "")

    async def until(
        self, name: str, text: str = "", count: int = 1, limit_s: float = PATIENCE_S
    ) -> list[float]:
        """Wait for `count` fields of this name with `text` in the value; returns when they came."""
        try:
            async with asyncio.timeout(limit_s):
                while True:
                    pairs = zip(self.told, self.at, strict=True)
                    came = [at for (field, value), at in pairs if field == name and text in value]
                    if len(came) >= count:
                        return came
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {name} with {text!r} in {self.told}") from None

    async def silence(self, name: str, for_s: float, limit_s: float = PATIENCE_S) -> None:
        """Wait until no field of this name has come for some time, as a watchdog does."""
        loop = asyncio.get_running_loop()
        end = loop.time() + limit_s
        since = loop.time()
        while (rest_s := since + for_s - loop.time()) > 0:
            assert loop.time() < end, f"{name} still comes: {self.told}"
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), rest_s)
            since = max(
                [since, *(at for (field, _), at in zip(self.told, self.at, strict=True) if field == name)]
            )

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = await loop.sock_recv(self._socket, 65536)
            for line in data.decode().splitlines():
                name, _, value = line.partition("=")
                self.told.append((name, value))
                self.at.append(loop.time())
            self._news.set()

    async def close(self) -> None:
        """Listen no more."""
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        self._socket.close()


@contextlib.asynccontextmanager
async def manager(folder: Path | None = None) -> AsyncIterator[Manager]:
    """Listen in a folder, or in Linux's abstract space, for the length of a block."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    if folder is None:
        sock.bind("")  # the system chooses a name in the abstract space
        name = "@" + sock.getsockname()[1:].decode()
    else:
        name = str(folder / "notify")
        sock.bind(name)
    it = Manager(sock, name)
    try:
        yield it
    finally:
        await it.close()
