"""The composition root: builds everything from the settings, runs it, and stops it in order."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import signal
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from functools import partial

from attpc_ioc import lookups
from attpc_ioc.access import AccessKeeper
from attpc_ioc.asking import Answerer
from attpc_ioc.control.controller import Controller
from attpc_ioc.control.emitter import Emitter
from attpc_ioc.control.runs.numbers import StateDirNumbers
from attpc_ioc.control.take_over import open_event_log
from attpc_ioc.errors import AttpcError, PluginError, Refused, SettingsError, system_reason
from attpc_ioc.eventlog import EventLog
from attpc_ioc.ioc.ask import AskServer, clients_answer
from attpc_ioc.ioc.channel_finder import ASK as CHANNEL_FINDER
from attpc_ioc.ioc.channel_finder import ChannelFinder, announcement_socket
from attpc_ioc.ioc.put_log import PutLog
from attpc_ioc.ioc.server import IocServer
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Scope, ScopeKind, Who
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.states import Severity, Status
from attpc_ioc.plugin.context import PLUGINS_FOLDER, Context
from attpc_ioc.plugin.host import MAPPING, Plugin, PluginHost
from attpc_ioc.plugin.mapping import Mapping
from attpc_ioc.plugin.status import PluginStatus
from attpc_ioc.pvs.common import MESSAGE
from attpc_ioc.pvs.plugin import STATUS
from attpc_ioc.pvs.row import Reading, Value, full_name
from attpc_ioc.pvs.table import PvEntry, build_table
from attpc_ioc.settings import LimitSettings, OrderSettings, RunSettings, Settings
from attpc_ioc.systemd import ServiceManager

log = get_logger(__name__)

NUMBERS = "run_numbers"

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

FREEZE_AGAIN_S = (5.0, 60.0)
"""Time after which everything loaded since the start of serving, by plugins and first calls, counts as
built."""


def load_plugins(settings: Settings | None, extra: Iterable[tuple[str, object]] = ()) -> PluginHost:
    """Return the host with the built-in mapping, all installed plugins and `extra` ones.

    Raises `PluginError` for a misspelt hook and `SettingsError` for a section that fits no plugin.
    """
    host = PluginHost(settings.plugins if settings else {})
    limits, order, run = (
        (settings.limits, settings.order, settings.run)
        if settings
        else (LimitSettings(), OrderSettings(), RunSettings())
    )
    host.register(Mapping(limits, order), MAPPING)
    host.register(StateDirNumbers(run.first_number), NUMBERS)
    for name, plugin in extra:
        host.register(plugin, name, "given")
    host.load_entry_points()
    if faults := host.check_sections(settings.fleet_names if settings else None):
        raise SettingsError("settings", faults)
    return host


def make_table(settings: Settings, host: PluginHost) -> tuple[PvEntry, ...]:
    """Return the PV table with the plugins' rows."""
    rows = host.rows(settings.ioc.prefix, settings.state_directory() / PLUGINS_FOLDER)
    return build_table(settings.ioc.prefix, settings.fleet_names, settings.slow_poll_s, rows, host.plugins)


@dataclass(slots=True)
class App:
    """Everything of one running IOC."""

    settings: Settings
    host: PluginHost
    log: EventLog
    controller: Controller
    server: IocServer
    table: tuple[PvEntry, ...]
    numbers: StateDirNumbers
    emitter: Emitter
    access: AccessKeeper
    answers: dict[str, Answerer]
    """The answers to questions of shell commands."""


