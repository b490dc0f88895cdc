"""One client's TCP connection: its channels, its subscriptions, its requests in the order in which they came.

Everything is answered within the call that brought the bytes in, apart from puts, which have tasks of their
own. Nothing ever waits for the client: replies stop being made (and input stops being read) while the client
does not take them, updates go to a bounded `Backlog`, and a client that takes nothing for long is
disconnected.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from struct import unpack_from
from typing import TYPE_CHECKING, cast

from attpc_ioc.ioc.ca import dbr, wire
from attpc_ioc.ioc.ca.client import Client, ClientInfo
from attpc_ioc.ioc.ca.monitor import Backlog, Subscription
from attpc_ioc.ioc.ca.pv import PV, Message, to_message
from attpc_ioc.ioc.ca.wire import Command, Eca, Header
from attpc_ioc.log import get_logger

if TYPE_CHECKING:
    from attpc_ioc.ioc.ca.server import CAServer

log = get_logger(__name__)

READ, WRITE = 1, 2
_EVENT = int(Command.EVENT_ADD).to_bytes(2, "big")
_GET = int(Command.READ_NOTIFY).to_bytes(2, "big")
_FLUSH_BYTES = 64 << 10
_NAME_BYTES = 256


class Channel:
    """One client's connection to one PV."""

    __slots__ = ("cid", "pv", "rights", "sid", "subscriptions")

    def __init__(self, pv: PV, cid: int, sid: int) -> None:
        self.pv = pv
        self.cid = cid
        self.sid = sid
        self.rights = 0
        self.subscriptions: dict[int, Subscription] = {}


