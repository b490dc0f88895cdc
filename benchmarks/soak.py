"""The whole IOC under stress: screens that monitor everything, bad clients, and a fleet whose servers fail.

    python -m benchmarks.soak [--seconds 600] [--clients 20]

Fleet, IOC and clients are separate processes. Modules are moved up and down continuously, and the
simulator's faults come and go. Healthy clients monitor the fleet; others stall, flood with
puts and reconnect. Every line is a tenth of the time: memory, descriptors and tasks must stay
flat, every healthy client must have had the same updates, and none of these was replaced by a newer one. Ends
with exit code 1 when that is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import multiprocessing
import random
import struct
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path

import caproto
import psutil
from caproto import ChannelType

from attpc_ioc.ioc.ca.wire import HEADER, Command
from benchmarks.support.page import about, command, write_between_marks
from benchmarks.support.system import EXPERIMENT, PREFIX, system
from tests.ca.raw import raw_client
from tests.support.ca import LOOPBACK

LINES = 10
LEAST_GROWTH_MB = 8.0
"""Memory growth allowed for the allocator, in MB."""


async def _fleet_with_faults(pipe: Connection, cobos: int, folder: str, port: int) -> None:
    from attpc_ioc.simulator.fleet import SimulatedFleet
    from benchmarks.support.system import DURATIONS

    chance = random.Random(1)
    async with SimulatedFleet(cobos, durations=DURATIONS) as fleet:
        ioc = f'server_port = {port}\ninterfaces = ["127.0.0.1"]\n'
        more = {"limits": "prepare_s = 3.0\nstart_s = 3.0", "channel_access": "stall_s = 3.0"}
        pipe.send(fleet.settings_toml(PREFIX, Path(folder) / "state", ioc=ioc, **more))
        while True:
            await asyncio.sleep(chance.uniform(0.2, 1.0))
            server = chance.choice(list(fleet))
            faults = server.faults
            kinds: list[Callable[[], None]] = [
                lambda faults=faults: faults.slow(extra_s=0.3),
                *(faults.hang, faults.fail, faults.lie, faults.fail_but_move, faults.lose_reply),
                *(faults.stall, faults.refuse),
            ]
            chance.choice(kinds)()
            await asyncio.sleep(chance.uniform(0.2, 2.0))
            faults.clear()
            fleet.log.clear()


def run_fleet(pipe: Connection, cobos: int, folder: str, port: int) -> None:
    """Run a fleet whose faults come and go, until terminated."""
    asyncio.run(_fleet_with_faults(pipe, cobos, folder, port))


async def _ioc(pipe: Connection, file: Path) -> None:
    from attpc_ioc.app import running
    from attpc_ioc.settings import load_settings

    async with running(load_settings(file)) as app:
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, pipe.recv):
            healthy = [info for info in app.server.ca.clients(0) if info.client.user == "healthy"]
            stats = app.server.ca.stats
            # Moves come and go; what is left over stays.
            tasks = len([t for t in asyncio.all_tasks() if not t.get_name().startswith(("put ", "cobo"))])
            pipe.send(
                {
                    "replaced": sum(info.dropped for info in healthy),
                    "healthy": len(healthy),
                    "tasks": tasks,
                    "puts": stats.puts,
                    "disconnected": stats.disconnected,
                    "dropped": stats.dropped,
                    "queued": stats.queued,
                }
            )


def run_ioc(pipe: Connection, file: Path) -> None:
    """Run the IOC until told False."""
    from attpc_ioc.log import set_up_logging

    set_up_logging(level="CRITICAL")
    asyncio.run(_ioc(pipe, file))


class Screen(asyncio.Protocol):
    """A healthy client: subscribes to all names, counts the updates of each."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._rest = b""
        self.counts = [0] * len(names)
        self.transport: asyncio.Transport | None = None
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduce itself and ask for the channels."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(bytes(caproto.VersionRequest(0, 13)) + bytes(caproto.HostNameRequest("soak")))
        transport.write(bytes(caproto.ClientNameRequest("healthy")))
        for number, name in enumerate(self._names):
            transport.write(bytes(caproto.CreateChanRequest(name, number, 13)))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Remember it: a healthy client is never disconnected."""
        self.ended = True

    def data_received(self, data: bytes) -> None:
        """Count updates."""
        assert self.transport is not None
        data = self._rest + data
        offset = 0
        while len(data) - offset >= HEADER.size:
            number, size, _, count, p1, p2 = HEADER.unpack_from(data, offset)
            head = HEADER.size
            if size == 0xFFFF and count == 0:
                if len(data) - offset < 24:
                    break
                (size,) = struct.unpack_from(">I", data, offset + 16)
                head = 24
            if len(data) - offset < head + size:
                break
            if number == Command.CREATE_CHANNEL:
                request = HEADER.pack(Command.EVENT_ADD, 16, ChannelType.TIME_STRING, 0, p2, p1)
                self.transport.write(request + struct.pack(">fffHH", 0, 0, 0, 5, 0))
            elif number == Command.EVENT_ADD:
                self.counts[p2] += 1
            offset += head + size
        self._rest = data[offset:]


async def _quiet(screens: list[Screen], enough: Callable[[], bool]) -> None:
    """Wait until nothing more comes and it is enough, at most half a minute."""
    for _ in range(30):
        before = [list(screen.counts) for screen in screens]
        await asyncio.sleep(1.0)
        if enough() and before == [screen.counts for screen in screens]:
            return


async def connect(screens: list[Screen], port: int) -> None:
    """Connect healthy clients; they count from when all of them have subscribed and nothing more comes."""
    loop = asyncio.get_running_loop()
    for screen in screens:
        await loop.create_connection(lambda screen=screen: screen, LOOPBACK, port)
    await _quiet(screens, lambda: all(all(screen.counts) for screen in screens))
    for screen in screens:
        screen.counts = [0] * len(screen.counts)


async def settle(screens: list[Screen]) -> None:
    """Wait until nothing more comes, and all have had as much where they ever will."""
    await _quiet(screens, lambda: len({tuple(screen.counts) for screen in screens}) == 1)


async def move(end: float, port: int, name: str) -> None:
    """Move all modules up and down, whatever the result."""
    async with raw_client(port, user=name) as raw:
        goto = await raw.channel(f"{PREFIX}GoTo")
        config = await raw.channel(f"{PREFIX}Config")
        text = EXPERIMENT.encode()
        number = 0
        while time.monotonic() < end:
            number += 1
            raw.send(caproto.WriteNotifyRequest(text, ChannelType.CHAR, len(text), config.sid, number))
            await raw.until(caproto.WriteNotifyResponse, 60)
            for target in (4, 1):
                raw.send(caproto.WriteNotifyRequest((target,), ChannelType.ENUM, 1, goto.sid, number))
                await raw.until(caproto.WriteNotifyResponse, 60)
            await asyncio.sleep(0.05)


async def stall(end: float, port: int, names: list[str]) -> None:
    """Subscribe to everything, with long values, and read nothing; reconnect when disconnected."""
    while time.monotonic() < end:
        async with raw_client(port, user="stall", receive_bytes=4096) as raw:
            for number, name in enumerate(names):
                raw.send(caproto.CreateChanRequest(name, number, 13))
                made = await raw.until(caproto.CreateChanResponse)
                raw.send(caproto.EventAddRequest(ChannelType.CTRL_ENUM, 1, made.sid, number, 0, 0, 0, 5))
            reading = raw.writer.transport
            assert isinstance(reading, asyncio.Transport)
            reading.pause_reading()
            # Requests whose replies are not read fill the operating system's buffers.
            for _ in range(200):
                if reading.is_closing() or time.monotonic() > end:
                    break
                raw.send(*(caproto.ReadNotifyRequest(ChannelType.CTRL_ENUM, 1, 1, n) for n in range(200)))
                await asyncio.sleep(0.05)


async def flood(end: float, port: int) -> None:
    """Put as fast as possible."""
    number = 0
    while time.monotonic() < end:
        async with raw_client(port, user="flood") as raw:
            sid = (await raw.channel(f"{PREFIX}Run:MaxDuration")).sid
            for _ in range(20):
                number += 1
                raw.send(
                    *(
                        caproto.WriteNotifyRequest((float(n % 7),), ChannelType.DOUBLE, 1, sid, n)
                        for n in range(100)
                    )
                )
                for _ in range(100):
                    await raw.until(caproto.WriteNotifyResponse, 60)
                await asyncio.sleep(0.2)


async def reconnect(end: float, port: int, names: list[str]) -> None:
    """Connect, request much, and disconnect abruptly."""
    while time.monotonic() < end:
        async with raw_client(port, user="reconnect") as raw:
            raw.send(*(caproto.CreateChanRequest(name, n, 13) for n, name in enumerate(names)))
            await raw.until(caproto.CreateChanResponse)
        await asyncio.sleep(0.05)


async def soak(
    port: int, pipe: Connection, process: psutil.Process, args: argparse.Namespace, said: list[str]
) -> bool:
    """Run everything, and keep the printed lines in `said`.

    Returns whether memory, descriptors and tasks stayed flat, and nothing was lost.
    """
    modules = [f"cobo{i}" for i in range(10)] + ["mutant"]
    parts = ("State_RBV", "Transition_RBV", "Result_RBV", "ResultCount_RBV", "Message_RBV", "Loaded_RBV")
    names = [f"{PREFIX}Ecc:{module}:{part}" for module in modules for part in (*parts, "Allowed_RBV")]
    names += [f"{PREFIX}{part}" for part in ("State_RBV", "Alarm_RBV", "AlarmText_RBV", "Run:Checklist_RBV")]
    loop = asyncio.get_running_loop()
    screens = [Screen(names) for _ in range(args.clients)]
    await connect(screens, port)
    end = time.monotonic() + args.seconds
    works: list[Awaitable[None]] = [
        move(end, port, "move"),
        stall(end, port, names),
        flood(end, port),
        reconnect(end, port, names),
    ]
    running = [asyncio.ensure_future(work) for work in works]
    lines: list[tuple[float, int, int]] = []
    good = True
    for number in range(LINES):
        await asyncio.sleep(args.seconds / LINES)
        if number == LINES - 1:
            await asyncio.gather(*running)
            await settle(screens)
        told = await loop.run_in_executor(None, _ask, pipe)
        memory_mb, files = process.memory_info().rss / 1e6, process.num_fds()
        lines.append((memory_mb, files, told["tasks"]))
        ended = sum(screen.ended for screen in screens)
        _say(
            said,
            f"resident {memory_mb:6.1f} MB  descriptors {files:3}  tasks {told['tasks']:3}"
            f"  updates {sum(sum(s.counts) for s in screens):8}  replaced {told['replaced']}  ended {ended}"
            f"  puts {told['puts']}  bad ones: disconnected {told['disconnected']}"
            f"  updates replaced {told['dropped']}",
        )
        good = good and told["replaced"] == 0 and ended == 0
    # The last line is without moves: by now all clients have had the same updates.
    unlike = sum(screen.counts != screens[0].counts for screen in screens)
    for screen in screens:
        assert screen.transport is not None
        screen.transport.abort()
    grown_mb = lines[-1][0] - lines[LINES // 3][0]
    flat = grown_mb < LEAST_GROWTH_MB and lines[-1][1] <= lines[LINES // 3][1] + 2
    _say(
        said,
        f"clients that missed an update: {unlike}; after the first third memory grew by {grown_mb:.1f} MB",
    )
    return good and flat and not unlike


def _say(said: list[str], line: str) -> None:
    said.append(line)
    print(line, flush=True)


def _ask(pipe: Connection) -> dict[str, int]:
    pipe.send(True)
    return pipe.recv()


def main() -> None:
    """Soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--page", type=Path, help="write the lines into this page, between its marks")
    args = parser.parse_args()
    said: list[str] = []
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # the stalled client is disconnected
    context = multiprocessing.get_context("spawn")
    with system(fleet=run_fleet) as it:
        here, there = context.Pipe()
        process = context.Process(target=run_ioc, args=(there, it.file))
        process.start()
        assert process.pid is not None
        try:
            it.wait_ioc()
            good = asyncio.run(soak(it.place.port, here, psutil.Process(process.pid), args, said))
        finally:
            here.send(False)
            process.join(10)
            process.kill()
    _say(said, "flat, and nothing lost" if good else "NOT GOOD")
    if args.page:
        text = "\n".join(("```text", *said, "```"))
        write_between_marks(args.page, "soak", f"{about(command('benchmarks.soak'))}\n\n{text}")
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
