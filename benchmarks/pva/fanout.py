"""Many clients that monitor everything over PVAccess: what `benchmarks.ca.fanout` measures, of this protocol.

python -m benchmarks.pva.fanout [--clients 20] [--pvs 400] [--hz 5] [--seconds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import struct
import time

from benchmarks.ca import fanout
from benchmarks.pva import wire
from benchmarks.pva.client import wait_for_channel
from tests.support.ca import CaPlace

SERVERS = ("both", "p4p", "softioc-both", "QSRV")
CODES = {"QSRV": "d"}
"""The type of the values that change, if it is not int: QSRV changes records of type calc."""


class Listener(asyncio.Protocol):
    """One client: monitors every PV, notes how late each update is, and counts."""

    def __init__(self, count: int, tally: fanout.Tally, code: str) -> None:
        self._count = count
        self._tally = tally
        self._code = code
        self._last = [-1.0] * count
        self._end = [-1.0] * count
        self._seconds = [0] * count
        self._rest = b""
        self.transport: asyncio.Transport | None = None

    def begin(self, changes: int) -> None:
        """Count each PV's next `changes` from now on."""
        self._end = [last + changes for last in self._last]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say nothing before the server has."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Ask for every channel, monitor it when it is there; note updates."""
        assert self.transport is not None
        data = self._rest + data
        now, at = time.time(), 0
        for command, payload, end in wire.messages(data):
            at = end
            if command == wire.MONITOR:
                self._hear(payload, now)
            elif command == wire.CREATE_CHANNEL:
                number, sid = wire.created(payload)
                self._sids[number] = sid
                self.transport.write(wire.begin(wire.MONITOR, sid, number))
            elif command == wire.VALIDATE:
                self.transport.write(wire.hello())
                self._sids = [0] * self._count
                for number in range(self._count):
                    self.transport.write(wire.create(number, f"B:{number}"))
        self._rest = data[at:]

    def _hear(self, payload: bytes, now: float) -> None:
        (number,) = struct.unpack_from("<I", payload)
        if payload[4] & wire.INIT:
            assert self.transport is not None
            self.transport.write(wire.go_on(wire.MONITOR, self._sids[number], number, wire.START))
            return
        value, seconds, nanoseconds = wire.update(payload, self._code)
        if seconds is not None:
            self._seconds[number] = seconds
        self._tally.update(now - self._seconds[number] - (nanoseconds or 0) / 1e9)
        if value is not None:
            if self._last[number] < value <= self._end[number]:
                self._tally.count()
            self._last[number] = value


def port_of(place: CaPlace) -> int:
    """Return the port of PVAccess."""
    return place.pva_port


PVACCESS = fanout.Protocol("benchmarks.pva.fanout", Listener, port_of, wait_for_channel, CODES)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    fanout.compare(parser, SERVERS, PVACCESS)


if __name__ == "__main__":
    main()
