"""The Python servers under test: `servers.py here|caproto COUNT`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any


async def here(count: int) -> None:
    """Run this product's server."""
    from caproto import ChannelType

    from attpc_ioc.ioc.ca import PV, CAServer, Client, PVSpec

    async def put(pv: PV, value: Any, _: Client) -> None:
        pv.post(value)

    pvs = [PV(PVSpec(f"B:{i}", "longout", ChannelType.LONG, writable=True), 0) for i in range(count)]
    server = CAServer(pvs, put=put)
    await server.start()
    await asyncio.Event().wait()


async def stock(count: int) -> None:
    """Run caproto's own server."""
    from caproto import ChannelInteger
    from caproto.asyncio.server import Context

    await Context({f"B:{i}": ChannelInteger(value=0) for i in range(count)}).run()


if __name__ == "__main__":
    asyncio.run({"here": here, "caproto": stock}[sys.argv[1]](int(sys.argv[2])))
