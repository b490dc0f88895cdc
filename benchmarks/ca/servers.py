"""The Python servers under test: `servers.py here|coroutine|caproto|softioc COUNT HZ`.

With HZ every PV changes that often. `coroutine` is `here` with a coroutine as its put handler.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

BORN = time.monotonic()


async def tick(number: int, hz: float) -> None:
    """Wait for the time of the next change, however long the last one took."""
    await asyncio.sleep(BORN + (number + 1) / hz - time.monotonic() if hz else 3600)


async def coroutine(count: int, hz: float) -> None:
    """Run this product's server, each put a task."""
    await here(count, hz, tasks=True)


async def here(count: int, hz: float, *, tasks: bool = False) -> None:
    """Run this product's server."""
    from attpc_ioc.ioc.ca import PV, CAServer, ChannelType, Client, PVSpec

    def put(pv: PV, value: Any, _: Client) -> None:
        pv.post(value)

    async def put_later(pv: PV, value: Any, _: Client) -> None:
        pv.post(value)

    pvs = [PV(PVSpec(f"B:{i}", "longout", ChannelType.LONG, writable=True), 0) for i in range(count)]
    server = CAServer(pvs, put=put_later if tasks else put)
    await server.start()
    value = 0
    while True:
        await tick(value, hz)
        value += 1
        for pv in pvs:
            pv.post(value)


async def stock(count: int, hz: float) -> None:
    """Run caproto's own server."""
    from caproto import ChannelInteger
    from caproto.asyncio.server import Context

    channels = {f"B:{i}": ChannelInteger(value=0) for i in range(count)}

    async def change() -> None:
        value = 0
        while True:
            await tick(value, hz)
            value += 1
            for channel in channels.values():
                await channel.write(value)

    task = asyncio.create_task(change()) if hz else None
    await Context(channels).run()
    assert task is None or task.cancel()


async def python_soft_ioc(count: int, hz: float) -> None:
    """Run the package `softioc`."""
    from softioc import asyncio_dispatcher, builder, softioc

    builder.SetDeviceName("B")
    records = [builder.longOut(str(i), initial_value=0) for i in range(count)]
    builder.LoadDatabase()
    softioc.iocInit(asyncio_dispatcher.AsyncioDispatcher(asyncio.get_running_loop()), enable_pva=False)
    value = 0
    while True:
        await tick(value, hz)
        value += 1
        for record in records:
            record.set(value)


RUNS = {"here": here, "coroutine": coroutine, "caproto": stock, "softioc": python_soft_ioc}

if __name__ == "__main__":
    asyncio.run(RUNS[sys.argv[1]](int(sys.argv[2]), float(sys.argv[3])))
