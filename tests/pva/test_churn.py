"""Clients that come and go while values change: each gets the present value, and all after it."""

from __future__ import annotations

import asyncio
import secrets

from attpc_ioc.ioc.ca import PV, ChannelType, PVSpec
from attpc_ioc.pva import Form
from tests.support.ca import eventually
from tests.support.pva import p4p_client, pva_server


async def test_clients_that_come_and_go_never_see_an_old_value():
    pv = PV(PVSpec(f"T{secrets.token_hex(3)}:count", "longin", ChannelType.LONG), 0)
    async with pva_server([(pv, Form.INT)]) as (_, place):
        going = True

        async def count() -> None:
            while going:
                pv.post(int(pv.value) + 1)
                await asyncio.sleep(0.0003)

        async def come_and_go() -> None:
            for _ in range(25):
                async with p4p_client(place) as client:
                    for _ in range(3):
                        before = int(pv.value)
                        assert (await client.get(pv.name)).value >= before

        try:
            counting = asyncio.create_task(count())
            await asyncio.gather(*(come_and_go() for _ in range(4)))
            async with p4p_client(place) as client:
                seen: list[int] = []

                async def see(value: object) -> None:
                    seen.append(value.value)  # type: ignore[attr-defined]

                subscription = client.monitor(pv.name, see)
                await eventually(lambda: len(seen) > 10)
                going = False
                await counting
                await eventually(lambda: seen[-1] == pv.value)
                assert seen == sorted(seen)
                subscription.close()
            await eventually(lambda: pv.follower is None)
        finally:
            going = False
