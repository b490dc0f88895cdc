"""Uploads records to recceivers that announce themselves, and answers their pings as long as they last."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network

from attpc_ioc.errors import system_reason
from attpc_ioc.log import get_logger
from attpc_ioc.ratelimit import Counted, RateLimit

from . import messages
from .announcements import Announcements
from .messages import Announcement, ProtocolError, RecordInfo

log = get_logger(__name__)

WAITS = 4
"""How many times `timeout_s` a recceiver may take for its greeting, which it delays while others upload, and
for its next ping."""

BODY_BYTES = 65_536
"""Longest body accepted from a recceiver; those of the protocol have 4 bytes."""

READ_BYTES = 4096
"""Buffered input of one recceiver."""

TURN_S = 0.01
"""Time from one message of a recceiver to the next, so that a flood of pings costs next to nothing."""

REMEMBERED = 64
"""Recceivers whose failures are remembered."""

_LINES, _LINES_S = 10, 60.0

_FAULTS = (OSError, TimeoutError, EOFError, ProtocolError)
"""What a recceiver and the network can do; everything else is a fault of this program."""

Server = tuple[str, int]
"""IPv4 address and TCP port of a recceiver."""


class State(StrEnum):
    """How far a recceiver is."""

    HEARD = "heard"
    CONNECTING = "connecting"
    WAITING = "waiting for its greeting"
    UPLOADING = "uploading"
    SENT = "everything sent"
    TAKEN = "upload taken"


@dataclass(frozen=True, slots=True)
class Times:
    """Time limits in seconds.

    - `holdoff`: longest time from an announcement to the connection; the time itself is random, so that many
      IOCs do not connect all at once.
    - `timeout`: of connecting and of each piece sent; `WAITS` of them for the greeting and between pings.
    - `backoff`: time without another attempt after a failure; doubled after each, up to `backoff_max`.
    """

    holdoff: float = 10.0
    timeout: float = 20.0
    backoff: float = 5.0
    backoff_max: float = 300.0


@dataclass(slots=True)
class Uploads:
    """One recceiver in use; `since` is the event loop's time at which it came to its state."""

    server: Server
    state: State
    since: float


