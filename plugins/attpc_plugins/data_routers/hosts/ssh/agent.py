"""The agent on a host (`agent.pl`): a process over SSH that answers requests, one line each."""

from __future__ import annotations

import asyncio
import contextlib

import asyncssh

from attpc_plugins.data_routers.hosts.host import HostFault, HostTimeout, HostUnreachable

from .meter import Flooded, note_answer
from .wire import GREETING, script

COMMAND = "perl -"
"""The only command for the host's shell. Perl is part of macOS and of nearly every Linux."""

NOISE_LIMIT = 1 << 16
"""A login shell may print at most this much before the agent's greeting."""

SAID_LIMIT = 1 << 16
"""An agent may write at most this much to its standard error for one request."""

LAST_WORDS = 2000


class Agent(asyncssh.SSHClientSession[bytes]):
    """One agent's process. It takes one request at a time: wait for the answer before the next one."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._received = bytearray()
        self._searched = 0
        self._limit = NOISE_LIMIT
        """How many bytes may be received now: none without a request, but a login shell prints before any."""
        self._said = 0
        self._news: asyncio.Future[None] | None = None
        self._last_words = bytearray()
        self._exit: str = ""
        self._lost: Exception | None = None
        self.ended = False
        self.fault: HostFault | None = None
        """How it broke the protocol, if it was ended for that."""
        self.number = 0
        """The process id on its host."""

    @classmethod
    async def open(cls, connection: asyncssh.SSHClientConnection, where: str) -> Agent:
        """Start an agent; `greet` waits for it. Raises asyncssh's errors if the host does not start it."""
        text = await asyncio.to_thread(script)
        opening = asyncio.ensure_future(
            connection.create_session(lambda: cls(where), COMMAND, encoding=None, request_pty=False)
        )
        try:
            _channel, session = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The host may still open the session; it must then be ended.
            opening.add_done_callback(_end_late)
            raise
        assert isinstance(session, cls)
        session._send(text)
        return session

    async def greet(self) -> None:
        """Wait until the agent runs; kill it if it does not start.

        Raises `HostFault` if the host cannot run it, `HostUnreachable` if the connection broke, and
        `HostTimeout` if the connection was closed in the meantime.
        """
        try:
            left = NOISE_LIMIT
            while (greeting := GREETING.search(line := await self._line(left))) is None:
                left = max(1, left - len(line) - 1)
            self.number = int(greeting[1])
            self._must_be_silent()
        except BaseException:
            self.kill()
            raise

    async def ask(self, request: bytes, limit: int) -> bytes:
        """Return the line of at most `limit` bytes that answers a request.

        A caller that stops waiting must `kill` the agent. An agent that sends more, or without a request, is
        ended with a `HostFault`, which `fault` keeps.
        """
        if self.ended:
            raise self._end()
        self._said = 0
        self._send(request)
        line = await self._line(limit)
        self._must_be_silent()
        return line

    def _send(self, data: bytes) -> None:
        """Write; if the channel has just closed, the wait for the answer ends with the reason."""
        if self._channel is not None:
            with contextlib.suppress(BrokenPipeError):
                self._channel.write(data)

    def _must_be_silent(self) -> None:
        if self._received:
            raise self._misbehaves(f"sends unrequested data: {bytes(self._received[:80])!r}")

    def _misbehaves(self, what: str) -> HostFault:
        if self.fault is None:
            self.fault = HostFault(f"{self._where} {what}")
        self._received.clear()
        self.kill()
        self._wake()
        return self.fault

    def kill(self) -> None:
        """End the process and the channel, without waiting."""
        self.ended = True
        if self._channel is not None:
            if not self._channel.is_closing():
                self._channel.kill()
            self._channel.abort()

    async def _line(self, limit: int) -> bytes:
        self._limit = limit
        try:
            while (end := self._received.find(b"\n", self._searched)) < 0:
                self._searched = len(self._received)
                if self.ended:
                    raise self._end()
                self._news = asyncio.get_running_loop().create_future()
                try:
                    await self._news
                finally:
                    self._news = None
        finally:
            self._limit = 0
        line = bytes(memoryview(self._received)[:end])
        del self._received[: end + 1]
        self._searched = 0
        return line

    def _end(self) -> HostFault | HostTimeout | HostUnreachable:
        if self.fault is not None:
            return self.fault
        if self._lost is not None:
            return HostUnreachable(f"the SSH connection to {self._where} broke: {self._lost}")
        said = self._last_words.decode("utf-8", "replace").strip()
        tail = f": {said}" if said else ""
        if not self._exit:
            # A process that ends has an exit status. This one's channel was closed, as all channels are when
            # another request on the connection had no answer in time.
            return HostTimeout(f"{self._where} did not answer before its SSH connection was closed{tail}")
        return HostFault(f"perl does not run on {self._where} ({self._exit}){tail}")

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Keep the channel; asyncssh calls it."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Keep the agent's output; asyncssh calls it."""
        if self.ended:
            return
        if self._channel is not None:
            note_answer(self._channel)
        if datatype is not None:
            self._last_words += data
            del self._last_words[:-LAST_WORDS]
            self._said += len(data)
            if self._said > SAID_LIMIT:
                self._misbehaves(f"sends too much without an answer: {bytes(self._last_words[:80])!r}")
            return
        self._received += data
        if len(self._received) <= self._limit:
            if b"\n" in data:
                self._wake()
        elif self._limit == 0:
            self._must_be_silent()
        elif self.number:
            self._misbehaves(f"answers with more than {self._limit} bytes: {bytes(self._received[:80])!r}")
        else:
            self._misbehaves(f"sends too much before the agent's greeting: {bytes(self._received[:80])!r}")

    def exit_status_received(self, status: int) -> None:
        """Keep how it ended; asyncssh calls it."""
        self._exit = f"exit code {status}"

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: ARG002
        """Keep how it ended; asyncssh calls it."""
        self._exit = f"ended by {signal}"

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake the waiting request; asyncssh calls it."""
        self._lost = exc
        if isinstance(exc, Flooded) and self.fault is None:
            self.fault = HostFault(f"{self._where}: {exc.reason}")
        self.ended = True
        self._wake()


def _end_late(
    opening: asyncio.Future[tuple[asyncssh.SSHClientChannel[bytes], asyncssh.SSHClientSession[bytes]]],
) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].abort()
