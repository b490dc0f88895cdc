"""The server: sockets, PVs, access rights and puts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from attpc_ioc.ioc.ca import address, decode, wire
from attpc_ioc.ioc.ca.circuit import Circuit
from attpc_ioc.ioc.ca.client import Client, ClientInfo
from attpc_ioc.ioc.ca.dbr import CLASS_NAME, PUT_ACKS, PUT_ACKT
from attpc_ioc.ioc.ca.fields import field, has_field
from attpc_ioc.ioc.ca.limits import LineLimit, ServerLimits, ServerStats
from attpc_ioc.ioc.ca.link import TURN_S
from attpc_ioc.ioc.ca.monitor import Channel
from attpc_ioc.ioc.ca.places import Places
from attpc_ioc.ioc.ca.pv import PV
from attpc_ioc.ioc.ca.spec import Value
from attpc_ioc.ioc.ca.udp import Beacons, Searches
from attpc_ioc.ioc.ca.wire import NO_ACCESS, READ, WRITE, Command, Eca, Header
from attpc_ioc.log import get_logger

__all__ = ["NO_ACCESS", "CAServer", "PutRejected", "ServerLimits", "ServerStats"]

log = get_logger(__name__)

_DO_REPLY = 10
_ANY_ADDRESS = 0xFFFFFFFF
_NAMES = 20_000
_ACCEPTED, _HELD = 16, 4096
"""Connections accepted in one turn of the event loop, and queued by the operating system until then."""

Put = Callable[[PV, Value, Client], Awaitable[None] | None]
OnRejected = Callable[[PV, Client, str, str], None]
Access = Callable[[PV, Client], tuple[bool, bool]]


class PutRejected(Exception):
    """A put was rejected or failed; the text is the reason. The client gets `ECA_PUTFAIL`."""


class CAServer:
    """Serves PVs over Channel Access.

    - `put(pv, value, client)` is called for every put whose value passed `decode`. It returns None when the
      put is done, or an awaitable, which runs as a task: it outlives its client, and only `stop` cancels it.
      A put with callback is answered at its end, or with `ECA_PUTFAIL` when it raises `PutRejected`. Any
      other exception is logged and answered in the same way. A put without callback that fails is answered
      with an exception, as by `softIoc`: libca only prints it.
    - `on_rejected(pv, client, raw, reason)` is called for every put that was rejected before `put` was
      called; `pv` is a record or one of its fields.
    - `access(pv, client)` returns whether a client may read and write a PV or one of its fields; without it
      every client may. It is called when a channel is made, when the client sends its user and host, and by
      `refresh_access`. A PV that is not writable never gets write access. If `access` raises, reading is
      allowed and writing is not.
    - `interfaces` and `port` take precedence over the `EPICS_CAS_*` and `EPICS_CA_*` variables.
    - `clock` returns the time stamps of posts without one, in seconds since 1970.
    """

    def __init__(
        self,
        pvs: Iterable[PV],
        *,
        put: Put,
        on_rejected: OnRejected | None = None,
        access: Access | None = None,
        limits: ServerLimits | None = None,
        interfaces: list[str] | None = None,
        port: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or ServerLimits()
        self.counts = ServerStats()
        """Raw counts, for this package; others read `stats`."""
        self.places = Places(self.limits, self.counts)
        """Limits connections and memory, for this package."""
        self.lines = LineLimit()
        """Limits log lines about disconnected clients, for this package."""
        self.port = 0
        """The TCP port, once started."""
        self.where = address.Addresses((), 0, (), 0.0)
        """Its addresses, once started."""
        self._put = put
        self._on_rejected = on_rejected
        self._access = access
        self._interfaces = interfaces
        self._wanted_port = port
        self._clock = clock
        self._pvs: dict[str, PV] = {}
        self._circuits: set[Circuit] = set()
        self._puts: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.Server] = []
        self._searches: list[Searches] = []
        self._beacons: Beacons | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._last_id = 0
        for pv in pvs:
            self.add(pv)

    def add(self, pv: PV) -> None:
        """Serve another PV; raises ValueError if the name is taken."""
        if pv.name in self._pvs:
            raise ValueError(f"there are two PVs named {pv.name}")
        pv.clock = self._clock
        self._pvs[pv.name] = pv

    # --- life ---

    async def start(self) -> None:
        """Bind and serve.

        Raises OSError if an interface cannot be bound. An invalid part of an `EPICS_*` variable is
        logged and left out, as by `softIoc`.
        """
        self.where = where = await asyncio.to_thread(
            address.from_environment, interfaces=self._interfaces, port=self._wanted_port
        )
        for fault in where.faults:
            log.warning("an environment variable of EPICS is wrong", fault=fault)
        loop = asyncio.get_running_loop()
        self.places.open()
        try:
            for sock in address.tcp_sockets(where):
                self.port = sock.getsockname()[1]
                # This many are accepted in one turn of the event loop, before any can be refused;
                # the operating system queues further ones.
                listener = await loop.create_server(lambda: Circuit(self), sock=sock, backlog=_ACCEPTED)
                sock.listen(_HELD)
                self._listeners.append(listener)
            for target in address.search_addresses(where.interfaces):
                self._searches.append(Searches(target, where.port, self.answer_search, where.ignored))
            self._beacons = Beacons(where, self.port)
        except BaseException:
            await self.stop()
            raise
        log.info(
            "Channel Access serves",
            pvs=len(self._pvs),
            interfaces=",".join(where.interfaces),
            udp_port=where.port,
            tcp_port=self.port,
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        """TCP addresses `host:port` at which clients on this machine reach and search it; once started."""
        bound = (sock.getsockname() for listener in self._listeners for sock in listener.sockets)
        return tuple(f"{'127.0.0.1' if host == address.ANY else host}:{port}" for host, port, *_ in bound)

    async def stop(self) -> None:
        """Close all connections and cancel all puts; nothing is left running afterwards."""
        if self._beacons is not None:
            self._beacons.close()
            self._beacons = None
        for searches in self._searches:
            searches.close()
        self._searches.clear()
        for listener in self._listeners:
            listener.close()
        for circuit in tuple(self._circuits):
            circuit.close()
        puts = tuple(self._puts)
        for task in puts:
            task.cancel()
        if puts:
            _, deaf = await asyncio.wait(puts, timeout=0.3)
            if deaf:
                log.error("puts do not end when cancelled", puts=", ".join(task.get_name() for task in deaf))
            self._puts.clear()
        await self._empty.wait()
        for listener in self._listeners:
            await listener.wait_closed()
        self._listeners.clear()

    # --- names ---

    def find(self, name: str) -> PV | None:
        """Return the PV or the field that clients know as `name`, or None."""
        pv, field_name = self._split(name)
        return pv if pv is None or field_name is None else field(pv, field_name)

    def has(self, name: str) -> bool:
        """Whether `find` would return something; makes no field."""
        pv, field_name = self._split(name)
        return pv is not None and (field_name is None or has_field(pv, field_name))

    def _split(self, name: str) -> tuple[PV | None, str | None]:
        """Return the record that `name` refers to, and the field name if it has one."""
        pv = self._pvs.get(name)
        if pv is not None:
            return pv, None
        record, dot, field_name = name.rpartition(".")
        if not dot and name.endswith("$"):
            record, field_name = name[:-1], "$"
        return (self._pvs.get(record), field_name) if dot or field_name == "$" else (None, None)

    def answer_search(self, header: Header, *, over_tcp: bool = False) -> bytes:
        """Return the reply to one search request; empty for none.

        An unknown name is answered only over TCP, and only on request: a datagram reaches many servers.
        """
        self.counts.searches += 1
        if not self.has(wire.text_of(header.payload)):
            if not over_tcp or header.data_type != _DO_REPLY:
                return b""
            return wire.message(Command.NOT_FOUND, _DO_REPLY, header.count, header.p1, header.p2)
        version = b"" if over_tcp else wire.MINOR_VERSION.to_bytes(2, "big")
        return wire.message(Command.SEARCH, self.port, 0, _ANY_ADDRESS, header.p2, version)

    # --- clients ---

    def join(self, circuit: Circuit, peer: str) -> None:
        """Accept a new circuit if there is a place for it."""
        self._last_id += 1
        circuit.client = Client(self._last_id, peer)
        self._circuits.add(circuit)
        self._empty.clear()
        self.counts.clients = len(self._circuits)
        self.places.take(circuit)

    def end_the_largest_input(self) -> None:
        """Disconnect the client with the most buffered input."""
        circuit = max(self._circuits, key=lambda circuit: circuit.input_bytes)
        circuit.drop("too much input of clients is buffered, and most is its", bytes=circuit.input_bytes)

    def make_room(self, circuit: Circuit) -> bool:
        """Return whether a circuit may take more memory; another one may be closed for it."""
        return self.places.make_room(circuit)

    def leave(self, circuit: Circuit) -> None:
        """Forget a circuit that has ended."""
        self.counts.dropped += circuit.backlog.dropped
        self._circuits.discard(circuit)
        self.places.leave(circuit)
        self.counts.clients = len(self._circuits)
        if not self._circuits:
            self._empty.set()

    @property
    def stats(self) -> ServerStats:
        """What clients did so far, and what is queued for them."""
        backlogs = [circuit.backlog for circuit in self._circuits]
        return replace(
            self.counts,
            queued=sum(len(backlog) for backlog in backlogs),
            deepest_queue=max((len(backlog) for backlog in backlogs), default=0),
            dropped=self.counts.dropped + sum(backlog.dropped for backlog in backlogs),
        )

    def clients(self, names: int = _NAMES) -> list[ClientInfo]:
        """Return the connected clients in order of connection.

        At most `names` PV names are returned: there can be millions. Each client has an equal share;
        what clients with few channels do not use goes to the others.
        """
        found: list[ClientInfo] = []
        circuits = sorted(self._circuits, key=lambda circuit: len(circuit.channels))
        for waiting, circuit in zip(range(len(circuits), 0, -1), circuits, strict=True):
            found.append(circuit.info(names // waiting))
            names -= len(found[-1].pvs)
        return sorted(found, key=lambda info: info.client.id)

    def refresh_access(self) -> None:
        """Call `access` again for every channel, and send clients the rights that changed."""
        for circuit in tuple(self._circuits):
            circuit.refresh_access()

    async def refresh_access_in_turns(self) -> None:
        """Do as `refresh_access`, yielding to others in between."""
        turn_ends_s = 0.0
        for circuit in tuple(self._circuits):
            for _ in circuit.refresh_steps():
                if time.monotonic() > turn_ends_s:
                    await asyncio.sleep(0)
                    turn_ends_s = time.monotonic() + TURN_S

    def rights(self, pv: PV, client: Client) -> int:
        """Return the access rights of `client` to `pv` as Channel Access's bits."""
        read = write = True
        if self._access is not None:
            try:
                read, write = self._access(pv, client)
            except Exception:
                log.exception("access rule failed: writing is refused", pv=pv.name, client=client.address)
                read, write = True, False
        return (READ if read else 0) | (WRITE if write and pv.writable else 0)

    # --- puts ---

    def put(
        self,
        circuit: Circuit,
        channel: Channel,
        dtype: int,
        count: int,
        payload: bytes,
        done: Callable[[Eca], None],
    ) -> None:
        """Start a put, or refuse it; `done` is called with the outcome."""
        pv = channel.pv.target
        self.counts.puts += 1
        status = Eca.PUTFAIL
        try:
            if not channel.rights & WRITE:
                status = Eca.NOWTACCESS
                raise decode.Unacceptable(NO_ACCESS)
            if dtype > CLASS_NAME:
                status = Eca.BADTYPE
                raise decode.Unacceptable(f"there is no type {dtype}")
            if dtype in (PUT_ACKT, PUT_ACKS):
                raise decode.Unacceptable("alarms are not acknowledged here")
            if circuit.puts >= self.limits.max_puts:
                raise decode.Unacceptable(f"{circuit.puts} puts of this client are running, the most allowed")
            if not self.places.may_put(circuit, len(self._puts)):
                raise decode.Unacceptable(
                    f"{len(self._puts)} puts of all clients are running, the most allowed, "
                    "some of them from this host"
                )
            value = decode.decode(channel.pv.spec, dtype, count, payload)
        except decode.Unacceptable as error:
            self.reject(channel.pv, circuit.client, decode.shown(dtype, count, payload), str(error))
            done(status)
            return
        try:
            work = self._put(pv, value, circuit.client)
        except Exception as error:
            status = self._failed(error, pv, value, circuit.client)
            work = None
        else:
            status = Eca.NORMAL
        if work is None:
            done(status)
            return
        circuit.puts += 1
        # The task removes itself from the set: a done callback would cost one more turn of the event loop.
        self._puts.add(asyncio.create_task(self._work(circuit, pv, value, work, done), name=f"put {pv.name}"))
        circuit.yield_turn()

    async def _work(
        self,
        circuit: Circuit,
        pv: PV,
        value: Value,
        work: Awaitable[None],
        done: Callable[[Eca], None],
    ) -> None:
        status = Eca.PUTFAIL
        try:
            await work
            status = Eca.NORMAL
        except Exception as error:
            status = self._failed(error, pv, value, circuit.client)
        finally:
            task = asyncio.current_task()
            assert task is not None
            self._puts.discard(task)
            circuit.puts -= 1
            done(status)

    def _failed(self, error: Exception, pv: PV, value: Value, client: Client) -> Eca:
        """Count or log a failed put; return the status for its client."""
        if isinstance(error, PutRejected):
            self.counts.rejected += 1
        else:
            log.exception("put failed", pv=pv.name, value=value, client=client.address)
        return Eca.PUTFAIL

    def reject(self, pv: PV, client: Client, raw: str, reason: str) -> None:
        """Count a put refused by the server itself, and call `on_rejected`."""
        self.counts.rejected += 1
        if self._on_rejected is None:
            return
        try:
            self._on_rejected(pv, client, raw, reason)
        except Exception:
            log.exception("on_rejected failed", pv=pv.name)
