"""The faults, each switched on and off while the fleet runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from attpc_ioc.model.states import State, Transition
from attpc_ioc.simulator.client import post
from attpc_ioc.simulator.documents import config_id
from attpc_ioc.simulator.durations import BRISK, INSTANT, Durations
from attpc_ioc.simulator.fleet import SimulatedFleet
from attpc_ioc.simulator.messages import request_body
from attpc_ioc.simulator.server import ServerOptions
from tests.support.simfleet import call_and_leave, take_up, wait_until


def connect(fleet: SimulatedFleet, name: str, timeout_s: float = 0.5) -> socket.socket:
    return socket.create_connection((fleet[name].host, fleet[name].port), timeout_s)


async def test_slow(fleet: SimulatedFleet) -> None:
    loop = asyncio.get_running_loop()
    fleet["cobo0"].faults.slow("Describe", extra_s=0.2)
    begin_s = loop.time()
    await fleet.call("cobo0", "Describe")
    assert loop.time() - begin_s >= 0.2
    fleet["cobo0"].faults.slow("Describe", extra_s=60)
    assert (await fleet.call("cobo0", "Undo")).code == 0
    late = asyncio.create_task(fleet.call("cobo0", "Describe"))
    await wait_until(lambda: fleet["cobo0"].transition is Transition.DESCRIBE)
    fleet["cobo0"].faults.clear("slow")
    assert (await late).code == 0


async def test_slow_factor() -> None:
    async with SimulatedFleet(1, False, durations=Durations(describe_s=0.05, jitter=0)) as fleet:
        fleet["cobo0"].faults.slow(factor=4)
        await fleet.call("cobo0", "Describe")
        call = fleet.log[0]
        assert call.end_s is not None
        assert call.end_s - call.begin_s >= 0.2


async def test_slow_get_state(fleet: SimulatedFleet) -> None:
    fleet["cobo0"].faults.slow("GetState", extra_s=60)
    with pytest.raises(TimeoutError):
        await fleet.call("cobo0", "GetState", timeout_s=0.1)
    assert (await fleet.call("cobo0", "Describe", timeout_s=5)).code == 0


async def test_hang_one_operation_only(fleet: SimulatedFleet) -> None:
    faults = fleet["cobo0"].faults
    faults.hang("Prepare")
    assert (await fleet.call("cobo0", "Describe")).code == 0
    with pytest.raises(TimeoutError):
        await fleet.call("cobo0", "Prepare", timeout_s=0.1)
    assert (await fleet.call("cobo0", "GetState")).transition == 2
    faults.clear("hang", "Prepare")
    await wait_until(lambda: fleet["cobo0"].state is State.PREPARED)


async def test_fail_the_second_call(fleet: SimulatedFleet) -> None:
    fleet["cobo0"].faults.fail("Describe", nth=2, message="no\nluck & <pain>")
    codes: list[int] = []
    for _ in range(3):
        answer = await fleet.call("cobo0", "Describe")
        codes.append(answer.code)
        if answer.code:
            assert answer.message == "no\nluck & <pain>"
            assert fleet["cobo0"].state is State.IDLE
        else:
            await fleet.call("cobo0", "Undo")
    assert codes == [0, 1, 0]


async def test_fail_until_switched_off(fleet: SimulatedFleet) -> None:
    fleet["cobo0"].faults.fail(times=None, code=77)
    for _ in range(3):
        assert (await fleet.call("cobo0", "Describe")).code == 77
    fleet["cobo0"].faults.clear()
    assert (await fleet.call("cobo0", "Describe")).code == 0


async def test_fail_get_config_ids_and_get_state(fleet: SimulatedFleet) -> None:
    for operation in ("GetConfigIDs", "GetState"):
        fleet["cobo0"].faults.fail(operation, code=9, message="out of order")
        answer = await fleet.call("cobo0", operation)
        assert (answer.code, answer.message) == (9, "out of order")
        assert (await fleet.call("cobo0", operation)).code == 0


async def test_lie(fleet: SimulatedFleet) -> None:
    fleet["cobo0"].faults.lie("Describe")
    assert (await fleet.call("cobo0", "Describe")).code == 0
    assert (fleet["cobo0"].state, fleet.log[0].outcome) == (State.IDLE, "lied")
    assert fleet.boards["CoBo[0]"].owner == ""


async def test_fail_but_move(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.PREPARED, "cobo0")
    fleet["cobo0"].faults.fail_but_move("Configure", message="half of it")
    answer = await fleet.call("cobo0", "Configure")
    assert (answer.code, answer.message) == (3, "half of it")
    assert fleet["cobo0"].state is State.READY


async def test_lose_reply(fleet: SimulatedFleet) -> None:
    fleet["cobo0"].faults.lose_reply("Describe")
    with pytest.raises(ValueError, match="b''"):
        await fleet.call("cobo0", "Describe")
    assert fleet["cobo0"].state is State.DESCRIBED
    assert fleet.log[0].reply_lost
    fleet["cobo0"].faults.lose_reply("GetState")
    with pytest.raises(ValueError, match="b''"):
        await fleet.call("cobo0", "GetState")


async def test_refuse_leaves_what_runs(fleet: SimulatedFleet) -> None:
    faults = fleet["cobo0"].faults
    faults.hang("Describe")
    describe = asyncio.create_task(fleet.call("cobo0", "Describe"))
    await wait_until(lambda: fleet["cobo0"].transition is Transition.DESCRIBE)
    faults.refuse()
    with pytest.raises(ConnectionRefusedError):
        await fleet.call("cobo0", "GetState")
    faults.clear("hang")
    assert (await describe).code == 0
    faults.clear("refuse")
    assert (await fleet.call("cobo0", "GetState")).state == State.DESCRIBED


async def test_die_and_come_back(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.RUNNING, "cobo0")
    server = fleet["cobo0"]
    port = server.port
    server.faults.hang("Stop")
    stop = asyncio.create_task(fleet.call("cobo0", "Stop"))
    await wait_until(lambda: server.transition is Transition.STOP)
    server.faults.clear("hang")
    server.faults.hang("Stop")
    server.faults.die()
    with pytest.raises(ConnectionResetError):
        await stop
    assert fleet.log[-1].outcome == "cut"
    with pytest.raises(ConnectionRefusedError):
        await fleet.call("cobo0", "GetState")
    server.faults.clear()
    assert server.port == port
    answer = await fleet.call("cobo0", "GetState")
    assert (answer.state, answer.transition) == (State.IDLE, 0)
    assert fleet.boards["CoBo[0]"].running
    await take_up(fleet, State.RUNNING, "cobo0")


async def test_board_dead_and_back(fleet: SimulatedFleet) -> None:
    fleet["cobo0"].faults.board_dead()
    assert (await fleet.call("cobo0", "Describe")).code == 1
    assert (await fleet.call("cobo1", "Describe")).code == 0
    fleet["cobo0"].faults.clear()
    await take_up(fleet, State.RUNNING, "cobo0")


async def test_one_board_of_many_dead() -> None:
    async with SimulatedFleet(2, durations=INSTANT, one_server=True) as fleet:
        faults = fleet["ecc"].faults
        with pytest.raises(KeyError):
            faults.board_dead("CoBo[9]")
        faults.board_dead("CoBo[1]")
        assert "node '1'" in (await fleet.call("ecc", "Describe")).message
        faults.clear("board-dead", "CoBo[1]")
        assert (await fleet.call("ecc", "Describe")).code == 0


async def test_off_and_restart(fleet: SimulatedFleet) -> None:
    await take_up(fleet, State.RUNNING, "cobo0")
    fleet["cobo0"].faults.off()
    assert (await fleet.call("cobo0", "GetState")).state == State.OFF
    assert (await fleet.call("cobo0", "Stop")).code == 0
    assert fleet.log[-1].outcome == "ignored"
    fleet["cobo0"].faults.clear("off")
    assert (await fleet.call("cobo0", "GetState")).state == State.IDLE


# Stalled, as by SIGSTOP


async def test_stalled_server_executes_what_it_accepted_callers_gone_or_not(fleet: SimulatedFleet) -> None:
    faults = fleet["cobo0"].faults
    faults.stall()
    for operation in ("Describe", "Prepare", "Configure", "Start"):
        await call_and_leave(fleet, "cobo0", operation)
    waiting = asyncio.create_task(fleet.call("cobo0", "Stop"))
    poll = asyncio.create_task(fleet.call("cobo0", "GetState"))
    await asyncio.wait([waiting, poll], timeout=0.1)
    assert not waiting.done()
    assert not poll.done()
    assert len(fleet.log) == 0
    faults.clear("stall")
    assert (await waiting).code == 0
    assert (await poll).code == 0
    assert fleet.log.sequence() == [
        f"cobo0.{operation}" for operation in ("Describe", "Prepare", "Configure", "Start", "Stop")
    ]
    assert [call.outcome for call in fleet.log] == ["executed"] * 5
    assert [call.reply_lost for call in fleet.log][:4] == [True] * 4
    assert fleet["cobo0"].state is State.READY


async def test_order_of_what_a_woken_server_executes() -> None:
    """Start and Stop that were queued together can end in Running."""
    ends: set[State] = set()
    for seed in range(12):
        options = ServerOptions(shuffled_wake=True)
        async with SimulatedFleet(1, False, durations=INSTANT, options=options, seed=seed) as fleet:
            await take_up(fleet, State.READY)
            fleet["cobo0"].faults.stall()
            for operation in ("Start", "Stop"):
                await call_and_leave(fleet, "cobo0", operation)
            fleet["cobo0"].faults.clear()
            await wait_until(
                lambda: [call.end_s is not None for call in fleet.log if call.late] == [True] * 2
            )
            ends.add(fleet["cobo0"].state)
    assert ends == {State.READY, State.RUNNING}


async def test_stalled_server_freezes_what_runs() -> None:
    async with SimulatedFleet(1, False, durations=BRISK) as fleet:
        server = fleet["cobo0"]
        describe = asyncio.create_task(fleet.call("cobo0", "Describe"))
        await wait_until(lambda: server.transition is Transition.DESCRIBE)
        server.faults.stall()
        await asyncio.wait([describe], timeout=0.2)
        assert server.state is State.IDLE
        server.faults.clear()
        assert (await describe).code == 0
        assert server.state is State.DESCRIBED


async def test_stalled_server_accepts_about_a_hundred_connections(fleet: SimulatedFleet) -> None:
    fleet["cobo0"].faults.stall()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connect(fleet, "cobo0"))

        def connect_more() -> None:
            for _ in range(5):
                stack.enter_context(connect(fleet, "cobo0"))

        with pytest.raises(TimeoutError):
            connect_more()
    fleet["cobo0"].faults.clear()
    assert (await fleet.call("cobo0", "GetState")).code == 0
    await wait_until(lambda: fleet["cobo0"].open_connections == 0)


async def test_stall_holds_connections_that_were_open(fleet: SimulatedFleet) -> None:
    server = fleet["cobo0"]
    reader, writer = await asyncio.open_connection(server.host, server.port)
    await wait_until(lambda: server.open_connections == 1)
    server.faults.stall()
    writer.write(post(request_body("Describe", config_id(fleet.config("cobo0")))))
    await writer.drain()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(), 0.1)
    server.faults.clear()
    assert b"<ErrorCode>0</ErrorCode>" in await reader.read()
    writer.close()


async def test_dying_while_stalled(fleet: SimulatedFleet) -> None:
    server = fleet["cobo0"]
    server.faults.stall()
    await call_and_leave(fleet, "cobo0", "Describe")
    server.faults.die()
    server.faults.clear()
    assert (await fleet.call("cobo0", "GetState")).state == State.IDLE
    assert len(fleet.log) == 0


async def test_faults_of_one_server_leave_the_others(fleet: SimulatedFleet) -> None:
    fleet["cobo0"].faults.die()
    fleet["mutant"].faults.stall()
    assert (await fleet.call("cobo1", "Describe", timeout_s=5)).code == 0
