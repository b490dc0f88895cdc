"""The clients of the benchmark: `client.py PORT COUNT SECONDS` prints one JSON object.

Gets and puts are sent on a bare socket, so that the client costs less than the servers; connections are
made by p4p's client, with searches.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections import deque
from collections.abc import Callable

from benchmarks.pva import wire
from benchmarks.support.compare import median_us
from tests.support.ca import LOOPBACK, CaPlace


class Client:
    """One connection, for one request after the other."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection((LOOPBACK, port), 20.0)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""
        self._inbox: deque[tuple[int, bytes]] = deque()
        self.answer(wire.VALIDATE)
        self.send(wire.hello())

    def send(self, data: bytes) -> None:
        """Send messages."""
        self._sock.sendall(data)

    def answer(self, command: int) -> bytes:
        """Return the payload of the next message of a kind; raises ConnectionError at the end."""
        while True:
            while self._inbox:
                found, payload = self._inbox.popleft()
                if found == command:
                    return payload
            data = self._sock.recv(1 << 18)
            if not data:
                raise ConnectionError("closed by the server")
            self._data += data
            at = 0
            for found, payload, end in wire.messages(self._data):
                self._inbox.append((found, payload))
                at = end
            self._data = self._data[at:]

    def channel(self, name: str) -> int:
        """Return the server's number of a channel."""
        self.send(wire.create(1, name))
        return wire.created(self.answer(wire.CREATE_CHANNEL))[1]

    def close(self) -> None:
        """Hang up."""
        self._sock.close()


def wait_for_channel(place: CaPlace, name: str) -> None:
    """Wait until a server has a PV."""
    for _ in range(3000):
        with contextlib.suppress(OSError), contextlib.closing(Client(place.pva_port)) as client:
            client.channel(name)
            return
        time.sleep(0.01)
    raise TimeoutError(f"no channel {name}")


def measure(port: int, seconds: float) -> dict[str, float]:
    """Return what a get and a put take, and how many gets are answered when many are outstanding."""
    result: dict[str, float] = {}
    with contextlib.closing(Client(port)) as client:
        sid = client.channel("B:0")
        for number, command in ((1, wire.GET), (2, wire.PUT)):
            client.send(wire.begin(command, sid, number))
            client.answer(command)

        def get() -> None:
            client.send(wire.go_on(wire.GET, sid, 1, wire.EXECUTE))
            client.answer(wire.GET)

        value = 0

        def put() -> None:
            nonlocal value
            value += 1
            client.send(wire.go_on(wire.PUT, sid, 2, wire.EXECUTE, wire.put_value(value)))
            if client.answer(wire.PUT)[5] not in (0xFF, 0):
                raise ConnectionError("the put failed")

        works: dict[str, Callable[[], None]] = {"get, us": get, "put, us": put}
        for name, work in works.items():
            work()
            result[name] = median_us(work, seconds)
    return result


def connect(count: int) -> float:
    """Return the seconds until p4p's client has a value of each PV, search and connection included."""
    from p4p.client.thread import Context

    with Context("pva", nt=False) as context:
        began_s = time.perf_counter()
        context.get([f"B:{number}" for number in range(count)], timeout=60)
        return time.perf_counter() - began_s


def main() -> None:
    """Measure."""
    port, count, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    result = {"connect and get all, s": connect(count), **measure(port, seconds)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
