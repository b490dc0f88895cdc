"""What is known of the files that a sentry moves: during it, without its router, and of what it leaves."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from attpc_plugins.data_routers.closing.closings import CLOSING, Closing, Phase
from attpc_plugins.data_routers.closing.sentry_steps import at_work, settle_sentry
from attpc_plugins.data_routers.model import CloseState, Polled
from attpc_plugins.data_routers.settings import DataRoutersSettings
from attpc_plugins.data_routers.watch.flow import Count

from attpc_ioc.model.run import RunRef
from tests.support.closings import EXPERIMENT, Side, fill, side, sums
from tests.support.handsentry import HandSentry, hand_sentry

S = CloseState


@dataclass
class Case:
    it: Side
    sentry: HandSentry
    staging: Path

    def folder(self, number: int) -> Path:
        return self.staging / EXPERIMENT / f"run_{number:04d}"


@contextlib.asynccontextmanager
async def led(tmp_path: Path, **options: object) -> AsyncIterator[Case]:
    staging = tmp_path / "staging"
    staging.mkdir()
    async with hand_sentry(staging, **options) as sentry:
        router = {"access": "sentry", "sources": ["CoBo0"], "host": "127.0.0.1", "port": sentry.port}
        settings = DataRoutersSettings.model_validate(
            {"period_s": 0.1, "timeout_s": 1.0, "closing": {"quiet_s": 0.2}, "router": [router]}
        )
        async with side(tmp_path / "state", settings) as it:
            yield Case(it, sentry, staging)


@pytest.fixture
async def case(tmp_path) -> AsyncIterator[Case]:
    async with led(tmp_path) as made:
        yield made


async def test_a_start_is_refused_while_the_sentry_is_at_it_and_it_is_said_for_how_long(case: Case):
    await case.it.begin(42)
    fill(case.staging, ["a.graw"])
    case.sentry.go.clear()
    assert case.it.closing.moving("CoBo0") == ""
    case.it.end(42)
    await case.it.until(lambda: case.sentry.waiting)
    assert case.it.entry(42).message == "asked the sentry, which waits 30 s and then moves them"
    said = case.it.closing.moving("CoBo0")
    assert re.search(
        r"its sentry is closing run 42 .* waits up to 30 s, until .*\d\d:\d\d:\d\d, then moves them", said
    )
    case.sentry.go.set()
    await case.it.reach(42, S.DONE)
    assert case.it.closing.moving("CoBo0") == ""


async def test_no_sentry_is_asked_while_another_run_starts(case: Case):
    """A start that was admitted just before would have its files moved to the earlier run's folder."""
    await case.it.begin(41)
    written = fill(case.staging, ["a.graw"])
    case.sentry.go.clear()
    case.it.end(41)
    info = case.it.info(42)
    state = case.it.ctx.fleet.run.state.STARTING
    case.it.show_run(info, state, case.it.ctx.fleet.modules["eccCoBo0"].state)
    for _ in range(3):
        await case.it.closing._next_round("CoBo0")
    assert not case.sentry.waiting
    assert not case.it.entry(41).asked
    await case.it.closing.run_starting(info)
    await case.it.until(lambda: case.it.entry(41).phase is Phase.DROPPED)
    case.it.go_on(42)
    written |= fill(case.staging, ["b.graw"], seed=2)
    case.sentry.go.set()
    case.it.end(42)
    entry = await case.it.reach(42, S.INCOMPLETE)
    assert sums(case.folder(42)) == written
    assert not case.folder(41).exists()
    assert "they come into e20009/run_0042 on the host, mixed with those" in case.it.entry(41).message
    assert "files of run 41 are in that folder too" in entry.message
    assert "Move them to e20009/run_0041 by hand" in entry.message
    assert "Done" not in (*case.it.told(41), *case.it.told(42))
    # The next run has nothing of it.
    await case.it.begin(43)
    fill(case.staging, ["c.graw"], seed=3)
    case.it.end(43)
    entry = await case.it.reach(43, S.DONE)
    assert "run 41" not in entry.message
    await case.it.until(lambda: case.it.ctx.published["CoBo0:Router:Close_RBV"] == S.DONE)