class RecSyncClient:
    """Uploads `records` and `infos`, which are about the client as a whole, to at most `most` recceivers.

    `servers` are the networks where recceivers may be; None allows any that announces itself. `run` listens
    on the socket, which it closes, until it is cancelled; a recceiver then sees its connection end.
    """

    def __init__(
        self,
        records: Sequence[RecordInfo],
        infos: Mapping[str, str],
        *,
        servers: tuple[IPv4Network, ...] | None = None,
        most: int = 1,
        times: Times = Times(),
    ) -> None:
        self._records = records
        self._infos = infos
        self._servers = servers
        self._most = most
        self._times = times
        self._failures: OrderedDict[Server, tuple[int, float]] = OrderedDict()
        """By server how often it failed in a row, and the time before which it is not tried again."""
        self.uploads: dict[Server, Uploads] = {}
        """The recceivers in use."""
        self.heard = 0
        """Announcements that were allowed."""
        self.last_failure = ""
        self._lines: RateLimit[str] = RateLimit(_report, window_s=_LINES_S, each=_LINES)

    async def run(self, sock: socket.socket) -> None:
        """Serve every allowed recceiver that is heard on the socket."""
        async with asyncio.TaskGroup() as tasks:
            announcements = Announcements(sock, self._servers, lambda one: self._heard(one, tasks))
            try:
                await asyncio.Event().wait()
            finally:
                announcements.close()
                self._lines.end()

    def _heard(self, announcement: Announcement, tasks: asyncio.TaskGroup) -> None:
        self.heard += 1
        server = (announcement.address, announcement.port)
        if server in self.uploads or len(self.uploads) >= self._most:
            return
        _count, not_before = self._failures.get(server, (0, 0.0))
        if asyncio.get_running_loop().time() < not_before:
            return
        self._show(server, State.HEARD)
        tasks.create_task(self._serve(server, announcement.key), name=f"recceiver {_text(server)}")

    async def _serve(self, server: Server, key: int) -> None:
        taken = False
        try:
            await asyncio.sleep(random.uniform(0, self._times.holdoff))
            await self._connected(server, key)
        except _FAULTS as error:
            taken = self.uploads[server].state is State.TAKEN
            self._failed(server, _reason(error, self.uploads[server].state))
        except Exception:  # a bug here must not end a running IOC
            log.exception("upload to a recceiver failed", server=_text(server))
        finally:
            del self.uploads[server]
            self._back_off(server, 1 if taken else self._failures.get(server, (0, 0.0))[0] + 1)

    def _back_off(self, server: Server, count: int) -> None:
        delay_s = min(self._times.backoff * 2.0 ** min(count - 1, 30), self._times.backoff_max)
        self._failures[server] = (count, asyncio.get_running_loop().time() + delay_s)
        self._failures.move_to_end(server)
        while len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)

    async def _connected(self, server: Server, key: int) -> None:
        """Connect, upload and answer pings until the recceiver ends it; always raises, one of `_FAULTS`."""
        self._show(server, State.CONNECTING)
        async with asyncio.timeout(self._times.timeout):
            reader, writer = await asyncio.open_connection(*server, limit=READ_BYTES)
        try:
            self._show(server, State.WAITING)
            writer.write(messages.client_greeting(key))
            number, body = await self._received(reader)
            if number != messages.SERVER_GREETING or not body:
                raise ProtocolError(f"the first message of a recceiver is its greeting, not {number:#06x}")
            self._show(server, State.UPLOADING)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._upload(server, writer), name="recsync upload")
                    both.create_task(self._answer(server, reader, writer), name="recsync pings")
            except ExceptionGroup as group:
                _known, rest = group.split(_FAULTS)
                if rest is not None:
                    raise
                raise group.exceptions[0] from None
        finally:
            # What is not sent by now is of no use to anyone: nothing waits for it.
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            writer.close()

    async def _upload(self, server: Server, writer: asyncio.StreamWriter) -> None:
        for piece in messages.upload(self._infos, self._records):
            writer.write(piece)
            await self._drained(writer)
            await asyncio.sleep(0)  # what the IOC has to do goes before
        self._show(server, State.SENT)

    async def _answer(
        self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            number, body = await self._received(reader)
            if number == messages.PING:
                writer.write(messages.pong(body))
                await self._drained(writer)
                # A recceiver handles messages in order, and pings when it has seen the end of the upload.
                if self.uploads[server].state is State.SENT:
                    self._show(server, State.TAKEN)
                    if self._lines.passes("taken", "a recceiver took the upload"):
                        log.info(
                            "a recceiver took the upload", server=_text(server), records=len(self._records)
                        )
            await asyncio.sleep(TURN_S)

    async def _drained(self, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(self._times.timeout):
            await writer.drain()

    async def _received(self, reader: asyncio.StreamReader) -> tuple[int, bytes]:
        async with asyncio.timeout(WAITS * self._times.timeout):
            number, length = messages.read_header(await reader.readexactly(messages.HEADER_BYTES))
            if length > BODY_BYTES:
                raise ProtocolError(f"a message of {length} bytes; at most {BODY_BYTES} are accepted")
            return number, await reader.readexactly(length)

    def _show(self, server: Server, state: State) -> None:
        self.uploads[server] = Uploads(server, state, asyncio.get_running_loop().time())

    def _failed(self, server: Server, reason: str) -> None:
        self.last_failure = f"{_text(server)}: {reason}"
        if self._lines.passes("failed", f"a recceiver is lost: {self.last_failure}"):
            log.warning("a recceiver is lost", server=_text(server), reason=reason)


def _report(counted: list[Counted[str]]) -> None:
    for one in counted:
        log.warning("further lines about recceivers were left out", number=one.number, last=one.last)


def _text(server: Server) -> str:
    return f"{server[0]}:{server[1]}"


def _reason(error: BaseException, state: State) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in time while {state}"
    if isinstance(error, EOFError):
        return f"it closed the connection while {state}"
    return system_reason(error) if isinstance(error, OSError) else str(error)
