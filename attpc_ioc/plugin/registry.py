"""The plugins: loading, settings and status."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pluggy
from pydantic import BaseModel

from attpc_ioc.errors import PluginError, SettingsError
from attpc_ioc.log import get_logger
from attpc_ioc.model.names import FleetNames

from . import checks
from .guard import call, reason_of
from .mailbox import Mailbox
from .sections import Sections, checked_section, section_of, switched_off
from .spec import PROJECT, Specification
from .status import Health, PluginStatus

if TYPE_CHECKING:
    from .context import Context

log = get_logger(__name__)


@functools.cache
def _installed(path: tuple[str, ...]) -> tuple[tuple[importlib.metadata.EntryPoint, str], ...]:  # noqa: ARG001
    """Return the installed plugins on this `sys.path` by name, each with its origin.

    Cached, because it reads the metadata of every installed package, and several callers need it.
    """
    points = sorted(importlib.metadata.entry_points(group=PROJECT), key=lambda point: point.name)
    return tuple((p, f"{p.dist.name} {p.dist.version}" if p.dist else p.value) for p in points)


@dataclass(slots=True)
class Plugin:
    """One plugin in the registry."""

    name: str
    plugin: object
    origin: str
    """Where it comes from: `built in`, or the distribution and version."""
    enabled: bool = True
    broken: str = ""
    """Why it cannot be used although it is switched on; no run can start then."""
    started: bool = False
    health: Health = field(default_factory=Health)
    settings: BaseModel | None = None
    mailbox: Mailbox | None = None
    context: Context | None = None

    @property
    def status(self) -> PluginStatus:
        """The value of `Plugin:<name>:Status_RBV`."""
        return self.health.status

    @property
    def message(self) -> str:
        """The value of `Plugin:<name>:Message_RBV`."""
        return self.health.message


class PluginRegistry:
    """The registered plugins, in order of registration."""

    def __init__(self, sections: Sections | None = None) -> None:
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Specification)
        self._sections = dict(sections or {})
        self.plugins: dict[str, Plugin] = {}
        self._on_status: list[Callable[[Plugin], None]] = []
        self._hooks: dict[str, list[str]] = {}

    # ------------------------------------------------------------------ loading

    def register(self, plugin: object, name: str, origin: str = "built in") -> None:
        """Register one plugin; raises `PluginError` for a misspelt hook or a name that is taken."""
        entry = self._enter(plugin, name, origin)
        if not entry.enabled:
            return
        try:
            self._manager.register(plugin, name=name)
            self._hooks.pop(name, None)
            self._manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            raise PluginError(f"plugin {name} ({origin}): {error}") from error
        impls = [
            (caller.name, impl)
            for caller in self._manager.get_hookcallers(plugin) or []
            for impl in caller.get_hookimpls()
            if impl.plugin_name == name
        ]
        if faults := list(checks.faults(name, plugin, impls)):
            raise PluginError("\n".join(f"plugin {name} ({origin}): {fault}" for fault in faults))

    def _enter(self, plugin: object, name: str, origin: str) -> Plugin:
        if name in self.plugins:
            raise PluginError(
                f"plugin {name} ({origin}): a plugin of this name is already registered "
                f"({self.plugins[name].origin})"
            )
        entry = Plugin(name, plugin, origin, enabled=not switched_off(name, self._sections))
        if not entry.enabled:
            entry.health.off = "switched off in the settings"
        self.plugins[name] = entry
        return entry

    def load_entry_points(self) -> None:
        """Register every installed plugin; one that cannot be imported is Failed.

        A plugin already registered under the same name stays.
        """
        for point, origin in _installed(tuple(sys.path)):
            if point.name in self.plugins:
                continue
            if switched_off(point.name, self._sections):
                self._enter(object(), point.name, origin)
                continue
            try:
                plugin = point.load()
                plugin = plugin() if inspect.isclass(plugin) else plugin
            except (Exception, SystemExit) as error:  # one plugin's fault must not stop the others
                log.error(
                    "plugin cannot be loaded", plugin=point.name, origin=origin, reason=reason_of(error)
                )
                self._break(
                    self._enter(object(), point.name, origin), f"cannot be loaded: {reason_of(error)}"
                )
                continue
            self.register(plugin, point.name, origin)

    def _break(self, entry: Plugin, reason: str) -> None:
        """Unregister a plugin that cannot be used; see `vetoes` for the consequences."""
        if self._manager.has_plugin(entry.name):
            self._manager.unregister(name=entry.name)
            self._hooks.pop(entry.name, None)
        entry.broken = reason
        self.fault(entry.name, "load", reason, PluginStatus.FAILED)

    def check_sections(self, names: FleetNames | None = None) -> list[str]:
        """Return a fault for each settings section without a plugin, and for each that its model rejects.

        `names` is the context of the validation; None without settings of a fleet.
        Raises `PluginError` if a plugin cannot return its settings model.
        """
        faults = [
            f"plugins.{name}: no such plugin; installed are: {', '.join(self.plugins) or 'none'}"
            for name in self._sections
            if name not in self.plugins
        ]
        for entry in self.active():
            model = self._settings_model(entry)
            if model is None:
                own = section_of(entry.name, self._sections)
                faults += [f"plugins.{entry.name}.{key}: this plugin has no settings" for key in own]
                continue
            try:
                entry.settings = checked_section("settings", entry.name, self._sections, model, names)
            except SettingsError as error:
                faults += error.faults
                continue
            for key in entry.settings.model_fields_set:
                if reason := model.model_fields[key].deprecation_message:
                    log.warning("settings key is outdated", key=f"plugins.{entry.name}.{key}", reason=reason)
        return faults

    def _settings_model(self, entry: Plugin) -> type[BaseModel] | None:
        for impl in self._of("attpc_settings", entry):
            try:
                model = call(impl, {})
            except Exception as error:  # settings must not be used unchecked
                raise PluginError(
                    f"plugin {entry.name} ({entry.origin}): attpc_settings: {reason_of(error)}"
                ) from error
            if not (inspect.isclass(model) and issubclass(model, BaseModel)):
                raise PluginError(
                    f"plugin {entry.name} ({entry.origin}): attpc_settings gave {model!r}, not a model"
                )
            return model
        return None

    def active(self) -> list[Plugin]:
        """Return the plugins that are switched on and loaded, in order of registration."""
        return [p for p in self.plugins.values() if p.enabled and self._manager.has_plugin(p.name)]

    def hooks_of(self, name: str) -> list[str]:
        """Return the names of the hooks that a plugin implements."""
        if name not in self._hooks:
            callers = self._manager.get_hookcallers(self.plugins[name].plugin) or []
            self._hooks[name] = sorted(caller.name for caller in callers)
        return self._hooks[name]

    # ------------------------------------------------------------------ status

    def on_status(self, listener: Callable[[Plugin], None]) -> None:
        """Call `listener` when a plugin's status or message changes."""
        self._on_status.append(listener)

    def fault(self, name: str, cause: str, text: str, status: PluginStatus = PluginStatus.DEGRADED) -> None:
        """Report a fault of a plugin; it stands until `clear` is called for the same cause."""
        if self.plugins[name].health.fault(cause, status, text):
            self._notify(name)

    def clear(self, name: str, cause: str) -> None:
        """Report that a fault is over."""
        if self.plugins[name].health.clear(cause):
            self._notify(name)

    def note(self, name: str, text: str) -> None:
        """Set what a plugin shows while it has no fault."""
        if self.plugins[name].health.note != text:
            self.plugins[name].health.note = text
            self._notify(name)

    def _notify(self, name: str) -> None:
        for listener in self._on_status:
            listener(self.plugins[name])

    # ------------------------------------------------------------------ implementations

    def _impls(self, hook: str) -> Iterable[tuple[str, pluggy.HookImpl]]:
        """Yield the implementations of a hook in call order."""
        caller: pluggy.HookCaller = getattr(self._manager.hook, hook)
        for impl in reversed(caller.get_hookimpls()):
            yield impl.plugin_name, impl

    def _of(self, hook: str, entry: Plugin) -> list[pluggy.HookImpl]:
        return [impl for name, impl in self._impls(hook) if name == entry.name]
