"""PVAccess beside Channel Access: the same records, the same rights, the same way in for puts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from attpc_ioc import pva
from attpc_ioc.errors import AttpcError
from attpc_ioc.ioc.ca import PV, STATUS_LABELS, ChannelType, PutRejected
from attpc_ioc.ioc.puts import Access as PutAccess
from attpc_ioc.ioc.puts import PutHandler
from attpc_ioc.ioc.pva_conf import INTERFACES, pva_conf
from attpc_ioc.ioc.pvi import interfaces
from attpc_ioc.ioc.records import FORMS
from attpc_ioc.ioc.tables import Table
from attpc_ioc.log import get_logger
from attpc_ioc.model.states import Severity, Status
from attpc_ioc.pva import Form, PVAServer
from attpc_ioc.pvs.ioc import PVACCESS, PVACCESS_TEXT
from attpc_ioc.pvs.row import Reading, Record, Value
from attpc_ioc.pvs.table import PvEntry
from attpc_ioc.settings import Settings

log = get_logger(__name__)

_SCALARS = {
    ChannelType.ENUM: Form.ENUM,
    ChannelType.LONG: Form.INT,
    ChannelType.DOUBLE: Form.DOUBLE,
    ChannelType.STRING: Form.STRING,
}
_ARRAYS = {
    ChannelType.DOUBLE: Form.DOUBLES,
    ChannelType.STRING: Form.STRINGS,
    ChannelType.CHAR: Form.STRING,
}
"""How PVAccess carries what Channel Access carries in these types; commands without targets are INT."""

OFF, SERVING, FAILED = range(3)
"""Values of `IOC:PvAccess_RBV`."""


def form_of(entry: PvEntry) -> Form:
    """Return how an entry is carried."""
    row, carried = entry.row, FORMS[entry.row.record]
    if row.command is not None and row.record is Record.BO:
        return Form.INT
    return (_ARRAYS if carried.is_array else _SCALARS)[carried.dtype]


class Access(PutAccess, Protocol):
    """Access rights where a protocol does not say who reads."""

    def open_to_all(self, entry: PvEntry) -> bool:
        """Return whether everybody may read a PV."""
        ...


@dataclass(slots=True)
class PvaStats:
    """Counts of now, and of refused puts since the start."""

    clients: int = 0
    pvs: int = 0
    refused: int = 0


class PvAccess:
    """Serves the records over PVAccess, if the settings say so and p4p is there; shows its state in PVs."""

    def __init__(
        self,
        settings: Settings,
        table: Sequence[PvEntry],
        pvs: Mapping[str, PV],
        puts: PutHandler,
        access: Access | None,
        publish: Callable[[str, Value | Reading], None],
        tables: Sequence[Table] = (),
    ) -> None:
        self._settings = settings.pva
        self._ioc_interfaces = settings.ioc.interfaces
        self._table = table
        self._pvs = pvs
        self._entries = {entry.name: entry for entry in table}
        self.tables = tuple(tables)
        """The tables beside the records."""
        self._shown_by = {one.name: one.pvs for one in self.tables}
        self._puts = puts
        self._access = access
        self._publish = publish
        self.connections: list[pva.Connection] = []
        """The clients' connections when they were last counted."""
        self.server: PVAServer | None = None
        """None where it is switched off, or is not possible."""

    async def start(self) -> None:
        """Serve; raises `AttpcError` if no socket can be bound. Without p4p it only says so."""
        if not self._settings.enabled:
            self._show(OFF, "pva.enabled is false")
            return
        conf = await asyncio.to_thread(pva_conf, self._settings, self._ioc_interfaces)
        for fault in conf.faults:
            log.warning("an environment variable of EPICS is wrong", fault=fault)
        server = PVAServer(
            ((cast("pva.Record", self._pvs[entry.name]), form_of(entry)) for entry in self._table),
            tables=self.tables,
            interfaces=interfaces(self._table, (one.name for one in self.tables), form_of),
            put_to=self._put,
            readable=self._readable,
            refusals=(PutRejected,),
            conf=conf.values,
            status_names=STATUS_LABELS,
            max_puts=self._settings.max_puts,
        )
        try:
            await server.start()
        except pva.NotInstalled as error:
            log.warning("PVAccess is not served", reason=str(error))
            self._show(FAILED, str(error))
        except pva.PvaError as error:
            said_by = "pva.interfaces" if self._settings.interfaces else INTERFACES
            where = conf.values.get(INTERFACES, "all interfaces")
            raise AttpcError(
                f"PVAccess cannot be served on {where}: {error}; look at {said_by}, pva.server_port and "
                "pva.broadcast_port, or switch it off with pva.enabled"
            ) from error
        else:
            self.server = server
            self._show(SERVING, f"TCP port {server.port}, UDP port {server.broadcast_port}")

    async def stop(self) -> None:
        """Answer what is running, and close every connection and socket."""
        if self.server is not None:
            await self.server.stop()
            self.server = None

    @property
    def port(self) -> int | None:
        """The TCP port; None where PVAccess is not served."""
        return None if self.server is None else self.server.port

    async def refresh_access(self) -> None:
        """Look again at who may read."""
        if self.server is not None:
            await self.server.refresh_access()

    async def count_clients(self) -> None:
        """Look for `connections`; it takes a few milliseconds of a thread."""
        self.connections = await self.server.connections() if self.server is not None else []

    @property
    def stats(self) -> PvaStats:
        """What clients do and did."""
        if self.server is None:
            return PvaStats()
        return PvaStats(len(self.connections), self.server.pvs_in_use, self.server.refused_puts)

    def _show(self, state: int, text: str) -> None:
        bad = state == FAILED
        severity, status = (Severity.MINOR, Status.STATE) if bad else (Severity.NO_ALARM, Status.NO_ALARM)
        self._publish(PVACCESS, Reading(state, severity, status))
        self._publish(PVACCESS_TEXT, text)

    def _readable(self, name: str) -> bool:
        """Return whether all may read a PV, or all PVs of a table; an interface has names only."""
        access = self._access
        if access is None:
            return True
        names = self._shown_by.get(name, (name,))
        return all(access.open_to_all(self._entries[one]) for one in names if one in self._entries)

    def _put(self, record: pva.Record, put: pva.Put) -> Awaitable[None] | None:
        return self._puts.checked_put(cast("PV", record), put.value, put.client, fault=put.fault)
