"""The page for browsers and the live stream: weight, delay and cost.

    python -m benchmarks.web [--pages 1,50,200] [--seconds 10]

Fleet (10 CoBos and a MuTAnT), IOC, readers of the live stream and an EPICS client are separate processes on
loopback. First the bytes of the page as a browser gets them, and how long a client needs for all that the
first view shows: the page, its files, rows and values. Then for each number of open streams the processor
time of the IOC, idle and while `Run:MaxDuration` is written ten times a second, less that of the idle IOC
without a stream; and the delay of each of those writes to the stream and, at the same time, to a libca
monitor, both from before the `caput`. Goals: the page under 250 kB; the stream's delay less the monitor's
under 100 ms; 200 streams under 10 % of a core on an idle fleet.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import attpc_plugins.web
import psutil

from benchmarks.support.system import PREFIX, System, system, verdict
from tests.support.ca import free_port

WRITES_S = 0.1
WEIGHT_GOAL = 250_000
DELAY_GOAL_S = 0.1
CPU_GOAL = 10.0
VALUE = f"{PREFIX}Run:MaxDuration"


async def _read(pipe: Connection, port: int, count: int) -> None:
    """Read so many streams; the first notes when each value of `VALUE` came."""
    seen: list[tuple[float, float]] = []

    async def stream(noted: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
        writer.write(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        while not (await reader.readline()).startswith(b"data: "):
            pass
        ready.append(noted)
        while True:
            data = await reader.read(2**18) if not noted else await reader.readline()
            if not data:
                raise ConnectionError("the stream has ended")
            if noted and data.startswith(b"data: ") and VALUE.encode() in data:
                seen.append((time.monotonic(), json.loads(data[6:])["pvs"][VALUE]["value"]))

    ready: list[bool] = []
    tasks = [asyncio.create_task(stream(number == 0)) for number in range(count)]
    while len(ready) < count:
        await asyncio.sleep(0.01)
        for task in tasks:
            if task.done():
                task.result()
    pipe.send(None)
    while await asyncio.get_running_loop().run_in_executor(None, pipe.recv):
        pipe.send(seen.copy())
        seen.clear()


def _run_reader(pipe: Connection, port: int, count: int) -> None:
    asyncio.run(_read(pipe, port, count))


async def first_view(url: str, times: int = 10) -> tuple[float, int]:
    """Return the median time of all requests that the first view needs, and their bytes, compressed."""
    static = Path(attpc_plugins.web.__file__).parent / "static"
    paths = ["/", *(f"/static/{p.name}" for p in sorted(static.iterdir()) if p.name != "index.html")]
    paths += ["/api/v1/pvs", "/api/v1/snapshot"]
    took, weight = [], 0
    for _ in range(times):
        began = time.monotonic()
        async with aiohttp.ClientSession(auto_decompress=False) as client:

            async def get(path: str, client: aiohttp.ClientSession = client) -> int:
                async with client.get(url + path) as response:
                    return len(await response.read()) if response.status == 200 else 0

            weight = sum(await asyncio.gather(*map(get, paths)))
        took.append(time.monotonic() - began)
    return statistics.median(took), weight


def page_weight() -> int:
    """Return the bytes of the page's files, compressed as they are sent."""
    static = Path(attpc_plugins.web.__file__).parent / "static"
    return sum(len(gzip.compress(path.read_bytes(), mtime=0)) for path in static.iterdir())


async def measure(it: System, port: int, count: int, seconds: float) -> tuple[float, float, float, float]:
    """Return per cent of a core, idle and with writes, and the median delays to stream and monitor in s."""
    import aioca

    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run_reader, args=(there, port, count))
    process.start()
    monitored: list[tuple[float, float]] = []
    monitor = aioca.camonitor(
        VALUE, lambda value: monitored.append((time.monotonic(), float(value))), all_updates=True
    )
    ioc = psutil.Process(it.pid)
    try:
        await asyncio.to_thread(here.recv)
        idle = await _cpu(ioc, seconds)
        await aioca.caput(VALUE, 0.0, wait=True)
        sent: dict[float, float] = {}
        began_s, used_s = time.monotonic(), sum(ioc.cpu_times()[:2])
        for number in range(1, int(seconds / WRITES_S) + 1):
            sent[float(number)] = time.monotonic()
            await aioca.caput(VALUE, float(number), wait=True)
            await asyncio.sleep(max(0.0, began_s + number * WRITES_S - time.monotonic()))
        busy = 100 * (sum(ioc.cpu_times()[:2]) - used_s) / (time.monotonic() - began_s)
        await asyncio.sleep(0.5)
        here.send(True)
        streamed = await asyncio.to_thread(here.recv)
    finally:
        monitor.close()
        here.send(False)
        process.join(10)
        process.kill()
    return idle, busy, _delay(sent, streamed), _delay(sent, monitored)


async def _cpu(process: psutil.Process, seconds: float) -> float:
    before_s, began_s = sum(process.cpu_times()[:2]), time.monotonic()
    await asyncio.sleep(seconds)
    return 100 * (sum(process.cpu_times()[:2]) - before_s) / (time.monotonic() - began_s)


def _delay(sent: dict[float, float], seen: list[tuple[float, float]]) -> float:
    """Return the median delay; a value that was passed over came with the next one."""
    delays = []
    for value, began_s in sent.items():
        came = [at for at, shown in seen if shown >= value and at >= began_s]
        if came:
            delays.append(min(came) - began_s)
    return statistics.median(delays)


async def report(it: System, port: int, counts: list[int], seconds: float) -> None:
    """Print the figures."""
    from benchmarks.support import client

    weight = page_weight()
    print(f"page                    {weight / 1e3:7.1f} kB; goal 250 kB: {verdict(weight, WEIGHT_GOAL)}")
    took_s, sent = await first_view(f"http://127.0.0.1:{port}")
    print(f"all of the first view   {1e3 * took_s:7.1f} ms, {sent / 1e3:.1f} kB")
    base = await _cpu(psutil.Process(it.pid), seconds)
    print(f"IOC without a stream    {base:7.1f} % of a core, idle")
    for count in counts:
        idle, busy, stream_s, monitor_s = await measure(it, port, count, seconds)
        idle, busy = idle - base, busy - base
        print(f"{count:4} streams            {idle:7.1f} % more idle, {busy:.1f} % more with writes")
        delays = f"delay {1e3 * stream_s:.1f} ms, EPICS monitor {1e3 * monitor_s:.1f} ms"
        print(f"     {delays}; goal 100 ms more: {verdict(stream_s - monitor_s, DELAY_GOAL_S)}")
        if count >= 200:
            print(f"     goal 10 % of a core, idle: {verdict(idle, CPU_GOAL)}")
    client.end()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pages", default="1,50,200")
    parser.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    port = free_port()
    with system() as it:
        text = it.file.read_text(encoding="utf-8")
        it.file.write_text(f"{text}\n[plugins.web]\nport = {port}\n", encoding="utf-8")
        it.start_ioc()
        it.wait_ioc()
        asyncio.run(report(it, port, [int(n) for n in args.pages.split(",")], args.seconds))


if __name__ == "__main__":
    main()
