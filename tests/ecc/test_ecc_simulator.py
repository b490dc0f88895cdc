"""Client and poller against the simulated fleet: the whole protocol over real HTTP, faults included."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from attpc_ioc.ecc import EccClient, Observation, PartialConfig, Poller, senders_in
from attpc_ioc.errors import EccBrokenReply, EccBusy, EccError, EccRefused, EccTimeout, EccUnreachable
from attpc_ioc.model.config import ConfigName
from attpc_ioc.model.fleet import DataLinkView, SourceView
from attpc_ioc.model.states import Operation, State, Transition
from attpc_ioc.settings import PollSettings
from attpc_ioc.simulator.fleet import SimulatedFleet
from tests.support.ecc_raw import until
from tests.support.pace import Stopwatch
from tests.support.simfleet import take_up

POLL = PollSettings(moving_period_s=0.01, quiet_period_s=0.2, backoff_max_s=1, timeout_s=0.3)


def url_of(fleet: SimulatedFleet, name: str) -> str:
    return f"http://{fleet[name].host}:{fleet[name].port}/"


def sources_of(fleet: SimulatedFleet, name: str) -> tuple[SourceView, ...]:
    return tuple(
        SourceView(
            link.sender, link.sender, name, (DataLinkView(link.router, link.address, link.port, link.type),)
        )
        for link in fleet.links(name)
    )


@asynccontextmanager
async def client_of(fleet: SimulatedFleet, name: str) -> AsyncIterator[EccClient]:
    client = EccClient(url_of(fleet, name), name=name, poll_timeout_s=POLL.timeout_s)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def watched(client: EccClient) -> AsyncIterator[tuple[Poller, list[Observation], list[EccError]]]:
    seen: list[Observation] = []
    lost: list[EccError] = []
    poller = Poller(client, POLL, seen.append, lambda error, _: lost.append(error))
    task = asyncio.create_task(poller.run())
    try:
        await until(lambda: seen)
        yield poller, seen, lost
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_up_and_down_through_every_state_as_the_poller_sees_it():
    way = [
        (Operation.DESCRIBE, State.DESCRIBED),
        (Operation.PREPARE, State.PREPARED),
        (Operation.CONFIGURE, State.READY),
        (Operation.START, State.RUNNING),
        (Operation.STOP, State.READY),
        (Operation.BREAKUP, State.PREPARED),
        (Operation.UNDO, State.DESCRIBED),
        (Operation.UNDO, State.IDLE),
    ]
    async with SimulatedFleet(cobos=1) as fleet, client_of(fleet, "mutant") as client:
        (config,) = [c for c in await client.get_config_ids() if str(c) == fleet.config("mutant")]
        sources = sources_of(fleet, "mutant")
        async with watched(client) as (poller, seen, lost):
            poller.set_moving(True)
            for operation, target in way:
                reply = await client.transition(operation, config, sources)
                assert (await poller.poll_now()).state is target
                assert seen[-1].transition is Transition.NONE
                if operation is Operation.DESCRIBE:
                    assert senders_in(reply.text) == ("Mutant[master]",)
                if operation is Operation.CONFIGURE:
                    assert len(reply.text) > 300_000
            assert lost == []
        calls = fleet.log.transitions("mutant")
        assert [call.operation for call in calls] == [operation.value for operation, _ in way]
        assert {str(call.ids) for call in calls} == {str(config)}
        assert calls[2].table.count("<DataLink>") == 1


async def test_the_transition_is_seen_while_it_runs():
    async with SimulatedFleet(cobos=1) as fleet, client_of(fleet, "mutant") as client:
        fleet["mutant"].faults.hang("Describe")
        config = ConfigName.parse(fleet.config("mutant"))
        async with watched(client) as (poller, seen, _):
            task = asyncio.create_task(client.transition(Operation.DESCRIBE, config, ()))
            poller.set_moving(True)
            await until(lambda: seen[-1].transition is Transition.DESCRIBE)
            assert (seen[-1].state, seen[-1].message) == (State.IDLE, "The ECC state machine is busy!")
            with pytest.raises(EccBusy) as busy:
                await client.transition(Operation.PREPARE, config, ())
            assert busy.value.code == Transition.PREPARE
            fleet["mutant"].faults.clear()
            assert (await task).code == 0
            await until(lambda: seen[-1].state is State.DESCRIBED)


async def test_undo_of_a_server_of_which_nothing_is_known():
    async with SimulatedFleet(cobos=1) as fleet, client_of(fleet, "mutant") as client:
        await take_up(fleet, State.DESCRIBED, "mutant")
        await client.transition(Operation.UNDO, PartialConfig(), ())
        assert (await client.get_state()).state is State.IDLE


async def test_refusals_carry_code_and_message():
    async with SimulatedFleet(cobos=1) as fleet, client_of(fleet, "cobo0") as client:
        with pytest.raises(EccRefused, match=r"code 1: .*nope") as refused:
            await client.transition(Operation.DESCRIBE, ConfigName("nope", "x", "x"), ())
        assert refused.value.code == 1
        await take_up(fleet, State.PREPARED)
        fleet["cobo0"].faults.fail_but_move("Configure", message="Exception: the file vanished.")
        config = ConfigName.parse(fleet.config("cobo0"))
        with pytest.raises(EccRefused, match=r"^code 3: Exception: the file vanished\.$"):
            await client.transition(Operation.CONFIGURE, config, sources_of(fleet, "cobo0"))
        assert (await client.get_state()).state is State.READY


async def test_a_lost_reply_is_broken_and_the_call_has_run():
    async with SimulatedFleet(cobos=1) as fleet, client_of(fleet, "cobo0") as client:
        fleet["cobo0"].faults.lose_reply("Describe")
        with pytest.raises(EccBrokenReply, match=f"Describe at {client.url}: "):
            await client.transition(Operation.DESCRIBE, ConfigName.parse(fleet.config("cobo0")), ())
        assert (await client.get_state()).state is State.DESCRIBED


async def test_state_0_is_a_state():
    async with SimulatedFleet(cobos=1) as fleet, client_of(fleet, "cobo0") as client:
        fleet["cobo0"].faults.off()
        assert (await client.get_state()).state is State.OFF


@pytest.mark.parametrize("fault", ["refuse", "die"])
async def test_a_server_that_comes_back_is_seen_within_one_period(fault: str):
    async with SimulatedFleet(cobos=1) as fleet, client_of(fleet, "cobo0") as client:
        async with watched(client) as (_, seen, lost):
            getattr(fleet["cobo0"].faults, fault)()
            await until(lambda: len(lost) >= 3)
            assert all(isinstance(error, EccUnreachable) for error in lost)
            with pytest.raises(EccUnreachable):
                await client.transition(Operation.DESCRIBE, ConfigName.parse(fleet.config("cobo0")), ())
            before = len(seen)
            fleet["cobo0"].faults.clear()
            back_at, taking = time.monotonic(), Stopwatch()
            await until(lambda: len(seen) > before)
            assert seen[-1].seen_at_s - back_at - taking.waited_s < POLL.quiet_period_s + 0.15
        assert list(fleet.log) == []


async def test_a_stalled_server_times_out_and_is_seen_when_it_wakes():
    async with (
        SimulatedFleet(cobos=1) as fleet,
        client_of(fleet, "cobo0") as client,
        watched(client) as (_, seen, lost),
    ):
        fleet["cobo0"].faults.stall()
        await until(lambda: lost)
        assert isinstance(lost[0], EccTimeout)
        before = len(seen)
        fleet["cobo0"].faults.clear()
        await until(lambda: len(seen) > before, POLL.backoff_max_s + 1)


async def test_a_server_that_dies_in_a_transition_gives_a_broken_reply():
    async with SimulatedFleet(cobos=1) as fleet, client_of(fleet, "cobo0") as client:
        fleet["cobo0"].faults.hang("Describe")
        config = ConfigName.parse(fleet.config("cobo0"))
        task = asyncio.create_task(client.transition(Operation.DESCRIBE, config, ()))
        await until(lambda: len(list(fleet.log)) == 1)
        fleet["cobo0"].faults.die()
        with pytest.raises(EccBrokenReply, match="the connection ended without a whole reply"):
            await task
