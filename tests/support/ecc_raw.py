"""A bare HTTP server whose every byte a test decides, for what no sane ECC server would send."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator, Callable

from tests.support.patience import PATIENCE_S

Script = Callable[[bytes, asyncio.StreamWriter], object]


def envelope(inner: str) -> bytes:
    """Return a SOAP envelope around `inner`, with the prefixes of gSOAP."""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/" xmlns:ecc="urn:ecc">'
        f"<SOAP-ENV:Body>{inner}</SOAP-ENV:Body></SOAP-ENV:Envelope>"
    ).encode("utf-8", "surrogateescape")


def http(body: bytes, status: str = "200 OK", length: bool = True) -> bytes:
    """Return a whole HTTP reply as gSOAP sends it."""
    head = f"HTTP/1.1 {status}\r\nServer: gSOAP/2.8\r\nContent-Type: text/xml; charset=utf-8\r\n"
    if length:
        head += f"Content-Length: {len(body)}\r\n"
    return (head + "Connection: close\r\n\r\n").encode() + body


def state_xml(state: object = 1, transition: object = 0, code: object = 0, message: str = "") -> str:
    """Return the inside of a reply to GetState."""
    return (
        f"<ecc:ResponseState><ErrorCode>{code}</ErrorCode><ErrorMessage>{message}</ErrorMessage>"
        f"<State>{state}</State><Transition>{transition}</Transition></ecc:ResponseState>"
    )


def text_xml(text: str = "", code: object = 0, message: str = "") -> str:
    """Return the inside of a reply to any other call; `text` is escaped already."""
    return (
        f"<ecc:ResponseText><ErrorCode>{code}</ErrorCode><ErrorMessage>{message}</ErrorMessage>"
        f"<Text>{text}</Text></ecc:ResponseText>"
    )


class RawServer:
    """Answers each connection with `reply`: bytes, or a coroutine function of request and writer.

    `requests` keeps what came in; `open` is the number of connections that are open.
    """

    def __init__(self, reply: bytes | Script) -> None:
        self.reply = reply
        self.requests: list[bytes] = []
        self.open = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the listening socket and every connection; the port may be taken again by `start`."""
        if self._server is not None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.open += 1
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", request, re.IGNORECASE)
            if length:
                request += await reader.readexactly(int(length[1]))
            self.requests.append(request)
            if isinstance(self.reply, bytes):
                writer.write(self.reply)
                await writer.drain()
            else:
                await self.reply(request, writer)  # type: ignore[misc]
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()
            self._tasks.discard(task)


@contextlib.asynccontextmanager
async def raw_server(reply: bytes | Script) -> AsyncIterator[RawServer]:
    """Run a `RawServer` on a free port of the loopback for the length of a block."""
    server = RawServer(reply)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def until(condition: Callable[[], object], limit_s: float = PATIENCE_S) -> None:
    """Wait until `condition` is true; `TimeoutError` after `limit_s` seconds."""
    async with asyncio.timeout(limit_s):
        while True:
            if condition():
                return
            await asyncio.sleep(0.002)


def own_sockets_to(port: int) -> list[socket.socket]:
    """Return duplicates of this process's sockets that are connected to `port`."""
    found: list[socket.socket] = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            sock = socket.socket(fileno=os.dup(int(fd)))
        except OSError:
            continue
        try:
            if sock.getpeername()[1] == port:
                found.append(sock)
                continue
        except (OSError, IndexError):
            pass
        sock.close()
    return found
