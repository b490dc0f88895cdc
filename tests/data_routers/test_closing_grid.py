"""The fault grid of closing: each way to a host, each fault, and each way in which the run is closed then.

Contents are compared by checksum. Every byte is where the record says, and nothing is anywhere else.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from itertools import zip_longest

import pytest
from attpc_plugins.data_routers.closing import closer

from tests.support.closing_faults import FILES, SENTRY, Fault, nothing
from tests.support.closing_grid import WAYS, Grid, grid


async def closed(it: Grid, faults: Mapping[str, Fault], how: str) -> None:
    """Have a run with a fault on each host, and close it."""
    await it.begin()
    number = it.it.run.number
    steps = [faults[way](spot) for way, spot in it.spots.items()]
    await asyncio.gather(*(anext(step) for step in steps))
    await it.end()
    await asyncio.gather(*(anext(step) for step in steps))
    if how == "by hand without IOC":
        await it.it.stop_ioc()
    await asyncio.gather(*(anext(step, None) for step in steps))
    if how == "CloseAgain":
        await it.it.ok("Run:CloseAgain")
    elif how != "itself":
        code, said = await it.command("close", number)
        assert code == 0, said
        assert all(f"{spot.host.source}: Done: " in said for spot in it.spots.values()), said
    if how == "by hand without IOC":
        await it.it.start_ioc()
    await asyncio.gather(*(spot.done() for spot in it.spots.values()))
    code, said = await it.command("verify", number)
    assert code == 0, said
    assert said.count("all as in the manifest") == len(WAYS) - 1, said


def rounds(rng: random.Random) -> list[dict[str, Fault]]:
    """Return for each way to a host all its faults, in any order."""
    orders = [rng.sample(faults, len(faults)) for faults in (FILES, FILES, FILES, SENTRY)]
    return [dict(zip(WAYS, faults, strict=True)) for faults in zip_longest(*orders, fillvalue=nothing)]


@pytest.mark.parametrize("how", ["itself", "CloseAgain", "by hand", "by hand without IOC"])
async def test_every_byte_is_where_the_record_says(how, tmp_path, monkeypatch, shared_sshd):
    if how != "itself":
        monkeypatch.setattr(closer, "RETRY_FIRST_S", 1000.0)
        monkeypatch.setattr(closer, "RETRY_LAST_S", 1000.0)
    rng = random.Random()
    async with grid(tmp_path, monkeypatch, shared_sshd, rng) as it:
        for faults in rounds(rng):
            try:
                await closed(it, faults, how)
            except BaseException as error:
                error.add_note(f"{how}: { {way: fault.__name__ for way, fault in faults.items()} }")
                raise