class Circuit(asyncio.Protocol):
    """The server's end of one client's connection."""

    def __init__(self, server: CAServer) -> None:
        self.server = server
        self.client = Client(0, "")
        self.channels: dict[int, Channel] = {}
        self.subscriptions = 0
        self.puts = 0
        self.backlog = Backlog(server.limits.queue_depth)
        self.dropped_before = 0
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._connected_at = self._loop.time()
        self._in = bytearray()
        self._skip = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._flush_handle: asyncio.Handle | None = None
        self._resume_handle: asyncio.Handle | None = None
        self._stall_handle: asyncio.TimerHandle | None = None
        self._stalled_at = 0
        self._paused = False
        self._reading = True
        self._events_on = True
        self._next_sid = 0
        self._warned: set[str] = set()

    # --- the connection ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket up and join the server's clients."""
        self._transport = cast(asyncio.Transport, transport)
        limits = self.server.limits
        peer = transport.get_extra_info("peername") or ("", 0)
        self.client = self.server.join(self, f"{peer[0]}:{peer[1]}")
        sock: socket.socket = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.send_buffer_bytes // 2)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        idle = max(1, int(limits.dead_peer_s / 2))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle // 3))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        self._transport.set_write_buffer_limits(high=limits.send_buffer_bytes)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Forget the client; puts that are at work go on."""
        for handle in (self._flush_handle, self._resume_handle, self._stall_handle):
            if handle is not None:
                handle.cancel()
        for channel in self.channels.values():
            self._unsubscribe_all(channel)
        self.channels.clear()
        self._out.clear()
        self._in.clear()
        self._transport = None
        self.server.leave(self)

    def close(self) -> None:
        """End the connection without waiting for the client to take what is left."""
        if self._transport is not None:
            self._transport.abort()

    def _drop(self, reason: str, **keys: object) -> None:
        """Disconnect a client that does what none should."""
        if self._transport is None or self._transport.is_closing():
            return
        self.server.stats.disconnected += 1
        log.warning(
            "client disconnected", reason=reason, client=self.client.address, user=self.client.user, **keys
        )
        self._in.clear()
        self._out.clear()
        self._transport.abort()

    @property
    def _closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _warn_once(self, event: str, **keys: object) -> None:
        if event not in self._warned:
            self._warned.add(event)
            log.warning(event, client=self.client.address, user=self.client.user, **keys)

    # --- output ---

    def send(self, data: bytes) -> None:
        """Queue a message; all that one turn of the event loop queues goes out together."""
        self._out.append(data)
        self._out_bytes += len(data)
        if self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self._flush)

    def send_event(self, subscription: Subscription) -> None:
        """Send a subscription its PV's value now, or queue it while the client takes nothing."""
        channel = subscription.channel
        if channel.rights & READ:
            message = channel.pv.message(subscription.dtype, subscription.count)
        else:
            count = subscription.count or 1
            zeros = dbr.refused(subscription.dtype, count)
            message = to_message(subscription.dtype, Eca.NORDACCESS, count, zeros)
        if self._paused or not self._events_on:
            self.backlog.add(subscription, message)
            if self.backlog.bytes > self.server.limits.max_backlog_bytes:
                self._drop("too many updates wait for it", queued_bytes=self.backlog.bytes)
            return
        self._emit(subscription, message)

    def _emit(self, subscription: Subscription, message: Message) -> None:
        head, tail = message
        self._out += (_EVENT, head, subscription.id, tail)
        self._out_bytes += 16 + len(tail)
        self.server.stats.events += 1
        if self._out_bytes >= _FLUSH_BYTES:
            self._flush()
        elif self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
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
        self._continue_soon()

    def _watch_stall(self) -> None:
        if self._transport is not None:
            self._stalled_at = self._transport.get_write_buffer_size()
            self._stall_handle = self._loop.call_later(self.server.limits.stall_s, self._check_stall)

    def _check_stall(self) -> None:
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() < self._stalled_at:
            self._watch_stall()
        else:
            self._drop("it takes no data", queued=len(self.backlog), dropped=self.backlog.dropped)

    def _drain(self) -> None:
        if self._paused or not self._events_on:
            return
        for subscription, message in self.backlog.drain():
            self._emit(subscription, message)
            if self._paused:
                return

    # --- input ---

    def data_received(self, data: bytes) -> None:
        """Work on what the client sent."""
        self._in += data
        self._process()

    def _process(self) -> None:
        """Work on messages until there is none, the client owes us attention, or others have their turn."""
        buffer, offset = self._in, 0
        turn = self.server.limits.turn_messages
        while not self._closing:
            if self._skip:
                skipped = min(self._skip, len(buffer) - offset)
                self._skip -= skipped
                offset += skipped
            if turn == 0 or self._paused or self.puts >= self.server.limits.max_puts:
                break
            header = wire.read_header(buffer, offset)
            if header is None:
                break
            if header.end > len(buffer) and not self._too_long(header):
                break
            offset = min(header.end, len(buffer))
            header.payload = bytes(buffer[header.start : offset])
            turn -= 1
            handler = _HANDLERS.get(header.command)
            if handler is None:
                self._drop("it does not speak Channel Access", command=header.command)
            elif not self._skip:
                handler(self, header)
        if self._closing:
            return
        del buffer[:offset]
        if not self._paused:
            self._flush()
        waiting = turn == 0 or self._paused or self.puts >= self.server.limits.max_puts
        self._set_reading(not waiting)
        if turn == 0 and not self._paused:
            self._continue_soon()

    def _too_long(self, header: Header) -> bool:
        """Skip a write that is longer than allowed, and say so; anything else as long is no message."""
        if header.end - header.start <= self.server.limits.max_message_bytes:
            return False
        if header.command not in (Command.WRITE, Command.WRITE_NOTIFY):
            self._drop("it sends what is no message", size=header.size, command=header.command)
            return True
        self._skip = header.end - len(self._in)
        channel = self.channels.get(header.p1)
        if channel is not None:
            self.server.reject(channel.pv, self.client, "", f"{header.size} bytes are too many")
        if header.command == Command.WRITE_NOTIFY:
            self._answer_put(header, Eca.TOLARGE)
        return True

    def _set_reading(self, reading: bool) -> None:
        if self._closing or reading == self._reading:
            return
        self._reading = reading
        assert self._transport is not None
        if reading:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _continue_soon(self) -> None:
        if self._resume_handle is None and not self._closing:
            self._resume_handle = self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        self._resume_handle = None
        self._process()

    # --- requests about the circuit ---

    def _on_version(self, _: Header) -> None:
        self.send(wire.message(Command.VERSION, 0, wire.MINOR_VERSION))

    def _on_echo(self, _: Header) -> None:
        self.send(wire.message(Command.ECHO))

    def _on_sync(self, header: Header) -> None:
        self.send(wire.message(Command.READ_SYNC, header.data_type, header.count, header.p1, header.p2))

    def _on_events_off(self, _: Header) -> None:
        self._events_on = False

    def _on_events_on(self, _: Header) -> None:
        self._events_on = True
        self._drain()

    def _on_user(self, header: Header) -> None:
        self.client = replace(self.client, user=wire.text_of(header.payload[:_NAME_BYTES]))
        self.refresh_access()

    def _on_host(self, header: Header) -> None:
        self.client = replace(self.client, host=wire.text_of(header.payload[:_NAME_BYTES]))
        self.refresh_access()

    def _on_search(self, header: Header) -> None:
        reply = self.server.answer_search(header)
        if reply:
            self.send(reply)

    # --- channels ---

    def _on_create(self, header: Header) -> None:
        cid = header.p1
        name = wire.text_of(header.payload[:_NAME_BYTES])
        pv = self.server.find(name)
        if pv is not None and len(self.channels) >= self.server.limits.max_channels:
            self._warn_once("client has too many channels", most=self.server.limits.max_channels)
            pv = None
        if pv is None:
            self.send(wire.message(Command.CREATE_FAILED, p1=cid))
            return
        self._next_sid += 1
        channel = self.channels[self._next_sid] = Channel(pv, cid, self._next_sid)
        self.server.stats.channels += 1
        channel.rights = self.server.rights(pv, self.client)
        self.send(wire.message(Command.ACCESS_RIGHTS, p1=cid, p2=channel.rights))
        self.send(wire.message(Command.CREATE_CHANNEL, pv.spec.dtype, pv.spec.max_elements, cid, channel.sid))

    def _on_clear(self, header: Header) -> None:
        channel = self.channels.pop(header.p1, None)
        if channel is not None:
            self._unsubscribe_all(channel)
            self.server.stats.channels -= 1
        self.send(wire.message(Command.CLEAR_CHANNEL, p1=header.p1, p2=header.p2))

    def refresh_access(self) -> None:
        """Ask again who may do what, and tell the client where it changed."""
        for channel in self.channels.values():
            rights = self.server.rights(channel.pv, self.client)
            if rights == channel.rights:
                continue
            read_changed = (rights ^ channel.rights) & READ
            channel.rights = rights
            self.send(wire.message(Command.ACCESS_RIGHTS, p1=channel.cid, p2=rights))
            if read_changed:
                for subscription in channel.subscriptions.values():
                    self.send_event(subscription)

    def _complain(self, header: Header, cid: int, status: Eca, text: str) -> None:
        """Send an exception: it makes libca print the text, and changes nothing else."""
        head = wire.HEADER.pack(
            header.command,
            header.size & 0xFFFF,
            header.data_type,
            header.count & 0xFFFF,
            header.p1,
            header.p2,
        )
        self.send(wire.message(Command.ERROR, p1=cid, p2=status, payload=head + text.encode() + b"\0"))

    def _checked(self, header: Header) -> tuple[Channel, Eca] | None:
        """Return the channel of a request for a value, and whether type and count can be had."""
        channel = self.channels.get(header.p1)
        if channel is None:
            return None
        if not dbr.known(header.data_type):
            return channel, Eca.BADTYPE
        if header.count > channel.pv.spec.max_elements:
            return channel, Eca.BADCOUNT
        return channel, Eca.NORMAL if channel.rights & READ else Eca.NORDACCESS

    # --- subscriptions ---

    def _on_subscribe(self, header: Header) -> None:
        found = self._checked(header)
        mask = unpack_from(">H", header.payload, 12)[0] if header.size >= 14 else 0
        if found is None or not mask:
            self._complain(
                header, 0xFFFFFFFF, Eca.BADCHID if found is None else Eca.BADMONID, "bad subscription"
            )
            return
        channel, status = found
        if self.subscriptions >= self.server.limits.max_subscriptions:
            self._warn_once("client has too many subscriptions", most=self.server.limits.max_subscriptions)
            status = Eca.ALLOCMEM
        if status not in (Eca.NORMAL, Eca.NORDACCESS):
            head, tail = to_message(header.data_type, status, header.count, bytes(8))
            self.send(_EVENT + head + header.p2.to_bytes(4, "big") + tail)
            return
        self._unsubscribe(channel, header.p2)
        subscription = Subscription(self, channel, header.data_type, header.count, mask, header.p2)
        channel.subscriptions[header.p2] = subscription
        channel.pv.subscriptions[subscription] = None
        self.subscriptions += 1
        self.server.stats.subscriptions += 1
        self.send_event(subscription)

    def _on_unsubscribe(self, header: Header) -> None:
        channel = self.channels.get(header.p1)
        if channel is not None:
            self._unsubscribe(channel, header.p2)
        self.send(wire.message(Command.EVENT_ADD, header.data_type, header.count, header.p1, header.p2))

    def _unsubscribe(self, channel: Channel, subscription_id: int) -> None:
        subscription = channel.subscriptions.pop(subscription_id, None)
        if subscription is not None:
            channel.pv.subscriptions.pop(subscription, None)
            self.backlog.forget(subscription)
            self.subscriptions -= 1
            self.server.stats.subscriptions -= 1

    def _unsubscribe_all(self, channel: Channel) -> None:
        for subscription_id in tuple(channel.subscriptions):
            self._unsubscribe(channel, subscription_id)

    # --- gets ---

    def _on_get(self, header: Header) -> None:
        found = self._checked(header)
        status = Eca.BADCHID if found is None else found[1]
        if found is None or status is not Eca.NORMAL:
            self.send(
                wire.message(Command.READ_NOTIFY, header.data_type, header.count, status, header.p2, bytes(8))
            )
            return
        self.server.stats.gets += 1
        head, tail = found[0].pv.message(header.data_type, header.count)
        self.send(_GET + head + header.p2.to_bytes(4, "big") + tail)

    def _on_old_get(self, header: Header) -> None:
        """Answer READ, which clients before EPICS 3.13 send: failures are exceptions, not replies."""
        found = self._checked(header)
        status = Eca.BADCHID if found is None else found[1]
        if found is None or status is not Eca.NORMAL:
            self._complain(header, found[0].cid if found else 0xFFFFFFFF, status, "read failed")
            return
        pv = found[0].pv
        status, count, data = dbr.encode(
            pv.spec, pv.value, pv.severity, pv.status, pv.stamp_ns, header.data_type, header.count
        )
        if status != Eca.NORMAL:
            self._complain(header, found[0].cid, Eca(status), "read failed")
            return
        self.send(wire.message(Command.READ, header.data_type, count, found[0].cid, header.p2, data))

    # --- puts ---

    def _on_put(self, header: Header) -> None:
        channel = self.channels.get(header.p1)
        notify = header.command == Command.WRITE_NOTIFY
        if channel is None:
            if notify:
                self._answer_put(header, Eca.BADCHID)
            else:
                self._complain(header, 0xFFFFFFFF, Eca.BADCHID, "write to a channel that does not exist")
            return
        done: Callable[[Eca], None] | None = None
        if notify:
            done = _PutReply(self, header)
        self.server.put(self, channel, header.data_type, header.count, header.payload, done)

    def _answer_put(self, header: Header, status: Eca) -> None:
        if not self._closing:
            self.send(wire.message(Command.WRITE_NOTIFY, header.data_type, header.count, status, header.p2))

    def put_started(self) -> None:
        """Count a put that is at work; too many of them stop the reading of this client's messages."""
        self.puts += 1

    def put_ended(self) -> None:
        """Go on reading when `put_started` stopped it."""
        self.puts -= 1
        if not self._reading and self.puts == self.server.limits.max_puts - 1:
            self._continue_soon()

    def info(self) -> ClientInfo:
        """Return who this is and what it costs."""
        return ClientInfo(
            client=self.client,
            channels=tuple(sorted(channel.pv.name for channel in self.channels.values())),
            subscriptions=self.subscriptions,
            queued=len(self.backlog),
            queued_bytes=self.backlog.bytes,
            dropped=self.backlog.dropped,
            puts_at_work=self.puts,
            connected_s=self._loop.time() - self._connected_at,
        )


