"""The server: one shared PV for each record, values made while a client is connected to it, and its life."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attpc_ioc.log import get_logger
from attpc_ioc.pva.load import load_p4p
from attpc_ioc.pva.peers import peers
from attpc_ioc.pva.puts import Puts, PutTo
from attpc_ioc.pva.record import Form, Record

if TYPE_CHECKING:
    from attpc_ioc.pva.values import Snapshot

log = get_logger(__name__)

TURN_S = 0.005
"""Time after which work on many PVs yields to others."""


class PvaError(Exception):
    """PVAccess cannot be served; the text says why."""


class NotInstalled(PvaError):
    """p4p is not installed, as on a platform that it is not made for."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A client's connection: its `ip:port`, and its user if it has put something (else empty)."""

    address: str
    user: str


class _Served:
    """One PV on the network: p4p's shared PV, and the record that it follows while clients are connected.

    p4p calls `onFirstConnect`, `onLastDisconnect`, `put` and `rpc` in a thread of its own, one at a time for
    all PVs; all else is called in the event loop's thread.
    """

    __slots__ = ("_server", "_state", "form", "readable", "record", "shared")

    def __init__(self, server: PVAServer, record: Record, form: Form) -> None:
        self._server = server
        self.record = record
        self.form = form
        self.readable = True
        self.shared: Any = None
        self._state: Snapshot | None = None
        """What was last given to clients; None while it is hidden from them."""

    # --- in p4p's thread ---

    def onFirstConnect(self, shared: Any) -> None:
        """Show the present state before the client's first request is handled, then follow the record."""
        from attpc_ioc.pva import values

        state = values.snapshot(self.record) if self.readable else None
        whole = self._whole(state)
        if shared.isOpen():
            shared.post(whole)
        else:
            shared.open(whole)
        self._server.in_loop(self._follow, state)

    def onLastDisconnect(self, _shared: Any) -> None:
        """Follow the record no longer: changes cost nothing until the next client comes."""
        self._server.in_loop(self._leave)

    def put(self, _shared: Any, operation: Any) -> None:
        """Take a client's write."""
        self._server.puts.take(self.record, self.form, operation)

    def rpc(self, _shared: Any, operation: Any) -> None:
        """Refuse a remote procedure call."""
        operation.done(error="there are no remote procedures here")

    # --- in the event loop ---

    def _follow(self, shown: Snapshot | None) -> None:
        if self.shared is None:
            return  # the server has stopped meanwhile
        self._state = shown
        self._server.followed.add(self)
        self.record.follower = self.update
        self.show()

    def _leave(self) -> None:
        self._server.followed.discard(self)
        self.record.follower = None

    def show(self) -> None:
        """Give clients the present state if it is not what they have."""
        from attpc_ioc.pva import values

        state = values.snapshot(self.record) if self.readable else None
        if state != self._state:
            self._post(self._whole(state))
            self._state = state

    def update(self) -> None:
        """Give clients what the record has posted."""
        from attpc_ioc.pva import values

        if not self.readable:
            return
        state = values.snapshot(self.record)
        if self._state is None:
            self._post(self._whole(state))
        else:
            self._post(values.change(self.form, state, self._state, self._server.status_names))
        self._state = state

    def _post(self, value: Any) -> None:
        try:
            self.shared.post(value)
        except Exception:  # whoever posted to the record has other clients to think of
            log.exception("value cannot be posted over PVAccess", pv=self.record.spec.name)

    def _whole(self, state: Snapshot | None) -> Any:
        from attpc_ioc.pva import values

        if state is None:
            return values.hidden(self.record.spec, self.form, self.record.stamp_ns)
        return values.whole(self.record.spec, self.form, state, self._server.status_names)


