"""Places and memory of clients by address: who gives way, who is refused, and what the log says of it."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from dataclasses import replace

import caproto
import pytest
from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, CAServer, PVSpec, ServerLimits
from attpc_ioc.ioc.ca.places import CHANNEL_BYTES, SUBSCRIPTION_BYTES
from tests.ca.conftest import Rig
from tests.ca.raw import Raw, raw_client
from tests.support.ca import LOOPBACK, CaPlace, caget, eventually

LIMITS = ServerLimits(max_clients=20, max_clients_per_address=12, max_puts=4)
"""Two places are kept."""


@pytest.fixture
def limits() -> ServerLimits:
    return LIMITS


def host(number: int) -> str:
    return f"127.0.1.{number}"


@contextlib.asynccontextmanager
async def clients(rig: Rig, *counts: int, first: int = 1) -> AsyncIterator[list[list[Raw]]]:
    """So many clients of each of some addresses, each with a channel."""
    async with contextlib.AsyncExitStack() as stack:
        made: list[list[Raw]] = []
        for number, count in enumerate(counts, first):
            made.append([])
            for _ in range(count):
                raw = await stack.enter_async_context(raw_client(rig.server.port, address=host(number)))
                await raw.channel("T:long")
                made[-1].append(raw)
        yield made


def connected(rig: Rig) -> list[int]:
    """How many clients each address has, the busiest first."""
    found: dict[str, int] = {}
    for info in rig.server.clients():
        found[info.client.host_address] = found.get(info.client.host_address, 0) + 1
    return sorted(found.values(), reverse=True)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What the log says of clients, and which client it is."""
    said = [(r.getMessage(), vars(r)["keys"]) for r in caplog.records if "reason" in vars(r).get("keys", {})]
    return [(f"{event}: {keys['reason']}", str(keys["client"]).split(":")[0]) for event, keys in said]


