"""Closings over real folders: files with known contents, the IOC's side without an IOC, and waiting."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attpc_plugins.data_routers.closing import service as closing_service
from attpc_plugins.data_routers.closing.closings import CLOSING, Closing, ClosingStore
from attpc_plugins.data_routers.closing.service import ClosingService
from attpc_plugins.data_routers.hosts.host import FileHost, SentryHost
from attpc_plugins.data_routers.hosts.make import host_for
from attpc_plugins.data_routers.model import CloseState
from attpc_plugins.data_routers.settings import DataRoutersSettings
from attpc_plugins.data_routers.state import Records
from pydantic import TypeAdapter

from attpc_ioc.eventlog import EventLog, Kept
from attpc_ioc.model.fleet import Fleet, ModuleView, SourceView
from attpc_ioc.model.run import RunInfo, RunRef, RunState, RunView
from attpc_ioc.model.states import Kind, State
from tests.support.fakecontext import FakeContext
from tests.support.patience import PATIENCE_S
from tests.support.state_dir import kept, opened

EXPERIMENT = "e20009"
QUIET_S = 0.2
LIMIT_S = 60.0


def fill(folder: Path, names: list[str], seed: int = 1, size: int = 3000) -> dict[str, str]:
    """Write files with random contents and return their checksums by name."""
    rng = random.Random(seed)
    for name in names:
        with open(os.fsencode(folder) + b"/" + os.fsencode(name), "wb") as file:
            file.write(rng.randbytes(rng.randrange(size)))
    return sums(folder, names)


def grow(path: Path) -> None:
    """Write some more to a file."""
    with path.open("ab") as file:
        file.write(b"kept by the router until now")


def sums(folder: Path, names: list[str] | None = None) -> dict[str, str]:
    """Return the checksums of a folder's `*.graw`, or of some files of it."""
    if not folder.is_dir():
        return {}
    found = names if names is not None else [n for n in os.listdir(folder) if n.endswith(".graw")]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in found}


def everywhere(staging: Path) -> dict[str, list[str]]:
    """Return where each content is: the paths below the staging folder by checksum."""
    found: dict[str, list[str]] = {}
    for path in sorted(staging.rglob("*.graw")):
        found.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), []).append(
            str(path.relative_to(staging))
        )
    return found


def local_settings(staging: Mapping[str, Path], **closing: Any) -> DataRoutersSettings:
    """Return settings with a local router for each source."""
    return DataRoutersSettings.model_validate(
        {
            "period_s": 0.1,
            "closing": {"quiet_s": QUIET_S, **closing},
            "router": [
                {"access": "local", "sources": [source], "staging": str(folder), "process": ""}
                for source, folder in staging.items()
            ],
        }
    )


def fleet_of(sources: list[str], state: State = State.READY) -> Fleet:
    """Return a fleet with one ECC server for each source."""
    modules = {
        f"ecc{source}": ModuleView(
            f"ecc{source}",
            Kind.COBO,
            url="",
            host="",
            sources=(SourceView(source, source, f"ecc{source}"),),
            state=state,
            last_state=state,
        )
        for source in sources
    }
    return Fleet(modules=MappingProxyType(modules))


class KeptState:
    """What the plugin keeps, in a log that is open."""

    def __init__(self, event_log: EventLog) -> None:
        self._log = event_log

    def kept(self, topic: str, adapter: TypeAdapter[Any]) -> Kept[Any]:
        return self._log.kept(f"data_routers/{topic}", adapter)

    async def flush(self, limit_s: float = 5.0) -> None:
        await self._log.flush(limit_s)


@contextlib.asynccontextmanager
async def records_in(folder: Path) -> AsyncIterator[Records]:
    """Give the records of a state directory that nobody uses."""
    async with opened(folder) as event_log:
        yield Records(KeptState(event_log))


@contextlib.asynccontextmanager
async def closings_in(folder: Path) -> AsyncIterator[ClosingStore]:
    """Give the entries of a state directory that nobody uses."""
    async with records_in(folder) as records:
        yield records.closings


