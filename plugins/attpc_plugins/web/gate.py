"""TLS before the door: a connection has its place from the beginning of its handshake, which costs time."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from .door import Door

HANDSHAKE_S = 5.0
"""A handshake must have ended after this time."""


class TlsGate:
    """Makes the protocol of each connection, which begins with a TLS handshake."""

    def __init__(self, door: Door, tls: ssl.SSLContext) -> None:
        self._door = door
        self._tls = tls
        self.shaking: set[asyncio.Task[None]] = set()

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _Outside(self)

    async def close(self) -> None:
        """End the handshakes under way."""
        tasks = list(self.shaking)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def begin(self, transport: asyncio.Transport) -> None:
        """Begin a handshake, if there is a place."""
        if self._door.is_full(besides=len(self.shaking)):
            self._door.turned_away += 1
            transport.abort()
            return
        transport.pause_reading()  # what comes is for TLS
        task = asyncio.get_running_loop().create_task(self._shake(transport), name="web handshake")
        self.shaking.add(task)
        task.add_done_callback(self.shaking.discard)

    async def _shake(self, transport: asyncio.Transport) -> None:
        guard = self._door()
        # The loop closes a connection whose handshake fails.
        with contextlib.suppress(OSError):
            inner = await asyncio.get_running_loop().start_tls(
                transport, guard, self._tls, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
            if inner is not None and not inner.is_closing():
                guard.connection_made(inner)


class _Outside(asyncio.Protocol):
    """A connection before its handshake."""

    def __init__(self, gate: TlsGate) -> None:
        self._gate = gate

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._gate.begin(transport)
