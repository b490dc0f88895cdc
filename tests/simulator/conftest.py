"""A small fleet whose transitions end at once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from attpc_ioc.simulator.durations import INSTANT
from attpc_ioc.simulator.fleet import SimulatedFleet


@pytest.fixture
async def fleet() -> AsyncIterator[SimulatedFleet]:
    async with SimulatedFleet(cobos=2, durations=INSTANT) as made:
        yield made
