"""Helpers for tests that use a simulated fleet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from attpc_ioc.model.states import State
from attpc_ioc.simulator.client import post
from attpc_ioc.simulator.documents import config_id, link_table
from attpc_ioc.simulator.fleet import SimulatedFleet
from attpc_ioc.simulator.messages import request_body
from tests.support.patience import PATIENCE_S

UP = ("Describe", "Prepare", "Configure", "Start")
"""The operations that lead from Idle to Running, one state each."""


async def wait_until(
    done: Callable[[], object], timeout_s: float = PATIENCE_S, what: str = "the condition"
) -> None:
    """Look every few milliseconds until `done()` is true; raises `TimeoutError` that names `what`.

    It looks less often the longer it has waited, and the longer a look takes: all tests together wait for an
    hour, and a look every 4 ms would be a minute of processor time.
    """
    start_s = time.monotonic()
    looked_s = time.thread_time()
    while not done():
        waited_s = time.monotonic() - start_s
        if waited_s > timeout_s:
            raise TimeoutError(f"{what} was not met within {timeout_s} s")
        await asyncio.sleep(max(0.004, min(0.03, waited_s / 20), 9 * (time.thread_time() - looked_s)))
        looked_s = time.thread_time()


async def call_and_leave(fleet: SimulatedFleet, name: str, operation: str) -> None:
    """Send a call to a server and hang up at once, without waiting for the reply."""
    server = fleet[name]
    _, writer = await asyncio.open_connection(server.host, server.port)
    body = request_body(operation, config_id(fleet.config(name)), link_table(fleet.links(name)))
    writer.write(post(body))
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def take_up(fleet: SimulatedFleet, target: State, *names: str, experiment: str | None = None) -> None:
    """Take servers that are in Idle up to `target` as a foreign client would.

    The MuTAnT is first, for its clock; at Start it is last, so that every board has the first event.

    Without `names`, all of the fleet's servers.
    """
    chosen = names or tuple(fleet.servers)
    first = [name for name in chosen if name in ("mutant", "ecc")]
    for operation in UP[: target - State.IDLE]:
        groups = [first, [name for name in chosen if name not in first]]
        for group in reversed(groups) if operation == "Start" else groups:
            answers = await asyncio.gather(
                *(fleet.call(name, operation, config=fleet.config(name, experiment)) for name in group)
            )
            for name, answer in zip(group, answers, strict=True):
                if answer.code:
                    raise AssertionError(f"{name} {operation}: code {answer.code} {answer.message}")
    for name in chosen:
        if fleet[name].state is not target:
            raise AssertionError(f"{name} is in {fleet[name].state.label}, not in {target.label}")
