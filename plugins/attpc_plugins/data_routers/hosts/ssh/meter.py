"""Limits what a host may send on an SSH connection besides answers, and the data pending for it.

Agents limit their own answers. SSH also has packets that cost time, are stored, or need
an answer: a host that sends these without end, or does not read, is disconnected.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncssh
from asyncssh.constants import DISC_PROTOCOL_ERROR

METER = "attpc_meter"
"""The name of a connection's meter in its extra information."""

RECEIVED_AT_ONCE = 1 << 12
"""Maximum bytes decrypted and handled in one turn of the event loop: some 100 short packets."""

BESIDE_BYTES = 1 << 18
BESIDE_S = 60.0
"""Maximum bytes in this time without an agent's answer: a login takes less than 10 kB."""

BULK_BESIDE_BYTES = 1 << 24
"""The same on a connection for whole files."""

UNSENT_BYTES = 1 << 24
"""Maximum bytes pending to be sent: of each request at most the 2 MiB of `sshd`'s window."""


class Flooded(asyncssh.Error):
    """The connection was closed because of what the host sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(DISC_PROTOCOL_ERROR, reason)


class Meter:
    """Counts what one connection receives. `outer` is the meter of its jump host's connection."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        outer: Meter | None = None,
        at_once: int = RECEIVED_AT_ONCE,
    ) -> None:
        self._connection = connection
        self._outer = outer
        # What is received without an answer waits for its reader, at most a window of 2 MiB.
        self._beside_most = BESIDE_BYTES if at_once == RECEIVED_AT_ONCE else BULK_BESIDE_BYTES
        self._beside = 0
        self._since = asyncio.get_running_loop().time()
        made: Any = connection  # asyncssh has no public access to received and waiting data
        self._transport: Any = made._transport
        self._handle = made.data_received
        made.data_received = self._received
        connection.set_extra_info(**{METER: self})
        # Not by a small receive buffer: if that shrinks, the peer's TCP waits 0.2 s before each piece.
        if hasattr(self._transport, "max_size"):
            self._transport.max_size = at_once

    def useful(self) -> None:
        """Restart the count: an answer came."""
        self._beside = 0

    def _received(self, data: bytes, datatype: asyncssh.DataType = None) -> None:
        if self._outer is not None:
            self._outer.useful()
        now = asyncio.get_running_loop().time()
        if now - self._since > BESIDE_S:
            self._since, self._beside = now, 0
        self._beside += len(data)
        self._handle(data, datatype)
        if self._beside > self._beside_most:
            self._connection.connection_lost(Flooded("it sends unrequested data"))
        elif self._transport.get_write_buffer_size() > UNSENT_BYTES:
            self._connection.connection_lost(Flooded("it does not read its data"))


def note_answer(channel: asyncssh.SSHClientChannel[bytes]) -> None:
    """Note in the meter of a channel's connection, if it has one, that an agent's answer came."""
    meter = channel.get_extra_info(METER)
    if isinstance(meter, Meter):
        meter.useful()