async def test_it_is_known_over_a_restart_that_the_sentry_may_be_at_it(tmp_path):
    async with led(tmp_path) as case:
        await case.it.begin(42)
        fill(case.staging, ["a.graw"])
        case.sentry.go.clear()
        case.it.end(42)
        await case.it.until(lambda: case.sentry.waiting)
        settings = case.it.settings
        await case.it.close()
        async with side(tmp_path / "state", settings) as again:
            assert "its sentry is closing run 42" in again.closing.moving("CoBo0")
            await again.until(lambda: case.sentry.waiting)  # it was asked again
            case.sentry.go.set()
            await again.reach(42, S.DONE)
            assert again.closing.moving("CoBo0") == ""


async def test_a_router_that_ends_while_the_files_are_moved(case: Case):
    """The files are moved; the counts before hold, and what is left is looked at once the router runs."""
    await case.it.begin(42)
    written = fill(case.staging, ["a.graw", "b.graw"])
    case.sentry.go.clear()
    case.it.end(42)
    await case.it.until(lambda: case.sentry.waiting)
    case.sentry.router_runs = False
    case.sentry.go.set()
    entry = await case.it.reach(42, S.UNREACHABLE)
    assert sums(case.folder(42)) == written
    assert "the sentry has moved the files to e20009/run_0042; its router does not run" in entry.message
    assert entry.files == 2
    assert case.it.closing.moving("CoBo0") == ""
    case.sentry.router_runs = True
    case.it.closing.look("CoBo0")
    entry = await case.it.reach(42, S.DONE)
    assert (entry.files, entry.message.startswith("2 files, ")) == (2, True)


async def test_a_router_that_has_ended_before_and_left_files(case: Case):
    """What happened is found out by looking."""
    await case.it.begin(42)
    fill(case.staging, ["a.graw"])
    case.sentry.router_runs = False
    case.it.end(42)
    await case.it.reach(42, S.UNREACHABLE)
    late = fill(case.staging, ["late.graw"], seed=3)
    case.sentry.router_runs = True
    case.it.closing.look("CoBo0")
    entry = await case.it.reach(42, S.INCOMPLETE)
    assert f"1 file left in 127.0.0.1:{case.staging} although" in entry.message
    assert "`mv -n`" in entry.message
    (case.staging / "late.graw").rename(case.folder(42) / "late.graw")
    case.it.closing.look("CoBo0")
    entry = await case.it.reach(42, S.DONE)
    assert "all files, how many is not known, in e20009/run_0042 on the host" in entry.message
    assert sums(case.folder(42))["late.graw"] == late["late.graw"]


async def test_the_last_known_counts_stay(case: Case):
    """They are those of the last report before the router ended, which the watch has."""
    fill(case.staging, ["stray.graw"])
    await case.it.begin(42)
    (closer,) = case.it.closing._closers.values()
    closer._last_polled = lambda: Polled(False, 3, 5000, 0, 0)
    case.sentry.router_runs = False
    base = case.it.entry(42).base_bytes
    case.it.end(42)
    entry = await case.it.reach(42, S.UNREACHABLE)
    assert (entry.files, entry.data_bytes) == (2, 5000 - base)
    case.sentry.router_runs = True
    case.it.closing.look("CoBo0")
    entry = await case.it.reach(42, S.DONE)
    assert "2 files, " in entry.message


@pytest.mark.parametrize("old", [False, True])
async def test_what_is_left_after_a_good_catalogue_is_the_baseline(tmp_path, old: bool):
    async with led(tmp_path, old=old) as case:
        other = case.staging / ".DS_Store"
        other.write_bytes(b"of the Finder")
        for number in (41, 42):
            await case.it.begin(number)
            written = fill(case.staging, ["a.graw", "b.graw"][: number - 40], seed=number)
            case.sentry.written += 5000
            case.it.end(number)
            entry = await case.it.reach(number, S.DONE)
            assert sums(case.folder(number)) == written
            assert entry.files == len(written)
            assert case.it.closing.expected("CoBo0") == Count(int(old), 0), "it is no stray"
            await case.it.until(lambda number=number: case.it.told(number)[-1:] == ["Done"])
        # A run without a file, and a reply that was lost.
        await case.it.begin(43)
        case.it.end(43)
        entry = await case.it.reach(43, S.DONE)
        assert entry.message.startswith("no file was written")
        await case.it.begin(44)
        case.folder(44).mkdir()
        case.sentry.go.clear()
        case.it.end(44)
        await case.it.until(lambda: case.sentry.waiting)
        await case.it.closings.save(replace(case.it.entry(44), asked=True))
        settings = case.it.settings
        await case.it.close()
        case.sentry.go.set()
        async with side(tmp_path / "state", settings) as again:
            await again.reach(44, S.DONE)
        assert other.exists()


