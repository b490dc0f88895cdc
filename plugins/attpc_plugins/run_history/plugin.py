"""The plugin: its hooks, which call `service` once the IOC has started.

Every shell command makes an object of this class, so imports are delayed until needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from attpc_ioc.errors import RecordAway, Refused
from attpc_ioc.model.command import NUMBERED, CommandName, ScopeKind
from attpc_ioc.model.events import RunEvent
from attpc_ioc.plugin import hookimpl

if TYPE_CHECKING:
    import typer
    from pydantic import BaseModel

    from attpc_ioc.model.command import Put, Reason, Who
    from attpc_ioc.model.events import Event
    from attpc_ioc.model.run import RunInfo
    from attpc_ioc.plugin import PluginContext
    from attpc_ioc.plugin.contract import RunRecords
    from attpc_ioc.pvs.row import Row, Value
    from attpc_plugins.run_history.sheets.settings import ObservableSettings

    from .service import Service
    from .store import Store

NOT_STARTED = "the run history did not start"


class RunHistory:
    """Records runs, their conditions and every put in PostgreSQL, and owns the run numbers."""

    def __init__(self) -> None:
        self.service: Service | None = None
        self._declared: tuple[ObservableSettings, ...] | None = None

    @hookimpl
    def attpc_settings(self) -> type[BaseModel]:
        """Return the model of `[plugins.run_history]`."""
        from .settings import RunHistorySettings

        return RunHistorySettings

    @hookimpl
    def attpc_pvs(self, settings: BaseModel | None, prefix: str, state_dir: str) -> Iterable[Row]:
        """Return the rows of comment, quality, history and log, and one for each observable.

        Observables added by command are those that the last IOC found in the database.
        """
        from pathlib import Path

        from attpc_plugins.run_history.pvs.rows import ROWS
        from attpc_plugins.run_history.sheets.kept import declared, load_kept
        from attpc_plugins.run_history.sheets.rows import observable_rows

        from .settings import RunHistorySettings

        assert isinstance(settings, RunHistorySettings)
        self._declared = declared(settings.observable, load_kept(Path(state_dir)), prefix)
        return [*ROWS, *observable_rows(self._declared)]

    @hookimpl
    def attpc_cli(self, app: typer.Typer) -> None:
        """Add the shell commands, which are imported when they are called."""
        from attpc_plugins.run_history.commands.lazy import add_commands

        add_commands(app)

    @hookimpl
    async def attpc_startup(self, ctx: PluginContext) -> None:
        """Start; the database comes up while the IOC answers clients."""
        from .service import Service
        from .settings import RunHistorySettings

        settings = ctx.settings
        assert isinstance(settings, RunHistorySettings)
        service = Service(ctx, settings, self._declared)
        await service.start()
        self.service = service

    @hookimpl
    async def attpc_shutdown(self) -> None:
        """Write what can be written, and disconnect from the database."""
        if self.service is not None:
            await self.service.close()

    # ------------------------------------------------------------------ decisions and numbers

    @hookimpl
    def attpc_veto(self, scope_kind: ScopeKind, command_name: CommandName) -> Iterable[Reason | str]:
        """Refuse a start that cannot be recorded, and everything while another IOC commands the fleet."""
        if self.service is not None:
            return self.service.veto(scope_kind, command_name)
        numbered = scope_kind is ScopeKind.RUN and command_name in NUMBERED
        return [NOT_STARTED] if numbered else []

    @hookimpl
    def attpc_run_numbers(self) -> RunHistory:
        """Own the run numbers: they are reserved in the database."""
        return self

    def next(self, experiment: str) -> int | None:
        """Return the last known number that the next run would get."""
        return self.service.numbers.known_next(experiment) if self.service is not None else None

    async def reserve(self, experiment: str) -> int:
        """Reserve the next number in the database."""
        if self.service is None:
            raise Refused(NOT_STARTED)
        return await self.service.numbers.reserve(experiment)

    async def release(self, experiment: str, number: int) -> None:
        """Release a reserved number."""
        if self.service is None:
            raise Refused(NOT_STARTED)
        await self.service.numbers.release(experiment, number)

    async def open_run(self) -> RunInfo | None:
        """Return this fleet's open run in the database."""
        return None if self.service is None else await self.service.open_run()

    @hookimpl
    def attpc_run_records(self) -> RunRecords:
        """Show the runs of the database to other plugins."""
        from .lookup import RunLookup

        return RunLookup(self._store)

    def _store(self) -> Store:
        if self.service is None:
            raise RecordAway(NOT_STARTED)
        return self.service.connected_store()

    @hookimpl
    async def attpc_write(self, pv: str, value: Value, who: Who) -> None:
        """Handle a write to the comment or quality of the run, or to an observable."""
        if self.service is None:
            raise Refused(NOT_STARTED)
        await self.service.write(pv, value, who)

    @hookimpl
    def attpc_event(self, event: Event | Put) -> None:
        """Update PVs and run sheet; the database is written from the event log."""
        if self.service is not None and isinstance(event, RunEvent):
            self.service.run_event(event)
