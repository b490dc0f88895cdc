"""One SSH connection to a host, kept and made again when it is broken, shared by all that is asked of it."""

from __future__ import annotations

import asyncio
import contextlib
import weakref

import asyncssh

from attpc_ioc.log import get_logger
from attpc_plugins.data_routers.hosts.host import HostTimeout, HostUnreachable
from attpc_plugins.data_routers.hosts.limits import in_seconds
from attpc_plugins.data_routers.hosts.worker import Worker

from .dial import Dial, Target

log = get_logger(__name__)

CLOSING_S = 0.5


class Link:
    """One connection. `connection` gives it, made when there is none; `drop` has the next call make one."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._connection: asyncssh.SSHClientConnection | None = None
        self._making: asyncio.Task[asyncssh.SSHClientConnection] | None = None
        self._silent: weakref.WeakKeyDictionary[asyncssh.SSHClientConnection, float] = (
            weakref.WeakKeyDictionary()
        )
        self._worker = Worker("the folder of the SSH configuration")
        self._passed: tuple[str, ...] = ()

    async def connection(self) -> asyncssh.SSHClientConnection:
        """Return the connection, within the target's `connect_s`.

        Raises `HostUnreachable`, `HostTimeout` and `HostRefused`. Those who ask while it is being made wait
        for the same one; it goes on being made when they wait no more.
        """
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if self._making is None or self._making.done():
            self._making = asyncio.get_running_loop().create_task(self._make())
            self._making.add_done_callback(_watch)
        making = self._making
        await asyncio.wait({making})
        if making.cancelled():
            raise HostUnreachable(f"{self.target}: the connection was given up")
        return making.result()

    async def _make(self) -> asyncssh.SSHClientConnection:
        dial = Dial(self.target, self._worker)
        try:
            self._connection = await dial.make()
        finally:
            self._tell_passed(tuple(dial.passed))
        log.info("SSH connection made", host=str(self.target))
        return self._connection

    def _tell_passed(self, passed: tuple[str, ...]) -> None:
        if passed != self._passed:
            self._passed = passed
            for place in passed:
                log.warning("SSH files: passed over", host=str(self.target), place=place)

    def drop(self, connection: asyncssh.SSHClientConnection, silent_s: float | None = None) -> None:
        """End a connection at once, when it still is the present one; nothing is waited for.

        `silent_s`: for how long, in seconds, something on it had no answer, where that is the reason.
        """
        if self._connection is connection:
            if silent_s is not None:
                self._silent[connection] = silent_s
            connection.abort()
            self._connection = None

    def silence(self, connection: asyncssh.SSHClientConnection | None) -> HostTimeout | None:
        """Return what all are to be told who were asking on a connection that was dropped for its silence."""
        silent_s = self._silent.get(connection) if connection is not None else None
        if silent_s is None:
            return None
        return HostTimeout(f"{self.target} did not answer within {in_seconds(silent_s)}")

    async def close(self) -> None:
        """End the connection, within a second."""
        making, connection = self._making, self._connection
        if making is not None and not making.done():
            making.cancel()
            await asyncio.wait({making}, timeout=CLOSING_S)
        if connection is None:
            return
        self._connection = None
        connection.close()
        try:
            async with asyncio.timeout(CLOSING_S):
                await connection.wait_closed()
        except TimeoutError:
            connection.abort()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSING_S):
                    await connection.wait_closed()
        finally:
            # Also where whoever closes it has no more time: nothing of it is left behind.
            connection.abort()


def _watch(task: asyncio.Task[asyncssh.SSHClientConnection]) -> None:
    """Note a failure that nobody waits for any more; whoever waits gets it too."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("SSH connection failed", reason=str(error))
