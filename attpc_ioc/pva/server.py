"""The server: one shared PV for each record, table and interface, and its life."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attpc_ioc.log import get_logger
from attpc_ioc.pva.load import load_p4p
from attpc_ioc.pva.peers import peers
from attpc_ioc.pva.puts import Puts, PutTo
from attpc_ioc.pva.record import Form, Interface, Record, Table
from attpc_ioc.pva.served import Served, ServedInterface, ServedRecord, ServedTable

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


class PVAServer:
    """Serves records, tables and interfaces over PVAccess.

    - `put_to(record, put)` is called for every write; see `puts.Puts`.
    - `readable(name)` returns whether clients may read a record or table. It knows no client: p4p says who
      reads only when somebody writes. What may not be read shows an empty value, INVALID, and the reason.
    - `conf` has the `EPICS_PVAS_*` variables; the environment itself is not looked at.
    - `status_names` are the alarm statuses of the records by number, as EPICS base names them.
    - `max_puts` is how many puts of one client may be running; four times as many of all clients.
    """

    def __init__(
        self,
        records: Iterable[tuple[Record, Form]],
        *,
        put_to: PutTo,
        tables: Iterable[Table] = (),
        interfaces: Iterable[Interface] = (),
        readable: Callable[[str], bool] = lambda _name: True,
        refusals: tuple[type[Exception], ...] = (),
        conf: Mapping[str, str],
        status_names: Sequence[str],
        max_puts: int = 4096,
    ) -> None:
        self.status_names = status_names
        self.followed: set[Served] = set()
        """The PVs with a client, for this package."""
        self.puts = Puts(put_to, refusals, self._soon, max_puts)
        """Runs the puts, for this package."""
        self.port = 0
        """The TCP port, once started."""
        self.broadcast_port = 0
        """The UDP port, once started."""
        self._served: list[Served] = [ServedRecord(self, record, form) for record, form in records]
        self._served += (ServedTable(self, table) for table in tables)
        self._served += (ServedInterface(self, interface, time.time_ns()) for interface in interfaces)
        self._readable = readable
        self._conf = dict(conf)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._called = False
        self._server: Any = None

    def _soon(self, function: Callable[[], None]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(function)

    def in_loop(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function in the event loop's thread, from p4p's thread; for this package."""
        assert self._loop is not None
        self._calls.append((function, arguments))
        if not self._called:
            # Waking the loop for each would have the threads wait for each other at every PV of a new client.
            self._called = True
            self._loop.call_soon_threadsafe(self._call)

    def _call(self) -> None:
        assert self._loop is not None
        self._called = False
        while self._calls:
            function, arguments = self._calls.popleft()
            self._loop.call_soon(function, *arguments)

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
        from p4p._p4p import SharedPV
        from p4p.server import Server, StaticProvider

        provider = StaticProvider("records")
        for served in self._served:
            served.shared = SharedPV(served)
            provider.add(served.name, served.shared)
        self._server = Server(providers=[provider], conf=self._conf, useenv=False)
        return self._server.conf()

    async def stop(self) -> None:
        """End all puts, disconnect all clients and close all sockets; nothing is left running afterwards."""
        await self.puts.close()
        if self._server is not None:
            server, self._server = self._server, None
            await asyncio.to_thread(server.stop)
        for served in self._served:
            served.shared = None
        for served in tuple(self.followed):
            served.leave()

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
            readable = self._may_be_read(served.name)
            if readable != served.readable:
                served.readable = readable
                if served in self.followed:
                    served.show()
            if time.monotonic() > turn_ends_s:
                await asyncio.sleep(0)
                turn_ends_s = time.monotonic() + TURN_S

    def _may_be_read(self, name: str) -> bool:
        try:
            return self._readable(name)
        except Exception:
            log.exception("access rule failed: reading over PVAccess is refused", pv=name)
            return False

    async def connections(self) -> list[Connection]:
        """Return the connections of clients, of which one at least has a PV."""
        if self._server is None or not self.followed:
            return []
        found = await asyncio.to_thread(peers, self.port)
        return [Connection(address, self.puts.users.get(address, "")) for address in found]
