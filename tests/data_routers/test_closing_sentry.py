"""Closing where an `attpc_sentry` moves the files: what it answers, and what it does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from attpc_plugins.data_routers.closing.beside import BY_SENTRY
from attpc_plugins.data_routers.closing.summary import Summary
from attpc_plugins.data_routers.commands.by_hand import Wishes, carry_out
from attpc_plugins.data_routers.hosts.make import host_for
from attpc_plugins.data_routers.model import CloseState
from attpc_plugins.data_routers.settings import DataRoutersSettings

from attpc_ioc.model.run import RunRef
from attpc_ioc.simulator.data.host import DataHost
from attpc_ioc.simulator.data.options import Access, DataOptions
from attpc_ioc.simulator.fleet import SimulatedFleet
from tests.support.closings import EXPERIMENT, Side, closings_in, fill, side, sums
from tests.support.patience import PATIENCE_S

S = CloseState
NAMES = ["a.graw", "b c.graw"]


@dataclass
class Case:
    it: Side
    host: DataHost
    expected: dict[str, str]

    def folder(self, number: int) -> Path:
        return self.host.staging / EXPERIMENT / f"run_{number:04d}"

    async def write(self, seed: int = 1, names: list[str] = NAMES) -> None:
        self.expected = fill(self.host.staging, names, seed=seed)


@contextlib.asynccontextmanager
async def sentry(tmp_path: Path, wait_s: float = 0.1, timeout_s: float = 3.0) -> AsyncIterator[Case]:
    options = DataOptions(folder=tmp_path / "hosts", access=(Access.SENTRY,), catalog_wait_s=wait_s)
    async with SimulatedFleet(cobos=1, data=options) as fleet:
        host = fleet.data["CoBo[0]"]
        async with side(tmp_path / "state", settings_for(host, timeout_s)) as it:
            yield Case(it, host, {})


def settings_for(host: DataHost, timeout_s: float = 3.0) -> DataRoutersSettings:
    assert host.gate is not None
    router = {"access": "sentry", "sources": ["CoBo0"], "host": host.gate.host, "port": host.gate.port}
    return DataRoutersSettings.model_validate(
        {"period_s": 0.1, "timeout_s": timeout_s, "closing": {"quiet_s": 0.2}, "router": [router]}
    )


@pytest.fixture
async def case(tmp_path) -> AsyncIterator[Case]:
    async with sentry(tmp_path) as made:
        yield made


async def test_the_command_does_not_wait_for_the_end_of_another_run(tmp_path):
    options = DataOptions(folder=tmp_path / "hosts", access=(Access.SENTRY,), catalog_wait_s=0.1)
    async with SimulatedFleet(cobos=1, data=options) as fleet, closings_in(tmp_path / "state") as closings:
        host = fleet.data["CoBo[0]"]
        settings = settings_for(host)
        (router,) = settings.router
        sentry_host = host_for(router, settings)
        written = fill(host.staging, NAMES)
        lines: list[tuple[str, bool]] = []
        run = RunRef(EXPERIMENT, 41)
        others = {run}

        async def command() -> bool:
            return await carry_out(
                Wishes(run, (router.label,)),
                settings,
                {router.label: sentry_host},
                closings,
                {router.label: Summary(router.label, None)},
                lambda text, wrong: lines.append((text, wrong)),
                other_run=others.__contains__,
            )

        try:
            assert not await asyncio.wait_for(command(), PATIENCE_S)
            assert lines[-1] == (
                f"CoBo0: not closed: another run is on, and {BY_SENTRY}; "
                "the IOC asks it once that run is over",
                True,
            )
            assert sums(host.staging) == written
            others.clear()
            assert await asyncio.wait_for(command(), PATIENCE_S), lines
            assert sums(host.staging / EXPERIMENT / "run_0041") == written
        finally:
            await sentry_host.disconnect()


async def test_the_reply_is_lost(case):
    await case.it.begin(42)
    await case.write()
    case.it.end(42)
    await case.it.until(lambda: case.it.closing.busy("CoBo0") and case.it.entry(42).asked)
    await case.it.until(lambda: len(sums(case.folder(42))) == 2 or not case.it.closing.busy("CoBo0"))
    await case.host.gate.close()
    await case.it.until(lambda: case.it.entry(42).state in (S.UNREACHABLE, S.DONE))
    await case.host.gate.open()
    case.it.closing.again()
    entry = await case.it.reach(42, S.DONE)
    assert sums(case.folder(42)) == case.expected
    assert entry.files == 2


async def test_the_ioc_is_killed_while_the_sentry_waits(tmp_path):
    async with sentry(tmp_path, wait_s=0.5) as case:
        await case.it.begin(42)
        await case.write()
        case.it.end(42)
        await case.it.until(lambda: case.it.entry(42).asked)
        settings = case.it.settings
        await case.it.close()
        async with side(tmp_path / "state", settings) as again:
            entry = await again.reach(42, S.DONE)
            assert sums(case.folder(42)) == case.expected
            assert entry.files == 2


@pytest.mark.parametrize("fault", ["gone", "hung", "slow"])
async def test_the_host(tmp_path, fault):
    async with sentry(tmp_path, timeout_s=0.5) as case:
        gate = case.host.gate
        assert gate is not None
        await case.it.begin(42)
        await case.write()
        if fault == "gone":
            await gate.close()
        gate.hung = fault == "hung"
        gate.delay_s = 0.1 if fault == "slow" else 0.0
        case.it.end(42)
        if fault != "slow":
            await case.it.reach(42, S.UNREACHABLE)
            assert sums(case.host.staging) == case.expected
            gate.hung = False
            await gate.open()
        case.it.closing.again()
        await case.it.reach(42, S.DONE)
        assert sums(case.folder(42)) == case.expected


async def test_the_next_run_begins_before_the_sentry_was_notified(tmp_path):
    async with sentry(tmp_path) as case:
        gate = case.host.gate
        assert gate is not None
        await case.it.begin(41)
        await case.write()
        await gate.close()
        case.it.end(41)
        await case.it.reach(41, S.UNREACHABLE)
        info = case.it.info(42)
        await case.it.closing.run_starting(info)
        await gate.open()
        case.it.closing.again()
        entry = await case.it.reach(41, S.FAILED)
        assert "run 42 began before" in entry.message
        assert not entry.open
        case.it.end(42)
        entry = await case.it.reach(42, S.INCOMPLETE)
        assert "files of run 41 are in that folder too" in entry.message
        assert sums(case.folder(42)) == case.expected
        assert not case.folder(41).exists()
