"""The bytes of one client's connection: framing, batching, and clients that do not read.

Nothing ever waits for the client. The output of one turn of the event loop goes out in one write. While the
client does not read, none of its input is read, updates go to a bounded `Backlog`, and a client that reads
nothing for `stall_s` is disconnected. `Circuit` handles the messages.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from time import perf_counter
from typing import cast

from attpc_ioc.ioc.ca import wire
from attpc_ioc.ioc.ca.client import Client
from attpc_ioc.ioc.ca.limits import LineLimit, ServerLimits, ServerStats
from attpc_ioc.ioc.ca.monitor import Backlog, Subscription
from attpc_ioc.ioc.ca.pv import Message
from attpc_ioc.ioc.ca.wire import Command, Header
from attpc_ioc.log import get_logger

log = get_logger(__name__)

EVENT = int(Command.EVENT_ADD).to_bytes(2, "big")
_FLUSH_BYTES = 64 << 10
TURN_S = 0.003
"""Time for which one client's messages are handled before others have their turn."""
_STALL_LOOKS = 8
"""Number of times during `stall_s` that the server checks whether a client reads."""
_AFTER_STALL_S = 5.0
"""The operating system drops a connection this much later than `stall_s`."""
_RECEIVED = memoryview(bytearray(64 << 10))