class _PutReply:
    """Answers one WRITE_NOTIFY, whenever the put has ended."""

    __slots__ = ("_circuit", "_header")

    def __init__(self, circuit: Circuit, header: Header) -> None:
        self._circuit = circuit
        self._header = header

    def __call__(self, status: Eca) -> None:
        self._circuit._answer_put(self._header, status)


_Handler = Callable[[Circuit, Header], None]
_HANDLERS: dict[int, _Handler] = {
    Command.VERSION: Circuit._on_version,
    Command.EVENT_ADD: Circuit._on_subscribe,
    Command.EVENT_CANCEL: Circuit._on_unsubscribe,
    Command.READ: Circuit._on_old_get,
    Command.WRITE: Circuit._on_put,
    Command.SEARCH: Circuit._on_search,
    Command.EVENTS_OFF: Circuit._on_events_off,
    Command.EVENTS_ON: Circuit._on_events_on,
    Command.READ_SYNC: Circuit._on_sync,
    Command.CLEAR_CHANNEL: Circuit._on_clear,
    Command.READ_NOTIFY: Circuit._on_get,
    Command.CREATE_CHANNEL: Circuit._on_create,
    Command.WRITE_NOTIFY: Circuit._on_put,
    Command.CLIENT_NAME: Circuit._on_user,
    Command.HOST_NAME: Circuit._on_host,
    Command.ECHO: Circuit._on_echo,
}
