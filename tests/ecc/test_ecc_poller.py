"""The poller against real sockets: its pace, outages and their end, and that nothing ends it."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from attpc_ioc.ecc import EccClient, Observation, Poller
from attpc_ioc.ecc.poller import SPREAD
from attpc_ioc.errors import EccBrokenReply, EccError, EccRefused, EccTimeout, EccUnreachable
from attpc_ioc.model.states import State
from attpc_ioc.settings import PollSettings
from tests.support.ecc_raw import RawServer, envelope, http, own_sockets_to, raw_server, state_xml, until
from tests.support.pace import Stopwatch

QUICK = PollSettings(moving_period_s=0.01, quiet_period_s=0.15, backoff_max_s=0.6, timeout_s=0.3)
SLOW = PollSettings(quiet_period_s=60, backoff_max_s=60)


class Watch:
    """A running poller and what it told."""

    def __init__(self, url: str, settings: PollSettings) -> None:
        self.client = EccClient(url, name="cobo0", poll_timeout_s=settings.timeout_s)
        self.seen: list[Observation] = []
        self.lost: list[tuple[EccError, int]] = []
        self.failed: list[tuple[EccError, int]] = []
        self.poller = Poller(
            self.client,
            settings,
            lambda seen: self.seen.append(seen),
            lambda error, failures: self.lost.append((error, failures)),
            lambda error, failures: self.failed.append((error, failures)),
        )
        self.task = asyncio.create_task(self.poller.run())

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        assert self.task.cancelled()
        await self.client.close()


@asynccontextmanager
async def watching(url: str, settings: PollSettings = QUICK) -> AsyncIterator[Watch]:
    watch = Watch(url, settings)
    try:
        yield watch
    finally:
        await watch.stop()


def state(state: int, transition: int = 0, code: int = 0) -> bytes:
    return http(envelope(state_xml(state, transition, code)))


def gaps(seen: list[Observation]) -> list[float]:
    return [b.asked_at_s - a.seen_at_s for a, b in itertools.pairwise(seen)]


async def test_it_is_quiet_when_nothing_moves():
    async with raw_server(state(1)) as server, watching(server.url) as watch:
        await until(lambda: len(watch.seen) == 3)
        assert min(gaps(watch.seen)) >= 0.15 * (1 - SPREAD)
        assert watch.seen[0].state is State.IDLE


async def test_it_is_quick_while_the_server_moves():
    async with raw_server(state(2, 2)) as server, watching(server.url) as watch:
        await until(lambda: len(watch.seen) >= 10)
        assert sorted(gaps(watch.seen))[4] < 0.1
        assert min(gaps(watch.seen)) >= 0.009
        server.reply = state(3, 0)
        await until(lambda: watch.seen[-1].state is State.PREPARED)
        arrived = len(watch.seen)
        await until(lambda: len(watch.seen) == arrived + 1)
        assert gaps(watch.seen)[-1] >= 0.13


async def test_it_is_quick_at_once_on_request_and_until_the_opposite_request():
    settings = PollSettings(moving_period_s=0.01, quiet_period_s=60)
    async with raw_server(state(2)) as server, watching(server.url, settings) as watch:
        await until(lambda: len(watch.seen) == 1)
        told_at, taking = time.monotonic(), Stopwatch()
        watch.poller.set_moving(True)
        await until(lambda: len(watch.seen) >= 5)
        assert watch.seen[1].asked_at_s - told_at - taking.waited_s < 0.5
        watch.poller.set_moving(False)
        before = len(watch.seen)
        await watch.poller.poll_now()
        assert len(watch.seen) <= before + 2


async def test_one_poll_is_outstanding():
    most = 0

    async def slow(_request: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        most = max(most, server.open)
        await asyncio.sleep(0.02)
        writer.write(state(2, 2))

    async with raw_server(slow) as server, watching(server.url) as watch:
        for _ in range(5):
            watch.poller.set_moving(False)
            watch.poller.set_moving(True)
            await asyncio.gather(*(watch.poller.poll_now() for _ in range(20)))
    assert most == 1
    assert len(watch.seen) <= 12


async def test_poll_now_is_asked_after_the_call():
    async with raw_server(state(1)) as server, watching(server.url, SLOW) as watch:
        await until(lambda: watch.seen)
        called_at, taking = time.monotonic(), Stopwatch()
        seen = await watch.poller.poll_now()
        assert seen.asked_at_s >= called_at
        assert watch.seen[-1] is seen, "listeners know it first"
        assert taking.s < 1.0


async def test_poll_now_does_not_take_the_poll_under_way():
    under_way, go_on = asyncio.Event(), asyncio.Event()

    async def first_waits(_request: bytes, writer: asyncio.StreamWriter) -> None:
        under_way.set()
        if len(server.requests) == 1:
            await go_on.wait()
            writer.write(state(1))
        else:
            writer.write(state(2))

    async with raw_server(first_waits) as server, watching(server.url, SLOW) as watch:
        await under_way.wait()
        called_at = time.monotonic()
        waiter = watch.poller.poll_now()
        go_on.set()
        seen = await waiter
        assert (seen.state, len(watch.seen)) == (State.DESCRIBED, 2)
        assert seen.asked_at_s >= called_at


async def test_a_server_that_is_gone_is_lost_after_so_many_failures_and_back_within_a_period():
    async with raw_server(state(1)) as server, watching(server.url) as watch:
        await until(lambda: watch.seen)
        await server.stop()
        await until(lambda: len(watch.lost) == 3)
        assert [failures for _, failures in watch.lost] == [2, 3, 4]
        assert [failures for _, failures in watch.failed] == [1, 2, 3, 4]
        assert watch.poller.failures == 4
        assert all(isinstance(error, EccUnreachable) for error, _ in watch.failed)
        before = len(watch.seen)
        await server.start()
        back_at, taking = time.monotonic(), Stopwatch()
        await until(lambda: len(watch.seen) > before)
        assert watch.seen[-1].seen_at_s - back_at - taking.waited_s < QUICK.quiet_period_s + 0.1
        assert watch.poller.failures == 0
        await server.stop()
        await until(lambda: len(watch.failed) > 6)
        assert [failures for _, failures in watch.failed[-3:]] != [5, 6, 7], "counting begins anew"


async def test_one_lost_poll_is_repeated_soon_and_is_no_outage():
    async with raw_server(b"") as server, watching(server.url) as watch:
        await until(lambda: watch.failed)
        failed_at, taking = time.monotonic(), Stopwatch()
        server.reply = state(1)
        await until(lambda: watch.seen)
        assert watch.seen[0].asked_at_s - failed_at - taking.waited_s < QUICK.quiet_period_s
        assert watch.lost == []
        assert isinstance(watch.failed[0][0], EccBrokenReply)


async def test_a_stalled_server_is_polled_ever_more_seldom_and_seen_again():
    taking = Stopwatch()
    arrivals: list[float] = []
    stalled = True

    async def stall(_request: bytes, writer: asyncio.StreamWriter) -> None:
        arrivals.append(taking.s)
        if stalled:
            await asyncio.sleep(60)
        writer.write(state(1))

    settings = PollSettings(moving_period_s=0.005, quiet_period_s=0.08, backoff_max_s=0.3, timeout_s=0.09)
    async with raw_server(stall) as server, watching(server.url, settings) as watch:
        await until(lambda: len(arrivals) == 5)
        between = [b - a for a, b in itertools.pairwise(arrivals)]
        assert all(isinstance(error, EccTimeout) for error, _ in watch.failed)
        # One that arrives late makes one time longer, and the next shorter.
        assert between[0] + between[1] < between[2] + between[3]
        assert between[3] < 0.09 + 0.3 + 0.15
        stalled = False
        await until(lambda: watch.seen)
        taking = Stopwatch()
        watch.poller.set_moving(True)
        await until(lambda: len(watch.seen) > 5)
        assert taking.s < 1.0


async def test_poll_now_cuts_a_long_pause_short_and_returns_why_it_failed():
    async with raw_server(state(1, 0, 3)) as server, watching(server.url, SLOW) as watch:
        await until(lambda: len(watch.lost) == 1)
        with pytest.raises(EccRefused):
            await watch.poller.poll_now()
        server.reply = state(4)
        assert (await watch.poller.poll_now()).state is State.READY


async def test_the_end_of_polling_reaches_those_who_wait():
    async with raw_server(lambda *_: asyncio.sleep(60)) as server:
        watch = Watch(server.url, PollSettings(timeout_s=60))
        await until(lambda: server.requests)
        waiters = [asyncio.ensure_future(watch.poller.poll_now()) for _ in range(2)]
        given_up = watch.poller.poll_now()
        assert not asyncio.isfuture(given_up) or given_up.cancel()
        await watch.stop()
        for waiter in waiters:
            with pytest.raises(EccUnreachable, match="polling of cobo0 has ended"):
                await waiter
        with pytest.raises(EccUnreachable, match="has ended"):
            await watch.poller.poll_now()
        await until(lambda: not own_sockets_to(server.port))


async def test_cancelling_in_the_pause_leaves_nothing():
    tasks = asyncio.all_tasks()
    async with raw_server(state(1)) as server:
        watch = Watch(server.url, SLOW)
        await until(lambda: watch.seen)
        await watch.stop()
        await until(lambda: not server.open)
    await until(lambda: asyncio.all_tasks() == tasks)


class Faulty:
    """A client with a fault of the program in it."""

    name = "cobo0"

    def __init__(self, client: EccClient, faults: int) -> None:
        self._client = client
        self._faults = faults

    async def get_state(self) -> Observation:
        if self._faults:
            self._faults -= 1
            raise ZeroDivisionError("a fault of the program")
        return await self._client.get_state()


async def test_a_fault_of_the_program_is_logged_once_and_polling_goes_on(caplog: pytest.LogCaptureFixture):
    seen: list[Observation] = []
    failed: list[str] = []
    settings = QUICK.model_copy(update={"quiet_period_s": 0.01})
    async with raw_server(state(1)) as server:
        client = EccClient(server.url, name="cobo0")
        poller = Poller(
            Faulty(client, 4), settings, seen.append, lambda e, n: None, lambda e, n: failed.append(str(e))
        )
        task = asyncio.create_task(poller.run())
        await until(lambda: len(seen) >= 2)
        task.cancel()
        await asyncio.wait([task])
        await client.close()
    assert failed == ["polling cobo0 failed: ZeroDivisionError: a fault of the program"] * 4
    assert [r.message for r in caplog.records] == ["polling failed unexpectedly"]


@pytest.mark.parametrize("which", ["seen", "lost", "failed"])
async def test_a_listener_that_raises_is_logged_once_and_does_no_harm(
    which: str, caplog: pytest.LogCaptureFixture
):
    calls = 0

    def bad(*_args: object) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("a fault of a listener")

    def good(*_args: object) -> None:
        return

    listeners: dict[str, Callable[..., None]] = {"seen": good, "lost": good, "failed": good, which: bad}
    settings = QUICK.model_copy(update={"quiet_period_s": 0.01})
    async with raw_server(state(1) if which == "seen" else b"") as server:
        client = EccClient(server.url, name="cobo0")
        poller = Poller(client, settings, listeners["seen"], listeners["lost"], listeners["failed"])
        task = asyncio.create_task(poller.run())
        await until(lambda: calls >= 4)
        task.cancel()
        await asyncio.wait([task])
        await client.close()
    assert [r.message for r in caplog.records] == ["a listener of the poller failed"]


async def test_many_servers_are_polled_side_by_side():
    servers = [RawServer(state(2, 2)) for _ in range(12)]
    for server in servers:
        await server.start()
    watches = [Watch(server.url, PollSettings()) for server in servers]
    try:
        await servers[3].stop()
        servers[4].reply = lambda *_: asyncio.sleep(60)
        await until(lambda: all(len(w.seen) >= 20 for i, w in enumerate(watches) if i not in (3, 4)))
        assert watches[3].failed
    finally:
        for watch in watches:
            await watch.stop()
        for server in servers:
            await server.stop()
