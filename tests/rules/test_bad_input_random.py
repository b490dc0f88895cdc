"""Random puts to every writable PV: never a crash, never a message that the rules forbid.

The client is a bare circuit with messages made byte by byte. libca (`aioca`) would not do: it looks at labels
and counts itself, so most of the bad puts would never leave it, and its context is one for the whole process,
while each example here has an IOC on a port of its own.
"""

from __future__ import annotations

import caproto
import pytest

from attpc_ioc.model.states import State
from tests.ca.raw import Raw, raw_client
from tests.support.bad_input import STARTS, see_random_puts
from tests.support.puts import WRITABLE, RawPut, puts
from tests.support.rig import Rig


async def answers(raw: Raw, wanted: set[int]) -> None:
    """Read until every put of `wanted` is answered."""
    while wanted:
        reply = await raw.until(caproto.WriteNotifyResponse, limit_s=15.0)
        wanted.discard(reply.ioid)


async def play(it: Rig, sequence: list[RawPut]) -> None:
    """Send the puts from one client, and read all answers."""
    async with raw_client(it.place.port) as raw:
        sids = {name: (await raw.channel(it.prefix + name)).sid for name in WRITABLE}
        waiting: set[int] = set()
        for number, put in enumerate(sequence, 1):
            raw.send(put.message(sids[put.name], number))
            if put.notify:
                waiting.add(number)
                if put.wait:
                    await answers(raw, waiting)
        await answers(raw, waiting)


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS, ids=lambda state: state.label)
def test_random_puts(start: State) -> None:
    see_random_puts(start, puts(), play)
