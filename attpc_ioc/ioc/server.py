"""The IOC's servers, Channel Access and PVAccess: records, publishing, puts and statistics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import psutil

from attpc_ioc.ioc.ca import PV, CAServer, Client, ServerLimits
from attpc_ioc.ioc.elsewhere import Elsewhere
from attpc_ioc.ioc.publish import Publisher
from attpc_ioc.ioc.puts import Controller, OnPut, PutHandler, WritePluginRow, who_of
from attpc_ioc.ioc.pvaccess import Access, PvAccess
from attpc_ioc.ioc.records import make_records
from attpc_ioc.ioc.stamps import StampClock
from attpc_ioc.ioc.stats import Stats
from attpc_ioc.ioc.surface import Surface
from attpc_ioc.ioc.tables import make_tables
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import IOC
from attpc_ioc.pvs.ioc import ACCESS_FILE, ACCESS_TEXT, CLOCK_STEP
from attpc_ioc.pvs.row import Reading, Value, full_name
from attpc_ioc.pvs.table import PvEntry
from attpc_ioc.pvs.tables import tables as table_entries
from attpc_ioc.settings import Settings

log = get_logger(__name__)


COUNT_PERIOD_S = 5.0
"""Time between two counts of PVAccess clients."""


class IocServer:
    """Serves the PV table over Channel Access and PVAccess.

    `start` binds the sockets and answers clients from then on, with every PV showing the controller's
    snapshot; start `run` as a task: it updates what depends on time; `stop` closes everything. `publisher`
    takes the values of plugins' own rows.
    """

    def __init__(
        self,
        settings: Settings,
        table: Sequence[PvEntry],
        controller: Controller,
        *,
        on_put: OnPut = lambda _put: None,
        write_plugin_row: WritePluginRow | None = None,
        access: Access | None = None,
        stamps: StampClock | None = None,
    ) -> None:
        self._prefix = settings.ioc.prefix
        self._controller = controller
        self._stamps = stamps or StampClock()
        self._entries = {entry.name: entry for entry in table}
        self._access = access
        self.pvs = make_records(table)
        self.publisher = Publisher(table, self.pvs, self._stamps)
        self.puts = PutHandler(controller, self.publisher, table, on_put, write_plugin_row, access)
        self.surface = Surface(table, self.pvs, self.publisher, self.puts, access)
        self.ca = CAServer(
            self.pvs.values(),
            put=self.puts.put,
            on_rejected=self.puts.rejected,
            access=self._rights,
            limits=ServerLimits(**settings.channel_access.model_dump()),
            interfaces=list(settings.ioc.interfaces) if settings.ioc.interfaces else None,
            port=settings.ioc.server_port,
            clock=self._stamps,
        )
        self.elsewhere = Elsewhere(self._prefix, self.ca, self.pvs, self._publish_ioc)
        tables = make_tables(table_entries(table), self._prefix, self.pvs, self.publisher)
        self.pvaccess = PvAccess(settings, table, self.pvs, self.puts, access, self._publish_ioc, tables)
        self._stats = Stats(
            settings.ioc, self._publish_ioc, lambda: self.ca.stats, lambda: self.pvaccess.stats, len(table)
        )

    @property
    def port(self) -> int:
        """The TCP port, once started."""
        return self.ca.port

    async def start(self) -> None:
        """Publish the controller's snapshot and serve it over Channel Access; start `pvaccess` afterwards.

        Raises `OSError` if no socket can be bound.
        """
        self.publisher.publish_all(self._controller.fleet)
        self._stats.publish_constants()
        self._controller.subscribe(self.publisher.on_change)
        await self.ca.start()

    async def show_access(self, status: int, message: str) -> None:
        """Show the state of the access security file, and update the rights of every channel."""
        self._publish_ioc(ACCESS_FILE, status)
        self._publish_ioc(ACCESS_TEXT, message)
        self.surface.rules_read += 1
        await self.ca.refresh_access_in_turns()
        await self.pvaccess.refresh_access()

    async def stop(self) -> None:
        """Close every circuit and socket."""
        self.publisher.close()
        await self.surface.stop()
        await self.pvaccess.stop()
        await self.ca.stop()

    async def run(self) -> None:
        """Update live rows, heartbeat and statistics, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.publisher.run(), name="live rows")
            tasks.create_task(self._beat(), name="heartbeat")
            tasks.create_task(self.elsewhere.run(), name="search for other servers")
            tasks.create_task(self._count(), name="count PVAccess clients")

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + 1.0, loop.time())
            await asyncio.sleep(due - loop.time())
            try:
                self._stats.tick()
            except (psutil.Error, OSError) as error:
                log.warning("statistics cannot be read", reason=str(error))
            self._publish_ioc(CLOCK_STEP, self._stamps.step_s)

    async def _count(self) -> None:
        while True:
            try:
                await self.pvaccess.count_clients()
            except (psutil.Error, OSError) as error:
                log.warning("PVAccess clients cannot be counted", reason=str(error))
            await asyncio.sleep(COUNT_PERIOD_S)

    def _publish_ioc(self, part: str, value: Value | Reading) -> None:
        self.publisher.publish(full_name(self._prefix, IOC, part), value)

    def _rights(self, pv: PV, client: Client) -> tuple[bool, bool]:
        entry = self._entries[pv.target.name]
        if self._access is None:
            return True, entry.row.writable
        return self._access.rights(entry, who_of(client), is_field=pv is not pv.target)
