"""One client's requests: channels, subscriptions, gets and puts.

Everything is answered within the call that received the bytes, except puts: they run as tasks and are
answered when those end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from struct import unpack_from
from typing import Protocol

from attpc_ioc.ioc.ca import dbr, wire
from attpc_ioc.ioc.ca.client import Client, ClientInfo
from attpc_ioc.ioc.ca.limits import LineLimit, ServerLimits, ServerStats
from attpc_ioc.ioc.ca.link import EVENT, Link
from attpc_ioc.ioc.ca.monitor import Channel, Subscription
from attpc_ioc.ioc.ca.pv import PV, to_message
from attpc_ioc.ioc.ca.wire import NO_ACCESS, READ, WRITE, Command, Eca, Header

_GET = int(Command.READ_NOTIFY).to_bytes(2, "big")
_NAME_BYTES = 256
_NO_CHANNEL = 0xFFFFFFFF
_LONG_HEADERS_SINCE = 9
"""The minor protocol version that introduced the long header; before it sizes have 16 bits."""
_LONG_HEADER = b"\xff\xff"


class _Server(Protocol):
    """The part of `CAServer` that a circuit uses."""

    limits: ServerLimits
    counts: ServerStats
    lines: LineLimit

    def join(self, circuit: Circuit, peer: str) -> None: ...
    def leave(self, circuit: Circuit) -> None: ...
    def make_room(self, circuit: Circuit) -> bool: ...
    def end_the_largest_input(self) -> None: ...
    def find(self, name: str) -> PV | None: ...
    def answer_search(self, header: Header, *, over_tcp: bool = False) -> bytes: ...
    def rights(self, pv: PV, client: Client) -> int: ...
    def reject(self, pv: PV, client: Client, raw: str, reason: str) -> None: ...
    def put(
        self,
        circuit: Circuit,
        channel: Channel,
        dtype: int,
        count: int,
        payload: bytes,
        done: Callable[[Eca], None],
    ) -> None: ...


class Circuit(Link):
    """The server's end of one client's connection."""

    def __init__(self, server: _Server) -> None:
        super().__init__(server.limits, server.counts, server.lines)
        self.server = server
        self.channels: dict[int, Channel] = {}
        self.subscriptions = 0
        self._long_headers = True
        self.connected_at = self._loop.time()
        self._next_sid = 0
        self._rights_due: dict[int, Channel] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register with the server."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername") or ("", 0)
        self.server.join(self, f"{peer[0]}:{peer[1]}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client; its running puts continue."""
        for channel in self.channels.values():
            self._unsubscribe_all(channel)
        self._stats.channels -= len(self.channels)
        self.channels.clear()
        self._rights_due.clear()
        super().connection_lost(exc)
        self.server.leave(self)

    def knows(self, command: int) -> bool:
        """Whether this command exists."""
        return command in _HANDLERS

    def handle(self, header: Header) -> None:
        """Handle one message."""
        _HANDLERS[header.command](self, header)

    def too_long(self, header: Header) -> bool:
        """Refuse a write that exceeds the limit; any other message of that length is invalid."""
        if header.command not in (Command.WRITE, Command.WRITE_NOTIFY):
            return False
        channel = self.channels.get(header.p1)
        if channel is None:
            self._refuse_without_channel(header)
        elif not channel.rights & WRITE:
            self.server.reject(channel.pv, self.client, "", NO_ACCESS)
            self._answer_put(header, channel, Eca.NOWTACCESS)
        else:
            self.server.reject(channel.pv, self.client, "", f"{header.size} bytes are too many")
            self._answer_put(header, channel, Eca.TOLARGE)
        return True

    def input_limit_exceeded(self) -> None:
        """Let the server disconnect the client with the most buffered input."""
        self.server.end_the_largest_input()

    def has_room(self) -> bool:
        """Whether memory is left; the server may disconnect another client for it."""
        return self.server.make_room(self)

    def send_event(self, subscription: Subscription) -> None:
        """Send a subscription the PV's current value; without read access, zeros and the reason."""
        channel = subscription.channel
        if channel.rights & READ:
            message = channel.pv.message(subscription.dtype, subscription.count)
        else:
            count = subscription.count or 1
            zeros = dbr.refused(subscription.dtype, count)
            message = to_message(subscription.dtype, Eca.NORDACCESS, count, zeros)
        if self._cannot_read(message[0]):
            number = int.from_bytes(subscription.id, "big")
            form = subscription.dtype, min(subscription.count, 0xFFFF)
            asked = wire.HEADER.pack(Command.EVENT_ADD, 16, *form, channel.sid, number)
            self._send_exception(asked, channel.cid, Eca.OLD_CLIENT, channel.pv.name)
            return
        self.send_update(subscription, message)

    # --- requests about the circuit ---

    def _cannot_read(self, head: bytes) -> bool:
        """Whether a message that begins with `head` has a header that this old client cannot read."""
        return not self._long_headers and head[:2] == _LONG_HEADER

    def _on_version(self, header: Header) -> None:
        self._long_headers = header.count >= _LONG_HEADERS_SINCE
        self.send(wire.message(Command.VERSION, 0, wire.MINOR_VERSION))

    def _on_echo(self, _: Header) -> None:
        self.send(wire.message(Command.ECHO))

    def _on_sync(self, header: Header) -> None:
        self.send(wire.message(Command.READ_SYNC, header.data_type, header.count, header.p1, header.p2))

    def _on_events_off(self, _: Header) -> None:
        self.switch_events(False)

    def _on_events_on(self, _: Header) -> None:
        self.switch_events(True)

    def _on_user(self, header: Header) -> None:
        self._introduce(replace(self.client, user=wire.text_of(header.payload[:_NAME_BYTES])))

    def _on_host(self, header: Header) -> None:
        self._introduce(replace(self.client, host=wire.text_of(header.payload[:_NAME_BYTES])))

    def _introduce(self, client: Client) -> None:
        if client != self.client:
            self.client = client
            if self.channels:
                self.do_in_turns(self.refresh_steps())

    def _on_search(self, header: Header) -> None:
        if reply := self.server.answer_search(header, over_tcp=True):
            self.send(reply)

    # --- channels ---

    def _on_create(self, header: Header) -> None:
        cid = header.p1
        name = wire.text_of(header.payload[:_NAME_BYTES])
        pv = self.server.find(name)
        if pv is not None and len(self.channels) >= self._limits.max_channels:
            self.warn_once("client has too many channels", most=self._limits.max_channels)
            pv = None
        if pv is not None and not self.has_room():
            self.warn_once("channels refused: clients take too much memory (max_memory_bytes)")
            pv = None
        if pv is None:
            self.send(wire.message(Command.CREATE_FAILED, p1=cid))
            return
        self._next_sid += 1
        channel = self.channels[self._next_sid] = Channel(pv, cid, self._next_sid)
        self._stats.channels += 1
        channel.rights = self.server.rights(pv, self.client)
        self._send_rights(channel)
        self.send(wire.message(Command.CREATE_CHANNEL, pv.spec.dtype, pv.spec.max_elements, cid, channel.sid))

    def _on_clear(self, header: Header) -> None:
        channel = self.channels.pop(header.p1, None)
        if channel is not None:
            self._unsubscribe_all(channel)
            self._rights_due.pop(channel.sid, None)
            self._stats.channels -= 1
        self.send(wire.message(Command.CLEAR_CHANNEL, p1=header.p1, p2=header.p2))

    def refresh_access(self) -> None:
        """Work out the access rights again, and send the client those that changed."""
        for _ in self.refresh_steps():
            pass

    def refresh_steps(self) -> Iterator[None]:
        """Do as `refresh_access`, channel by channel; the caller may yield in between.

        A client that does not read gets only the latest rights, once it reads again.
        """
        for channel in tuple(self.channels.values()):
            if self.channels.get(channel.sid) is not channel:
                continue  # cleared meanwhile
            rights = self.server.rights(channel.pv, self.client)
            if rights != channel.rights:
                read_changed = (rights ^ channel.rights) & READ
                channel.rights = rights
                if self._paused:
                    self._rights_due[channel.sid] = channel
                else:
                    self._send_rights(channel)
                if read_changed:
                    for subscription in channel.subscriptions.values():
                        self.send_event(subscription)
            yield

    def _send_rights(self, channel: Channel) -> None:
        self.send(wire.message(Command.ACCESS_RIGHTS, p1=channel.cid, p2=channel.rights))

    def resume_writing(self) -> None:
        """Send the rights that changed meanwhile, then continue."""
        due, self._rights_due = self._rights_due, {}
        for channel in due.values():
            self._send_rights(channel)
        super().resume_writing()

    def _complain(self, header: Header, cid: int, status: Eca, text: str) -> None:
        """Send an exception: libca prints the text and changes nothing else."""
        self._send_exception(header.short(), cid, status, text)

    def _send_exception(self, asked: bytes, cid: int, status: Eca, text: str) -> None:
        self.send(wire.message(Command.ERROR, p1=cid, p2=status, payload=asked + text.encode() + b"\0"))

    def _checked(self, header: Header) -> tuple[Channel | None, Eca]:
        """Return the channel of a request for a value, and whether its type and count are possible."""
        channel = self.channels.get(header.p1)
        if channel is None:
            return None, Eca.BADCHID
        if not dbr.known(header.data_type):
            return channel, Eca.BADTYPE
        if header.count > channel.pv.spec.max_elements:
            return channel, Eca.BADCOUNT
        return channel, Eca.NORMAL if channel.rights & READ else Eca.NORDACCESS

    # --- subscriptions ---

    def _on_subscribe(self, header: Header) -> None:
        channel, status = self._checked(header)
        mask = unpack_from(">H", header.payload, 12)[0] if header.size >= 14 else 0
        if channel is None or not mask:
            status = Eca.BADMONID if channel else status
            self._complain(header, _NO_CHANNEL, status, "bad subscription")
            return
        if self.subscriptions >= self._limits.max_subscriptions:
            self.warn_once("client has too many subscriptions", most=self._limits.max_subscriptions)
            status = Eca.ALLOCMEM
        elif not self.has_room():
            self.warn_once("subscriptions refused: clients take too much memory (max_memory_bytes)")
            status = Eca.ALLOCMEM
        if status not in (Eca.NORMAL, Eca.NORDACCESS):
            head, tail = to_message(header.data_type, status, header.count, bytes(8))
            self.send(EVENT + head + header.p2.to_bytes(4, "big") + tail)
            return
        self._unsubscribe(channel, header.p2)
        subscription = Subscription(self, channel, header.data_type, header.count, mask, header.p2)
        channel.subscriptions[header.p2] = subscription
        channel.pv.subscriptions[subscription] = None
        self.subscriptions += 1
        self._stats.subscriptions += 1
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
            subscription.ended = True
            self.subscriptions -= 1
            self._stats.subscriptions -= 1

    def _unsubscribe_all(self, channel: Channel) -> None:
        for subscription_id in tuple(channel.subscriptions):
            self._unsubscribe(channel, subscription_id)

    # --- gets ---

    def _on_get(self, header: Header) -> None:
        channel, status = self._checked(header)
        if channel is None or status is not Eca.NORMAL:
            self.send(
                wire.message(Command.READ_NOTIFY, header.data_type, header.count, status, header.p2, bytes(8))
            )
            return
        self._stats.gets += 1
        head, tail = channel.pv.message(header.data_type, header.count)
        if self._cannot_read(head):
            self._complain(header, channel.cid, Eca.OLD_CLIENT, channel.pv.name)
            return
        self.send(_GET + head + header.p2.to_bytes(4, "big") + tail)

    def _on_old_get(self, header: Header) -> None:
        """Answer READ, sent by clients before EPICS 3.13: failures are exceptions, not replies."""
        channel, status = self._checked(header)
        if channel is None or status is not Eca.NORMAL:
            self._complain(header, channel.cid if channel else _NO_CHANNEL, status, "read failed")
            return
        pv = channel.pv
        status, count, data = dbr.encode(
            pv.spec, pv.value, pv.severity, pv.status, pv.stamp_ns, header.data_type, header.count
        )
        if status != Eca.NORMAL:
            self._complain(header, channel.cid, Eca(status), "read failed")
            return
        self.send(wire.message(Command.READ, header.data_type, count, channel.cid, header.p2, data))

    # --- puts ---

    def _on_put(self, header: Header) -> None:
        channel = self.channels.get(header.p1)
        if channel is None:
            self._refuse_without_channel(header)
            return
        done = partial(self._answer_put, header, channel)
        self.server.put(self, channel, header.data_type, header.count, header.payload, done)

    def _refuse_without_channel(self, header: Header) -> None:
        if header.command == Command.WRITE_NOTIFY:
            self.send(
                wire.message(Command.WRITE_NOTIFY, header.data_type, header.count, Eca.BADCHID, header.p2)
            )
        else:
            self._complain(header, _NO_CHANNEL, Eca.BADCHID, "write to a channel that does not exist")

    def _answer_put(self, header: Header, channel: Channel, status: Eca) -> None:
        """Report how a put ended: always if an answer was requested, otherwise only on failure.

        No answer is sent after the channel was cleared: caproto's client treats one as a violation of the
        protocol.
        """
        if self.closing or self.channels.get(header.p1) is not channel:
            return
        if header.command == Command.WRITE_NOTIFY:
            reply = wire.message(Command.WRITE_NOTIFY, header.data_type, header.count, status, header.p2)
            self.send(reply, now=self.puts == 0)
        elif status is not Eca.NORMAL:
            self._complain(header, channel.cid, status, channel.pv.name)

    def info(self, names: int) -> ClientInfo:
        """Return who the client is and what it costs, with at most `names` PV names."""
        return ClientInfo(
            client=self.client,
            channels=len(self.channels),
            pvs=tuple(sorted(channel.pv.name for channel in islice(self.channels.values(), names))),
            subscriptions=self.subscriptions,
            queued=len(self.backlog),
            queued_bytes=self.backlog.bytes,
            dropped=self.backlog.dropped,
            puts_at_work=self.puts,
            connected_s=self._loop.time() - self.connected_at,
        )


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