def entries_of(folder: Path) -> list[Closing]:
    """The entries that are on disk, whoever writes them at present; the oldest run first."""
    found = [CLOSING.validate_python(value) for value in kept(folder, "data_routers/closings").values()]
    return sorted(found, key=lambda entry: (entry.began_s, entry.run, entry.router))


class Side:
    """What the IOC's side of closing is, with a fleet that the test sets."""

    def __init__(
        self,
        folder: Path,
        closings: ClosingStore,
        settings: DataRoutersSettings,
        hosts: Mapping[str, FileHost | SentryHost] | None = None,
    ) -> None:
        self.settings = settings
        self.sources = [source for router in settings.router for source in router.sources]
        self.ctx = FakeContext(folder)
        self.ctx.fleet = fleet_of(self.sources)
        self.hosts = hosts or {router.label: host_for(router, settings) for router in settings.router}
        self.closings = closings
        self.leave: Callable[[], Awaitable[None]] = contextlib.AsyncExitStack().aclose
        """Lets another have the state directory."""
        self.closing = ClosingService(self.ctx, settings, self.hosts, closings)

    def info(self, number: int, **fields: Any) -> RunInfo:
        members = tuple(self.ctx.fleet.modules)
        return RunInfo(number, EXPERIMENT, members, began_s=1000.0 + number, **fields)

    def show_run(self, info: RunInfo, state: RunState, modules: State) -> None:
        on = state in (RunState.STARTING, RunState.RUNNING, RunState.STOPPING)
        fleet = fleet_of(self.sources, modules)
        self.ctx.fleet = replace(fleet, run=RunView(state=state, info=info, on=on))

    async def begin(self, number: int) -> RunInfo:
        """A run begins, and is on once every host was listed."""
        info = self.info(number)
        self.show_run(info, RunState.STARTING, State.READY)
        await self.closing.run_starting(info)
        await self.until(lambda: all(entry.settled for entry in self.entries(number)))
        return self.go_on(number)

    def go_on(self, number: int) -> RunInfo:
        info = self.info(number, started_s=2000.0 + number)
        self.show_run(info, RunState.RUNNING, State.RUNNING)
        self.closing.run_started(info)
        return info

    def end(self, number: int) -> RunInfo:
        info = self.info(number, started_s=2000.0 + number, stopped_s=3000.0 + number)
        self.show_run(info, RunState.STOPPED, State.READY)
        self.closing.run_stopped(info)
        return info

    def entries(self, number: int) -> list[Closing]:
        return [entry for entry in self.closings.of() if entry.run.number == number]

    def entry(self, number: int, router: str = "CoBo0") -> Closing:
        found = self.closings.find(RunRef(EXPERIMENT, number), router)
        assert found is not None
        return found

    async def until(self, what: Callable[[], Any], limit_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + limit_s
        while not what():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {limit_s} s: {self.closings.of()} {self.ctx.published}")
            await asyncio.sleep(0.02)

    async def reach(self, number: int, state: CloseState, router: str = "CoBo0") -> Closing:
        await self.until(lambda: self.entry(number, router).state is state)
        return self.entry(number, router)

    def told(self, number: int) -> list[str]:
        return [fields["state"] for _, fields in self.ctx.told if fields["number"] == number]

    async def close(self) -> None:
        for task in tuple(self.ctx._tasks):
            task.cancel()
        await asyncio.gather(*self.ctx._tasks, return_exceptions=True)
        for host in self.hosts.values():
            await host.disconnect()
        await self.leave()


@contextlib.asynccontextmanager
async def side(folder: Path, settings: DataRoutersSettings, hosts: Any = None) -> AsyncIterator[Side]:
    """Run the IOC's side of closing with its state in `folder`."""
    async with contextlib.AsyncExitStack() as stack:
        it = Side(folder, await stack.enter_async_context(closings_in(folder)), settings, hosts)
        it.leave = stack.pop_all().aclose
        it.closing.startup()
        try:
            yield it
            for task in tuple(it.ctx._tasks):
                assert not task.done(), task
        finally:
            await it.close()


LOOK_S = closing_service.LOOK_S
