"""Connections from many addresses of loopback: `python -m tests.support.crowd PORT PV HOSTS WHAT`.

They come from HOSTS addresses, 127.0.1.1 and up, and each is made again when the server ends it. WHAT says
what each one does: `nothing`, or `channel`, which makes one to PV. It ends with its standard input, or by
itself after `LIFE_S` or `TRIES`.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import sys
from collections.abc import AsyncIterator

import caproto

CONNECTIONS = 2000
TRIES = 50_000
LIFE_S = 90.0
AT_ONCE = 50
AGAIN_S = 0.2


class Crowd:
    """Tries to hold `CONNECTIONS` connections."""

    def __init__(self, port: int, pv: str, hosts: int, what: str) -> None:
        self._port = port
        self._hosts = hosts
        hello = bytes(caproto.VersionRequest(0, 13))
        self._hello = hello + (bytes(caproto.CreateChanRequest(pv, 1, 13)) if what == "channel" else b"")
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tries = 0

    async def run(self) -> None:
        """Hold them until cancelled."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        async with asyncio.TaskGroup() as tasks:
            for number in range(min(CONNECTIONS, most - 100)):
                tasks.create_task(
                    self._hold(f"127.0.{1 + number % self._hosts // 250}.{1 + number % self._hosts % 250}")
                )

    async def _hold(self, address: str) -> None:
        while self._tries < TRIES:
            with contextlib.suppress(OSError):
                async with self._turns:
                    self._tries += 1
                    if self._tries == CONNECTIONS:
                        print("all tried", flush=True)
                    sock = socket.socket()
                    sock.setblocking(False)
                    sock.bind((address, 0))
                    try:
                        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
                    except BaseException:
                        sock.close()
                        raise
                    reader, writer = await asyncio.open_connection(sock=sock)
                    writer.write(self._hello)
                try:
                    while await reader.read(4096):
                        pass
                finally:
                    writer.transport.abort()
            await asyncio.sleep(AGAIN_S)


@contextlib.asynccontextmanager
async def crowd(port: int, pv: str, hosts: int, what: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a crowd for the length of a block, which begins when all connections were tried once."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, str(port), pv, str(hosts), what),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"all tried\n"
        yield process
    finally:
        process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 10)
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _main() -> None:
    port, pv, hosts, what = sys.argv[1:]
    task = asyncio.create_task(Crowd(int(port), pv, int(hosts), what).run())
    stdin = asyncio.create_task(asyncio.to_thread(sys.stdin.buffer.read))
    await asyncio.wait((task, stdin), timeout=LIFE_S, return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    await asyncio.wait((task,))


if __name__ == "__main__":
    asyncio.run(_main())
