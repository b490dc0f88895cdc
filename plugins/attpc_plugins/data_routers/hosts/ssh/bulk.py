"""Whole files from a host over SSH: a connection of its own, on which an agent sends bytes as they are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import asyncssh

from attpc_plugins.data_routers.hosts.host import HostFault, HostTimeout, HostUnreachable
from attpc_plugins.data_routers.hosts.limits import in_seconds

from .agent import COMMAND, NOISE_LIMIT
from .dial import BULK_AT_ONCE, Target
from .link import Link
from .meter import METER, Meter
from .wire import GREETING, SHORT, answer, request, script

READ_BYTES = 1 << 20
STALL_S = 30.0
"""A host that sends nothing for this long is given up."""


class Bulk:
    """Reads whole files of one host, one at a time; connects when needed.

    It is beside the connection for polls, which handles little at once so that no host can keep it busy.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._link = Link(target, BULK_AT_ONCE)
        self._lock = asyncio.Lock()
        self._process: asyncssh.SSHClientProcess[bytes] | None = None
        self._meter: Meter | None = None

    async def send(self, fields: Sequence[bytes], size: int, sink: Callable[[bytes], None]) -> None:
        """Read a file of `size` bytes; `sink` is called with each piece, in a thread.

        `fields`: staging folder, experiment's folder, run's folder and name. Raises any `HostError`, and
        what `sink` raises, which must be no `OSError`.
        """
        async with self._lock:
            try:
                await self._send(fields, size, sink)
            except TimeoutError:
                self._let_go()
                raise HostTimeout(f"{self._target} sent nothing for {in_seconds(STALL_S)}") from None
            except (asyncssh.Error, OSError, asyncio.IncompleteReadError) as error:
                self._let_go()
                raise HostUnreachable(f"the SSH connection to {self._target} broke: {error}") from error
            except ValueError as error:
                self._let_go()
                raise HostFault(f"{self._target}: {error}") from error
            except HostFault:
                raise  # the agent goes on
            except BaseException:
                self._let_go()
                raise

    async def _send(self, fields: Sequence[bytes], size: int, sink: Callable[[bytes], None]) -> None:
        process = await self._ready()
        process.stdin.write(request("send", STALL_S, (b"%d" % STALL_S, *fields)))
        (found,) = answer(await self._line(process, SHORT + 2 * sum(map(len, fields))))
        if found != b"%d" % size:
            self._let_go()
            raise HostFault(f"{self._target}: {fields[-1]!r} has {found.decode()} bytes, not {size}")
        left = size
        while left:
            async with asyncio.timeout(STALL_S):
                data = await process.stdout.read(min(left, READ_BYTES))
            if not data:
                raise HostUnreachable(f"{self._target} stopped sending {left} bytes before the end of a file")
            left -= len(data)
            self._useful()
            await asyncio.to_thread(sink, data)
        if answer(await self._line(process, SHORT)):
            raise ValueError("it sent more than the file")

    async def _line(self, process: asyncssh.SSHClientProcess[bytes], most: int) -> bytes:
        async with asyncio.timeout(STALL_S):
            line = await process.stdout.readuntil(b"\n", most)
        self._useful()
        return line[:-1]

    def _useful(self) -> None:
        if self._meter is not None:
            self._meter.useful()

    async def _ready(self) -> asyncssh.SSHClientProcess[bytes]:
        if self._process is not None and not self._process.is_closing():
            return self._process
        connection = await self._link.connection()
        self._meter = connection.get_extra_info(METER)
        text = await asyncio.to_thread(script)
        async with asyncio.timeout(self._target.connect_s):
            process = self._process = await connection.create_process(
                COMMAND, encoding=None, request_pty=False, stderr=asyncssh.DEVNULL
            )
            process.stdin.write(text)
            left = NOISE_LIMIT
            while GREETING.search(line := (await process.stdout.readuntil(b"\n", left))[:-1]) is None:
                left = max(1, left - len(line))
        return process

    def _let_go(self) -> None:
        """End the agent: what it still sends belongs to no request."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()
            self._process.channel.abort()
            self._process = None

    async def close(self) -> None:
        """End the agent and the connection, within a second."""
        self._let_go()
        await self._link.close()
