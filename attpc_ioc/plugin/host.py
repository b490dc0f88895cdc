"""The plugin host: loads plugins, asks decisions, and delivers notifications, each plugin by itself."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy
from pydantic import BaseModel, ValidationError

from attpc_ioc.errors import PluginError
from attpc_ioc.log import get_logger
from attpc_ioc.model.command import Command, Reason, Who
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.plan import Plan
from attpc_ioc.pvs.row import Row

from .mailbox import Mailbox
from .spec import PROJECT, Specification
from .status import PluginStatus

if TYPE_CHECKING:
    from .context import Context

log = get_logger(__name__)


@dataclass(slots=True)
class Plugin:
    """One plugin as the host knows it."""

    name: str
    plugin: object
    origin: str
    """Where it comes from: `built in`, or the distribution and version."""
    enabled: bool = True
    status: PluginStatus = PluginStatus.OK
    message: str = ""
    settings: BaseModel | None = None
    mailbox: Mailbox | None = None
    context: Context | None = None


class PluginHost:
    """Holds the plugins. Decisions never raise; notifications never hurt anybody else.

    Dispatch is implementation by implementation, because one that raises would stop a plain pluggy call
    and leave the others' coroutines un-awaited.
    """

    def __init__(self, sections: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Specification)
        self._sections = dict(sections or {})
        self.plugins: dict[str, Plugin] = {}
        self._on_status: list[Callable[[Plugin], None]] = []

    # ------------------------------------------------------------------ loading

    def register(self, plugin: object, name: str, origin: str = "built in") -> None:
        """Register one plugin; raises `PluginError` for a misspelt hook or a name that is taken."""
        if name in self.plugins:
            raise PluginError(
                f"plugin {name}: a plugin of this name is there already ({self.plugins[name].origin})"
            )
        entry = Plugin(name, plugin, origin)
        entry.enabled = bool(self._sections.get(name, {}).get("enabled", True))
        self.plugins[name] = entry
        if not entry.enabled:
            entry.status, entry.message = PluginStatus.OFF, "switched off in the settings"
            return
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"plugin {name} ({origin}): {error}") from error
        self._check_spelling(plugin, name, origin)

    def load_entry_points(self) -> None:
        """Register every plugin that is installed; one that cannot be imported is Failed and named."""
        for point in sorted(importlib.metadata.entry_points(group=PROJECT), key=lambda p: p.name):
            origin = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
            if self._sections.get(point.name, {}).get("enabled", True) is False:
                self.register(object(), point.name, origin)
                continue
            try:
                plugin = point.load()
            except Exception as error:  # any fault of somebody else's module is that plugin's alone
                log.error("plugin cannot be loaded", plugin=point.name, origin=origin, reason=_text(error))
                self.plugins[point.name] = Plugin(
                    point.name,
                    object(),
                    origin,
                    False,
                    PluginStatus.FAILED,
                    f"cannot be loaded: {_text(error)}",
                )
                continue
            self.register(plugin() if inspect.isclass(plugin) else plugin, point.name, origin)

    def check_sections(self) -> list[str]:
        """Return a fault for each section of the settings that no plugin wants, or that its model refuses."""
        faults = [
            f"plugins.{name}: there is no such plugin; installed are: {', '.join(self.plugins) or 'none'}"
            for name in self._sections
            if name not in self.plugins
        ]
        for entry in self.active():
            section = {k: v for k, v in self._sections.get(entry.name, {}).items() if k != "enabled"}
            models = [impl() for impl in self._functions("attpc_settings", entry)]
            if not models:
                faults += [f"plugins.{entry.name}.{key}: this plugin has no settings" for key in section]
                continue
            try:
                entry.settings = models[0].model_validate(section)
            except ValidationError as error:
                for fault in error.errors():
                    where = ".".join(str(part) for part in fault["loc"])
                    faults.append(f"plugins.{entry.name}.{where}: {fault['msg']}")
        return faults

    def _check_spelling(self, plugin: object, name: str, origin: str) -> None:
        """Refuse functions called `attpc_...` that are no hook or are not marked as an implementation."""
        known = {attr for attr in dir(Specification) if attr.startswith("attpc_")}
        marked = {impl.name for impl in self._manager.get_hookcallers(plugin) or []}
        for attr in dir(plugin):
            if attr.startswith("attpc_") and callable(getattr(plugin, attr, None)):
                if attr not in known:
                    raise PluginError(f"plugin {name} ({origin}): there is no hook {attr}")
                if attr not in marked:
                    raise PluginError(f"plugin {name} ({origin}): {attr} is not marked with @hookimpl")

    def active(self) -> list[Plugin]:
        """Return the plugins that are switched on and loaded, in order of registration."""
        return [p for p in self.plugins.values() if p.enabled and self._manager.has_plugin(p.name)]

    def hooks_of(self, name: str) -> list[str]:
        """Return the names of the hooks that a plugin implements."""
        plugin = self.plugins[name].plugin
        return sorted(caller.name for caller in self._manager.get_hookcallers(plugin) or [])

    # ------------------------------------------------------------------ status

    def on_status(self, listener: Callable[[Plugin], None]) -> None:
        """Call `listener` when a plugin's status or message changes."""
        self._on_status.append(listener)

    def set_status(self, name: str, status: PluginStatus, message: str = "") -> None:
        """Set a plugin's status and message, and tell the listeners."""
        entry = self.plugins[name]
        if (entry.status, entry.message) != (status, message):
            entry.status, entry.message = status, message
            for listener in self._on_status:
                listener(entry)

    # ------------------------------------------------------------------ decisions

    def _impls(self, hook: str) -> Iterable[tuple[str, pluggy.HookImpl]]:
        """Yield the implementations of a hook in call order."""
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        for impl in reversed(caller.get_hookimpls()):
            yield impl.plugin_name, impl

    def _functions(self, hook: str, entry: Plugin) -> list[Callable[..., Any]]:
        return [impl.function for name, impl in self._impls(hook) if name == entry.name]

    @staticmethod
    def _call(impl: pluggy.HookImpl, arguments: Mapping[str, Any]) -> Any:
        return impl.function(*(arguments[name] for name in impl.argnames))

    def plan(self, command: Command, fleet: Fleet) -> Plan:
        """Ask for the plan of a command; a plugin that raises refuses it."""
        for name, impl in self._impls("attpc_plan"):
            try:
                plan = self._call(impl, {"command": command, "fleet": fleet})
            except Exception as error:  # the contract: a decision that raises counts as "no"
                return Plan(command, refusals=(self._no(name, "attpc_plan", error),))
            if plan is not None:
                return plan
        return Plan(command, refusals=(Reason("no plugin knows how to do this"),))

    def vetoes(self, plan: Plan, fleet: Fleet) -> list[Reason]:
        """Collect every reason why the plan may not run now."""
        reasons: list[Reason] = []
        for name, impl in self._impls("attpc_veto"):
            try:
                answer = self._call(impl, {"plan": plan, "fleet": fleet})
                if answer is None:
                    continue
                items = [answer] if isinstance(answer, str | Reason) else list(answer)
                reasons += [item if isinstance(item, Reason) else Reason(str(item)) for item in items]
            except Exception as error:  # the contract: a decision that raises counts as "no"
                reasons.append(self._no(name, "attpc_veto", error))
        return reasons

    def may_write(self, who: Who, row: Row) -> bool:
        """Tell whether somebody may write a PV; a plugin that raises says no."""
        for name, impl in self._impls("attpc_access"):
            try:
                answer = self._call(impl, {"who": who, "row": row})
            except Exception as error:  # the contract: a decision that raises counts as "no"
                self._no(name, "attpc_access", error)
                return False
            if answer is not None:
                return bool(answer)
        return True

    def rows(self) -> list[Row]:
        """Collect the plugins' rows for the PV table; a plugin that raises is switched off."""
        rows: list[Row] = []
        for entry in self.active():
            try:
                for function in self._functions("attpc_pvs", entry):
                    wants = inspect.signature(function).parameters
                    rows += [
                        _owned(row, entry.name)
                        for row in function(*([entry.settings] if "settings" in wants else []))
                    ]
            except Exception as error:  # a plugin's fault is its own
                log.error("plugin's rows failed", plugin=entry.name, reason=_text(error))
                self._manager.unregister(name=entry.name)
                entry.enabled = False
                self.set_status(entry.name, PluginStatus.FAILED, f"attpc_pvs: {_text(error)}")
        return rows

    def next_number(self, experiment: str) -> int | None:
        """Return the number that the next run would get; None where nobody knows."""
        for name, impl in self._impls("attpc_next_number"):
            try:
                number = self._call(impl, {"experiment": experiment})
            except Exception as error:  # the contract: a decision that raises counts as "no"
                self._no(name, "attpc_next_number", error)
                return None
            if number is not None:
                return int(number)
        return None

    def _no(self, name: str, hook: str, error: Exception) -> Reason:
        text = f"plugin {name} failed in {hook}: {_text(error)}"
        if self.plugins[name].message != text:
            log.error("plugin failed", plugin=name, hook=hook, reason=_text(error))
        self.set_status(name, PluginStatus.DEGRADED, text)
        return Reason(text)

    # ------------------------------------------------------------------ the owner of run numbers

    async def reserve_number(self, experiment: str, limit_s: float) -> int:
        """Reserve the next run number within `limit_s` seconds; raises `PluginError` with the reason."""
        for name, impl in self._impls("attpc_run_number"):
            try:
                async with asyncio.timeout(limit_s):
                    number = await _awaited(self._call(impl, {"experiment": experiment}))
            except TimeoutError:
                raise PluginError(f"{name} gave no run number within {limit_s:g} s") from None
            except Exception as error:  # never a fallback to another source
                raise PluginError(f"{name} gave no run number: {_text(error)}") from error
            if not isinstance(number, int) or isinstance(number, bool) or number < 0:
                raise PluginError(f"{name} gave no run number but {number!r}")
            return number
        raise PluginError("nobody owns the run numbers")

    async def release_number(self, experiment: str, number: int, limit_s: float) -> None:
        """Give a number back to its owner; a failure is logged: the number is then simply not used."""
        for name, impl in self._impls("attpc_release_number"):
            try:
                async with asyncio.timeout(limit_s):
                    await _awaited(self._call(impl, {"experiment": experiment, "number": number}))
            except Exception as error:  # a number that is not given back does no harm
                log.warning("run number not released", plugin=name, number=number, reason=_text(error))
            return

    # ------------------------------------------------------------------ notifications

    def notify(self, hook: str, **arguments: Any) -> asyncio.Future[Any] | None:
        """Deliver a notification to every plugin that wants it, and return at once.

        The result, where there is one, is done when the plugins that promise durability (attribute
        `attpc_durable`) have handled it.
        """
        durable: list[asyncio.Future[None]] = []
        for name, impl in self._impls(hook):
            mailbox = self.plugins[name].mailbox
            if mailbox is None:
                continue
            handled = mailbox.post(hook, lambda impl=impl: self._call(impl, arguments))
            if getattr(self.plugins[name].plugin, "attpc_durable", False):
                durable.append(handled)
        return asyncio.gather(*durable) if durable else None

    # ------------------------------------------------------------------ writes to plugins' PVs

    async def write(self, plugin: str, pv: str, value: Any, who: Who, limit_s: float = 10.0) -> bool:
        """Give a write to the plugin that owns the PV; False when it has no `attpc_write`."""
        entry = self.plugins[plugin]
        for name, impl in self._impls("attpc_write"):
            if name == plugin:
                async with asyncio.timeout(limit_s):
                    await _awaited(
                        self._call(impl, {"ctx": entry.context, "pv": pv, "value": value, "who": who})
                    )
                return True
        return False

    # ------------------------------------------------------------------ life

    async def start(self, make_context: Callable[[Plugin], Context], limit_s: float = 10.0) -> None:
        """Start every plugin; one that fails or takes longer than `limit_s` is Failed, the rest go on."""
        for entry in self.active():
            entry.context = make_context(entry)
            entry.mailbox = Mailbox(
                entry.name, lambda status, text, name=entry.name: self.set_status(name, status, text)
            )
            entry.mailbox.start()
            try:
                for function in self._functions("attpc_startup", entry):
                    async with asyncio.timeout(limit_s):
                        await _awaited(function(entry.context))
            except TimeoutError:
                self.set_status(entry.name, PluginStatus.FAILED, f"did not start within {limit_s:g} s")
            except Exception as error:  # a plugin's fault is its own
                log.error("plugin failed to start", plugin=entry.name, reason=_text(error))
                self.set_status(entry.name, PluginStatus.FAILED, f"did not start: {_text(error)}")

    async def stop(self, limit_s: float = 1.0) -> None:
        """Empty the queues and stop the plugins in reverse order, each within `limit_s`."""
        for entry in reversed(self.active()):
            if entry.mailbox is not None:
                await entry.mailbox.close(limit_s / 2)
            for function in self._functions("attpc_shutdown", entry) if entry.context else []:
                try:
                    async with asyncio.timeout(limit_s / 2):
                        await _awaited(function(entry.context))
                except Exception as error:  # the others are to be stopped as well
                    log.error("plugin failed to stop", plugin=entry.name, reason=_text(error))
            if entry.context is not None:
                await entry.context.close()

    def add_commands(self, app: Any) -> list[str]:
        """Let the plugins add their shell commands; returns the failures as text."""
        failures = []
        for name, impl in self._impls("attpc_cli"):
            try:
                self._call(impl, {"app": app})
            except Exception as error:  # the program goes on without them
                failures.append(f"plugin {name}: {_text(error)}")
        return failures


async def _awaited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def _owned(row: Row, plugin: str) -> Row:
    if not isinstance(row, Row):
        raise TypeError(f"attpc_pvs gave {row!r}, which is no Row")
    return dataclasses.replace(row, plugin=plugin)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
