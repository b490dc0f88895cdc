"""The client against recceivers that do as they should, and against some that do not."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from ipaddress import IPv4Network

import pytest

from attpc_ioc.recsync import RecordInfo, RecSyncClient, State, Times, bound_socket
from attpc_ioc.recsync import client as client_module
from tests.support.patience import PATIENCE_S
from tests.support.recceiver import GREETING, Recceiver, announcement, ping, recceiver
from tests.support.rig import nothing_left, open_files
from tests.support.simfleet import wait_until

RECORDS = tuple(
    RecordInfo(f"T:Pv{i}", "ai", {"recordDesc": f"Number {i}"}, (f"T:Alias{i}",)) for i in range(40)
)
INFOS = {"IOCNAME": "T"}
QUICK = Times(holdoff=0.0, timeout=PATIENCE_S, backoff=0.01, backoff_max=0.01)
SHORT = Times(holdoff=0.0, timeout=0.1, backoff=0.01, backoff_max=0.01)
HERE = (IPv4Network("127.0.0.1/32"),)


@contextlib.asynccontextmanager
async def running(records=RECORDS, **options) -> AsyncIterator[tuple[RecSyncClient, int]]:
    """Yield a client that runs, and its UDP port; see that nothing is left behind."""
    tasks, files = asyncio.all_tasks(), open_files()
    sock = bound_socket("127.0.0.1", 0)
    port = sock.getsockname()[1]
    client = RecSyncClient(records, INFOS, **{"times": QUICK, **options})
    task = asyncio.create_task(client.run(sock))
    await asyncio.sleep(0)
    try:
        yield client, port
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await nothing_left(tasks, files)


async def announced_until(server: Recceiver, done) -> None:
    """Announce a recceiver again and again, as real ones do, until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not done():
            assert not server.faults, server.faults
            server.announce()
            await asyncio.sleep(0.02)


def taken(client: RecSyncClient) -> bool:
    return any(one.state is State.TAKEN for one in client.uploads.values())


async def test_everything_is_uploaded_and_pings_are_answered():
    async with running() as (client, port), recceiver(port) as server:
        server.announce()
        await wait_until(lambda: taken(client))
        upload = server.uploads[0]
        assert upload.key == server.key
        assert upload.done
        assert upload.infos == INFOS
        assert list(upload.records.values()) == [(one.name, one.type) for one in RECORDS]
        assert list(upload.aliases.values()) == [list(one.aliases) for one in RECORDS]
        assert list(upload.record_infos.values()) == [one.infos for one in RECORDS]
        server.send(struct.pack("!HHI", 0x5243, 0x8077, 3) + b"new")  # not known: to be ignored
        server.send(struct.pack("!HHIIH", 0x5243, 0x8002, 6, 9, 1))  # longer than known
        await server.until(lambda: len(upload.pongs) == 2)
        assert upload.pongs == [0xDEADBEEF, 9]
        for _ in range(5):
            server.announce()
        await wait_until(lambda: client.heard == 6)
        assert len(server.uploads) == 1


async def test_the_connection_ends_with_the_client():
    async with recceiver(0) as server:
        async with running() as (client, port):
            server.udp_port = port
            server.announce()
            await wait_until(lambda: taken(client))
            assert not server.uploads[0].ended
        await server.until(lambda: server.uploads[0].ended)


async def test_a_recceiver_that_comes_back_gets_everything_again():
    async with running() as (client, port), recceiver(port) as server:
        for times in range(1, 4):
            await announced_until(server, lambda: taken(client))
            assert len(server.uploads) == times
            assert server.uploads[-1].done
            # One that closes with an answer unread resets the connection, which is another reason.
            await server.until(lambda: server.uploads[-1].pongs)
            server.hang_up()
            await wait_until(lambda: not client.uploads)
            assert "closed the connection while upload taken" in client.last_failure


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"", "no answer in time while waiting for its greeting"),
        (b"R", "no answer in time while waiting for its greeting"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "begins with 4854"),
        (ping(1), "the first message of a recceiver is its greeting, not 0x8002"),
        (struct.pack("!HHI", 0x5243, 0x8001, 0), "is its greeting"),
        (struct.pack("!HHI", 0x5243, 0x8001, 0xFFFFFFFF), "a message of 4294967295 bytes"),
        (GREETING + b"\0" * 8, "begins with 0000"),
        (GREETING + struct.pack("!HHI", 0x5243, 0x8002, 2) + b"ab", "a ping has 4 bytes"),
    ],
)
async def test_what_a_wrong_recceiver_says_ends_only_its_connection(greeting, reason):
    async with running(times=SHORT) as (client, port):
        async with recceiver(port, greeting) as wrong:
            wrong.announce()
            await wait_until(lambda: reason in client.last_failure)
            await wrong.until(lambda: wrong.uploads[0].ended)
        async with recceiver(port) as right:
            await announced_until(right, lambda: taken(client))


