"""The Python servers under test: `servers.py KIND COUNT HZ`, a kind of `RUNS`.

With HZ every PV changes that often. `coroutine` and `both-coroutine` are `here` and `both` with a coroutine
as their put handler. `both` and `softioc-both` serve PVAccess beside Channel Access, `p4p` serves PVAccess
alone and does nothing else; `p4p-noop` does not even keep what is put.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attpc_ioc.ioc.ca import PV

BORN = time.monotonic()

KEPT: list[Any] = []
"""Servers that run as long as the process."""


async def values(hz: float) -> AsyncIterator[int]:
    """Give the next value at the time of the next change, however long the last one took."""
    for value in itertools.count(1):
        await asyncio.sleep(BORN + value / hz - time.monotonic() if hz else 3600)
        yield value


async def coroutine(count: int, hz: float) -> None:
    """Run this product's server, each put a task."""
    await here(count, hz, tasks=True)


async def both(count: int, hz: float) -> None:
    """Run this product's servers of Channel Access and of PVAccess."""
    await here(count, hz, pva=True)


async def both_coroutine(count: int, hz: float) -> None:
    """Run this product's servers of both protocols, each put a task."""
    await here(count, hz, tasks=True, pva=True)


async def here(count: int, hz: float, *, tasks: bool = False, pva: bool = False) -> None:
    """Run this product's server."""
    from attpc_ioc.ioc.ca import PV, CAServer, ChannelType, Client, PVSpec

    def put(pv: PV, value: Any, _: Client) -> None:
        pv.post(value)

    async def put_later(pv: PV, value: Any, _: Client) -> None:
        pv.post(value)

    pvs = [PV(PVSpec(f"B:{i}", "longout", ChannelType.LONG, writable=True), 0) for i in range(count)]
    server = CAServer(pvs, put=put_later if tasks else put)
    if pva:
        await also_over_pvaccess(pvs, tasks)
    await server.start()
    async for value in values(hz):
        for pv in pvs:
            pv.post(value)


async def also_over_pvaccess(pvs: Sequence[PV], tasks: bool) -> None:
    """Serve PVs over PVAccess, with `tasks` each put a task that takes a millisecond."""
    from attpc_ioc.ioc.ca import STATUS_LABELS
    from attpc_ioc.pva import Form, Put, PVAServer, Record

    by_name = {pv.name: pv for pv in pvs}

    def put(record: Record, put: Put) -> None:
        by_name[record.spec.name].post(put.value)

    async def put_later(record: Record, written: Put) -> None:
        await asyncio.sleep(0.001)
        put(record, written)

    conf = {
        "EPICS_PVAS_SERVER_PORT": os.environ["EPICS_PVA_SERVER_PORT"],
        "EPICS_PVAS_BROADCAST_PORT": os.environ["EPICS_PVA_BROADCAST_PORT"],
        "EPICS_PVAS_INTF_ADDR_LIST": os.environ["EPICS_PVAS_INTF_ADDR_LIST"],
        "EPICS_PVA_CONN_TMO": os.environ.get("EPICS_PVA_CONN_TMO", "30"),
    }
    put_to = put_later if tasks else put
    server = PVAServer(((pv, Form.INT) for pv in pvs), put_to=put_to, conf=conf, status_names=STATUS_LABELS)
    await server.start()
    KEPT.append(server)


async def p4p_alone(count: int, hz: float) -> None:
    """Run p4p's server with a shared PV for each value, as its documentation does."""
    from p4p.nt import NTScalar
    from p4p.server import Server, StaticProvider
    from p4p.server.thread import SharedPV

    provider = StaticProvider("bench")
    pvs = [SharedPV(nt=NTScalar("i"), initial=0, timestamp=time.time()) for _ in range(count)]
    for number, pv in enumerate(pvs):

        @pv.put
        def put(pv: Any, operation: Any) -> None:
            pv.post(operation.value(), timestamp=time.time())
            operation.done()

        provider.add(f"B:{number}", pv)
    KEPT.append(Server(providers=[provider]))
    async for value in values(hz):
        for pv in pvs:
            pv.post(value, timestamp=time.time())


async def p4p_noop(count: int, _hz: float) -> None:
    """Run p4p's server with a handler that answers puts in p4p's thread, without looking at them."""
    from p4p.nt import NTScalar
    from p4p.server import Server, StaticProvider
    from p4p.server.raw import Handler, SharedPV

    class Answering(Handler):
        def put(self, pv: Any, op: Any) -> None:  # noqa: ARG002
            op.done()

    provider = StaticProvider("bench")
    for number in range(count):
        provider.add(f"B:{number}", SharedPV(handler=Answering(), nt=NTScalar("i"), initial=0))
    KEPT.append(Server(providers=[provider]))
    await asyncio.sleep(3600)


async def stock(count: int, hz: float) -> None:
    """Run caproto's own server."""
    from caproto import ChannelInteger
    from caproto.asyncio.server import Context

    channels = {f"B:{i}": ChannelInteger(value=0) for i in range(count)}

    async def change() -> None:
        async for value in values(hz):
            for channel in channels.values():
                await channel.write(value)

    task = asyncio.create_task(change()) if hz else None
    await Context(channels).run()
    assert task is None or task.cancel()


async def python_soft_ioc_both(count: int, hz: float) -> None:
    """Run the package `softioc` with PVAccess, which pvxs's QSRV serves there."""
    await python_soft_ioc(count, hz, pva=True)


async def python_soft_ioc(count: int, hz: float, *, pva: bool = False) -> None:
    """Run the package `softioc`."""
    from softioc import asyncio_dispatcher, builder, softioc

    builder.SetDeviceName("B")
    records = [builder.longOut(str(i), initial_value=0) for i in range(count)]
    builder.LoadDatabase()
    softioc.iocInit(asyncio_dispatcher.AsyncioDispatcher(asyncio.get_running_loop()), enable_pva=pva)
    async for value in values(hz):
        for record in records:
            record.set(value)


RUNS = {
    "here": here,
    "coroutine": coroutine,
    "both": both,
    "both-coroutine": both_coroutine,
    "caproto": stock,
    "softioc": python_soft_ioc,
    "softioc-both": python_soft_ioc_both,
    "p4p": p4p_alone,
    "p4p-noop": p4p_noop,
}

if __name__ == "__main__":
    asyncio.run(RUNS[sys.argv[1]](int(sys.argv[2]), float(sys.argv[3])))
