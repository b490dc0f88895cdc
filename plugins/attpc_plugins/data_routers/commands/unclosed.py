"""Which hosts of a run are not closed yet, or took no part in it, for the commands that read closed runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from attpc_ioc.errors import AttpcError, NotRunning
from attpc_ioc.model.run import RunRef
from attpc_ioc.shell import ask_plugin
from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.closing.closings import Closing, Phase
from attpc_plugins.data_routers.model import CloseState
from attpc_plugins.data_routers.settings import RouterSettings
from attpc_plugins.data_routers.watch.incidents import clock

from .answers import CLOSINGS, RUN, idle_in
from .base import PLUGIN, Setup, open_records

NOT_ALL = 3
"""The exit code where all is good that can be looked at, and some files cannot be, or not yet."""


@dataclass(frozen=True, slots=True)
class Unclosed:
    """The closings of a run that are not over, by data router; `ioc`: an IOC runs, and closes it.

    `idle`: see `Manifest`; empty where no closing of the run is on record any more.
    """

    closings: Mapping[str, Closing] = field(default_factory=dict)
    idle: frozenset[str] = frozenset()
    ioc: bool = False

    def text(self, label: str) -> str:
        """Return why a data router's files are not closed, and since when."""
        closing = self.closings[label]
        if closing.phase is Phase.RUNNING:
            began_s = closing.started_s or closing.began_s
            return "the run is on" + (f" since {clock(began_s)}" if began_s else "")
        since = f" since {clock(closing.stopped_s)}" if closing.stopped_s is not None else ""
        what = "cannot be closed" if closing.state is CloseState.FAILED else "still being closed"
        return f"{what}{since}: {closing.state.label}: {closing.message}"

    @property
    def failed(self) -> list[str]:
        """The data routers where somebody must put something right first."""
        return [label for label, one in self.closings.items() if one.state is CloseState.FAILED]

    def advice(self, setup: Setup, run: RunRef, labels: Iterable[str]) -> str:
        """Return what to wait for, if these data routers are not closed."""
        phases = {self.closings[label].phase for label in labels}
        if phases == {Phase.RUNNING}:
            return f"run {run.number} is on: repeat the command when it is over and closed"
        if not self.ioc:
            return (
                f"run {run.number} is not closed yet, and no IOC runs that closes it: "
                f"`attpc-ioc files close {run.number}` does, then repeat the command"
            )
        if self.failed:
            if all(one.mixed for one in self.closings.values() if one.state is CloseState.FAILED):
                return (
                    f"run {run.number} cannot be closed on {', '.join(self.failed)} as it is: do what is "
                    "said above, then repeat the command"
                )
            again = f"caput {setup.all.ioc.prefix}Run:CloseAgain 1"
            return (
                f"run {run.number} cannot be closed on {', '.join(self.failed)} as it is: put right what is "
                f"said above, then `{again}`, and repeat the command when that is done"
            )
        closing = f"{setup.all.ioc.prefix}Run:Closing_RBV"
        return f"run {run.number} is not closed yet: repeat the command when {closing} is Done"


async def unclosed(setup: Setup, run: RunRef, routers: Iterable[RouterSettings]) -> Unclosed:
    """Return which of these data routers are not closed, as far as the record says; none without a record."""
    labels = {router.label for router in routers}

    def of(closings: Iterable[Closing]) -> dict[str, Closing]:
        return {one.router: one for one in closings if one.open and one.router in labels}

    try:
        question = {"do": "open", "run": RUN.dump_python(run, mode="json")}
        answer = ask_plugin(setup.all, PLUGIN, question)
        idle = frozenset(answer.get("idle", ()))  # an IOC that was not restarted since an upgrade has none
        return Unclosed(of(CLOSINGS.validate_python(answer["open"])), idle, ioc=True)
    except NotRunning:
        pass
    except AttpcError:
        return Unclosed()
    if not setup.all.state_directory().is_dir():
        return Unclosed()
    try:
        async with open_records(setup) as records:
            own = [one for one in records.closings.of() if one.run == run]
            return Unclosed(of(own), idle_in(own))
    except AttpcError:
        return Unclosed()  # another command is at work in it, or it is not this account's


def no_manifest(router: RouterSettings, run: RunRef) -> str:
    """Return that a run has no manifest on a host."""
    return f"no {router.staging}/{run}/{manifest.FILE_NAME}: the run is not closed on this host"
