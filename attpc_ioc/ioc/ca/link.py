"""The bytes of one client's connection: framing, batching, and what happens when the client does not read.

Nothing ever waits for the client. What one turn of the event loop makes goes out in one write; while the
client does not take it no more of its input is read, updates go to a bounded `Backlog`, and a client that
takes nothing for long is disconnected. `Circuit` adds what the messages mean.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from attpc_ioc.ioc.ca import wire
from attpc_ioc.ioc.ca.client import Client
from attpc_ioc.ioc.ca.limits import ServerLimits, ServerStats
from attpc_ioc.ioc.ca.monitor import Backlog, Subscription
from attpc_ioc.ioc.ca.pv import Message
from attpc_ioc.ioc.ca.wire import Command, Header
from attpc_ioc.log import get_logger

log = get_logger(__name__)

EVENT = int(Command.EVENT_ADD).to_bytes(2, "big")
_FLUSH_BYTES = 64 << 10
_RECEIVED = memoryview(bytearray(64 << 10))


class Link(asyncio.BufferedProtocol):
    """One client's connection, without knowledge of channels."""

    def __init__(self, limits: ServerLimits, stats: ServerStats) -> None:
        self.client = Client(0, "")
        self.backlog = Backlog(limits.queue_depth)
        self.puts = 0
        """Puts that are at work; too many of them stop the reading of this client's messages."""
        self._limits = limits
        self._stats = stats
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._in = bytearray()
        self._skip = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flush_handle: asyncio.Handle | None = None
        self._continue_handle: asyncio.Handle | None = None
        self._stall_handle: asyncio.TimerHandle | None = None
        self._stalled_at = 0
        self._paused = False
        self._reading = True
        self._working = False
        """Whether `_process` runs, which flushes at its end."""
        self._yielding = False
        self._events_on = True
        self._warned: set[str] = set()

    # --- what a subclass says ---

    def knows(self, command: int) -> bool:
        """Whether there is such a command."""
        raise NotImplementedError

    def handle(self, header: Header) -> None:
        """Act on one message; `header.payload` is all there."""
        raise NotImplementedError

    def too_long(self, header: Header) -> bool:
        """Refuse a message that is longer than allowed; return False when it cannot be skipped."""
        raise NotImplementedError

    # --- the connection ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket up: no delay, a bounded buffer, and a watch on peers that vanish."""
        self._transport = cast(asyncio.Transport, transport)
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._limits.send_buffer_bytes // 2)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        idle = max(1, int(self._limits.dead_peer_s / 2))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle // 3))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        self._transport.set_write_buffer_limits(high=self._limits.send_buffer_bytes)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Let go of everything."""
        for handle in (self._flush_handle, self._continue_handle, self._stall_handle):
            if handle is not None:
                handle.cancel()
        self.backlog.clear()
        self._out.clear()
        self._in.clear()
        self._transport = None

    def close(self) -> None:
        """End the connection without waiting for the client to take what is left."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def closing(self) -> bool:
        """Whether the connection has ended, or is about to."""
        return self._transport is None or self._transport.is_closing()

    def drop(self, reason: str, **keys: object) -> None:
        """Disconnect a client for what it does or does not do, with one log line."""
        if self.closing:
            return
        self._stats.disconnected += 1
        log.warning(
            "client disconnected", reason=reason, client=self.client.address, user=self.client.user, **keys
        )
        self._out.clear()
        self.close()

    def warn_once(self, event: str, **keys: object) -> None:
        """Log something about the client, the first time only."""
        if event not in self._warned:
            self._warned.add(event)
            log.warning(event, client=self.client.address, user=self.client.user, **keys)

    # --- output ---

    def send(self, data: bytes, *, now: bool = False) -> None:
        """Queue a message; all that one turn of the event loop queues goes out together, or `now`."""
        self._out.append(data)
        self._out_bytes += len(data)
        if now and not self._working:
            self.flush()
        else:
            self._flush_later()

    def send_update(self, subscription: Subscription, message: Message) -> None:
        """Send an update now, or queue it while the client takes nothing or has events switched off."""
        if not self._paused and self._events_on:
            self._emit(subscription, message)
            return
        self.backlog.add(subscription, message)
        if self.backlog.bytes > self._limits.max_backlog_bytes:
            self.drop("too many updates wait for it", queued_bytes=self.backlog.bytes)

    def switch_events(self, on: bool) -> None:
        """Hold updates back, or let go those that were held back."""
        self._events_on = on
        self._drain()

    def _emit(self, subscription: Subscription, message: Message) -> None:
        head, tail = message
        self._out += (EVENT, head, subscription.id, tail)
        self._out_bytes += wire.HEADER_SIZE + len(tail)
        self._stats.events += 1
        self._flush_later()

    def _flush_later(self) -> None:
        """See to it that what was queued goes out: after the work or the turn, or now if it is much."""
        if self._out_bytes >= _FLUSH_BYTES:
            self.flush()
        elif not self._working and self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self.flush)

    def _drain(self) -> None:
        if self._paused or not self._events_on:
            return
        for subscription, message in self.backlog.drain():
            self._emit(subscription, message)
            if self._paused:
                return

    def flush(self) -> None:
        """Hand what was queued to the operating system."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if not self._out:
            return
        data = b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def pause_writing(self) -> None:
        """Stop making replies and updates: the client does not take them."""
        self._paused = True
        self._watch_stall()
        self._set_reading(False)

    def resume_writing(self) -> None:
        """Go on where `pause_writing` stopped."""
        self._paused = False
        if self._stall_handle is not None:
            self._stall_handle.cancel()
            self._stall_handle = None
        self._drain()
        self.continue_soon()

    def _watch_stall(self) -> None:
        if self._transport is not None:
            self._stalled_at = self._transport.get_write_buffer_size()
            self._stall_handle = self._loop.call_later(self._limits.stall_s, self._check_stall)

    def _check_stall(self) -> None:
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() < self._stalled_at:
            self._watch_stall()  # slow, but it does read
        else:
            self.drop("it takes no data", queued=len(self.backlog), dropped=self.backlog.dropped)

    # --- input ---

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return where the event loop puts what came: one place for all clients, emptied at once."""
        return _RECEIVED

    def buffer_updated(self, nbytes: int) -> None:
        """Work on what the client sent."""
        self._in += _RECEIVED[:nbytes]
        self._process()

    @property
    def _busy(self) -> bool:
        """Whether the client has to take replies, or its puts have to end, before more is read."""
        return self._paused or self.puts >= self._limits.max_puts

    def _process(self) -> None:
        """Work on messages until there is none, the client has to wait, or others have their turn."""
        buffer, offset = self._in, 0
        self._working = True
        turn = self._limits.turn_messages
        while turn and not self.closing:
            if self._skip:
                skipped = min(self._skip, len(buffer) - offset)
                self._skip -= skipped
                offset += skipped
            header = None if self._busy else wire.read_header(buffer, offset)
            if header is None:
                break
            if not self.knows(header.command):
                self.drop("it does not speak Channel Access", command=header.command)
                break
            if header.end - offset > self._limits.max_message_bytes:
                if not self.too_long(header):
                    self.drop("it sends what is no message", command=header.command, size=header.size)
                self._skip = header.end - offset
                continue
            if header.end > len(buffer):
                break
            header.payload = bytes(buffer[header.start : header.end])
            offset = header.end
            turn -= 1
            self.handle(header)
            if self._yielding:
                turn = 0
        self._working = False
        self._yielding = False
        if self.closing:
            return
        del buffer[:offset]
        self.flush()
        self._set_reading(turn > 0 and not self._busy)
        if turn == 0:
            self.continue_soon()

    def yield_turn(self) -> None:
        """Let what was just started have its first turn before the client's next message.

        A client that puts and gets at once is to get what it has put, as from any IOC.
        """
        self._yielding = True

    def _set_reading(self, reading: bool) -> None:
        if self._transport is None or self.closing or reading == self._reading:
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def continue_soon(self) -> None:
        """Go on with the client's messages in the next turn of the event loop."""
        if self._continue_handle is None and not self.closing:
            self._continue_handle = self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        self._continue_handle = None
        self._process()
