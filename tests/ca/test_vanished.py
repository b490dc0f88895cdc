"""A client whose host is gone without a word, also where the server has something to tell it."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.support.needs import skip

CHILD = '''
import asyncio, fcntl, socket, struct, time
import caproto
from caproto import ChannelType
from attpc_ioc.ioc.ca import PV, CAServer, PVSpec, ServerLimits
from attpc_ioc.log import set_up_logging
from tests.ca.raw import raw_client


def loopback(up):
    """Bring the namespace's only interface up, or down: then nothing comes and nothing says so."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        flags = struct.unpack_from("16sh", fcntl.ioctl(sock, 0x8913, struct.pack("16sh14x", b"lo", 0)))[1]
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", flags | 1 if up else flags & ~1))


async def main():
    set_up_logging()
    loopback(True)
    pv = PV(PVSpec("T:long", "longin", ChannelType.LONG), 0)
    limits = ServerLimits(dead_peer_s=2.0, stall_s=1.0)
    server = CAServer([pv], put=lambda *_: None, limits=limits, interfaces=["127.0.0.1"])
    await server.start()
    async with raw_client(server.port) as idle, raw_client(server.port) as watching:
        await idle.channel("T:long")
        sid = (await watching.channel("T:long")).sid
        watching.send(caproto.EventAddRequest(ChannelType.LONG, 1, sid, 1, 0, 0, 0, 1))
        await watching.until(caproto.EventAddResponse)
        assert server.stats.clients == 2
        loopback(False)
        end = time.monotonic() + 30
        number = 0
        while server.stats.clients and time.monotonic() < end:
            number += 1
            pv.post(number)
            await asyncio.sleep(0.2)
        print("left:", server.stats.clients, flush=True)


asyncio.run(main())
'''


def test_a_client_with_a_monitor_whose_host_is_gone_is_let_go():
    unshare = shutil.which("unshare") or skip("unshare")
    if subprocess.run([unshare, "-rn", "true"], capture_output=True).returncode != 0:
        pytest.skip("no network namespace can be made here")
    ran = subprocess.run(
        [unshare, "-rn", sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=60
    )
    assert ran.stdout == "left: 0\n", (ran.stdout, ran.stderr)
    assert ran.stderr.count('reason="its host does not answer"') == 2, ran.stderr
