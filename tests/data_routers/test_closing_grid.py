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
from tests.support.thorough import THOROUGH


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


HOW = ("itself", "CloseAgain", "by hand", "by hand without IOC")


def rounds(how: str, rng: random.Random) -> list[dict[str, Fault]]:
    """Return rounds of faults, one for each way to a host, that are tried with one way of closing.

    Together each fault of a host with files is tried with each way of closing, and with each way to a host: a
    pair of these is what a mistake in the product depends on. A sentry's are tried with one or two ways of
    closing. `make test-thorough` tries each with each.
    """
    orders = []
    for place, faults in enumerate((FILES, FILES, FILES, SENTRY)):
        turn = HOW.index(how) + place
        chosen = [fault for n, fault in enumerate(faults) if THOROUGH or (n + turn) % 3 == 0]
        orders.append(rng.sample(chosen, len(chosen)))
    return [dict(zip(WAYS, faults, strict=True)) for faults in zip_longest(*orders, fillvalue=nothing)]


def test_each_fault_meets_each_way_of_closing_and_each_way_to_a_host():
    found = [
        (how, *pair) for how in HOW for faults in rounds(how, random.Random()) for pair in faults.items()
    ]
    with_files = {(how, fault) for how, way, fault in found if way != "sentry"}
    assert with_files >= {(how, fault) for how in HOW for fault in FILES}
    for way in WAYS:
        faults = {fault for _, its_way, fault in found if its_way == way}
        assert faults >= set(SENTRY if way == "sentry" else FILES)


@pytest.mark.parametrize("how", HOW)
async def test_every_byte_is_where_the_record_says(how, tmp_path, monkeypatch, shared_sshd):
    if how != "itself":
        monkeypatch.setattr(closer, "RETRY_FIRST_S", 1000.0)
        monkeypatch.setattr(closer, "RETRY_LAST_S", 1000.0)
    rng = random.Random()
    async with grid(tmp_path, monkeypatch, shared_sshd, rng) as it:
        for faults in rounds(how, rng):
            try:
                await closed(it, faults, how)
            except BaseException as error:
                error.add_note(f"{how}: { {way: fault.__name__ for way, fault in faults.items()} }")
                raise
