"""Random puts by one client to an IOC in one of many states: what must be so whatever the protocol."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from attpc_ioc.model.command import RUN
from attpc_ioc.model.states import State
from attpc_ioc.simulator.durations import INSTANT
from tests.support.ca import caget
from tests.support.puts import WRITABLE
from tests.support.rig import Rig, rig
from tests.support.thorough import examples
from tests.support.trouble import Clocking, assert_nothing_forbidden

P = TypeVar("P")
Play = Callable[[Rig, list[P]], Awaitable[None]]
"""Sends puts from one client, and waits for all answers."""

EXAMPLES = examples(2, 10)
LENGTH = 250
STARTS = (State.IDLE, State.PREPARED, State.READY, State.RUNNING)
"""Together `EXAMPLES * LENGTH * len(STARTS)`: 2,000 puts, 10,000 when it is thorough."""

TOO_MUCH = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)

UNSHRUNK = (Phase.explicit, Phase.generate)
"""An example takes seconds; what went wrong is told by the fault, not by the shortest way to it."""

LIMITS = "run_number_s = 1.0\narrival_grace_s = 0.1"


class Tracebacks(logging.Handler):
    """Keeps what no put may ever cause."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or record.levelno >= logging.ERROR:
            self.found.append(f"{record.getMessage()} {record.exc_info}")


async def _assert_alive(it: Rig) -> None:
    """The IOC answers a real client on every PV that was written, and commands still work."""
    assert (await caget(it.place, *(it.prefix + name for name in WRITABLE))).code == 0
    outcome = await it.submit("Stop", RUN)
    assert outcome.ok, outcome.message


async def _example(start: State, play: Play[P], sequence: list[P]) -> int:
    """Play one example on an IOC of its own; returns how many operations it has sent."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        async with rig(Path(folder), patch, limits=LIMITS, durations=INSTANT) as it:
            await (it.start_run() if start is State.RUNNING else it.take_to(start))
            it.fleet.log.clear()
            clocking = Clocking(it)
            await play(it, sequence)
            await it.until(lambda: not it.snapshot.busy, 15.0, "nothing running")
            sent = len(it.fleet.log.transitions())
            await _assert_alive(it)
            assert_nothing_forbidden(it, clocking)
            # An empty or blank sub-id ends the process of a real server.
            assert [server.crashes for server in it.fleet] == [0, 0, 0]
            return sent


def see_random_puts(start: State, puts: st.SearchStrategy[P], play: Play[P]) -> None:
    """Play sequences of random puts, each on an IOC of its own: no crash, nothing sent that is forbidden."""
    sent = played = 0

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=TOO_MUCH, database=None, phases=UNSHRUNK
    )
    @given(sequence=st.lists(puts, min_size=LENGTH, max_size=LENGTH))
    def check(sequence: list[P]) -> None:
        nonlocal sent, played
        tracebacks = Tracebacks()
        log = logging.getLogger()
        log.addHandler(tracebacks)
        try:
            sent += asyncio.run(_example(start, play, sequence))
        finally:
            log.removeHandler(tracebacks)
        played += len(sequence)
        assert tracebacks.found == []

    # That nothing forbidden was sent is worth something only where much was sent. By chance it may be little.
    for _ in range(5):
        check()
        if sent > 3 * EXAMPLES:
            break
    assert played >= EXAMPLES * LENGTH
    assert sent > 3 * EXAMPLES
