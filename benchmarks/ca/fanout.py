"""Many clients that monitor everything over Channel Access; see `benchmarks.support.monitors`.

python -m benchmarks.ca.fanout [--clients 20] [--pvs 400] [--hz 5] [--seconds 5]
"""

from __future__ import annotations

import asyncio
import struct
import time

from benchmarks.support import monitors
from benchmarks.support.served import search

SERVERS = ("here", "caproto", "softioc", "softIoc")

_EPICS_EPOCH_S = 631152000
_TIME_DOUBLE, _VALUE = 20, 1
_EVENT = struct.Struct(">HHHHIIhhIIid")


class Listener(monitors.Listener):
    """One client, which subscribes to every PV as TIME_DOUBLE."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Request every channel."""
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.write(struct.pack(">HHHHII", 0, 0, 0, 13, 0, 0))
        for number in range(self.pvs):
            name = f"B:{number}".encode() + b"\0"
            name += bytes(-len(name) % 8)
            self.transport.write(struct.pack(">HHHHII", 18, len(name), 0, 0, number, 13) + name)

    def data_received(self, data: bytes) -> None:
        """Subscribe when a channel is there; note updates."""
        assert self.transport is not None
        data = self.rest + data
        now = time.time() - _EPICS_EPOCH_S
        offset = 0
        while len(data) - offset >= 16:
            command, size, _, _, p1, p2 = struct.unpack_from(">HHHHII", data, offset)
            if len(data) - offset < 16 + size:
                break
            if command == 18:
                # The subscription has the number of its PV.
                request = struct.pack(">HHHHII", 1, 16, _TIME_DOUBLE, 1, p2, p1)
                self.transport.write(request + struct.pack(">fffHH", 0, 0, 0, _VALUE, 0))
            elif command == 1:
                fields = _EVENT.unpack_from(data, offset)
                self.heard(p2, fields[11], now - fields[8] - fields[9] / 1e9)
            offset += 16 + size
        self.rest = data[offset:]


CHANNEL_ACCESS = monitors.Protocol("benchmarks.ca.fanout", Listener, lambda place: place.port, search)


if __name__ == "__main__":
    monitors.compare(__doc__, SERVERS, CHANNEL_ACCESS)
