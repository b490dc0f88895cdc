"""Shared by the commands: the settings file, the database, and the user at the shell."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from attpc_ioc.log import set_up_logging
from attpc_ioc.model.command import Who
from attpc_ioc.settings import Settings
from attpc_ioc.shell import fail, plugin_folder, plugin_settings
from attpc_plugins.run_history.connection.database import Database, locate
from attpc_plugins.run_history.connection.wire import COMMAND_ANSWER_BYTES
from attpc_plugins.run_history.settings import RunHistorySettings
from attpc_plugins.run_history.store import Store, prepare_schema

T = TypeVar("T")

PLUGIN = "run_history"
VARIABLE = "ATTPC_IOC_SETTINGS"
QUERY_LIMIT_S = 60.0
"""Time limit of a statement: people at a shell can wait, and a search may read all runs."""

SettingsFile = Annotated[
    Path,
    typer.Option("--settings", metavar="FILE", envvar=VARIABLE, help="The settings file (TOML)."),
]
DEFAULT_FILE = Path("attpc-ioc.toml")


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings of a file: all of them, the plugin's section, and the plugin's folder."""

    all: Settings
    own: RunHistorySettings
    folder: Path

    def database(self, purpose: str) -> Database:
        """Return the database; `purpose` says in words what it is used for."""
        return locate(self.own.database_keys, self.folder, purpose=purpose)


def setup_of(file: Path) -> Setup:
    """Read a settings file; raises `SettingsError`."""
    settings, own = plugin_settings(file, PLUGIN, RunHistorySettings)
    return Setup(settings, own, plugin_folder(settings, PLUGIN))


@contextlib.asynccontextmanager
async def opened(file: Path) -> AsyncIterator[Store]:
    """Yield the store of the settings' database; an embedded server is started for it if necessary.

    Raises `SettingsError`, and `DatabaseError`'s kinds with the reason and what to do.
    """
    async with setup_of(file).database("a command of the run history").attached() as database:
        if database.server is None:
            # A single connection first: its faults are explained in the words of `db status`.
            await (await database.connect()).close()
        else:
            # Nobody else migrates the schema of an embedded server; for a facility's server an IOC does.
            await prepare_schema(database.dsn)
        store = await Store.connect(
            database.dsn,
            limit_s=QUERY_LIMIT_S,
            pool_max=2,
            application="attpc-ioc shell",
            answer_bytes=COMMAND_ANSWER_BYTES,
        )
        try:
            yield store
        finally:
            await store.close()


def with_store(file: Path, work: Callable[[Store], Awaitable[T]]) -> T:
    """Do some work with the store; if the reader of standard output is gone, end quietly."""
    set_up_logging(level="WARNING")

    async def run() -> T:
        async with opened(file) as store:
            return await work(store)

    try:
        return asyncio.run(run())
    except BrokenPipeError:
        # Python would report it again when it flushes its buffers at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def me() -> Who:
    """Return the user at the shell."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return Who(user=user, host=socket.gethostname(), address="shell")


async def experiment_or_current(store: Store, name: str, how: str = "with --experiment") -> str:
    """Return the named experiment, or the current one; ends the command if there is none.

    `how` says how to name one.
    """
    if name:
        return (await store.experiment(name)).name
    return await _current(store, how)


async def _current(store: Store, how: str) -> str:
    current = await store.current_experiment()
    if current is None:
        fail(f"no experiment is current: name one {how}")
    return current.name


@dataclass(frozen=True, slots=True)
class RunsNamed:
    """Runs as named at the shell; without an experiment they belong to the current one."""

    experiment: str
    numbers: tuple[int, ...]

    async def experiment_in(self, store: Store) -> str:
        """Return their experiment; ends the command if none was named and none is current."""
        return self.experiment or await _current(store, "before the number")


def runs_named(words: list[str], count: int) -> RunsNamed:
    """Return what `[EXPERIMENT] NUMBER ...` names, with `count` numbers; raises `BadParameter`."""
    wanted = "[EXPERIMENT] " + " ".join(["NUMBER", "OTHER"][:count])
    if len(words) not in (count, count + 1):
        raise typer.BadParameter(f"{' '.join(words)!r} is not {wanted}")
    experiment, numbers = (words[0] if len(words) > count else ""), words[-count:]
    for word in numbers:
        if not (word.isascii() and word.isdigit() and len(word) <= 10):
            raise typer.BadParameter(f"{word!r} is not a run number; expected is {wanted}")
    return RunsNamed(experiment, tuple(int(word) for word in numbers))


async def check_experiment(store: Store, name: str | None) -> None:
    """Raise `NotFound` if the named experiment does not exist; None names none."""
    if name is not None:
        await store.experiment(name)


def counted(count: int, noun: str) -> str:
    """Return a number of things in words: `1 run`, `2 runs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
