"""A Channel Access client in a process of its own that says how long its round trips take.

    python -m tests.security.echo PV REFRESH

For each line on stdin, a number, it gets PV so many times and prints the times in ms as JSON; before a
negative number it puts 1 to REFRESH, without waiting for its end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aioca

PAUSE_S = 0.01


async def main(pv: str, refresh: str) -> None:
    """Measure until stdin ends."""
    await aioca.connect([pv, refresh], timeout=20)
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("ready", flush=True)
    while line := await lines.readline():
        times_ms = []
        if int(line) < 0:
            await aioca.caput(refresh, 1, wait=False)
        for _ in range(abs(int(line))):
            began = time.perf_counter()
            await aioca.caget(pv, timeout=20)
            times_ms.append((time.perf_counter() - began) * 1e3)
            await asyncio.sleep(PAUSE_S)
        print(json.dumps(times_ms), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
