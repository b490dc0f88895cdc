"""Runs a server under test, and waits until it serves."""

from __future__ import annotations

import contextlib
import shlex
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.ca import LOOPBACK, CaPlace, program

SERVERS = Path(__file__).parent / "servers.py"


@contextlib.contextmanager
def served(
    kind: str,
    place: CaPlace,
    count: int,
    hz: float = 0,
    env: dict[str, str] | None = None,
    wait: Callable[[CaPlace, str], None] | None = None,
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Run a server; yields its process and the seconds until its first search reply, which `wait` waits for.

    With `hz` every record changes that often.
    """
    with tempfile.TemporaryDirectory() as folder:
        if kind in ("softIoc", "QSRV"):
            database = Path(folder) / "b.db"
            period = f"{1 / hz:g}".removeprefix("0") if hz else ""
            fields = f'field(CALC, "VAL+1") field(SCAN, "{period} second")' if hz else ""
            rtyp = "calc" if hz else "longout"
            database.write_text("".join(f'record({rtyp}, "B:{i}") {{ {fields} }}\n' for i in range(count)))
            program_line = [program("softIoc"), "-S", "-d", str(database)]
            if kind == "QSRV":
                program_line = [sys.executable, "-m", "pvxslibs.ioc", "-d", str(database)]
        else:
            program_line = [sys.executable, str(SERVERS), kind, str(count), str(hz)]
        start = time.perf_counter()
        process = subprocess.Popen(
            program_line,
            env=env or place.env,
            stdin=subprocess.PIPE,  # QSRV's has a shell that must not end
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            try:
                (wait or search)(place, f"B:{count - 1}")
            except TimeoutError as error:
                if (code := process.poll()) is not None:
                    raise RuntimeError(f"{kind} ended with {code}: {shlex.join(program_line)}") from error
                raise
            yield process, time.perf_counter() - start
        finally:
            process.kill()
            process.communicate()


def search(place: CaPlace, name: str) -> None:
    """Search in a corner over Channel Access until a server answers."""
    wait_for_search(place.port, name)


def wait_for_search(port: int, name: str) -> None:
    """Search over Channel Access until a server answers."""
    payload = name.encode() + b"\0"
    payload += bytes(-len(payload) % 8)
    request = struct.pack(">HHHHII", 0, 0, 1, 13, 1, 0)
    request += struct.pack(">HHHHII", 6, len(payload), 5, 13, 1, 1) + payload
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.005)
        end_s = time.monotonic() + 60.0
        while time.monotonic() < end_s:
            with contextlib.suppress(OSError):
                sock.sendto(request, (LOOPBACK, port))
                if len(sock.recv(1000)) > 16:
                    return
    raise TimeoutError("no search reply")
