"""The agent on a host (`agent.pl`): a process at the other end of an SSH connection that answers lines."""

from __future__ import annotations

import asyncio

import asyncssh

from .host import HostFault, HostTimeout, HostUnreachable
from .wire import GREETING, script

COMMAND = "perl -"
"""All that a shell on a host ever reads. Perl is part of macOS and of nearly every Linux."""

NOISE_LIMIT = 1 << 16
"""A login shell may print so much before the agent greets."""

ANSWER_LIMIT = 192 << 20
"""No answer is longer: a manifest of 64 MiB in hexadecimal has 128 MiB."""

LAST_WORDS = 2000


class Agent(asyncssh.SSHClientSession[bytes]):
    """One agent's process. One request at a time: who asks the next one must have had the answer."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._received = bytearray()
        self._searched = 0
        self._news: asyncio.Future[None] | None = None
        self._last_words = bytearray()
        self._exit: str = ""
        self._lost: Exception | None = None
        self.ended = False
        self.number = 0
        """Of its process, on its host."""

    @classmethod
    async def open(cls, connection: asyncssh.SSHClientConnection, where: str) -> Agent:
        """Have one started, which `greet` waits for. Raises what asyncssh does where the host starts none."""
        text = await asyncio.to_thread(script)
        opening = asyncio.ensure_future(
            connection.create_session(lambda: cls(where), COMMAND, encoding=None, request_pty=False)
        )
        try:
            channel, session = await asyncio.shield(opening)
        except asyncio.CancelledError:
            # The host may still open it; then nobody would ever end it.
            opening.add_done_callback(_end_late)
            raise
        assert isinstance(session, cls)
        channel.write(text)
        return session

    async def greet(self) -> None:
        """Wait until it runs. Raises `HostFault` where the host cannot run it; kills it where it does not.

        `HostUnreachable` is raised where the connection broke, `HostTimeout` where it was given up meanwhile.
        """
        try:
            heard = 0
            while (greeting := GREETING.search(line := await self._line())) is None:
                heard += len(line)
                if heard > NOISE_LIMIT:
                    raise HostFault(f"{self._where} says too much before the agent greets: {line[:80]!r}")
            self.number = int(greeting[1])
        except BaseException:
            self.kill()
            raise

    async def ask(self, request: bytes) -> bytes:
        """Return the line that answers a request. Who does not wait for it must `kill` the agent."""
        if self._channel is None or self.ended:
            raise self._end()
        self._channel.write(request)
        return await self._line()

    def kill(self) -> None:
        """End the process and the channel, and wait for neither."""
        self.ended = True
        if self._channel is not None:
            if not self._channel.is_closing():
                self._channel.kill()
            self._channel.abort()

    async def _line(self) -> bytes:
        while (end := self._received.find(b"\n", self._searched)) < 0:
            self._searched = len(self._received)
            if self.ended:
                raise self._end()
            if self._searched > ANSWER_LIMIT:
                raise HostFault(f"{self._where} answers without an end")
            self._news = asyncio.get_running_loop().create_future()
            try:
                await self._news
            finally:
                self._news = None
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        self._searched = 0
        return line

    def _end(self) -> HostFault | HostTimeout | HostUnreachable:
        if self._lost is not None:
            return HostUnreachable(f"the SSH connection to {self._where} broke: {self._lost}")
        said = self._last_words.decode("utf-8", "replace").strip()
        tail = f": {said}" if said else ""
        if not self._exit:
            # Of a process that ends by itself it is told how. This one's channel was closed under it, as all
            # are when something else on the connection had no answer in time.
            return HostTimeout(f"{self._where} did not answer before its SSH connection was closed{tail}")
        return HostFault(f"perl does not run on {self._where} ({self._exit}){tail}")

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """Keep the channel; asyncssh calls it."""
        self._channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Keep what the agent says; asyncssh calls it."""
        if datatype is not None:
            self._last_words += data
            del self._last_words[:-LAST_WORDS]
            return
        self._received += data
        if b"\n" in data or len(self._received) > ANSWER_LIMIT:
            self._wake()

    def exit_status_received(self, status: int) -> None:
        """Keep how it ended; asyncssh calls it."""
        self._exit = f"exit code {status}"

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:  # noqa: ARG002
        """Keep how it ended; asyncssh calls it."""
        self._exit = f"ended by {signal}"

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits; asyncssh calls it."""
        self._lost = exc
        self.ended = True
        self._wake()


def _end_late(
    opening: asyncio.Future[tuple[asyncssh.SSHClientChannel[bytes], asyncssh.SSHClientSession[bytes]]],
) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].abort()
