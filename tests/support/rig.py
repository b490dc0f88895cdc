"""The whole system in one test: a simulated fleet, an IOC on it, and EPICS base's programs as clients."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from attpc_ioc.app import App, running
from attpc_ioc.model.command import RUN, SYSTEM, Command, CommandName, Outcome, Scope, Who, ecc_scope
from attpc_ioc.model.fleet import Fleet, ModuleView
from attpc_ioc.model.run import RunState, RunView
from attpc_ioc.model.states import State
from attpc_ioc.pvs.row import Reading
from attpc_ioc.settings import Settings, load_settings
from attpc_ioc.simulator import xcfg
from attpc_ioc.simulator.data.options import DataOptions
from attpc_ioc.simulator.durations import Durations
from attpc_ioc.simulator.fleet import SimulatedFleet
from tests.support.ca import CaPlace, Ran, ca_place, caget, caput
from tests.support.patience import PATIENCE_S
from tests.support.simfleet import wait_until

EXPERIMENT = "e20009"
HISTORY = "run_history"

QUICK = Durations(
    describe_s=0.01,
    prepare_s=0.03,
    configure_s=0.01,
    start_s=0.02,
    stop_s=0.03,
    pause_s=0.01,
    resume_s=0.01,
    breakup_s=0.02,
    undo_s=0.005,
    jitter=0.0,
)
"""Transitions that a test can wait for, long enough to be seen under way."""

SHORT_LIMITS = """\
describe_s = 2.0
prepare_s = 2.0
configure_s = 2.0
start_s = 1.0
stop_s = 2.0
stop_mutant_s = 0.5
breakup_s = 1.0
undo_s = 1.0
run_number_s = 0.5
recovery_s = 2.0
arrival_grace_s = 0.1"""
"""Limits for tests in which something never arrives."""

PATIENT_LIMITS = re.sub(r"(?m)^(?!stop_mutant|arrival_grace)(\w+) = .*$", rf"\1 = {PATIENCE_S}", SHORT_LIMITS)
"""Here no transition fails to arrive, but a busy machine may take long for one."""

BRISK_POLL = """\
moving_period_s = 0.03
quiet_period_s = 0.1
timeout_s = 0.4"""

PATIENT_POLL = BRISK_POLL.replace("timeout_s = 0.4", "timeout_s = 10.0")
"""Nor is an ECC server lost because it does not answer."""


@dataclass
class Rig:
    """What a test has in hand. `app` is the IOC that runs now; see `stop_ioc` and `start_ioc`."""

    place: CaPlace
    fleet: SimulatedFleet
    settings: Settings
    settings_file: Path
    prefix: str
    plugins: Sequence[tuple[str, object]] = ()
    _app: App | None = None
    _exit: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @property
    def app(self) -> App:
        """The IOC that runs now."""
        assert self._app is not None, "the IOC is not running"
        return self._app

    async def start_ioc(self) -> None:
        """Start the IOC (again), on the same state directory."""
        self._app = await self._exit.enter_async_context(running(self.settings, self.plugins))

    async def stop_ioc(self) -> None:
        """End the IOC in an orderly way; the fleet goes on."""
        await self._exit.aclose()
        self._app = None

    # ------------------------------------------------------------------ what is seen

    @property
    def snapshot(self) -> Fleet:
        return self.app.controller.fleet

    @property
    def run(self) -> RunView:
        return self.snapshot.run

    def posted(self, name: str) -> Reading | None:
        """What clients get of a PV, with all that has happened up to now; None where nothing was posted."""
        self.app.controller.state.publish()
        self.app.server.publisher.flush()
        return self.app.server.publisher.reading(self.prefix + name)

    def module(self, name: str) -> ModuleView:
        return self.snapshot.modules[name]

    def states(self) -> dict[str, str]:
        return {m.name: m.state.label for m in self.snapshot.modules.values()}

    async def until(self, done: Callable[[], object], limit_s: float = PATIENCE_S, what: str = "") -> None:
        """Wait for a condition on the IOC's snapshot; the error shows what was seen instead."""
        try:
            await wait_until(done, limit_s, what or "the condition")
        except TimeoutError as error:
            raise AssertionError(f"{error}; seen: {self.states()}, run {self.run.state.label}") from None

    async def until_all(self, state: State, *names: str, limit_s: float = PATIENCE_S) -> None:
        """Wait until these modules, or all, are seen in a state with nothing under way."""
        modules = names or tuple(self.snapshot.modules)
        await self.until(
            lambda: all(self.module(n).state is state and not self.module(n).moving for n in modules),
            limit_s,
            f"{', '.join(modules)} in {state.label}",
        )

    async def until_run(self, state: RunState, limit_s: float = PATIENCE_S) -> None:
        await self.until(lambda: self.run.state is state, limit_s, f"run {state.label}")

    # ------------------------------------------------------------------ Channel Access

    async def put(self, name: str, value: str = "1", *, limit_s: float = PATIENCE_S) -> Ran:
        """Put with completion by EPICS base's `caput`; the exit code tells what became of it."""
        return await caput(
            self.place, "-c", "-w", str(limit_s), "-t", self.prefix + name, value, limit_s=limit_s + 5
        )

    async def put_text(self, name: str, text: str) -> Ran:
        """Put a long text with completion."""
        return await caput(self.place, "-c", "-w", str(PATIENCE_S), "-t", "-S", self.prefix + name, text)

    async def ok(self, name: str, value: str = "1", *, limit_s: float = PATIENCE_S) -> None:
        """Put and expect success."""
        ran = await self.put(name, value, limit_s=limit_s)
        assert ran.code == 0, f"{name}: {ran.both} {await self.message(name)}"

    async def refused(self, name: str, value: str = "1", *, because: str = "") -> str:
        """Put and expect failure with a message that has `because` in it; returns the message."""
        ran = await self.put(name, value)
        message = await self.message(name)
        assert ran.code == 1, f"{name} {value} succeeded: {message}"
        assert "write request failed" in ran.both, ran.both
        assert because in message, message
        return message

    async def message(self, name: str) -> str:
        """The message of the scope that a command or setpoint is in."""
        head, _, _ = name.rpartition(":")
        return await self.get_text(f"{head}:Message_RBV" if head else "Message_RBV")

    async def get(self, name: str, *options: str) -> str:
        """The value of a PV as `caget -t` prints it."""
        ran = await caget(self.place, "-t", *options, self.prefix + name, limit_s=25.0)
        assert ran.code == 0, ran.both
        return ran.out.rstrip("\n")

    async def get_text(self, name: str) -> str:
        """The value of a long text."""
        return await self.get(name, "-S")

    async def severity(self, name: str) -> str:
        """The severity of a PV, such as `MAJOR`."""
        return await self.get(f"{name}.SEVR")

    # ------------------------------------------------------------------ shortcuts

    async def submit(self, name: str, scope: Scope = SYSTEM, target: State | None = None) -> Outcome:
        """Give a command without Channel Access."""
        who = Who("tester", "here", "127.0.0.1")
        return await self.app.controller.submit(Command(scope, CommandName(name), target, who))

    async def select(self, experiment: str = EXPERIMENT) -> None:
        """Select an experiment's configs everywhere, once the servers have told what they offer."""
        await self.until(lambda: all(m.offered is not None for m in self.snapshot.enabled), what="configs")
        self.app.controller.set("config", SYSTEM, experiment, Who("tester"))

    async def take_to(self, state: State) -> None:
        """Select the configs and take all modules to a state."""
        await self.select()
        outcome = await self.submit("GoTo", SYSTEM, state)
        assert outcome.ok, outcome.message

    async def start_run(self) -> None:
        """Take all modules to Ready and start a run."""
        await self.take_to(State.READY)
        outcome = await self.submit("Start", RUN)
        assert outcome.ok, outcome.message


