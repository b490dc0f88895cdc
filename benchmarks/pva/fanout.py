"""Many clients that monitor everything over PVAccess; see `benchmarks.support.monitors`.

python -m benchmarks.pva.fanout [--clients 20] [--pvs 400] [--hz 5] [--seconds 5]
"""

from __future__ import annotations

import struct
import time

from benchmarks.pva import wire
from benchmarks.pva.client import wait_for_channel
from benchmarks.support import monitors

SERVERS = ("both", "p4p", "softioc-both", "QSRV")
CODES = {"QSRV": "d"}
"""The type of the values that change, if it is not int: QSRV changes records of type calc."""


class Listener(monitors.Listener):
    """One client."""

    request = wire.WHOLE
    """What it asks for in a monitor."""

    def data_received(self, data: bytes) -> None:
        """Ask for every channel, monitor it when it is there; note updates."""
        assert self.transport is not None
        data = self.rest + data
        now, at = time.time(), 0
        for command, payload, end in wire.messages(data):
            at = end
            if command == wire.MONITOR:
                self._hear(payload, now)
            elif command == wire.CREATE_CHANNEL:
                number, sid = wire.created(payload)
                self._sids[number] = sid
                self.transport.write(wire.begin(wire.MONITOR, sid, number, self.request))
            elif command == wire.VALIDATE:
                self.transport.write(wire.hello())
                self._sids = [0] * self.pvs
                self._seconds = [0] * self.pvs
                for number in range(self.pvs):
                    self.transport.write(wire.create(number, f"B:{number}"))
        self.rest = data[at:]

    def _hear(self, payload: bytes, now: float) -> None:
        (number,) = struct.unpack_from("<I", payload)
        if payload[4] & wire.INIT:
            assert self.transport is not None
            self.transport.write(wire.go_on(wire.MONITOR, self._sids[number], number, wire.START))
            return
        value, seconds, nanoseconds = wire.update(payload, self.code)
        if seconds is not None:
            self._seconds[number] = seconds
        self.heard(number, value, now - self._seconds[number] - (nanoseconds or 0) / 1e9)


PVACCESS = monitors.Protocol(
    "benchmarks.pva.fanout", Listener, lambda place: place.pva_port, wait_for_channel, CODES
)


if __name__ == "__main__":
    monitors.compare(__doc__, SERVERS, PVACCESS)
