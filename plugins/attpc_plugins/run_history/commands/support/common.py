"""What the commands share: the settings file, the database, and who is at the shell."""

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
"""How long one statement may take: people at a shell can wait, and a search may go through all runs."""

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
        """Return where the database is; `purpose` is what it is wanted for, in words."""
        return locate(self.own.database_keys, self.folder, purpose=purpose)


def setup_of(file: Path) -> Setup:
    """Read a settings file; raises `SettingsError`."""
    settings, own = plugin_settings(file, PLUGIN, RunHistorySettings)
    return Setup(settings, own, plugin_folder(settings, PLUGIN))


@contextlib.asynccontextmanager
async def opened(file: Path) -> AsyncIterator[Store]:
    """Give the store of the settings' database; an embedded server that does not run is run meanwhile.

    Raises `SettingsError`, and `DatabaseError`'s kinds with the reason and what to do.
    """
    async with setup_of(file).database("a command of the run history").attached() as database:
        if database.server is None:
            # Asked once by itself: what is wrong is then told in the words of `db status`.
            await (await database.connect()).close()
        else:
            # Nobody else looks after the schema of an embedded server; of a facility's, its supervisor does.
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
    """Do some work with the store; a reader of standard output that has gone ends it quietly."""
    set_up_logging(level="WARNING")

    async def run() -> T:
        async with opened(file) as store:
            return await work(store)

    try:
        return asyncio.run(run())
    except BrokenPipeError:
        # Python would complain once more when it empties its buffers at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def me() -> Who:
    """Return who is at the shell."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return Who(user=user, host=socket.gethostname(), address="shell")


async def experiment_or_current(store: Store, name: str, how: str = "with --experiment") -> str:
    """Return the experiment that was named, or the current one; ends the command where there is none.

    `how` says how one is named.
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
    """Runs as they were named at the shell; without an experiment they are the current one's."""

    experiment: str
    numbers: tuple[int, ...]

    async def experiment_in(self, store: Store) -> str:
        """Return their experiment; ends the command where none was named and none is current."""
        return self.experiment or await _current(store, "before the number")


def runs_named(words: list[str], count: int) -> RunsNamed:
    """Return what `[EXPERIMENT] NUMBER ...` names, with `count` numbers; raises `BadParameter`."""
    wanted = "[EXPERIMENT] " + " ".join(["NUMBER", "OTHER"][:count])
    if len(words) not in (count, count + 1):
        raise typer.BadParameter(f"{' '.join(words)!r} is not {wanted}")
    experiment, numbers = (words[0] if len(words) > count else ""), words[-count:]
    for word in numbers:
        if not (word.isascii() and word.isdigit() and len(word) <= 10):
            raise typer.BadParameter(f"{word!r} is not a run number; what is wanted is {wanted}")
    return RunsNamed(experiment, tuple(int(word) for word in numbers))


async def check_experiment(store: Store, name: str | None) -> None:
    """Raise `NotFound` for an experiment that was named and is not there; None names none."""
    if name is not None:
        await store.experiment(name)


def counted(count: int, noun: str) -> str:
    """Return a number of things in words: `1 run`, `2 runs`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
