"""What can go wrong while a run is closed, over each way to a host: nothing is lost, nothing is written over.

Contents are compared by checksum. Each fault gives its own state and words, and when it is over the run is
closed without anybody's doing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.closing.closings import Closing, Phase
from attpc_plugins.data_routers.closing.steps import close_files
from attpc_plugins.data_routers.closing.summary import Summary
from attpc_plugins.data_routers.hosts.limits import CallLimits
from attpc_plugins.data_routers.hosts.ssh.host import SshHost
from attpc_plugins.data_routers.hosts.ssh.link import Target
from attpc_plugins.data_routers.model import CloseState
from attpc_plugins.data_routers.settings import Access, RouterSettings

from attpc_ioc.model.run import RunRef
from attpc_ioc.simulator.data.gate import Gate
from tests.support.closings import EXPERIMENT, Side, everywhere, fill, grow, local_settings, side, sums
from tests.support.datahosts import Place
from tests.support.denied import denied

S = CloseState
NAMES = ["a.graw", "with space.graw", "$(touch executed).graw", "-n.graw", "ü\n'\".graw"]
QUICK = CallLimits(poll_s=3, read_s=3, files_s=3, checksums_s=5)


@dataclass
class Case:
    """A closing on its way, and what its files must be."""

    it: Side
    staging: Path
    expected: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> Path:
        return self.staging / EXPERIMENT / "run_0042"

    @property
    def gathering(self) -> Path:
        return self.staging / EXPERIMENT / ".run_0042.closing"

    async def begin(self) -> None:
        await self.it.begin(42)
        self.expected = fill(self.staging, NAMES)

    def nothing_lost(self) -> None:
        """Every byte of the run is there, once."""
        where = everywhere(self.staging)
        assert set(self.expected.values()) <= where.keys()
        assert all(len(where[checksum]) == 1 for checksum in self.expected.values()), where

    async def done(self) -> Closing:
        self.it.closing.again()
        entry = await self.it.reach(42, S.DONE)
        assert sums(self.place) == self.expected
        record = manifest.load((self.place / manifest.FILE_NAME).read_bytes(), "it")
        assert {file.name for file in record.files} == self.expected.keys()
        assert not self.gathering.exists()
        assert not list(self.staging.rglob("executed"))
        return entry


@pytest.fixture
async def case(at: Place, tmp_path) -> AsyncIterator[Case]:
    settings = local_settings({"CoBo0": at.staging})
    async with side(tmp_path / "state", settings, {"CoBo0": at.host()}) as it:
        made = Case(it, at.staging)
        await made.begin()
        yield made


async def test_an_empty_folder_of_the_run_exists(case):
    case.place.mkdir(parents=True)
    case.it.end(42)
    await case.it.reach(42, S.FAILED)
    assert sums(case.staging) == case.expected
    case.place.rmdir()
    await case.done()


async def test_a_file_vanishes(case):
    case.it.end(42)
    await case.it.until(lambda: "a.graw" in case.it.entry(42).chosen)
    (case.staging / "a.graw").rename(case.staging / "elsewhere")
    entry = await case.it.reach(42, S.INCOMPLETE)
    assert "gone from the staging folder: a.graw" in entry.message
    assert not case.place.exists()
    assert sums(case.gathering).keys() == case.expected.keys() - {"a.graw"}
    (case.staging / "elsewhere").rename(case.staging / "a.graw")
    await case.done()


async def test_what_an_earlier_attempt_has_moved_belongs_to_it(case):
    case.gathering.mkdir(parents=True)
    (case.staging / "a.graw").rename(case.gathering / "a.graw")
    case.it.end(42)
    await case.it.until(lambda: len(case.it.entry(42).chosen) == len(NAMES) - 1)
    await case.done()


async def test_the_experiment_folder_is_a_file(case):
    (case.staging / EXPERIMENT).write_text("not a folder")
    case.it.end(42)
    entry = await case.it.reach(42, S.FAILED)
    assert str(case.staging / EXPERIMENT) in entry.message
    assert sums(case.staging) == case.expected
    await case.it.until(lambda: case.it.ctx.published["CoBo0:Router:Close_RBV"] == int(S.FAILED))
    (case.staging / EXPERIMENT).unlink()
    await case.done()


async def test_permission_is_denied(case):
    with denied(case.staging):
        case.it.end(42)
        entry = await case.it.reach(42, S.FAILED)
        assert "ermission denied" in entry.message or "not permitted" in entry.message
        assert sums(case.staging) == case.expected
    await case.done()


async def test_permission_is_denied_in_the_middle(case):
    case.gathering.mkdir(parents=True)
    with denied(case.gathering):
        case.it.end(42)
        entry = await case.it.reach(42, S.FAILED)
        assert "ermission denied" in entry.message or "not permitted" in entry.message
        assert "and 0 more" not in entry.message
        case.nothing_lost()
        assert sums(case.staging) == case.expected
    await case.done()


async def test_the_staging_folder_is_gone(case):
    away = case.staging.with_name("away")
    case.staging.rename(away)
    case.it.end(42)
    entry = await case.it.reach(42, S.FAILED)
    assert str(case.staging) in entry.message
    assert sums(away) == case.expected
    away.rename(case.staging)
    await case.done()


async def test_a_file_that_grew_between_listing_and_moving_stays(at: Place):
    expected = fill(at.staging, ["a.graw", "b.graw"])
    host = at.host()
    kept: list[Closing] = []

    async def keep(entry: Closing) -> None:
        kept.append(entry)

    entry = Closing(RunRef(EXPERIMENT, 42), "CoBo0", ("CoBo0",), Phase.CLOSING, settled=True, before={})

    async def attempt(entry: Closing, listing) -> Closing:
        summary = Summary("CoBo0", None)
        return await close_files(
            host, entry, listing, str(at.staging), keep=keep, checksums=False, summary=summary, now_s=1.0
        )

    listing = await host.list_staging()
    grow(at.staging / "b.graw")
    expected |= sums(at.staging, ["b.graw"])
    for _ in range(2):  # repeated with the same listing it ends the same
        entry = await attempt(entry, listing)
        assert entry.state is S.INCOMPLETE
        assert "grew again, still in the staging folder: b.graw" in entry.message
        assert sums(at.staging) == {"b.graw": expected["b.graw"]}
        assert sums(at.closing) == {"a.graw": expected["a.graw"]}
        assert not at.closed.exists()
    # What was moved and is written on is taken as it is once it rests.
    grow(at.closing / "a.graw")
    expected |= sums(at.closing)
    entry = await attempt(entry, await host.list_staging())
    assert entry.state is S.INCOMPLETE
    assert "grew while it was moved: a.graw" in entry.message
    entry = await attempt(entry, ())
    assert entry.state is S.DONE
    assert sums(at.closed) == expected
    # And once more: its own work is known again.
    again = await attempt(replace(kept[-1]), ())
    assert (again.state, again.manifest) == (S.DONE, entry.manifest)
    assert all(one.token == entry.token for one in kept)


# ---------------------------------------------------------------------------- the way to the host


@contextlib.asynccontextmanager
async def behind_a_gate(tmp_path: Path, shared_sshd) -> AsyncIterator[tuple[Case, Gate]]:
    staging = tmp_path / "staging"
    staging.mkdir()
    gate = Gate("127.0.0.1")
    await gate.lead_to("127.0.0.1", shared_sshd.port)
    await gate.open()
    known = tmp_path / "known_hosts"
    known.write_text(f"[127.0.0.1]:{gate.port} {shared_sshd.host_key.with_suffix('.pub').read_text()}")
    router = RouterSettings(access=Access.SSH, host="127.0.0.1", sources=("CoBo0",), staging=str(staging))
    target = Target("127.0.0.1", gate.port, shared_sshd.user, str(shared_sshd.config), str(known))
    host = SshHost(router, target, QUICK)
    try:
        async with side(tmp_path / "state", local_settings({"CoBo0": staging}), {"CoBo0": host}) as it:
            case = Case(it, staging)
            await case.begin()
            yield case, gate
    finally:
        await gate.close()


async def test_the_host_is_gone(tmp_path, shared_sshd):
    async with behind_a_gate(tmp_path, shared_sshd) as (case, gate):
        await gate.close()
        case.it.end(42)
        await case.it.reach(42, S.UNREACHABLE)
        assert sums(case.staging) == case.expected
        await case.it.until(lambda: case.it.told(42)[-1:] == ["Unreachable"])
        await gate.open()
        await case.done()


async def test_the_host_hangs(tmp_path, shared_sshd):
    async with behind_a_gate(tmp_path, shared_sshd) as (case, gate):
        gate.hung = True
        case.it.end(42)
        await case.it.reach(42, S.UNREACHABLE)
        gate.hung = False
        await case.done()


async def test_the_host_hangs_in_the_middle(tmp_path, shared_sshd):
    async with behind_a_gate(tmp_path, shared_sshd) as (case, gate):
        # Slow enough for the middle not to be missed.
        gate.delay_s = 0.05
        case.it.end(42)
        await case.it.until(lambda: case.it.closing.busy("CoBo0"))
        gate.hung = True
        await case.it.until(lambda: case.it.entry(42).state in (S.UNREACHABLE, S.DONE))
        case.nothing_lost()
        gate.hung = False
        await case.done()


async def test_the_host_is_slow(tmp_path, shared_sshd):
    async with behind_a_gate(tmp_path, shared_sshd) as (case, gate):
        gate.delay_s = 0.1
        case.it.end(42)
        await case.done()


async def test_a_thousand_files_take_no_round_trip_each(tmp_path, shared_sshd):
    async with behind_a_gate(tmp_path, shared_sshd) as (case, gate):
        case.expected |= fill(case.staging, [f"CoBo0_{number:04d}.graw" for number in range(1000)], size=50)
        gate.delay_s = 0.05
        case.it.end(42)
        await case.it.until(lambda: case.it.closing.busy("CoBo0"))
        began_s = time.monotonic()
        await case.done()
        # A round trip for each would take 100 s; this is for a machine that has much else to do.
        assert time.monotonic() - began_s < 10
