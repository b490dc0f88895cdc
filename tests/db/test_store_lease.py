"""The lease: one IOC a fleet, by the server's clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import asyncpg
from attpc_plugins.run_history.store.model.leases import Holder

from tests.support.run_records import FLEET, open_store

FIRST = Holder("FIRST:", "here", "boot1")
SECOND = Holder("SECOND:", "there", "boot2")


async def expire(dsn: str) -> None:
    """Let 20 s pass for the lease."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "UPDATE attpc.leases SET acquired_at = acquired_at - interval '20 s', "
        "renewed_at = renewed_at - interval '20 s', expires_at = expires_at - interval '20 s'"
    )
    await connection.close()


async def test_the_second_learns_who_has_it(dsn):
    async with open_store(dsn) as store:
        mine = await store.acquire_lease(FLEET, FIRST)
        assert mine.ours
        assert 14 < mine.remaining_s <= 15
        theirs = await store.acquire_lease(FLEET, SECOND)
        assert not theirs.ours
        assert str(theirs.holder) == "FIRST: on here"
        assert (await store.acquire_lease("another fleet", SECOND)).ours
        assert not (await store.acquire_lease(FLEET, SECOND)).ours
        assert not await store.release_lease(FLEET, SECOND)


async def test_of_many_at_once_one_gets_it(dsn):
    async with open_store(dsn) as store:
        leases = await asyncio.gather(
            *(store.acquire_lease(FLEET, Holder(f"I{n}:", "h", f"b{n}")) for n in range(20))
        )
    assert sum(lease.ours for lease in leases) == 1
    assert len({lease.holder for lease in leases}) == 1


async def test_renewing_keeps_it_and_releasing_frees_it(dsn):
    async with open_store(dsn) as store:
        first = await store.acquire_lease(FLEET, FIRST)
        again = await store.acquire_lease(FLEET, FIRST)
        assert again.ours
        assert again.acquired_at == first.acquired_at
        assert again.renewed_at > first.renewed_at
        assert await store.release_lease(FLEET, FIRST)
        assert (await store.acquire_lease(FLEET, SECOND)).ours


async def test_an_expired_lease_goes_to_whoever_asks_first(dsn):
    async with open_store(dsn) as store:
        await store.acquire_lease(FLEET, FIRST)
        await expire(dsn)
        renewed = await store.acquire_lease(FLEET, FIRST)
        assert renewed.ours, "nobody took it"
        assert renewed.remaining_s > 0
        await expire(dsn)
        assert (await store.acquire_lease(FLEET, SECOND)).ours
        assert not (await store.acquire_lease(FLEET, FIRST)).ours


async def test_a_restarted_ioc_takes_its_own_lease_over_at_once(dsn):
    before = replace(FIRST, instance="state-dir-1")
    after = replace(before, boot="boot3")
    async with open_store(dsn) as store:
        await store.acquire_lease(FLEET, before)
        assert (await store.acquire_lease(FLEET, after)).ours
        assert not (await store.acquire_lease(FLEET, SECOND)).ours
        unnamed = replace(SECOND, boot="boot4")
        await store.release_lease(FLEET, after)
        await store.acquire_lease(FLEET, SECOND)
        assert not (await store.acquire_lease(FLEET, unnamed)).ours, "no name is no promise"
