"""Whose files are whose where the next run begins before the last one is closed: what needs no host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from attpc_plugins.data_routers.closing.beside import doubtful, why_not_apart, without_streams
from attpc_plugins.data_routers.closing.beside import listed as count_by_run
from attpc_plugins.data_routers.closing.closer import RouterCloser
from attpc_plugins.data_routers.closing.closings import Closing, Phase
from attpc_plugins.data_routers.closing.whose import own_files, settle, still_early
from attpc_plugins.data_routers.hosts.make import host_for
from attpc_plugins.data_routers.hosts.names import stream_of
from attpc_plugins.data_routers.model import CloseState, FileEntry
from attpc_plugins.data_routers.watch.flow import Count

from tests.data_routers.test_closing_pure import entry_of, listed, own
from tests.support.closings import EXPERIMENT, closings_in, fill, grow, local_settings, side, sums
from tests.support.datahosts import Place
from tests.support.pace import Stopwatch


def of(run: int, asad: int = 0, part: int = 0) -> str:
    return f"CoBo0_AsAd{asad}_2026-11-22T04:{run:02d}:00.000_{part:04d}.graw"


def begun_beside(*names: str, apart: bool = True, early: bool = True) -> tuple[Closing, Closing]:
    """Return run 1, which is over and whose files are known, and run 2, which begins."""
    chosen = dict.fromkeys(names, 1) if apart else {}
    one = entry_of(1, settled=True, before={}, phase=Phase.CLOSING, apart=apart, chosen=chosen)
    one, two = settle([one, entry_of(2, phase=Phase.RUNNING)], listed(*names), early=early)
    return one, two


def test_later_parts_are_of_the_run_of_their_stream():
    one, two = both = begun_beside(of(1))
    there = (of(1), of(1, part=1), of(2), of(2, part=1))
    assert own(one, both, *there) == {of(1), of(1, part=1)}
    assert own(two, both, *there) == {of(2), of(2, part=1)}
    dropped = replace(one, phase=Phase.DROPPED)
    assert own(two, [dropped, two], *there) == {of(2), of(2, part=1)}


def test_a_run_whose_streams_are_known_is_told_apart_from_one_that_was_listed_late():
    one = entry_of(1, settled=True, before={"stray": 1}, phase=Phase.CLOSING, apart=True, chosen={of(1): 1})
    there = ("stray", of(1), of(1, part=1), of(2))
    one, two = both = settle([one, entry_of(2, phase=Phase.RUNNING)], listed(*there), early=False)
    assert (one.mixed, two.mixed) == ("", "")
    assert own(one, both, *there) == {of(1), of(1, part=1)}
    assert own(two, both, *there) == {of(2)}
    one = replace(one, apart=False, frozen=False, streams=frozenset())
    assert all(
        closing.mixed
        for closing in settle([one, entry_of(2, phase=Phase.RUNNING)], listed(*there), early=False)
    )


def test_a_stream_that_begins_before_the_first_board_is_the_earlier_runs():
    one, two = still_early(begun_beside(of(1)), listed(of(1), of(1, asad=1)))
    there = (of(1), of(1, asad=1), of(2), of(2, asad=1))
    assert own(one, [one, two], *there) == {of(1), of(1, asad=1)}
    assert own(two, [one, two], *there) == {of(2), of(2, asad=1)}


async def test_the_next_run_need_not_wait_until_the_files_of_an_earlier_one_are_moved(tmp_path):
    """That takes long where checksums are made; the listing before it tells already."""
    settings = local_settings({"CoBo0": tmp_path}, quiet_s=0.001)
    host = host_for(settings.router[0], settings)
    seen: list[tuple[str, bool, list[str]]] = []
    async with closings_in(tmp_path / "state") as closings:

        def on_listing(files: Sequence[FileEntry]) -> None:
            staged = sorted(file.name for file in files if (tmp_path / file.name).exists())
            seen.append((closer.against_next, all(c.apart for c in closings.of()), staged))

        closer = RouterCloser(
            settings.router[0],
            host,
            closings,
            settings,
            sender_ids=lambda _closing: {"CoBo0": "CoBo[0]"},
            on_listing=on_listing,
        )
        fill(tmp_path, [of(1)])
        await closings.save(entry_of(1, settled=True, before={}, state=CloseState.WAITING))
        await closer.round()
        # Run 2 began meanwhile, and is over too.
        (one,) = closings.of()
        await closings.save(replace(one, frozen=True, streams=frozenset({stream_of(of(1))})))
        fill(tmp_path, [of(2)])
        before = {of(1): (tmp_path / of(1)).stat().st_size}
        await closings.save(entry_of(2, settled=True, before=before, state=CloseState.WAITING))
        await closer.round()
        assert seen == [("", True, [of(1)]), ("", True, [of(1), of(2)])]
        assert sorted(sums(tmp_path)) == [of(2)]
    await host.disconnect()


@pytest.mark.parametrize(
    ("files", "senders", "said"),
    [
        ([of(1)], (), ""),
        ([of(1)], ("CoBo0_AsAd0",), ""),
        ([], (), "the first data of CoBo0 may still come"),
        ([], ("CoBo0_AsAd0", "CoBo0_AsAd1"), "the first data of CoBo0 may still come"),
        (
            [of(1)],
            ("CoBo0_AsAd1", "CoBo0_AsAd2"),
            "the first data of CoBo0 AsAd1, CoBo0 AsAd2 may still come",
        ),
        ([of(1), "a.graw"], (), "do not have their streams' times (a.graw)"),
    ],
)
def test_when_the_next_run_can_be_told_apart(files, senders, said):
    one = entry_of(1, settled=True, before={}, phase=Phase.CLOSING)
    text = why_not_apart(one, listed(*files), {"CoBo0": "CoBo[0]"}, frozenset(senders))
    assert said in text
    assert bool(said) == bool(text)
    assert "not known" in why_not_apart(replace(one, before=None), listed(of(1)), {}, frozenset())


def test_two_streams_of_a_sender_soon_after_the_start_are_doubtful():
    def files(ended_s: float) -> list[FileEntry]:
        return [FileEntry(of(2), 1, ended_s), FileEntry(of(3), 1, 500.0), FileEntry(of(3, asad=1), 1, 1.0)]

    beside = entry_of(2, settled=True, before={}, phase=Phase.CLOSING, beside_s=100.0)
    assert "CoBo0_AsAd0_2026-11-22T04:02" in doubtful(beside, files(150.0), quiet_s=30.0)
    assert doubtful(beside, files(161.0), quiet_s=30.0) == "", "data do not come so late"
    assert doubtful(replace(beside, beside_s=None), files(150.0), quiet_s=30.0) == ""


def test_a_run_that_continues_an_earlier_stream_is_noticed():
    both = begun_beside(of(1))
    two = both[1]
    whole = [FileEntry(of(1), 7, 0.0), FileEntry(of(2, asad=1), 7, 0.0)]
    senders, streams = without_streams(two, both, own_files(two, both, whole), whole)
    assert (senders, streams) == ({"CoBo0_AsAd0"}, {stream_of(of(1))})
    whole.append(FileEntry(of(2), 7, 0.0))
    assert without_streams(two, both, own_files(two, both, whole), whole) == (frozenset(), frozenset())


def test_files_are_counted_by_runs():
    one, two = begun_beside(of(1))
    sorted_ = count_by_run([one, two], listed("stray", of(1), of(2)), lambda c: c.phase is Phase.CLOSING)
    assert sorted_.of == {one.run: Count(1, 1)}
    assert sorted_.for_run(two.run) == Count(2, 2)
    assert sorted_.for_run(one.run) == Count(3, 3)
    assert sorted_.without(sorted_.known) == Count(2, 2)


async def test_a_board_that_writes_nothing_holds_the_next_start_no_longer_than_the_quiet_time(tmp_path):
    staging = tmp_path / "staging"
    staging.mkdir()
    async with side(tmp_path / "state", local_settings({"CoBo0": staging}, quiet_s=0.5)) as it:
        await it.begin(1)
        it.end(1)
        taking = Stopwatch()
        await it.reach(1, CloseState.WAITING)
        await it.until(lambda: "the first data of CoBo" in it.closing.against_next("CoBo0"))
        await it.until(lambda: not it.closing.against_next("CoBo0"))
        assert it.entry(1).state is CloseState.DONE
        assert taking.wall_s >= 0.5
        assert taking.s < 3.0


STEPS = ("begun", "stopped", "next begun", "late data", "next stopped")


@pytest.mark.parametrize("last", STEPS)
async def test_an_ioc_that_ends_at_any_point_goes_on(at: Place, tmp_path, last):
    """Two runs are being closed; it is another IOC after the step `last`."""
    staging, settings = at.staging, local_settings({"CoBo0": at.staging}, quiet_s=0.6)
    done = 0
    while done < len(STEPS):
        async with side(tmp_path / "state", settings, {"CoBo0": at.host()}) as it:
            if 0 < done < 2:
                it.go_on(1)
            elif 2 < done < 5:
                it.go_on(2)
            for number in range(done, len(STEPS)):
                match STEPS[number]:
                    case "begun":
                        await it.begin(1)
                        fill(staging, [of(1)], seed=1)
                    case "stopped":
                        it.end(1)
                    case "next begun":
                        await it.begin(2)
                    case "late data":
                        fill(staging, [of(2), of(1, part=1)], seed=2)
                        grow(staging / of(1))
                    case "next stopped":
                        it.end(2)
                done = number + 1
                if STEPS[number] == last:
                    break
    whole = sums(staging)
    async with side(tmp_path / "state", settings, {"CoBo0": at.host()}) as it:
        it.end(2)
        for number in (1, 2):
            await it.reach(number, CloseState.DONE)
    folders = [staging / EXPERIMENT / f"run_000{number}" for number in (1, 2)]
    found = [sums(folder) for folder in folders]
    assert [set(names) for names in found] == [{of(1), of(1, part=1)}, {of(2)}]
    assert whole.items() <= (found[0] | found[1]).items()
    assert sums(staging) == {}


@pytest.mark.parametrize("open_", [False, True])
async def test_a_run_without_streams_of_its_own_says_so(at: Place, tmp_path, open_):
    """Its event numbers went on, so the router has continued the stream of the run before."""
    settings = local_settings({"CoBo0": at.staging}, quiet_s=0.5)
    async with side(tmp_path / "state", settings, {"CoBo0": at.host()}) as it:
        await it.begin(1)
        fill(at.staging, [of(1)], seed=1)
        it.end(1)
        if not open_:
            await it.reach(1, CloseState.DONE)
        await it.begin(2)
        with (at.staging / of(1)).open("ab") as file:
            file.write(b"of run 2")
        it.end(2)
        entry = await it.reach(2, CloseState.DONE)
        assert entry.message.startswith("no file was written")
        assert "nothing of CoBo0_AsAd0 began with this run" in entry.message
        assert f"data came for an earlier run's streams ({stream_of(of(1))})" in entry.message
