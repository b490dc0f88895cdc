"""The libca client of the benchmark: `client.py COUNT SECONDS` prints one JSON object."""

from __future__ import annotations

import ctypes
import json
import sys
import threading
import time
from typing import Any

from epicscorelibs.ca import cadef, dbr

from benchmarks.support.compare import median_us

LONG = dbr.DBR_LONG


class Counter:
    """Counts callbacks, and wakes whoever waits for a number of them."""

    def __init__(self) -> None:
        self.count = 0
        self.target = 0
        self.reached = threading.Event()

    def __call__(self) -> None:
        """Count one."""
        self.count += 1
        if self.count >= self.target:
            self.reached.set()

    def expect(self, target: int) -> None:
        """Start counting to `target`."""
        self.count, self.target = 0, target
        self.reached.clear()

    def wait(self, limit_s: float = 30.0) -> None:
        """Wait until the target is reached; raises TimeoutError."""
        cadef.ca_flush_io()
        if not self.reached.wait(limit_s):
            raise TimeoutError(f"{self.count} of {self.target}")


def main() -> None:
    """Measure."""
    count, seconds = int(sys.argv[1]), float(sys.argv[2])
    result: dict[str, float] = {}
    cadef.ca_context_create(1)
    done, connected = Counter(), Counter()

    @cadef.connection_handler
    def on_connect(_: Any) -> None:
        connected()

    @cadef.event_handler
    def on_event(_: Any) -> None:
        done()

    connected.expect(count)
    start = time.perf_counter()
    channels = []
    for i in range(count):
        channel = ctypes.c_void_p()
        cadef.ca_create_channel(f"B:{i}", on_connect, None, 20, ctypes.byref(channel))
        channels.append(channel)
    connected.wait()
    result["connect all, s"] = time.perf_counter() - start

    def get() -> None:
        done.expect(1)
        cadef.ca_array_get_callback(LONG, 1, channels[0], on_event, None)
        done.wait()

    def put() -> None:
        done.expect(1)
        value = ctypes.c_int32(int(time.perf_counter() * 1e6) & 0xFFFFFF)
        cadef.ca_array_put_callback(LONG, 1, channels[0], ctypes.byref(value), on_event, None)
        done.wait()

    get()
    result["get, us"] = median_us(get, seconds)
    put()
    result["put with callback, us"] = median_us(put, seconds)

    rounds = max(1, 20_000 // count)
    done.expect(rounds * count)
    start = time.perf_counter()
    for _ in range(rounds):
        for channel in channels:
            cadef.ca_array_get_callback(LONG, 1, channel, on_event, None)
    done.wait()
    result["gets outstanding together, /s"] = rounds * count / (time.perf_counter() - start)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