@contextlib.asynccontextmanager
async def running(settings: Settings, plugins: Iterable[tuple[str, object]] = ()) -> AsyncIterator[App]:
    """Run an IOC during the `async with`; it answers clients when the body begins.

    Raises an `AttpcError` if it cannot start. An unexpected
    end of one of its tasks cancels the body.
    """
    lookups.keep_apart()
    host = load_plugins(settings, plugins)
    event_log = open_event_log(settings.state_directory(), settings.ioc.prefix)
    try:
        numbers = host.plugins[NUMBERS].plugin
        assert isinstance(numbers, StateDirNumbers)
        numbers.use(event_log, lambda: _owns_numbers(host, numbers))
        emitter = Emitter(host, event_log, settings.ioc.prefix)
        controller = Controller(settings, host, event_log, emitter, numbers)
        if (last := controller.run_control.record.info) is not None:
            numbers.recall(last.experiment, last.number)
        table = make_table(settings, host)
        access = AccessKeeper(settings, table, host.may_write)
        await access.open()
        put_log = PutLog(emitter.put)
        server = IocServer(
            settings,
            table,
            controller,
            on_put=put_log.add,
            write_plugin_row=lambda entry, value, who: _write_plugin_row(host, settings, entry, value, who),
            access=access,
        )
        _show_plugins(host, server, settings)
        await _show_access(access, server)
        channel_finder = ChannelFinder(settings, table)
        answers: dict[str, Answerer] = {
            "clients": lambda question: clients_answer(server.ca, server.pvaccess.connections, question),
            CHANNEL_FINDER: lambda _question: channel_finder.answer(),
        }
        app = App(settings, host, event_log, controller, server, table, numbers, emitter, access, answers)
        asked = AskServer(event_log.folder, answers)
        days = settings.ioc.event_log_days
        readers = {plugin.name for plugin in host.plugins.values() if plugin.enabled}
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(event_log.run(), name="state")]
            try:
                await host.start(lambda plugin: _context(plugin, app))
                controller.refresh()
                await _serve_channel_access(server, settings)
                await asked.start()
                tasks.append(group.create_task(server.run(), name="server"))
                tasks.append(group.create_task(controller.run(), name="controller"))
                tasks.append(group.create_task(access.run(), name="access"))
                tasks.append(group.create_task(event_log.prune_for_ever(days, readers), name="prune"))
                # It takes a quarter of a second to load, and everything else works meanwhile.
                await server.pvaccess.start()
                if settings.channel_finder.enabled:
                    sock = announcement_socket(settings.channel_finder)
                    announced = channel_finder.run(sock, server.port, server.pvaccess.port)
                    tasks.append(group.create_task(announced, name="ChannelFinder"))
                    await asyncio.sleep(0)  # it has the socket from then on, and closes it
                log.info("serving", prefix=settings.ioc.prefix, port=server.port, state_dir=event_log.folder)
                yield app
            finally:
                # In this order: refuse puts, fail pending commands, stop plugins, close Channel Access.
                await controller.close()
                put_log.record_refused()
                await host.stop()
                await asked.stop()
                await server.stop()
                put_log.close()
                for task in tasks:
                    task.cancel()
    finally:
        await event_log.close()
        log.info("ended")


async def _serve_channel_access(server: IocServer, settings: Settings) -> None:
    try:
        await server.start()
    except OSError as error:
        said_by = "ioc.interfaces" if settings.ioc.interfaces else "EPICS_CAS_INTF_ADDR_LIST"
        raise AttpcError(
            f"Channel Access cannot be served on {', '.join(server.ca.where.interfaces)}: "
            f"{system_reason(error)}; look at {said_by} and ioc.server_port"
        ) from error


def spare_collections() -> None:
    """Keep garbage collections short by excluding objects that live as long as the process.

    Those are all objects built so far, and later those loaded while serving. A collection of all of them
    blocks everything for 20 ms and more.
    """
    gc.freeze()
    for later_s in FREEZE_AGAIN_S:
        asyncio.get_running_loop().call_later(later_s, gc.freeze)


