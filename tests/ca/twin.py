"""A server in a process of its own, `twin.py here|caproto COUNT`, told on stdin what to do.

Both kinds serve the same PVs, and COUNT more that have fields, so that one client action can be tried on
each. Each line of stdin is a JSON object, `{"post": [[name, value, severity], ...]}` (`T:numbers` gets an
array full of the value), or `{}`. It is answered by one, with `cpu_s`, and `no_delay`: whether TCP_NODELAY is
on, for each client.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ARRAY = 20_000
Post = Callable[[str, Any, int], Awaitable[None]]


def no_delay() -> list[bool]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        if not link.is_symlink() or not str(link.readlink()).startswith("socket:"):
            continue
        sock = socket.socket(fileno=os.dup(int(link.name)))
        with sock:
            if (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM):
                try:
                    sock.getpeername()
                except OSError:
                    continue
                found.append(bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
    return found


async def obey(post: Post) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("{}", flush=True)
    async for line in reader:
        order = json.loads(line)
        for name, value, severity in order.get("post", ()):
            await post(name, [value] * ARRAY if name == "T:numbers" else value, severity)
            if order.get("slowly"):
                await asyncio.sleep(0)
        print(json.dumps({"no_delay": no_delay(), "cpu_s": time.process_time()}), flush=True)


async def here(count: int) -> None:
    from caproto import ChannelType

    from attpc_ioc.ioc.ca import PV, CAServer, Client, PVSpec

    specs = [
        PVSpec("T:long", "longin", ChannelType.LONG),
        PVSpec("T:ai", "ai", ChannelType.DOUBLE, units="MB/s"),
        PVSpec("T:choice", "mbbo", ChannelType.ENUM, labels=("None", "Idle"), writable=True),
        PVSpec("T:title", "lsi", ChannelType.CHAR, max_elements=1024, writable=True),
        PVSpec("T:numbers", "waveform", ChannelType.DOUBLE, max_elements=ARRAY),
        *(PVSpec(f"T:many{i}", "ai", ChannelType.DOUBLE) for i in range(count)),
    ]
    pvs = {spec.name: PV(spec, "short" if spec.is_text else spec.default) for spec in specs}

    async def put(pv: PV, value: Any, _: Client) -> None:
        pv.post(value)

    async def post(name: str, value: Any, severity: int) -> None:
        pvs[name].post(value, severity=severity, status=7 if severity else 0)

    server = CAServer(pvs.values(), put=put)
    await server.start()
    await obey(post)
    await server.stop()


async def stock(count: int) -> None:
    from caproto import AlarmSeverity, AlarmStatus
    from caproto.asyncio.server import Context
    from caproto.server import PVGroup, pvproperty

    made: dict[str, Any] = {
        "long": pvproperty(value=0, alarm_group="long"),
        "ai": pvproperty(value=0.0, units="MB/s", record="ai", alarm_group="ai"),
        "choice": pvproperty(value="None", enum_strings=["None", "Idle"], dtype=3, alarm_group="choice"),
        "title": pvproperty(value="short", dtype=str, alarm_group="title"),
        "numbers": pvproperty(value=[0.0] * ARRAY, max_length=ARRAY, alarm_group="numbers"),
    }
    made |= {f"many{i}": pvproperty(value=0.0, record="ai") for i in range(count)}
    group = type("Group", (PVGroup,), made)(prefix="T:")

    async def post(name: str, value: Any, severity: int) -> None:
        status = AlarmStatus.STATE if severity else AlarmStatus.NO_ALARM
        await group.pvdb[name].write(value, status=status, severity=AlarmSeverity(severity))

    server = asyncio.create_task(Context(group.pvdb).run())
    await obey(post)
    server.cancel()


if __name__ == "__main__":
    asyncio.run({"here": here, "caproto": stock}[sys.argv[1]](int(sys.argv[2])))
