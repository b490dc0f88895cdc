"""HTTP under the client: one connection a call, as the ECC server forces.

Two ways to the same server. `AiohttpTransport` carries the calls that are rare, long or have long replies.
`QuickTransport` in `quick` carries `GetState`, up to 50 times a second and server.

Both tell apart what matters before a transition is called again: `EccUnreachable` means that no connection
was made, so nothing was accepted; after that, whatever goes wrong is `EccTimeout` or `EccBrokenReply`, and
the call may have run. Nothing is ever sent a second time.

aiohttp is imported with the first call that it carries, as zeep is (see `soap`).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from attpc_ioc.errors import EccBrokenReply, EccError, EccTimeout, EccUnreachable

from .http1 import MAX_REPLY_BYTES, HttpReply
from .soap import HEADERS

if TYPE_CHECKING:
    import aiohttp

KEEP_ALIVE_IDLE_S = 10
KEEP_ALIVE_INTERVAL_S = 5
KEEP_ALIVE_COUNT = 4
DEAD_HOST_MS = 30_000
"""A host that vanished is noticed after this time: idle + count * interval of the keep-alive probes."""


def reason_of(error: BaseException) -> str:
    """Return why the operating system or aiohttp gave up, in words for operators."""
    # aiohttp wraps what the operating system said.
    error = getattr(error, "os_error", error)
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def keep_alive_socket(address: tuple[int, int, int, str, tuple]) -> socket.socket:
    """Return a socket that notices within `DEAD_HOST_MS` that its peer's host is gone.

    A transition's reply has no time limit; without this the loss of power at the other end would never be
    noticed, and the module could never be commanded again.
    """
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEP_ALIVE_IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_INTERVAL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEP_ALIVE_COUNT)
        # Keep-alive probes start only when nothing is unacknowledged: this covers the request itself.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_HOST_MS)
    except OSError:
        sock.close()
        raise
    return sock


class AiohttpTransport:
    """POSTs to one ECC server with aiohttp, a new connection for each."""

    def __init__(self, url: str, connect_timeout_s: float) -> None:
        self._url = url
        self._connect_timeout_s = connect_timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(
        self,
        envelope: bytes,
        where: str,
        timeout_s: float | None,
        on_connected: Callable[[], None] | None = None,
    ) -> HttpReply:
        """Send `envelope` and return the whole reply; `timeout_s` None waits as long as the peer is there.

        `on_connected` is called when there is a connection, in the same turn of the loop in which the request
        goes out.

        Raises `EccUnreachable` where no connection was made, `EccTimeout` after `timeout_s`, and
        `EccBrokenReply` where the connection ended without a whole HTTP reply.
        """
        import aiohttp

        if self._closed:
            raise EccUnreachable(f"no connection to {self._url}: this client is closed")
        limits = aiohttp.ClientTimeout(total=None, connect=self._connect_timeout_s)
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._open_session().post(
                    self._url,
                    data=envelope,
                    headers=HEADERS,
                    timeout=limits,
                    allow_redirects=False,
                    trace_request_ctx=on_connected,
                ) as response,
            ):
                body = await _bounded_body(response, where)
                return HttpReply(response.status, response.reason or "", body)
        except aiohttp.ConnectionTimeoutError as error:
            raise EccUnreachable(
                f"no connection to {self._url} within {self._connect_timeout_s:g} s"
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise EccUnreachable(f"no connection to {self._url}: {reason_of(error)}") from error
        except TimeoutError as error:
            if timeout_s is None:
                raise EccBrokenReply(f"{where}: the host went away: {reason_of(error)}") from error
            raise EccTimeout(f"{where}: no answer within {timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise EccBrokenReply(
                f"{where}: the connection ended without a whole reply: {reason_of(error)}"
            ) from error
        except EccError:
            raise
        except Exception as error:  # whatever else HTTP can do to its library: the call may have run
            raise EccBrokenReply(f"{where}: the reply cannot be read: {reason_of(error)}") from error

    async def close(self) -> None:
        """Close what is open, for good; calls that are under way end with `EccBrokenReply`."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            # Made on the first call, because a session belongs to the loop that it was made in.
            connector = aiohttp.TCPConnector(force_close=True, limit=0, socket_factory=keep_alive_socket)
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_end.append(_tell_connected)
            self._session = aiohttp.ClientSession(
                trace_configs=[trace],
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("Accept-Encoding", "User-Agent"),
            )
        return self._session


async def _tell_connected(_session: object, context: Any, _params: object) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx()


async def _bounded_body(response: aiohttp.ClientResponse, where: str) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_REPLY_BYTES:
            raise EccBrokenReply(f"{where}: a reply of more than {MAX_REPLY_BYTES} bytes")
    return bytes(body)