def ecc(name: str) -> Scope:
    """The scope of an ECC server."""
    return ecc_scope(name)


@contextlib.asynccontextmanager
async def rig(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    cobos: int = 2,
    mutant: bool = True,
    one_server: bool = False,
    durations: Durations = QUICK,
    limits: str = PATIENT_LIMITS,
    poll: str = PATIENT_POLL,
    run: str = "",
    plugins: Sequence[tuple[str, object]] = (),
    start: bool = True,
    wait: bool = True,
    alone: bool = True,
    data: DataOptions | None = None,
    data_tables: bool = True,
    long_replies: bool = False,
    **sections: str,
) -> AsyncIterator[Rig]:
    """Run a fleet and an IOC for the length of a block, and see that nothing is left behind.

    Not `alone`, that is for whoever runs several at once to see. With `data` the fleet's data routers write
    files, and with `data_tables` the IOC has their hosts in its settings. With `long_replies`
    a reply to Configure is as long as a real one, 370 kB, which costs a third more processor time.
    """
    if not any(name == HISTORY for name, _ in plugins):
        # The run history brings a database up; tests that are not about it go without.
        sections.setdefault(f"plugins.{HISTORY}", "enabled = false")
    tasks_before = asyncio.all_tasks()
    files_before = open_files()
    place = ca_place()
    place.put_into(monkeypatch)
    if not long_replies:
        monkeypatch.setattr(xcfg, "CONFIGURE_REPLY_BYTES", 0)
    prefix = f"T{secrets.token_hex(3)}:"
    try:
        async with SimulatedFleet(
            cobos, mutant, durations=durations, one_server=one_server, data=data
        ) as fleet:
            text = fleet.settings_toml(
                prefix=prefix,
                state_dir=tmp_path / "state",
                data_routers=data is not None and data_tables,
                ioc=f'server_port = {place.port}\ninterfaces = ["127.0.0.1"]',
                limits=limits,
                poll=poll,
                **({"run": run} if run else {}),
                **sections,
            )
            file = tmp_path / "ioc.toml"
            file.write_text(text, encoding="utf-8")
            it = Rig(place, fleet, load_settings(file), file, prefix, plugins)
            try:
                if start:
                    await it.start_ioc()
                    if wait:
                        await it.until(
                            lambda: all(m.offered is not None for m in it.snapshot.modules.values()),
                            what="all servers seen",
                        )
                yield it
            finally:
                await it.stop_ioc()
    finally:
        place.close()
    if alone:
        await nothing_left(tasks_before, files_before)


