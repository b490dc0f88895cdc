"""Puts that are refused cost more than others, and delay nobody either."""

from __future__ import annotations

import asyncio
import statistics

import caproto
from caproto import ChannelType

from tests.ca.raw import raw_client
from tests.support.pace import Stopwatch
from tests.support.rig import rig

PUTS = 4000
"""Refused in a row they take a second and more."""


async def test_a_flood_of_puts_that_are_refused(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        took: list[float] = []
        over = asyncio.Event()

        async def flood() -> None:
            async with raw_client(it.place.port) as raw:
                sid = (await raw.channel(f"{it.prefix}GoTo")).sid
                raw.send(
                    b"".join(
                        bytes(caproto.WriteNotifyRequest([b"nowhere"], ChannelType.STRING, 1, sid, number))
                        for number in range(PUTS)
                    )
                )
                for _ in range(PUTS):
                    reply = await raw.until(caproto.WriteNotifyResponse, 60)
                    assert reply.status == caproto.CAStatus.ECA_PUTFAIL.value
            over.set()

        async with raw_client(it.place.port) as raw:
            sid = (await raw.channel(f"{it.prefix}State_RBV")).sid
            task = asyncio.create_task(flood())
            while not over.is_set():
                taking = Stopwatch()
                raw.send(caproto.ReadNotifyRequest(ChannelType.LONG, 1, sid, 1))
                await raw.until(caproto.ReadNotifyResponse, 20)
                took.append(taking.s)
                assert not task.done() or over.is_set(), task.exception()
            await task
        assert len(took) > 20
        assert statistics.median(took) < 0.05, statistics.median(took)
        assert max(took) < 0.5, max(took)
