"""One SSH connection to a host, shared by all its agents, and made again after it breaks."""

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
from .meter import RECEIVED_AT_ONCE

log = get_logger(__name__)

CLOSING_S = 0.5


class Link:
    """One connection. `connection` returns it or makes it; after `drop` the next call makes a new one.

    `at_once`: the most received bytes that are handled in one turn of the event loop.
    """

    def __init__(self, target: Target, at_once: int = RECEIVED_AT_ONCE) -> None:
        self.target = target
        self._at_once = at_once
        self._connection: asyncssh.SSHClientConnection | None = None
        self._making: asyncio.Task[asyncssh.SSHClientConnection] | None = None
        self._silent: weakref.WeakKeyDictionary[asyncssh.SSHClientConnection, float] = (
            weakref.WeakKeyDictionary()
        )
        self._worker = Worker("the folder of the SSH configuration")
        self._passed: tuple[str, ...] = ()

    async def connection(self) -> asyncssh.SSHClientConnection:
        """Return the connection, within the target's `connect_s`.

        Raises `HostUnreachable`, `HostTimeout` and `HostRefused`. Concurrent callers wait for the same
        attempt, which continues when a caller is cancelled.
        """
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        if self._making is None or self._making.done():
            self._making = asyncio.get_running_loop().create_task(self._make())
            self._making.add_done_callback(_log_failure)
        making = self._making
        await asyncio.wait({making})
        if making.cancelled():
            raise HostUnreachable(f"{self.target}: the connection was closed")
        return making.result()

    async def _make(self) -> asyncssh.SSHClientConnection:
        dial = Dial(self.target, self._worker, self._at_once)
        try:
            self._connection = await dial.make()
        finally:
            self._log_ignored(tuple(dial.passed))
        log.info("SSH connection made", host=str(self.target))
        return self._connection

    def _log_ignored(self, passed: tuple[str, ...]) -> None:
        if passed != self._passed:
            self._passed = passed
            for place in passed:
                log.warning("SSH files: ignored", host=str(self.target), place=place)

    def drop(self, connection: asyncssh.SSHClientConnection, silent_s: float | None = None) -> None:
        """End a connection at once, without waiting, if it is still the present one.

        `silent_s`: the seconds without an answer, if that is the reason.
        """
        if self._connection is connection:
            if silent_s is not None:
                self._silent[connection] = silent_s
            connection.abort()
            self._connection = None

    def silence(self, connection: asyncssh.SSHClientConnection | None) -> HostTimeout | None:
        """Return the error for all requests on a connection that was dropped because it did not answer."""
        silent_s = self._silent.get(connection) if connection is not None else None
        if silent_s is None:
            return None
        return HostTimeout(f"{self.target} did not answer within {in_seconds(silent_s)}")

    async def close(self) -> None:
        """End the connection, within a second."""
        if self._making is not None and not self._making.done():
            self._making.cancel()
            await asyncio.wait({self._making}, timeout=CLOSING_S)
        # It may have been made just before it could be cancelled.
        connection, self._connection = self._connection, None
        if connection is None:
            return
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
            # Also if this is cancelled: nothing of the connection remains.
            connection.abort()


def _log_failure(task: asyncio.Task[asyncssh.SSHClientConnection]) -> None:
    """Log a failure, also if no caller waits for it any more."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.debug("SSH connection failed", reason=str(error))
