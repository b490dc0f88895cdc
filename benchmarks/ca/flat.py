"""Memory of a server over ten million events.

    python -m benchmarks.ca.flat [--events 1e7] [--kinds here,caproto,softioc,softIoc] [--page PAGE]

Twenty clients monitor 400 PVs and read as fast as they can. Every PV changes 25 times a second.
It prints the server's resident memory at each tenth of the events. A server that is much too slow is
stopped after `--limit` seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import selectors
import socket
import struct
import time
from pathlib import Path

import psutil

from benchmarks.support.page import about, command, write_between_marks
from benchmarks.support.served import served
from tests.support.ca import LOOPBACK, ca_place

CLIENTS, PVS, HZ = 20, 400, 25.0
TIME_LONG, EVENT_BYTES = 19, 32
PARTS = 10


def subscribe(port: int) -> socket.socket:
    """Connect a client that monitors everything."""
    sock = socket.create_connection((LOOPBACK, port))
    sock.sendall(struct.pack(">HHHHII", 0, 0, 0, 13, 0, 0))
    for number in range(PVS):
        name = f"B:{number}".encode() + b"\0"
        name += bytes(-len(name) % 8)
        sock.sendall(struct.pack(">HHHHII", 18, len(name), 0, 0, number, 13) + name)
    data, seen = b"", 0
    while seen < PVS:
        data += sock.recv(1 << 16)
        while len(data) >= 16:
            number, size, _, _, cid, sid = struct.unpack_from(">HHHHII", data)
            if len(data) < 16 + size:
                break
            data = data[16 + size :]
            if number == 18:
                seen += 1
                request = struct.pack(">HHHHII", 1, 16, TIME_LONG, 1, sid, cid)
                sock.sendall(request + struct.pack(">fffHH", 0, 0, 0, 1, 0))
    return sock


def measure(kind: str, events: float, limit_s: float) -> list[tuple[float, float]]:
    """Return (events, resident MB) at the beginning and at each tenth that was reached."""
    found: list[tuple[float, float]] = []
    with (
        contextlib.closing(ca_place()) as place,
        served(kind, place, PVS, HZ) as (process, _),
        contextlib.ExitStack() as stack,
    ):
        server = psutil.Process(process.pid)
        selector = stack.enter_context(contextlib.closing(selectors.DefaultSelector()))
        for _ in range(CLIENTS):
            selector.register(stack.enter_context(subscribe(place.port)), selectors.EVENT_READ)
        buffer, taken = bytearray(1 << 18), 0
        end = time.monotonic() + limit_s
        while len(found) <= PARTS and time.monotonic() < end:
            for key, _ in selector.select(1.0):
                assert isinstance(key.fileobj, socket.socket)
                got = key.fileobj.recv_into(buffer)
                if not got:
                    raise ConnectionError(f"{kind} disconnected a client")
                taken += got
            if taken / EVENT_BYTES >= events * len(found) / PARTS:
                found.append((taken / EVENT_BYTES, server.memory_info().rss / 1e6))
    return found


def reached(kind: str, events: float, limit_s: float) -> str:
    """Return a line of the table."""
    try:
        found = measure(kind, events, limit_s)
    except ConnectionError as error:
        return f"| {kind} | | it disconnected a client: {error} |"
    memory = ", ".join(f"{mb:.1f}" for _, mb in found)
    return f"| {kind} | {found[-1][0] if found else 0:.3g} | {memory} |"


def main() -> None:
    """Print a line for each server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--events", type=float, default=1e7)
    parser.add_argument("--kinds", default="here,caproto,softioc,softIoc")
    parser.add_argument("--limit", type=float, default=180.0)
    parser.add_argument("--page", type=Path, help="write the lines into this page, between its marks")
    args = parser.parse_args()
    lines = ["| | events reached | resident MB at each tenth |", "|---|---|---|"]
    for kind in args.kinds.split(","):
        lines.append(reached(kind, args.events, args.limit))
        print(lines[-1], flush=True)
    if args.page:
        text = "\n".join(lines)
        write_between_marks(args.page, "flat", f"{about(command('benchmarks.ca.flat'))}\n\n{text}")


if __name__ == "__main__":
    main()
