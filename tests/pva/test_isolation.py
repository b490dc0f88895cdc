"""What rude clients cost the others: measured by healthy ones over both protocols, and by the polls."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import secrets
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import caproto
import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, PVSpec
from attpc_ioc.pva import Form, Put, PVAServer
from tests.ca.raw import raw_client
from tests.ca.test_isolation import resident_mb
from tests.pva import rude_child
from tests.support.ca import LOOPBACK, CaPlace, eventually, free_port
from tests.support.pace import Stopwatch
from tests.support.patience import PATIENCE_S
from tests.support.pva import p4p_client, p4p_thread_client, pva_server, pvget
from tests.support.rig import Rig, rig

LATE_S = 2.0
"""Far above what a healthy client waits on a quiet machine (2 ms; 130 ms beside a burst of a flood), below
any time limit of a screen (5 s)."""


@contextlib.asynccontextmanager
async def rude(
    place: CaPlace, how: Callable[[list[str]], None], *names: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a rude client, once it has begun, for the length of a block.

    It knows the server's address and listens for no beacons: of several programs that listen on one UDP port
    the last gets a search that is sent to this host, and if that is stopped, nobody finds the server.
    """
    env = {
        **place.env,
        "EPICS_PVA_NAME_SERVERS": f"{LOOPBACK}:{place.pva_port}",
        "EPICS_PVA_ADDR_LIST": "",
        "EPICS_PVA_BROADCAST_PORT": str(free_port()),
        "PYTHONPATH": os.getcwd(),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", rude_child.__name__, how.__name__, *names),
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"begun\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


class Healthy:
    """Healthy clients of an IOC: what each kind of request took, in seconds, and how old polls were."""

    def __init__(self, it: Rig) -> None:
        self._it = it
        self.took_s: dict[str, list[float]] = {}

    @contextlib.asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask all the while."""
        it = self._it
        async with p4p_client(it.place) as pva, raw_client(it.place.port) as ca:
            sid = (await ca.channel(it.prefix + "Run:Class")).sid

            async def get_over_ca() -> None:
                ca.send(caproto.ReadNotifyRequest(ChannelType.LONG, 1, sid, 1))
                await ca.until(caproto.ReadNotifyResponse)

            async def put_over_ca() -> None:
                ca.send(caproto.WriteNotifyRequest((1,), ChannelType.ENUM, 1, sid, 1))
                assert (await ca.until(caproto.WriteNotifyResponse)).status.success

            async def poll() -> None:
                """Late is what comes to the period, and to the time that an answer takes."""
                answers = [module.answers for module in it.app.controller.modules.values()]
                age_s = time.monotonic() - min(one.last.seen_at_s for one in answers if one.last)
                self.took_s["poll"].append(age_s - it.settings.poll.quiet_period_s)

            name = it.prefix + "Run:Class"
            works: dict[str, Callable[[], Awaitable[object]]] = {
                "get over PVAccess": lambda: pva.get(name),
                "put over PVAccess": lambda: pva.put(name, 1, wait=True),
                "command over PVAccess": lambda: pva.put(it.prefix + "GoTo", 0, wait=True),
                "get over Channel Access": get_over_ca,
                "put over Channel Access": put_over_ca,
                "poll": poll,
            }
            self.took_s = {what: [] for what in works}

            async def ask() -> None:
                while True:
                    for what, work in works.items():
                        taking = Stopwatch()
                        await work()
                        if what != "poll":
                            self.took_s[what].append(taking.s)
                    await asyncio.sleep(0.005)

            async with asyncio.TaskGroup() as group:
                task = group.create_task(ask())
                yield
                task.cancel()

    async def more(self, count: int) -> None:
        """Wait for so many further rounds, and for a second at least."""
        for took in self.took_s.values():
            took.clear()
        await asyncio.sleep(1.0)
        await eventually(lambda: len(self.took_s["poll"]) >= count, "healthy clients")

    def judge(self, what: str) -> None:
        worst = {name: max(took) for name, took in self.took_s.items()}
        limit_s = LATE_S
        assert all(one < limit_s for one in worst.values()), (what, worst, limit_s)


@pytest.mark.slow
async def test_nobody_waits(tmp_path, monkeypatch):
    """One kind of rude clients after the other, and then all of them together."""
    async with rig(tmp_path, monkeypatch) as it, contextlib.AsyncExitStack() as stack:
        names = [entry.name for entry in it.app.table]
        message = it.app.server.pvs[it.prefix + "Run:Message_RBV"]

        async def change() -> None:
            """Give those that do not read much that they do not read."""
            while True:
                for number in range(20):
                    message.post(f"{number} at {time.monotonic()}".ljust(500, "."))
                await asyncio.sleep(0.01)

        changing = asyncio.create_task(change())
        stack.callback(changing.cancel)
        healthy = Healthy(it)
        await stack.enter_async_context(healthy.asking())
        texts = [it.prefix + name for name in ("Run:Title", "Run:Operator")]
        for how, asked in (
            (rude_child.watch, names),
            (rude_child.flood, texts),
            (rude_child.flood_of_long, texts),
            (rude_child.come_and_go, names),
        ):
            async with rude(it.place, how, *asked) as process:
                if how is rude_child.watch:
                    process.send_signal(signal.SIGSTOP)
                await healthy.more(20)
                healthy.judge(how.__name__)
        assert it.app.server.pvaccess.stats.refused > 0
        for how, asked in (
            (rude_child.watch, names),
            (rude_child.watch, names[:50]),
            (rude_child.flood, texts),
        ):
            process = await stack.enter_async_context(rude(it.place, how, *asked))
            if how is rude_child.watch:
                process.send_signal(signal.SIGSTOP)
        await garbage(it.app.server.pvaccess.server.port)
        await healthy.more(20)
        healthy.judge("all together")
        ran = await pvget(it.place, it.prefix + "Run:Class")
        assert ran.code == 0, ran.both


async def test_clients_have_their_turns():
    """A put that is queued behind those of a flood is the next but one."""
    text = PV(PVSpec(f"T{secrets.token_hex(3)}:text", "lsi", ChannelType.CHAR, 1024, writable=True), "")
    served: list[PVAServer] = []
    held = threading.Event()
    order: list[str] = []

    def put(record: object, put: Put) -> None:
        held.set()
        ends_s = time.monotonic() + PATIENCE_S
        while not order and len(served[0].puts._queues) < 2 and time.monotonic() < ends_s:
            time.sleep(0.001)  # holds the event loop: both clients' puts are queued meanwhile
        order.append(str(put.value))

    async with pva_server([(text, Form.STRING)], put_to=put) as (server, place):
        served.append(server)
        with p4p_thread_client(place) as client:

            def put_late() -> None:
                held.wait(PATIENCE_S)
                client.put(text.name, "late", wait=True, get=False, timeout=PATIENCE_S)

            await asyncio.to_thread(client.get, text.name)
            late = asyncio.create_task(asyncio.to_thread(put_late))
            async with rude(place, rude_child.flood, text.name):
                await late
    assert order.index("late") in (1, 2), order.index("late")


async def garbage(port: int) -> None:
    """Send nonsense, and beginnings of messages that promise much; hang up by a reset."""
    for number in range(60):
        _, writer = await asyncio.open_connection(LOOPBACK, port)
        head = b"\xca\x02\x00\x0b\xff\xff\xff\x7f" if number % 2 else b""
        writer.write(head + random.Random(number).randbytes(50_000))
        await asyncio.sleep(0)
        writer.transport.abort()


class Refused(Exception):
    """The answer to a put that is not wanted."""


@contextlib.asynccontextmanager
async def text_server() -> AsyncIterator[tuple[PV, CaPlace]]:
    """Serve one text of up to 1000 characters."""
    text = PV(PVSpec(f"T{secrets.token_hex(3)}:text", "lsi", ChannelType.CHAR, 1024, writable=True), "")

    def put(record: object, put: Put) -> None:
        if len(str(put.value)) > 1000:
            raise Refused("too long")
        text.post(str(put.value))

    async with pva_server([(text, Form.STRING)], put_to=put, refusals=(Refused,)) as (_, place):
        yield text, place


async def test_a_client_that_reads_nothing_takes_bounded_memory_until_it_is_gone():
    """It ends by a reset: what it has not read is lost."""
    async with text_server() as (text, place):

        async def post(count: int) -> float:
            for number in range(count):
                text.post(f"{number}".ljust(300, "."))
                if number % 100 == 0:
                    await asyncio.sleep(0)
            return resident_mb()

        await post(1000)
        async with rude(place, rude_child.watch, text.name) as process:
            assert text.follower is not None
            before_mb = resident_mb()
            process.send_signal(signal.SIGSTOP)
            first_mb = await post(100_000)
            assert first_mb - before_mb < 100
            # If all were kept, each time would add 30 MB and more.
            kept_mb = [first_mb, *[await post(100_000) for _ in range(3)]]
            assert min(b - a for a, b in itertools.pairwise(kept_mb)) < 10, kept_mb
        await eventually(lambda: text.follower is None, "the dead client gone")


async def test_a_client_that_answers_nothing_is_let_go():
    """Its process is stopped, as if its host had stopped."""
    text = PV(PVSpec(f"T{secrets.token_hex(3)}:text", "lsi", ChannelType.CHAR, 1024), "")
    short = {"EPICS_PVA_CONN_TMO": "3"}
    async with pva_server([(text, Form.STRING)], conf=short) as (_, place):
        place.extra |= short
        async with rude(place, rude_child.watch, text.name) as process:
            assert text.follower is not None
            process.send_signal(signal.SIGSTOP)
            await eventually(lambda: text.follower is None, "the silent client gone")


@pytest.mark.parametrize("how", [rude_child.flood, rude_child.flood_of_long, rude_child.come_and_go])
async def test_memory_is_bounded(how):
    async with text_server() as (text, place), p4p_client(place) as client:
        await client.get(text.name)
        before_mb = resident_mb()
        async with rude(place, how, text.name) as process:
            assert process.stdout is not None
            if how is rude_child.come_and_go:
                for _ in range(20):
                    await process.stdout.readline()
            worst_mb = 0.0
            ends_s = time.monotonic() + 2.0
            while time.monotonic() < ends_s:
                await asyncio.sleep(0.02)
                worst_mb = max(worst_mb, resident_mb())
            assert worst_mb - before_mb < 150
        await client.put(text.name, "fine", wait=True)
        assert text.value == "fine"
