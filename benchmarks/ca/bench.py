"""Compare Channel Access servers in one run: this one, stock caproto, and EPICS base's `softIoc`.

    python -m benchmarks.ca.bench [--pvs 400] [--seconds 3]

Each server serves the same longout records; the client is libca (through `epicscorelibs`) in a process of its
own. Printed are medians, and ratios to `softIoc`. Everything stays on loopback and private ports.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.support.ca import LOOPBACK, CaPlace, ca_place, program

HERE = Path(__file__).parent
SERVERS = ("here", "caproto", "softIoc")


@contextlib.contextmanager
def served(
    kind: str, place: CaPlace, count: int, hz: float = 0
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Run a server; yields its process and the seconds until its first search reply.

    With `hz` every record changes that often.
    """
    with tempfile.TemporaryDirectory() as folder:
        if kind == "softIoc":
            database = Path(folder) / "b.db"
            period = f"{1 / hz:g}".removeprefix("0") if hz else ""
            fields = f'field(CALC, "VAL+1") field(SCAN, "{period} second")' if hz else ""
            rtyp = "calc" if hz else "longout"
            database.write_text("".join(f'record({rtyp}, "B:{i}") {{ {fields} }}\n' for i in range(count)))
            command = [program("softIoc"), "-S", "-d", str(database)]
        else:
            command = [sys.executable, str(HERE / "servers.py"), kind, str(count), str(hz)]
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=place.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for_search(place.port, f"B:{count - 1}")
            yield process, time.perf_counter() - start
        finally:
            process.kill()
            process.wait()


def wait_for_search(port: int, name: str) -> None:
    """Search until somebody answers."""
    payload = name.encode() + b"\0"
    payload += bytes(-len(payload) % 8)
    request = struct.pack(">HHHHII", 0, 0, 1, 13, 1, 0)
    request += struct.pack(">HHHHII", 6, len(payload), 5, 13, 1, 1) + payload
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.005)
        for _ in range(2000):
            with contextlib.suppress(OSError):
                sock.sendto(request, (LOOPBACK, port))
                if len(sock.recv(1000)) > 16:
                    return
    raise TimeoutError("no search reply")


async def measure(kind: str, args: argparse.Namespace) -> dict[str, float]:
    """Measure one server."""
    result: dict[str, float] = {}
    with contextlib.closing(ca_place()) as place, served(kind, place, args.pvs) as (process, start_s):
        result["start, s"] = start_s
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, str(HERE / "client.py"), str(args.pvs), str(args.seconds)),
            env={**place.env, "PYTHONPATH": os.getcwd()},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(client.communicate(), 120)
        result |= json.loads(out)
        result["resident, MB"] = psutil.Process(process.pid).memory_info().rss / 1e6
    return result


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pvs", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args()
    results = {kind: asyncio.run(measure(kind, args)) for kind in SERVERS}
    print(f"{args.pvs} PVs".ljust(34) + "".join(kind.rjust(12) for kind in SERVERS) + "   here/softIoc")
    for name in results["here"]:
        row = [results[kind].get(name, float("nan")) for kind in SERVERS]
        print(name.ljust(34) + "".join(f"{value:12.4g}" for value in row) + f"{row[0] / row[2]:12.2f}")


if __name__ == "__main__":
    main()
