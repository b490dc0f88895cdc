"""The plugin: its hooks, which call `service` once the IOC has started.

Every shell command makes an object of this class, so imports are delayed until needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from attpc_ioc.errors import Refused
from attpc_ioc.model.command import CommandName, ScopeKind
from attpc_ioc.model.events import OperationEnded, RunFailed, RunStarted, RunStopped
from attpc_ioc.plugin import hookimpl

if TYPE_CHECKING:
    import typer
    from pydantic import BaseModel

    from attpc_ioc.model.command import Put, Reason
    from attpc_ioc.model.events import Event, RunEvent, RunStarting
    from attpc_ioc.model.fleet import Fleet
    from attpc_ioc.model.online import OnlineAnswer
    from attpc_ioc.plugin import PluginContext
    from attpc_ioc.pvs.row import Row, Value

    from .closing.empty import EmptyFolders
    from .service import Service

NOT_STARTED = "the plugin data_routers did not start; Plugin:data_routers:Message_RBV says why"


class DataRouters:
    """Watches the hosts that record the data, and moves the files of every run to the run's folder."""

    def __init__(self) -> None:
        self.service: Service | None = None
        self.empty: EmptyFolders | None = None

    @hookimpl
    def attpc_settings(self) -> type[BaseModel]:
        """Return the model of `[plugins.data_routers]`."""
        from .settings import DataRoutersSettings

        return DataRoutersSettings

    @hookimpl
    def attpc_pvs(self, settings: BaseModel | None) -> Iterable[Row]:
        """Return the rows of the data routers."""
        from .closing.rows import closing_rows
        from .configs.rows import configs_rows
        from .events.rows import event_rows, where_frames_are
        from .settings import DataRoutersSettings
        from .watch.rows import in_table, router_rows, where_routers_are

        assert isinstance(settings, DataRoutersSettings)
        routed = frozenset(source for router in settings.router for source in router.sources)
        rows = (*router_rows(settings.limits, self._why), *closing_rows())
        return [
            *(in_table(where_routers_are(row, routed)) for row in rows),
            *(in_table(where_frames_are(row, settings)) for row in event_rows(settings.events, self._why)),
            *configs_rows(),
        ]

    def _why(self, part: str, source: str) -> str:
        return self.service.why(part, source) if self.service is not None else ""

    @hookimpl
    def attpc_cli(self, app: typer.Typer) -> None:
        """Add the shell commands, which are imported when they are called."""
        from .commands.cli import add_commands

        add_commands(app)

    @hookimpl
    async def attpc_online_check(self, settings: BaseModel | None) -> list[OnlineAnswer]:
        """Poll every data router's host once, with the time limits of the running plugin."""
        from .commands.online import ask_hosts
        from .settings import DataRoutersSettings

        assert isinstance(settings, DataRoutersSettings)
        return await ask_hosts(settings)

    @hookimpl
    async def attpc_startup(self, ctx: PluginContext) -> None:
        """Start watching, without waiting for a host."""
        from .closing.empty import EmptyFolders
        from .service import Service
        from .settings import DataRoutersSettings
        from .state import Records
        from .take_over import take_over

        settings = ctx.settings
        assert isinstance(settings, DataRoutersSettings)
        records = Records(ctx)
        await take_over(records, Path(ctx.state_dir))
        service = Service(ctx, settings, records)
        await service.start()
        self.empty = EmptyFolders(ctx, settings, service.hosts, records.empty)
        self.empty.start()
        self.service = service

    @hookimpl
    async def attpc_shutdown(self) -> None:
        """Disconnect from every host."""
        if self.service is not None:
            await self.service.close()

    @hookimpl
    def attpc_veto(
        self, scope_kind: ScopeKind, command_name: CommandName, fleet: Fleet
    ) -> Iterable[Reason | str]:
        """Refuse a start while a router, its folder or its disk is not ready for it."""
        if scope_kind is not ScopeKind.RUN or command_name is not CommandName.START:
            return []
        return self.service.against_start(fleet) if self.service is not None else [NOT_STARTED]

    @hookimpl
    async def attpc_write(self, pv: str, value: Value) -> None:
        """Handle a write to one of the plugin's setpoints."""
        if self.service is None:
            raise Refused(NOT_STARTED)
        self.service.write(pv, value)

    @hookimpl
    def attpc_prepare_run(self, event: RunStarting) -> Awaitable[None] | None:
        """List the staging folders before the first board writes, start counting, reset the override."""
        return self._run_event(event)

    def _run_event(self, event: RunEvent) -> Awaitable[None] | None:
        if self.service is None or self.empty is None:
            return None
        self.empty.see(event)
        return self.service.run_event(event)

    @hookimpl
    def attpc_event(self, event: Event | Put) -> Awaitable[None] | None:
        """Read loaded configuration files, and follow the run."""
        if self.service is None:
            return None
        if isinstance(event, OperationEnded):
            self.service.operation_ended(event)
        elif isinstance(event, RunStarted | RunStopped | RunFailed):
            return self._run_event(event)
        return None
