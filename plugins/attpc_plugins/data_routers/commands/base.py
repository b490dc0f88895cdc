"""Shared by the shell commands: the settings, the plugin's state, the hosts, and the exit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import typer

from attpc_ioc.errors import NotRunning, StateDirBusy
from attpc_ioc.log import set_up_logging
from attpc_ioc.model.names import experiment_fault
from attpc_ioc.model.run import RunRef
from attpc_ioc.settings import Settings
from attpc_ioc.shell import ask_plugin, fail, open_state, plugin_settings
from attpc_plugins.data_routers.hosts.host import FileHost, SentryHost
from attpc_plugins.data_routers.hosts.make import host_for
from attpc_plugins.data_routers.settings import DataRoutersSettings, RouterSettings
from attpc_plugins.data_routers.state import Records
from attpc_plugins.data_routers.take_over import take_over

from .answers import RUNS

PLUGIN = "data_routers"

BUSY_S = 0.5
LOOK_S = 0.2

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings of a file: all of them, and the plugin's section."""

    all: Settings
    settings: DataRoutersSettings

    @property
    def eccs(self) -> tuple[str, ...]:
        """The names of the ECC servers."""
        return tuple(ecc.name for ecc in self.all.ecc)

    def routers(self, labels: tuple[str, ...]) -> tuple[RouterSettings, ...]:
        """Return the routers of these names, or all; ends the command if there is none."""
        known = {router.label: router for router in self.settings.router}
        if not known:
            fail("the settings have no data router: [[plugins.data_routers.router]]")
        if wrong := [label for label in labels if label not in known]:
            fail(f"no data router is called {wrong[0]!r}; there are {', '.join(known)}")
        return tuple(known[label] for label in dict.fromkeys(labels or known))


def setup_of(file: Path) -> Setup:
    """Read a settings file; raises `SettingsError`."""
    set_up_logging(level="ERROR")
    return Setup(*plugin_settings(file, PLUGIN, DataRoutersSettings))


@contextlib.asynccontextmanager
async def open_records(setup: Setup) -> AsyncIterator[Records]:
    """Open the plugin's state while no IOC runs; raises as `open_state` does."""
    async with open_state(setup.all, PLUGIN) as state:
        records = Records(state)
        await take_over(records, state.folder)
        yield records


async def by_the_ioc_or_here(ask: Callable[[], Awaitable[T]], here: Callable[[], Awaitable[T]]) -> T:
    """Ask the IOC if one runs, else do the work here; waits while another command has the state directory."""
    said = False
    while True:
        try:
            return await ask()
        except NotRunning:
            pass
        try:
            return await here()
        except StateDirBusy as error:
            # Perhaps an IOC is starting and will answer soon.
            if not said:
                typer.echo(f"{error}; waiting for it", err=True)
            said = True
            await asyncio.sleep(BUSY_S)


async def job_of_the_ioc(setup: Setup, question: Mapping[str, Any]) -> bool:
    """Have the running IOC do a job, print what it says, and return whether it succeeded."""
    begun = ask_plugin(setup.all, PLUGIN, question)
    seen = 0
    while True:
        answer = ask_plugin(setup.all, PLUGIN, {"do": "look", "job": begun["job"], "after": seen})
        if not answer["known"]:
            # The IOC was restarted in the meantime.
            return await job_of_the_ioc(setup, question)
        for text, wrong in answer["lines"]:
            say(text, wrong)
        seen += len(answer["lines"])
        if answer["ok"] is not None:
            return answer["ok"]
        await asyncio.sleep(LOOK_S)


def say(text: str, wrong: bool) -> None:
    """Print a line; a fault goes to standard error."""
    typer.echo(text, err=wrong)


async def runs_on_record(setup: Setup) -> list[RunRef]:
    """Return the runs that have a closing, the oldest first."""

    async def ask() -> list[RunRef]:
        return RUNS.validate_python(ask_plugin(setup.all, PLUGIN, {"do": "runs"})["runs"])

    async def here() -> list[RunRef]:
        async with open_records(setup) as records:
            return list(dict.fromkeys(closing.run for closing in records.closings.of()))

    return await by_the_ioc_or_here(ask, here)


def run_of(setup: Setup, number: int, experiment: str, *, guess: bool = False) -> RunRef:
    """Return the run of this number; ends the command if its experiment is not known.

    With `guess`, a run without a closing gets the experiment of the newest run that has one.
    """
    if experiment:
        if fault := experiment_fault(experiment):
            fail(fault)
        return RunRef(experiment, number)
    runs = asyncio.run(runs_on_record(setup))
    known = sorted(run for run in runs if run.number == number)
    if len(known) == 1:
        return known[0]
    if known:
        names = ", ".join(run.experiment for run in known)
        return fail(f"several experiments have a run {number}, name one with --experiment: {names}")
    if guess and runs:
        last = runs[-1]
        typer.echo(f"experiment {last.experiment} is meant, that of run {last.number}", err=True)
        return RunRef(last.experiment, number)
    return fail(f"no closing of a run {number} is on record: name its experiment with --experiment")


async def with_hosts(
    setup: Setup,
    routers: tuple[RouterSettings, ...],
    work: Callable[[dict[str, FileHost | SentryHost]], Awaitable[T]],
) -> T:
    """Do some work on the hosts of routers, by label, and disconnect from them."""
    hosts = {router.label: host_for(router, setup.settings) for router in routers}
    try:
        return await work(hosts)
    finally:
        await asyncio.gather(*(host.disconnect() for host in hosts.values()), return_exceptions=True)
