"""Data routers, to which the boards connect during Configure."""

from __future__ import annotations

import asyncio
import os
import socket

from .documents import Link
from .http import bound_socket

_CONNECT_LIMIT_S = 20.0


class DataRouter:
    """Accepts one TCP connection at a time and discards the data; it can be stopped and restarted.

    Like the real one it refuses a second connection while the first is open. `release_s` is how long it needs
    to listen again after the first was closed.
    """

    def __init__(self, name: str, host: str, port: int = 0) -> None:
        self.name = name
        self.host = host
        self.port = port
        self.release_s = 0.0
        self.running = False
        """Whether its process is running."""
        self.starts = 0
        """How often its process was started."""
        self._keeper: socket.socket | None = None
        self._listening: socket.socket | None = None
        self._link: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """Number of connected boards: at most one."""
        return int(self._link is not None)

    @property
    def listening(self) -> bool:
        """Whether a board could connect now."""
        return self._listening is not None

    async def start(self) -> None:
        """Listen on the same port as before; raises `OSError` if it is taken."""
        if self.running:
            return
        if self._keeper is None:
            # A second socket reserves the port while this one does not listen.
            self._keeper = bound_socket(self.host, self.port)
            self.port = self._keeper.getsockname()[1]
        self.running = True
        self.starts += 1
        self._listen()

    async def stop(self) -> None:
        """Close the port and the connection, as when the process ends."""
        self.running = False
        if self._timer is not None:
            self._timer.cancel()
        self._deafen()
        self._drop()

    async def end(self) -> None:
        """Stop, and release the port."""
        await self.stop()
        if self._keeper is not None:
            self._keeper.close()

    def _listen(self) -> None:
        self._listening = bound_socket(self.host, self.port)
        self._listening.listen(1)
        asyncio.get_running_loop().add_reader(self._listening, self._accept)

    def _deafen(self) -> None:
        sock, self._listening = self._listening, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()

    def _accept(self) -> None:
        assert self._listening is not None
        try:
            self._link, _ = self._listening.accept()
        except OSError:
            return  # the client has disconnected already
        self._deafen()
        self._link.setblocking(False)
        asyncio.get_running_loop().add_reader(self._link, self._read)

    def _read(self) -> None:
        assert self._link is not None
        try:
            if self._link.recv(1 << 16):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # the board has disconnected
        self._drop()
        if self.release_s:
            self._timer = asyncio.get_running_loop().call_later(self.release_s, self._listen)
        else:
            self._listen()

    def _drop(self) -> None:
        sock, self._link = self._link, None
        if sock is not None:
            asyncio.get_running_loop().remove_reader(sock)
            sock.close()


class LinkFailed(Exception):
    """A board could not connect to its data router; the text is the ECC server's message."""


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
