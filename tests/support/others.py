"""Other servers of a prefix: another IOC that answers for the same names, or a gateway to one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from caproto import ChannelType

from attpc_ioc.ioc.ca import PV, CAServer, Client, PutRejected, PVSpec
from tests.support.ca import LOOPBACK


async def nobody(pv: PV, value: object, client: Client) -> None:
    """No put is taken."""
    raise PutRejected("this server only looks like an IOC")


@contextlib.asynccontextmanager
async def other_server(
    prefix: str,
    port: int,
    *,
    host: str = "elsewhere",
    process: float = 4711.0,
    started: str = "01/02/2026 03:04:05",
    address: str = LOOPBACK,
    names: tuple[str, ...] = ("HOSTNAME", "PROCESS_ID", "STARTTOD"),
) -> AsyncIterator[CAServer]:
    """Serve the PVs by which an IOC tells who it is. On another server's port it takes its searches over."""
    pvs = [
        PV(PVSpec(f"{prefix}IOC:HOSTNAME", "stringin", ChannelType.STRING), host),
        PV(PVSpec(f"{prefix}IOC:PROCESS_ID", "ai", ChannelType.DOUBLE), process),
        PV(PVSpec(f"{prefix}IOC:STARTTOD", "stringin", ChannelType.STRING), started),
    ]
    server = CAServer(
        [pv for pv in pvs if pv.name.rpartition(":")[2] in names], put=nobody, interfaces=[address], port=port
    )
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