async def test_a_recceiver_that_pings_no_more_is_given_up():
    async with running(times=SHORT) as (client, port), recceiver(port) as server:
        await announced_until(server, lambda: "while upload taken" in client.last_failure)
        assert "no answer in time" in client.last_failure


async def test_a_recceiver_that_reads_nothing_is_given_up():
    stalled = asyncio.Event()

    async def stall(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(GREETING)
        await stalled.wait()
        writer.close()

    big = tuple(RecordInfo(f"T:Pv{i}", "ai", {"x": "y" * 60_000}) for i in range(400))
    async with running(big, times=SHORT) as (client, port):
        server = await asyncio.start_server(stall, "127.0.0.1", 0, limit=1024)
        announcer = Recceiver(port)
        announcer.port = server.sockets[0].getsockname()[1]
        announcer.announce()
        await wait_until(lambda: client.last_failure)
        assert "no answer in time while uploading" in client.last_failure
        stalled.set()
        server.close()
        await server.wait_closed()


async def test_a_flood_of_pings_is_answered_slowly():
    async with running() as (client, port), recceiver(port) as server:
        server.announce()
        await wait_until(lambda: taken(client))
        upload, loop = server.uploads[0], asyncio.get_running_loop()
        begin = loop.time()
        for _ in range(200):
            server.send(ping(1) * 500)
        await server.until(lambda: len(upload.pongs) > 30)
        assert loop.time() - begin >= 29 * client_module.TURN_S
        assert taken(client)


async def test_forged_announcements_get_one_connection_at_a_time():
    async with running(times=SHORT) as (client, port):
        liar = Recceiver(port)
        most = 0
        for number in range(400):
            liar.announce(announcement(1 + number % 9, number))
            most = max(most, len(client.uploads))
            if number % 16 == 0:
                await asyncio.sleep(0.01)
        await wait_until(lambda: client.last_failure)
        assert most <= 1
        assert len(client._failures) <= client_module.REMEMBERED
        async with recceiver(port) as right:
            await announced_until(right, lambda: taken(client))


async def test_a_recceiver_that_cannot_be_reached_is_left_alone_for_longer_each_time():
    times = Times(holdoff=0.0, timeout=PATIENCE_S, backoff=1000.0, backoff_max=1500.0)
    async with running(times=times) as (client, port):
        liar = Recceiver(port)
        server = ("127.0.0.1", 1)
        liar.announce(announcement(1))
        await wait_until(lambda: server in client._failures)
        for _ in range(5):
            liar.announce(announcement(1))
        await wait_until(lambda: client.heard == 6)
        assert client._failures[server][0] == 1
        client._failures[server] = (1, 0.0)
        now = asyncio.get_running_loop().time()
        liar.announce(announcement(1))
        await wait_until(lambda: client._failures[server][0] == 2)
        assert 1400 < client._failures[server][1] - now < 1500 + PATIENCE_S


async def test_only_named_servers_are_served():
    async with running(servers=HERE) as (client, port), recceiver(port) as server:
        server.announce(source="127.0.0.2")
        server.announce(announcement(server.port, address="127.0.0.2"))
        server.announce(announcement(server.port, server.key, "127.0.0.1"), source="127.0.0.2")
        server.announce(announcement(server.port, 77, "127.0.0.1"))
        await wait_until(lambda: taken(client))
        assert client.heard == 1
        assert [upload.key for upload in server.uploads] == [77]


async def test_nobody_announces_another_host_unless_servers_are_named():
    async with running() as (client, port), recceiver(port) as server:
        server.announce(announcement(server.port, address="127.0.0.1"))
        server.announce()
        await wait_until(lambda: taken(client))
        assert client.heard == 1


async def test_as_many_recceivers_are_served_as_the_settings_say():
    async with running(most=2) as (client, port), recceiver(port) as one, recceiver(port) as three:
        await announced_until(one, lambda: taken(client))
        async with recceiver(port) as two:
            await announced_until(two, lambda: any(upload.done for upload in two.uploads))
            heard = client.heard
            three.announce()
            await wait_until(lambda: client.heard > heard)
            assert three.uploads == []
        await announced_until(three, lambda: any(upload.done for upload in three.uploads))
        assert len(one.uploads) == 1


async def test_clients_of_one_host_share_the_port():
    async with running() as (_client, port):
        with bound_socket("127.0.0.1", port) as sock:
            assert sock.getsockname()[1] == port
