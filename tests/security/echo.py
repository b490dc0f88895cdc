"""A Channel Access client in a process of its own that says how long its round trips take.

    python -m tests.security.echo PID PV COMMAND...

For each line on stdin, a number, it gets PV so many times and prints the times in ms as JSON, without those
for which it and the server, the process PID, waited for a processor. Where a COMMAND is behind the number it
first puts 1 to that one, without waiting for its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import aioca

from tests.support.pace import Stopwatch
from tests.support.patience import PATIENCE_S

PAUSE_S = 0.002


async def main(pid: str, pv: str, *commands: str) -> None:
    """Measure until stdin ends."""
    await aioca.connect([pv, *commands], timeout=20)
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print("ready", flush=True)
    while line := await lines.readline():
        rounds, *put = line.decode().split()
        for command in put:
            await aioca.caput(command, 1, wait=False)
        times_ms = []
        for _ in range(int(rounds)):
            taking = Stopwatch(os.getpid(), int(pid))
            await aioca.caget(pv, timeout=PATIENCE_S)
            times_ms.append(taking.s * 1e3)
            await asyncio.sleep(PAUSE_S)
        print(json.dumps(times_ms), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
