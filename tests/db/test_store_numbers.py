"""Run numbers: never the same twice, given back only when nothing ran under them."""

from __future__ import annotations

import asyncio

import pytest
from attpc_plugins.run_history.store.errors import LeaseHeld, StoreRejected
from attpc_plugins.run_history.store.model.history import Stage
from attpc_plugins.run_history.store.model.leases import Holder

from tests.support.run_records import EXPERIMENT, FLEET, IOC, Life, Stamps, follow, open_store, reserve


async def test_numbers_start_where_the_setting_says_and_go_up(dsn):
    async with open_store(dsn) as store:
        assert await store.next_number(EXPERIMENT, first_number=7) == 7
        assert await reserve(store, first_number=7) == 7
        assert await reserve(store) == 8
        assert await reserve(store, at_least=100) == 100
        assert await reserve(store, first_number=3, at_least=5) == 101
        assert await store.next_number(EXPERIMENT) == 102
        assert await reserve(store, experiment="another") == 0


async def test_two_programs_never_get_the_same_number(dsn):
    async with open_store(dsn) as one, open_store(dsn) as two:
        numbers = await asyncio.gather(*(reserve(store) for _ in range(100) for store in (one, two)))
    assert sorted(numbers) == list(range(200))


async def test_an_attempt_that_asks_again_gets_the_same_number(dsn):
    async with open_store(dsn) as store:
        number = await reserve(store, "attempt-1")
        assert await reserve(store, "attempt-1") == number
        assert await reserve(store, "attempt-2") == number + 1
        again = await asyncio.gather(*(reserve(store, "attempt-3") for _ in range(8)))
        assert set(again) == {number + 2}


async def test_an_attempt_belongs_to_one_experiment(dsn):
    async with open_store(dsn) as store:
        await reserve(store, "attempt")
        with pytest.raises(StoreRejected, match="another experiment"):
            await reserve(store, "attempt", experiment="other")


async def test_a_number_is_given_back_while_nothing_ran_under_it(dsn):
    stamps = Stamps()
    async with open_store(dsn) as store:
        number = await reserve(store, "a")
        assert [r.attempt for r in await store.reservations(FLEET)] == ["a"]
        assert await store.release_number(EXPERIMENT, number, attempt="a")
        assert await store.reservations(FLEET) == ()
        assert not await store.release_number(EXPERIMENT, number, attempt="a")
        assert await reserve(store, "b") == number
        assert not await store.release_number(EXPERIMENT, number, attempt="a"), "it is another attempt's"
        life = Life(number, stamps, attempt="b")
        await follow(store, life.starting())
        await follow(store, life.started())
        assert not await store.release_number(EXPERIMENT, number, attempt="b"), "it was seen running"
        assert (await store.run(EXPERIMENT, number)).run.stage is Stage.RUNNING


async def test_a_lost_answer_is_given_back_by_its_attempt(dsn):
    async with open_store(dsn) as store:
        await reserve(store, "lost")
        assert await store.release_attempt("lost")
        assert not await store.release_attempt("lost")
        assert not await store.release_attempt("never asked")
        assert await reserve(store, "next") == 0


async def test_what_the_journal_says_of_a_released_attempt_is_void(dsn):
    stamps = Stamps()
    async with open_store(dsn) as store:
        number = await reserve(store, "first")
        late = Life(number, stamps, attempt="first", title="of the first")
        await store.release_number(EXPERIMENT, number, attempt="first")
        assert await reserve(store, "second") == number
        await follow(store, late.starting())
        await follow(store, late.failed(released=True))
        assert [r.attempt for r in await store.reservations(FLEET)] == ["second"]
        await follow(store, Life(number, stamps, attempt="second", title="of the second").starting())
        detail = await store.run(EXPERIMENT, number)
        assert (detail.run.title, detail.run.stage) == ("of the second", Stage.STARTING)


async def test_another_boot_on_the_fleet_gets_no_number(dsn):
    async with open_store(dsn) as store:
        await store.acquire_lease(FLEET, Holder("FIRST:", "here", "boot1"))
        with pytest.raises(LeaseHeld, match="FIRST: on here"):
            await reserve(store, boot="boot2")
        assert await reserve(store, boot="boot1") == 0


async def test_numbers_end_with_a_word(dsn):
    async with open_store(dsn) as store:
        assert await reserve(store, at_least=2**31 - 1) == 2**31 - 1
        with pytest.raises(StoreRejected, match="no number left"):
            await reserve(store)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201])
async def test_an_experiment_needs_a_name(dsn, name):
    async with open_store(dsn) as store:
        with pytest.raises(StoreRejected, match="an experiment's name"):
            await store.reserve_number(name, fleet=FLEET, ioc=IOC)