class Link(asyncio.BufferedProtocol):
    """One client's connection; it does not know channels."""

    def __init__(self, limits: ServerLimits, stats: ServerStats, lines: LineLimit) -> None:
        self.client = Client(0, "")
        self.backlog = Backlog(limits.queue_depth, stats)
        self.puts = 0
        """Running puts."""
        self._limits = limits
        self._stats = stats
        self._lines = lines
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._in = bytearray()
        self._in_counted = 0
        self._skip = 0
        self._chore: Iterator[None] | None = None
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flush_handle: asyncio.Handle | None = None
        self._continue_handle: asyncio.Handle | None = None
        self._stall_handle: asyncio.TimerHandle | None = None
        self._part_handle: asyncio.TimerHandle | None = None
        self._written = 0
        self._taken = 0
        self._taken_at = 0.0
        self._paused = False
        self._reading = True
        self._working = False
        """Whether `_process`, which flushes at its end, is running."""
        self._yielding = False
        self._events_on = True
        self._warned: set[str] = set()

    # --- for the subclass ---

    def knows(self, command: int) -> bool:
        """Whether this command exists."""
        raise NotImplementedError

    def handle(self, header: Header) -> None:
        """Handle one message; `header.payload` is complete."""
        raise NotImplementedError

    def too_long(self, header: Header) -> bool:
        """Refuse a message that exceeds the limit; return False if it cannot be skipped."""
        raise NotImplementedError

    def input_limit_exceeded(self) -> None:
        """React when all clients' buffered input exceeds `max_input_bytes`."""
        raise NotImplementedError

    def has_room(self) -> bool:
        """Whether memory is left; another client may be disconnected for it."""
        raise NotImplementedError

    # --- the connection ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set up the socket: no delay, a bounded buffer, and detection of vanished peers."""
        self._transport = cast(asyncio.Transport, transport)
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._limits.send_buffer_bytes // 2)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        idle = max(1, int(self._limits.dead_peer_s / 2))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle // 3))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        # Keep-alive probes are not sent while data is unacknowledged, which is usual with a monitor: this
        # time-out covers that. It also affects a live client that does not read, so it is longer than the
        # stall check, which gives the true reason and informs the client at once.
        noticed_s = self._limits.stall_s * (1 + 2 / _STALL_LOOKS)
        gone_s = max(self._limits.dead_peer_s, noticed_s + _AFTER_STALL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(gone_s * 1000))
        self._transport.set_write_buffer_limits(high=self._limits.send_buffer_bytes)

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything."""
        if isinstance(exc, TimeoutError):
            self._log_end("its host does not answer")
        for handle in (self._flush_handle, self._continue_handle, self._stall_handle, self._part_handle):
            if handle is not None:
                handle.cancel()
        self.backlog.clear()
        self._out.clear()
        self._in.clear()
        self._stats.input_bytes -= self._in_counted
        self._in_counted = 0
        self._chore = None
        self._transport = None

    def close(self) -> None:
        """Close the connection without waiting for the client to read what is left."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def closing(self) -> bool:
        """Whether the connection is closed or closing."""
        return self._transport is None or self._transport.is_closing()

    def drop(self, reason: str, *, event: str = "client disconnected", **keys: object) -> None:
        """Disconnect a client because of its behaviour, with one log line.

        For an address that is disconnected repeatedly only some lines are written; the next one says how
        many were left out.
        """
        if self.closing:
            return
        self._log_end(reason, event, **keys)
        self._out.clear()
        self.close()

    def _log_end(self, reason: str, event: str = "client disconnected", **keys: object) -> None:
        self._stats.disconnected += 1
        self._log(event, reason=reason, **keys)

    def _log(self, event: str, **keys: object) -> None:
        left_out = self._lines.ask(self.client.host_address, self._loop.time())
        if left_out is None:
            return
        if left_out:
            keys["left_out"] = left_out
        log.warning(event, client=self.client.address, user=self.client.user, **keys)

    def warn_once(self, event: str, **keys: object) -> None:
        """Log something about the client, only the first time and within the limit for its address."""
        if event not in self._warned:
            self._warned.add(event)
            self._log(event, **keys)

    # --- output ---

    def send(self, data: bytes, *, now: bool = False) -> None:
        """Queue a message; the messages of one turn of the event loop go out together, with `now` at once."""
        self._out.append(data)
        self._out_bytes += len(data)
        if now and not self._working:
            self.flush()
        else:
            self._flush_later()

    def send_update(self, subscription: Subscription, message: Message) -> None:
        """Send an update now, or queue it while the client does not read or has events switched off."""
        if not self._paused and self._events_on:
            self._emit(subscription, message)
            return
        self.backlog.add(subscription, message)
        if self.backlog.bytes > self._limits.max_backlog_bytes:
            self.backlog.squeeze()
            if self.backlog.bytes > self._limits.max_backlog_bytes:
                self.drop("too many updates are queued for it", queued_bytes=self.backlog.bytes)
        if not self.has_room():
            self.drop(
                "clients take too much memory (max_memory_bytes), and too many updates are queued for it",
                queued_bytes=self.backlog.bytes,
            )

    def switch_events(self, on: bool) -> None:
        """Switch events off, keeping the newest update of each subscription, or on, sending those."""
        self._events_on = on
        if not on:
            self.backlog.squeeze()
        self._drain()

    def _emit(self, subscription: Subscription, message: Message) -> None:
        head, tail = message
        self._out += (EVENT, head, subscription.id, tail)
        self._out_bytes += wire.HEADER_SIZE + len(tail)
        self._stats.events += 1
        self._flush_later()

    def _flush_later(self) -> None:
        """Flush the queue at the end of the work or the turn, or now if it is long."""
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
        """Pass queued output to the operating system."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if not self._out:
            return
        data = b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        if self._transport is not None and not self._transport.is_closing():
            self._written += len(data)
            self._transport.write(data)

    def pause_writing(self) -> None:
        """Stop making replies and updates: the client does not read."""
        self._paused = True
        self._watch_stall()
        self._set_reading(False)

    def resume_writing(self) -> None:
        """Continue where `pause_writing` stopped."""
        self._paused = False
        if self._stall_handle is not None:
            self._stall_handle.cancel()
            self._stall_handle = None
        self._drain()
        self.continue_soon()

    def _watch_stall(self) -> None:
        """Check whether the client reads: a slow one does, and the system's buffers hide a stall at first."""
        if self._transport is None:
            return
        taken, now = self._written - self._transport.get_write_buffer_size(), self._loop.time()
        if taken > self._taken or self._stall_handle is None:
            self._taken, self._taken_at = taken, now
        if now - self._taken_at >= self._limits.stall_s:
            self.drop("it reads no data", queued=len(self.backlog), dropped=self.backlog.dropped)
        else:
            look_s = self._limits.stall_s / _STALL_LOOKS
            self._stall_handle = self._loop.call_later(look_s, self._watch_stall)

    # --- input ---

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return the buffer for received data: one for all clients, emptied at once."""
        return _RECEIVED

    def buffer_updated(self, nbytes: int) -> None:
        """Handle what the client sent."""
        self._in += _RECEIVED[:nbytes]
        self._process()

    def _process(self) -> None:
        """Handle messages until none is left, the client has to wait, or others have their turn."""
        end = perf_counter() + TURN_S
        buffer, offset = self._in, 0
        self._working = True
        turn = self._limits.turn_messages
        if self._chore is not None and not self._work_on_chore(end):
            turn = 0
        while turn and not self.closing:
            if self._skip:
                skipped = min(self._skip, len(buffer) - offset)
                self._skip -= skipped
                offset += skipped
            header = None if self._paused else wire.read_header(buffer, offset)
            if header is None:
                break
            if not self.knows(header.command):
                self.drop("it does not speak Channel Access", command=header.command)
                break
            if header.end - offset > self._limits.max_message_bytes:
                if not self.too_long(header):
                    self.drop("it sends an invalid message", command=header.command, size=header.size)
                self._skip = header.end - offset
                continue
            if header.end > len(buffer):
                break
            header.payload = bytes(buffer[header.start : header.end])
            offset = header.end
            turn -= 1
            self.handle(header)
            if self._yielding or (offset < len(buffer) and perf_counter() > end):
                turn = 0
        self._working = False
        self._yielding = False
        if self.closing:
            return
        del buffer[:offset]
        self.flush()
        self._set_reading(turn > 0 and not self._paused)
        if turn == 0:
            self.continue_soon()
        if buffer or self._in_counted:
            self._watch_input(new=offset > 0)

    def do_in_turns(self, chore: Iterator[None]) -> None:
        """Run `chore` before the client's next message; others have their turns in between."""
        self._chore = chore
        self.yield_turn()

    def _work_on_chore(self, end: float) -> bool:
        """Return whether the chore is done."""
        assert self._chore is not None
        for _ in self._chore:
            if perf_counter() > end:
                return False
        self._chore = None
        return True

    def _watch_input(self, *, new: bool) -> None:
        """Limit buffered input: its size for all clients, and how long an incomplete message may wait.

        `new`: the input that was buffered before has been handled.
        """
        waits = len(self._in)
        self._stats.input_bytes += waits - self._in_counted
        self._in_counted = waits
        its_turn = self._reading and waits > 0
        if self._part_handle is not None and (new or not its_turn):
            self._part_handle.cancel()
            self._part_handle = None
        if self._part_handle is None and its_turn:
            self._part_handle = self._loop.call_later(self._limits.message_s, self._part_is_old)
        if self._stats.input_bytes > self._limits.max_input_bytes:
            self.input_limit_exceeded()

    @property
    def input_bytes(self) -> int:
        """Bytes of the client's input that are buffered: incomplete, or not yet handled."""
        return self._in_counted

    def _part_is_old(self) -> None:
        self._part_handle = None
        self.drop("it does not send the rest of a message", bytes=len(self._in))

    def yield_turn(self) -> None:
        """Let the task just started have its first turn before the client's next message.

        A client that puts and then gets must read what it has put, as from any IOC.
        """
        self._yielding = True

    def _set_reading(self, reading: bool) -> None:
        if reading == self._reading or self._transport is None or self.closing:
            return
        self._reading = reading
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def continue_soon(self) -> None:
        """Continue with the client's messages in the next turn of the event loop."""
        if self._continue_handle is None and not self.closing:
            self._continue_handle = self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        self._continue_handle = None
        self._process()