async def test_strays_are_not_counted_as_the_runs(case: Case):
    """The sentry moves them nevertheless."""
    fill(case.staging, ["stray.graw"])
    await case.it.begin(42)
    fill(case.staging, ["a.graw"], seed=2)
    size = (case.staging / "a.graw").stat().st_size
    case.it.end(42)
    entry = await case.it.reach(42, S.DONE)
    assert (entry.files, entry.data_bytes) == (1, size)
    assert len(sums(case.folder(42))) == 2


# ---------------------------------------------------------------------------- without a host


def entry(number: int, **fields: object) -> Closing:
    made = Closing(RunRef(EXPERIMENT, number), "CoBo0", ("CoBo0",), Phase.CLOSING, began_s=float(number))
    return replace(made, **fields)  # type: ignore[arg-type]


def test_what_was_there_before_a_run_is_known_only_if_it_was_seen_in_time():
    polled = Polled(True, 5, 1000, 1, 1)
    closed = entry(1, phase=Phase.DONE, left_files=2)
    assert settle_sentry([closed, entry(2)], polled, early=True)[1].base_files == 5
    late = settle_sentry([closed, entry(2)], polled, early=False)[1]
    assert (late.base_files, late.base_bytes) == (2, 1000)
    assert settle_sentry([entry(2)], None, early=True)[0].base_files == 0


def test_each_run_names_all_earlier_ones_whose_files_come_into_its_folder():
    one, two = settle_sentry([entry(1), entry(2)], None, early=False)
    assert (one.state, two.mixed_with) == (S.FAILED, (1,))
    _, two, three = settle_sentry([one, two, entry(3)], None, early=False)
    assert (two.state, three.mixed_with) == (S.FAILED, (1, 2))
    assert settle_sentry([one, two, three], None, early=False)[2].mixed_with == (1, 2)


def test_only_a_closing_at_work_refuses_a_start():
    assert at_work([entry(1)], 30.0, 6.0) == ""
    assert at_work([entry(1, asked=True, asked_s=5.0, phase=Phase.DROPPED)], 30.0, 6.0) == ""
    asked = entry(1, asked=True, asked_s=5.0)
    assert "closing run 1 " in (waits := at_work([asked], 30.0, 6.0))
    assert "it waits up to 30 s, until " in waits
    assert "start it again" not in waits
    assert "it waits" not in (late := at_work([asked], 30.0, 36.0))
    assert "look whether it runs on its host, and start it again" in late
    assert CLOSING.validate_python(CLOSING.dump_python(entry(1, asked_s=5.0), mode="json")).asked_s == 5.0


async def test_data_that_come_after_the_move_are_not_taken_for_what_a_sentry_leaves(case: Case):
    """They would be in the next run's folder, and nothing would refuse its start."""
    await case.it.begin(42)
    first = fill(case.staging, ["a.graw", "b.graw"])
    case.sentry.after_move = lambda: (case.staging / "a.graw").write_bytes(b"late")
    case.it.end(42)
    entry = await case.it.reach(42, S.INCOMPLETE)
    assert "1 file left in" in entry.message
    assert "data came after it had moved the others" in entry.message
    assert case.it.closing.against_next("CoBo0")
    (case.staging / "a.graw").rename(case.folder(42) / "a.late1.graw")
    case.it.closing.again()
    entry = await case.it.reach(42, S.DONE)
    size = sum(path.stat().st_size for path in case.folder(42).iterdir())
    assert (entry.files, entry.data_bytes) == (3, size)
    assert first.items() < sums(case.folder(42)).items()
    assert case.it.closing.expected("CoBo0") == Count()
