"""Access for a plugin's shell commands: to the running IOC, or else to the state that it left.

Part of the public contract. A command asks the IOC first; if none is running it opens the state itself, and
an IOC started meanwhile finds the state directory in use.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
from pydantic import BaseModel, TypeAdapter

from attpc_ioc.asking import ask, plugin_key
from attpc_ioc.control.take_over import open_event_log
from attpc_ioc.eventlog import EventLog, Kept
from attpc_ioc.plugin.context import PLUGINS_FOLDER
from attpc_ioc.plugin.sections import checked_section
from attpc_ioc.settings import Settings, load_settings

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


def plugin_settings(file: Path, plugin: str, model: type[M]) -> tuple[Settings, M]:
    """Return the settings of a file and the plugin's section of them; raises `SettingsError`.

    The section may have names that are not in the fleet: a command may ask an IOC, which knows the fleet.
    """
    settings = load_settings(file)
    return settings, checked_section(str(file), plugin, settings.plugins, model)


def plugin_folder(settings: Settings, plugin: str) -> Path:
    """Return the plugin's own folder in the state directory; it need not exist."""
    return settings.state_directory() / PLUGINS_FOLDER / plugin


def ask_plugin(settings: Settings, plugin: str, question: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plugin's answer from the IOC that runs with these settings, see `PluginContext.answer`.

    Raises `NotRunning` if none is running, and `StateDirError` if it does not answer, or this user may not
    ask.
    """
    return ask(settings.state_directory(), {**question, "ask": plugin_key(plugin)})


def fail(text: str) -> NoReturn:
    """End the command with a text on standard error and exit code 1."""
    typer.echo(text, err=True)
    raise typer.Exit(1)


class PluginState:
    """What a plugin has kept, as in its context, while no IOC is running."""

    def __init__(self, event_log: EventLog, plugin: str) -> None:
        self._log = event_log
        self._plugin = plugin
        self.folder = event_log.folder / PLUGINS_FOLDER / plugin
        """The plugin's own folder; it need not exist."""

    def kept(self, topic: str, adapter: TypeAdapter[T]) -> Kept[T]:
        """Return what the plugin keeps over restarts under this topic."""
        return self._log.kept(f"{self._plugin}/{topic}", adapter)

    async def flush(self, limit_s: float = 5.0) -> None:
        """Wait until everything kept so far is on disk; raises `StateDirError` if that fails."""
        await self._log.flush(limit_s)


@contextlib.asynccontextmanager
async def open_state(settings: Settings, plugin: str) -> AsyncIterator[PluginState]:
    """Open the plugin's state for changes; what is kept is on disk when the block has ended.

    Raises `StateDirBusy` if an IOC or another command uses it, and `StateDirError` if it cannot be opened.
    """
    event_log = await asyncio.to_thread(open_event_log, settings.state_directory(), settings.ioc.prefix)
    try:
        writer = asyncio.create_task(event_log.run(), name="state")
        try:
            yield PluginState(event_log, plugin)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
    finally:
        await event_log.close()
