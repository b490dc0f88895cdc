"""What a PostgreSQL server may send: an answer of bounded length, and a password hash of bounded cost."""

from __future__ import annotations

import asyncio
import re
import struct

import asyncpg
import pytest
from attpc_plugins.run_history.connection import peer
from attpc_plugins.run_history.connection.wire import (
    ANSWER_BYTES,
    COMMAND_ANSWER_BYTES,
    NotPostgresError,
    reason_in,
)
from attpc_plugins.run_history.store.errors import FAULTS, translate

from tests.security.hostile_postgres import message
from tests.support.run_records import Life, Stamps, open_store, reserve

LONG = f"SELECT repeat('x', {ANSWER_BYTES})"
MANY = "SELECT n FROM generate_series(1, 100000) n"
JUST = f"SELECT repeat('x', {ANSWER_BYTES - 2000})"


@pytest.mark.parametrize("query", [LONG, MANY], ids=["long", "many rows"])
async def test_an_answer_that_is_too_long_ends_the_connection_with_the_reason(dsn: str, query: str) -> None:
    connection = await peer.connect(dsn)
    with pytest.raises(FAULTS) as caught:
        await connection.fetch(query)
    assert "sends more than 1 MB" in str(translate(caught.value))
    assert connection.is_closed()


async def test_each_answer_has_a_limit_of_its_own(dsn: str) -> None:
    connection = await peer.connect(dsn)
    for _ in range(5):
        assert len(await connection.fetchval(JUST)) == ANSWER_BYTES - 2000
    await connection.close()


async def test_a_command_reads_more(dsn: str) -> None:
    connection = await peer.connect(dsn, answer_bytes=COMMAND_ANSWER_BYTES)
    assert len(await connection.fetch(MANY)) == 100_000
    assert len(await connection.fetchval(LONG)) == ANSWER_BYTES
    await connection.close()


@pytest.mark.parametrize(("rounds", "refused"), [(99_999, False), (100_000, True), (2**31 - 1, True)])
async def test_a_hash_that_takes_long_is_not_computed(rounds: int, refused: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
        writer.write(message(b"R", struct.pack(">I", 10) + b"SCRAM-SHA-256\0\0"))
        nonce = re.search(rb"r=([^,]*)", await reader.read(1000))
        assert nonce is not None
        first = b"r=%b1,s=c2FsdHNhbHQ=,i=%d" % (nonce[1], rounds)
        writer.write(message(b"R", struct.pack(">I", 11) + first))
        if await reader.read(1000):
            writer.write(message(b"E", b"SFATAL\0C28P01\0Mno\0\0"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"postgresql://ioc:secret@127.0.0.1:{server.sockets[0].getsockname()[1]}/x?sslmode=disable"
    try:
        with pytest.raises((asyncpg.PostgresError, NotPostgresError)) as caught:
            await asyncio.wait_for(peer.connect(url), 10)
        assert ("scram_iterations" in reason_in(caught.value)) == refused
        assert isinstance(caught.value, asyncpg.InvalidPasswordError) != refused
    finally:
        server.close()
        await server.wait_closed()


async def test_long_texts_of_people_stay_within_the_limit(dsn: str) -> None:
    async with open_store(dsn) as store:
        for number in range(20):
            life = Life(await reserve(store, f"a{number}"), Stamps(f"b{number}"), attempt=f"a{number}")
            await store.apply_many(life.whole())
        connection = await peer.connect(dsn)
        assert await connection.execute("UPDATE attpc.runs SET comment = repeat('x', 65536)") == "UPDATE 20"
        await connection.close()
        runs = await store.last_runs()
        assert [len(run.comment) for run in runs] == [1000] * 20