class PVAServer:
    """Serves records over PVAccess.

    - `put_to(record, put)` is called for every write; see `puts.Puts`.
    - `readable(record)` returns whether clients may read a record. It knows no client: p4p says who reads
      only when somebody writes. A PV that may not be read shows an empty value, INVALID, and the reason.
    - `conf` has the `EPICS_PVAS_*` variables; the environment itself is not looked at.
    - `status_names` are the alarm statuses of the records by number, as EPICS base names them.
    - `max_puts` is how many puts of one client may be running; four times as many of all clients.
    """

    def __init__(
        self,
        records: Iterable[tuple[Record, Form]],
        *,
        put_to: PutTo,
        readable: Callable[[Record], bool] = lambda _record: True,
        refusals: tuple[type[Exception], ...] = (),
        conf: Mapping[str, str],
        status_names: Sequence[str],
        max_puts: int = 4096,
    ) -> None:
        self.status_names = status_names
        self.followed: set[_Served] = set()
        """The PVs with a client, for this package."""
        self.puts = Puts(put_to, refusals, self.in_loop, max_puts)
        """Runs the puts, for this package."""
        self.port = 0
        """The TCP port, once started."""
        self.broadcast_port = 0
        """The UDP port, once started."""
        self._served = [_Served(self, record, form) for record, form in records]
        self._readable = readable
        self._conf = dict(conf)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: Any = None
        self._closer: ThreadPoolExecutor | None = None

    def in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function in the event loop's thread, from p4p's thread; for this package."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function, *arguments)

    async def start(self) -> None:
        """Load p4p, bind and serve; raises `NotInstalled` without p4p, `PvaError` if it cannot be bound."""
        self._loop = asyncio.get_running_loop()
        await self.refresh_access()
        try:
            conf = await asyncio.to_thread(self._open)
        except ImportError as error:
            raise NotInstalled(f"p4p is not installed ({error})") from error
        except Exception as error:  # pvxs's errors are RuntimeErrors of many kinds
            raise PvaError(str(error)) from error
        self.port = int(conf["EPICS_PVAS_SERVER_PORT"])
        self.broadcast_port = int(conf["EPICS_PVAS_BROADCAST_PORT"])
        log.info(
            "PVAccess serves",
            pvs=len(self._served),
            interfaces=conf["EPICS_PVAS_INTF_ADDR_LIST"],
            udp_port=self.broadcast_port,
            tcp_port=self.port,
        )

    def _open(self) -> dict[str, str]:
        load_p4p()
        from p4p.server import Server, StaticProvider
        from p4p.server.raw import SharedPV

        provider = StaticProvider("records")
        for served in self._served:
            served.shared = SharedPV(handler=served)
            provider.add(served.record.spec.name, served.shared)
        self._server = Server(providers=[provider], conf=self._conf, useenv=False)
        return self._server.conf()

    async def stop(self) -> None:
        """End all puts, disconnect all clients and close all sockets; nothing is left running afterwards."""
        await self.puts.close()
        if self._server is not None:
            server, self._server = self._server, None
            await asyncio.to_thread(server.stop)
        for served in self.followed:
            served.record.follower = None
        self.followed.clear()
        for served in self._served:
            served.shared = None

    @property
    def pvs_in_use(self) -> int:
        """How many PVs have a client."""
        return len(self.followed)

    @property
    def refused_puts(self) -> int:
        """Puts that were refused or failed since the start."""
        return self.puts.refused

    async def refresh_access(self) -> None:
        """Ask `readable` for every record again and show clients what changed, in slices of time."""
        turn_ends_s = time.monotonic() + TURN_S
        for served in self._served:
            readable = self._may_be_read(served.record)
            if readable != served.readable:
                served.readable = readable
                if served in self.followed:
                    served.show()
            if time.monotonic() > turn_ends_s:
                await asyncio.sleep(0)
                turn_ends_s = time.monotonic() + TURN_S

    def _may_be_read(self, record: Record) -> bool:
        try:
            return self._readable(record)
        except Exception:
            log.exception("access rule failed: reading over PVAccess is refused", pv=record.spec.name)
            return False

    async def connections(self) -> list[Connection]:
        """Return the connections of clients, of which one at least has a PV."""
        if self._server is None or not self.followed:
            return []
        found = await asyncio.to_thread(peers, self.port)
        return [Connection(address, self.puts.users.get(address, "")) for address in found]
