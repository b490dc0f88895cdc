"""What the shell commands share: the settings, the journal, the hosts, and how they end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

import typer
from pydantic import ValidationError

from attpc_ioc.errors import SettingsError
from attpc_ioc.log import set_up_logging
from attpc_ioc.model.names import experiment_fault
from attpc_ioc.settings import load_settings

from .closing_journal import Journal
from .hosts.host import FileHost, SentryHost
from .hosts.make import host_for
from .model import RunKey
from .settings import DataRoutersSettings, RouterSettings

PLUGIN = "data_routers"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setup:
    """What a settings file says: the plugin's section, the ECC servers' names, the plugin's own folder."""

    settings: DataRoutersSettings
    eccs: tuple[str, ...]
    folder: Path

    def journal(self) -> Journal:
        """Return the journal that the IOC keeps."""
        return Journal(self.folder)

    def routers(self, labels: tuple[str, ...]) -> tuple[RouterSettings, ...]:
        """Return the routers of these names, or all; ends the command where there is none."""
        known = {router.label: router for router in self.settings.router}
        if not known:
            fail("the settings have no data router: [[plugins.data_routers.router]]")
        if wrong := [label for label in labels if label not in known]:
            fail(f"no data router is called {wrong[0]!r}; there are {', '.join(known)}")
        return tuple(known[label] for label in dict.fromkeys(labels or known))


def setup_of(file: Path) -> Setup:
    """Read a settings file; raises `SettingsError`."""
    set_up_logging(level="ERROR")
    settings = load_settings(file)
    section = {k: v for k, v in settings.plugins.get(PLUGIN, {}).items() if k != "enabled"}
    try:
        own = DataRoutersSettings.model_validate(section)
    except ValidationError as error:
        faults = [
            f"plugins.{'.'.join([PLUGIN, *(str(part) for part in fault['loc'])])}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise SettingsError(str(file), faults) from None
    eccs = tuple(ecc.name for ecc in settings.ecc)
    return Setup(own, eccs, settings.state_directory() / "plugins" / PLUGIN)


def run_of(setup: Setup, number: int, experiment: str, *, guess: bool = False) -> RunKey:
    """Return the run that was named; ends the command where its experiment cannot be known.

    Where the closing is no longer on record it may be a `guess`: the experiment of the newest one that is.
    """
    if experiment:
        if fault := experiment_fault(experiment):
            fail(fault)
        return RunKey(experiment, number)
    entries = setup.journal().entries()
    known = sorted({entry.run for entry in entries if entry.run.number == number})
    if len(known) == 1:
        return known[0]
    if known:
        names = ", ".join(run.experiment for run in known)
        return fail(f"run {number} is of several experiments, name one with --experiment: {names}")
    if guess and entries:
        last = entries[-1].run
        typer.echo(f"experiment {last.experiment}, as of run {last.number}", err=True)
        return RunKey(last.experiment, number)
    return fail(f"no closing of a run {number} is on record: name its experiment with --experiment")


def with_hosts(
    setup: Setup,
    routers: tuple[RouterSettings, ...],
    work: Callable[[RouterSettings, FileHost | SentryHost], Awaitable[T]],
) -> list[T]:
    """Do some work on the hosts of routers, side by side, and let go of them; results in the same order."""

    async def run() -> list[T]:
        hosts = [host_for(router, setup.settings) for router in routers]
        try:
            return await asyncio.gather(*(work(r, h) for r, h in zip(routers, hosts, strict=True)))
        finally:
            await asyncio.gather(*(host.disconnect() for host in hosts), return_exceptions=True)

    return asyncio.run(run())


def fail(text: str) -> NoReturn:
    """End the command with a text on standard error and exit code 1."""
    typer.echo(text, err=True)
    raise typer.Exit(1)