async def test_one_address_has_so_many_connections_and_no_more(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    async with clients(rig, 12):
        with pytest.raises(ConnectionError):
            async with raw_client(rig.server.port, address=host(1)) as one_more:
                await one_more.channel("T:long")
        async with raw_client(rig.server.port, address=host(2)) as other:
            await other.channel("T:long")
            assert connected(rig) == [12, 1]
    ((said, whose),) = lines(caplog)
    assert said.startswith("client refused: there are too many clients: its host has the most connections")
    assert "max_clients_per_address" in said
    assert whose == host(1)


async def test_places_are_kept_for_addresses_that_have_none(rig: Rig) -> None:
    async with clients(rig, 9, 9):
        with pytest.raises(ConnectionError):
            async with raw_client(rig.server.port, address=host(1)) as one_more:
                await one_more.channel("T:long")
        assert (await caget(rig.place, "-t", "T:long")).out.strip() == "42"
        async with clients(rig, 1, 1, first=3):
            assert connected(rig) == [9, 9, 1, 1]


async def test_the_busiest_address_gives_way_its_newest_first(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    async with clients(rig, 10, 8, 1, 1) as busy, clients(rig, 2, 1, first=5) as others:
        assert connected(rig) == [8, 7, 2, 1, 1, 1]
        for raw in (*busy[0][:7], *busy[1], *busy[2], *busy[3], *others[0], *others[1]):
            await raw.echo()
    said = {text for text, _ in lines(caplog)}
    assert said == {
        "client disconnected: there are too many clients (max_clients), and its host has the most connections"
    }
    assert [whose for _, whose in lines(caplog)] == [host(1)] * 3


async def test_who_makes_no_channel_gives_way_to_other_addresses_at_once(rig: Rig) -> None:
    async with contextlib.AsyncExitStack() as stack:
        silent = [
            await stack.enter_async_context(raw_client(rig.server.port, address=host(n)))
            for n in range(1, 21)
        ]
        for number in (50, 50):
            raw = await stack.enter_async_context(raw_client(rig.server.port, address=host(number)))
            await raw.channel("T:long")
            await silent.pop(0).closed()
        assert len(rig.server.clients()) == 20


async def test_a_new_connection_has_time_for_its_channel_beside_a_crowd(rig: Rig) -> None:
    async with clients(rig, 9, 9), raw_client(rig.server.port, address=host(3)) as operator:
        await operator.echo()
        for number in (1, 2) * 5:
            with contextlib.suppress(ConnectionError):
                async with raw_client(rig.server.port, address=host(number)) as one_more:
                    await one_more.channel("T:long")
        await operator.channel("T:long")


async def test_limit_of_open_files_follows_the_number_of_clients(place: CaPlace, monkeypatch, caplog) -> None:
    place.put_into(monkeypatch)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (512, before[1]))
        server = CAServer([], put=lambda *_: None, interfaces=[LOOPBACK], port=place.port)
        await server.start()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (server.limits.max_clients + 256, before[1])
        await server.stop()
        assert "LimitNOFILE" not in caplog.text
        many = ServerLimits(max_clients=before[1])
        server = CAServer([], put=lambda *_: None, interfaces=[LOOPBACK], port=place.port, limits=many)
        await server.start()
        await server.stop()
        assert "LimitNOFILE" in caplog.text
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_all_running_puts_are_bounded_and_each_address_has_its_first(rig: Rig) -> None:
    rig.hold = asyncio.Event()

    async def put(raw: Raw, count: int) -> list[int]:
        chan = await raw.channel("T:longout")
        raw.send(*(caproto.WriteNotifyRequest((n,), ChannelType.LONG, 1, chan.sid, n) for n in range(count)))
        return [reply.ioid for reply in await raw.echo() if isinstance(reply, caproto.WriteNotifyResponse)]

    async with clients(rig, 2, 1, 1) as flood, clients(rig, 1, first=9) as ((operator,),):
        for raw in (flood[0][0], flood[0][1], flood[1][0], flood[2][0]):
            assert await put(raw, 4) == []
        assert await put(operator, 2) == [1]
        assert [reason for _, _, reason in rig.rejected] == [
            "17 puts of all clients are running, the most allowed, some of them from this host"
        ]
        rig.hold.set()
        assert (await operator.until(caproto.WriteNotifyResponse)).ioid == 0


class TestMemory:
    """One budget for channels, subscriptions and updates that wait."""

    @pytest.fixture
    def limits(self) -> ServerLimits:
        return replace(LIMITS, max_memory_bytes=1000 * CHANNEL_BYTES, stall_s=60.0, queue_depth=64)

    async def test_a_client_that_takes_all_is_refused_more(self, rig: Rig, caplog) -> None:
        async with raw_client(rig.server.port, address=host(1)) as greedy:
            greedy.send(*(caproto.CreateChanRequest("T:long", cid, 13) for cid in range(1500)))
            replies = await greedy.echo()
            assert sum(isinstance(r, caproto.CreateChanResponse) for r in replies) == 1000
            assert rig.server.stats.channels == 1000
            assert caplog.text.count("channels refused: clients take too much memory") == 1

    @pytest.mark.parametrize("address", [host(1), host(2)], ids=["its own", "another"])
    async def test_it_gives_way_to_a_small_one_of(self, rig: Rig, caplog, address: str) -> None:
        async with raw_client(rig.server.port, address=host(1)) as greedy:
            sid = (await greedy.channel("T:long")).sid
            most = 999 * CHANNEL_BYTES // SUBSCRIPTION_BYTES
            greedy.send(
                *(caproto.EventAddRequest(ChannelType.LONG, 1, sid, n, 0, 0, 0, 1) for n in range(most + 10))
            )
            replies = await greedy.echo()
            good = [r for r in replies if r.status is caproto.CAStatus.ECA_NORMAL.value]
            assert (len(replies), len(good)) == (most + 10, most)
            async with raw_client(rig.server.port, address=address) as small:
                await small.channel("T:long")
                await greedy.closed()
                await small.echo()
        ((said, whose),) = lines(caplog)
        assert said.startswith("client disconnected: clients take too much memory (max_memory_bytes)")
        assert whose == host(1)

    async def test_who_takes_as_much_is_refused_and_nobody_is_disconnected(self, rig: Rig) -> None:
        async with (
            raw_client(rig.server.port, address=host(1)) as one,
            raw_client(rig.server.port, address=host(2)) as two,
        ):
            one.send(*(caproto.CreateChanRequest("T:long", cid, 13) for cid in range(600)))
            await one.echo()
            two.send(*(caproto.CreateChanRequest("T:long", cid, 13) for cid in range(600)))
            replies = await two.echo()
            assert sum(isinstance(r, caproto.CreateChanResponse) for r in replies) == 400
            await one.echo()
        assert rig.server.stats.disconnected == 0

    async def test_updates_that_wait_count_too(self, rig: Rig, caplog) -> None:
        async with clients(rig, 3, 1) as (slow, (healthy,)):
            for raw in slow:
                sid = (await raw.channel("T:numbers")).sid
                raw.send(caproto.EventAddRequest(ChannelType.DOUBLE, 0, sid, 1, 0, 0, 0, 1))
                await raw.until(caproto.EventAddResponse)
                raw.send(caproto.EventsOffRequest())
                await raw.echo()
                # They hold updates back in as many subscriptions as it takes.
                raw.send(
                    *(
                        caproto.EventAddRequest(ChannelType.DOUBLE, 20_000, sid, n, 0, 0, 0, 1)
                        for n in range(2, 12)
                    )
                )
                await raw.echo()
            assert rig.server.stats.queued_bytes <= rig.server.limits.max_memory_bytes
            await healthy.channel("T:long")
            await eventually(
                lambda: (
                    rig.server.stats.queued_bytes == sum(info.queued_bytes for info in rig.server.clients())
                ),
                "the sum is not that of the clients",
            )
        await eventually(lambda: rig.server.stats.clients == 0, "they are still connected")
        assert rig.server.stats.queued_bytes == 0
        assert "clients take too much memory (max_memory_bytes)" in "".join(text for text, _ in lines(caplog))


def test_few_forms_of_a_value_are_kept() -> None:
    pv = PV(PVSpec("T:x", "ai", ChannelType.DOUBLE), 1.0)
    for dtype in range(35):
        pv.message(dtype, 1)
    assert len(pv._messages) <= 8