async def nothing_left(tasks_before: Iterable[object], files_before: set[str]) -> None:
    """Fail when a task or a socket is left that was not there before."""

    def tasks() -> set[str]:
        return {
            t.get_name() for t in asyncio.all_tasks() - set(tasks_before) if t is not asyncio.current_task()
        }

    def sockets() -> set[str]:
        return {f for f in open_files() - files_before if f.startswith("socket:")}

    async def gone(limit_s: float) -> None:
        await wait_until(lambda: not tasks() and not sockets(), limit_s)

    with contextlib.suppress(TimeoutError):
        return await gone(5.0)
    # Of connections accepted just when a server is closed, asyncio leaves the sockets in a circle.
    gc.collect()
    try:
        await gone(PATIENCE_S)
    except TimeoutError:
        left = [_socket_text(name) for name in sockets()]
        raise AssertionError(f"left behind: tasks {tasks()}, sockets {left}") from None


def _socket_text(name: str) -> str:
    """What the kernel knows of a socket: local and remote address, and state, all in hexadecimal."""
    inode = name.removeprefix("socket:[").removesuffix("]")
    lines = [
        line
        for kind in ("tcp", "udp", "unix")
        for line in Path(f"/proc/net/{kind}").read_text(encoding="utf-8").splitlines()
        if f" {inode} " in f"{line} "
    ]
    return f"{name} {lines}"


def open_files() -> set[str]:
    """What the process has open, by the names that the kernel gives."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/self/fd/{number}"))
    return found