async def serve(settings: Settings, announce: str = "") -> None:
    """Run an IOC until SIGINT or SIGTERM; the hardware stays as it is. Raises what `running` raises.

    A service manager, if there is one, is notified: see `attpc_ioc.systemd`. SIGHUP makes the access security
    file be read again; if `announce` is for a person at a shell it ends the IOC, because that shell is gone.
    """
    this = asyncio.current_task()
    assert this is not None
    loop = asyncio.get_running_loop()
    stopped_by: list[str] = []
    manager = ServiceManager()
    if manager.watchdog_s:
        # The watchdog ends a hanging loop with SIGABRT: the log then shows where it hung.
        faulthandler.enable()
    manager.status("starting")

    def stop(number: signal.Signals) -> None:
        # Cancelled rather than waited for, so that a slow start-up ends at once too.
        if not stopped_by:
            log.info("ending", reason=number.name)
            stopped_by.append(number.name)
            manager.stopping()
            this.cancel()

    for number in _SIGNALS if announce else (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    early = asyncio.Event()
    if not announce:
        # A reload that comes before there is anything to read again must not end the IOC, nor be lost.
        loop.add_signal_handler(signal.SIGHUP, early.set)
    try:
        async with running(settings) as app:
            if not announce:
                app.access.on_read = manager.ready
                loop.add_signal_handler(signal.SIGHUP, _read_again, manager, app)
            spare_collections()
            manager.ready()
            if early.is_set():
                _read_again(manager, app)
            if announce:
                await _plugins_at_rest(app.host)
                print(announce, flush=True)  # noqa: T201 - for the person at the shell
            # Until cancelled, even without a manager.
            await manager.run(lambda: _in_a_line(app.controller.fleet))
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not stopped_by or this.uncancel():
            raise
    except AttpcError as error:
        manager.status(str(error))
        raise
    except BaseExceptionGroup as group:
        # For example a port in use: errors that an operator can cause are reported without a traceback.
        known, rest = group.split((AttpcError, OSError))
        if rest is not None or known is None:
            raise
        leaf = _leaf(known)
        manager.status(str(leaf))
        raise leaf from None
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        manager.close()


def _read_again(manager: ServiceManager, app: App) -> None:
    manager.reloading()
    app.access.ask_again()


def _in_a_line(fleet: Fleet) -> str:
    """Return the state of the IOC for people who look at the service."""
    enabled = fleet.enabled
    run = fleet.run
    number = f" {run.number}" if run.on else ""
    online = sum(module.online for module in enabled)
    state = fleet.state.name.capitalize()
    return f"{state}; run{number} {run.state.label}; {online} of {len(enabled)} ECC servers reachable"


async def _plugins_at_rest(host: PluginHost, limit_s: float = 20.0) -> None:
    """Wait until no plugin is Degraded, as one is while its database comes up, or until the time limit."""
    changed = asyncio.Event()
    host.on_status(lambda _plugin: changed.set())
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while any(plugin.status is PluginStatus.DEGRADED for plugin in host.plugins.values()):
                changed.clear()
                await changed.wait()


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, BaseExceptionGroup) else first


def _owns_numbers(host: PluginHost, numbers: StateDirNumbers) -> bool:
    try:
        return host.number_owner()[1] is numbers
    except PluginError:
        return False


async def _write_plugin_row(
    host: PluginHost, settings: Settings, entry: PvEntry, value: int | float | str, who: Who
) -> None:
    name = entry.name.removeprefix(settings.ioc.prefix)
    if not await host.write(entry.row.plugin, name, value, who):
        raise Refused(f"the plugin {entry.row.plugin} takes no writes")


def _show_plugins(host: PluginHost, server: IocServer, settings: Settings) -> None:
    prefix = settings.ioc.prefix

    def show(plugin: Plugin) -> None:
        scope = Scope(ScopeKind.PLUGIN, plugin.name)
        server.publisher.publish(full_name(prefix, scope, STATUS), int(plugin.status))
        server.publisher.publish(full_name(prefix, scope, MESSAGE), plugin.message)

    for plugin in host.plugins.values():
        show(plugin)
    host.on_status(show)


async def _show_access(access: AccessKeeper, server: IocServer) -> None:
    async def show() -> None:
        await server.show_access(int(access.status), access.message)

    access.on_change = show
    await show()


def _context(plugin: Plugin, app: App) -> Context:
    prefix = app.settings.ioc.prefix
    own = {entry.name for entry in app.table if entry.row.plugin == plugin.name and entry.row.value is None}

    def publish(owner: str, pv: str, value: Value | Reading, severity: Severity | None) -> None:
        name = prefix + pv
        if name not in own:
            raise KeyError(f"{pv} is not a PV of the plugin {owner}")
        if severity is None or isinstance(value, Reading):
            app.server.publisher.publish(name, value)
        else:
            status = Status.NO_ALARM if severity is Severity.NO_ALARM else Status.STATE
            app.server.publisher.publish(name, Reading(value, severity, status))

    return Context(
        app.host,
        plugin.name,
        plugin.settings,
        prefix=prefix,
        state_dir=app.log.folder / PLUGINS_FOLDER / plugin.name,
        snapshot=lambda: app.controller.fleet,
        publish=publish,
        pvs=app.server.surface,
        run_records=app.host.run_records,
        vetoes_changed=app.controller.vetoes_changed,
        submit=app.controller.submit,
        number_floor=app.numbers.floor,
        tell=app.emitter.tell,
        record=partial(app.emitter.record, plugin.name),
        ca_addresses=lambda: app.server.ca.addresses,
        event_log=app.log,
        answers=app.answers,
    )
