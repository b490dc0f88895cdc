"""Clients that come and go while values change: each gets the present value, and all after it."""

from __future__ import annotations

import asyncio
import secrets

from attpc_ioc.ioc.ca import PV, STATUS_LABELS, ChannelType, PVSpec
from attpc_ioc.pva import Form, PVAServer
from tests.support.ca import ca_place, eventually
from tests.support.pva import p4p_client


async def test_clients_that_come_and_go_never_see_an_old_value():
    place = ca_place()
    pv = PV(PVSpec(f"T{secrets.token_hex(3)}:count", "longin", ChannelType.LONG), 0)
    env = place.env
    conf = {
        "EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1",
        "EPICS_PVAS_SERVER_PORT": env["EPICS_PVA_SERVER_PORT"],
        "EPICS_PVAS_BROADCAST_PORT": env["EPICS_PVA_BROADCAST_PORT"],
    }
    server = PVAServer(
        [(pv, Form.INT)], put_to=lambda _record, _put: None, conf=conf, status_names=STATUS_LABELS
    )
    await server.start()
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
        await server.stop()
        place.close()
