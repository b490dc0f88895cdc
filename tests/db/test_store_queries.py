"""Lists, streams, edits and imports of runs; the put log and its retention."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from attpc_plugins.run_history.store.errors import Conflict, NotFound, StoreRejected
from attpc_plugins.run_history.store.model.history import (
    Edit,
    Event,
    Level,
    Measurement,
    Moment,
    Quality,
    Run,
    RunChanges,
    RunDetail,
    RunFilter,
    Stage,
)
from attpc_plugins.run_history.store.model.puts import PutFilter
from attpc_plugins.run_history.store.model.records import LogRecord

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunClass, RunOutcome
from tests.support.run_records import (
    EXPERIMENT,
    MODULES,
    SHIFT,
    T0,
    Stamps,
    counts,
    follow,
    open_store,
    put_of,
    reserve,
)

DAY = datetime(2024, 5, 1, tzinfo=UTC)


def made(number: int, experiment: str = EXPERIMENT, **changes) -> RunDetail:
    """Return a run that was started `number` hours into the first of May 2024."""
    started = DAY + timedelta(hours=number)
    run = Run(
        experiment=experiment,
        number=number,
        stage=Stage.ENDED,
        outcome=RunOutcome.STOPPED,
        reserved_at=started,
        start_commanded_at=started,
        started_at=started,
        stopped_at=started + timedelta(minutes=30),
    )
    return RunDetail(replace(run, **changes))


FULL = RunDetail(
    run=replace(
        made(7).run,
        title="Ar46 on CD2; 'quoted', \"so\"",
        comment="two\nlines",
        operator="Ann",
        run_class=RunClass.BEAM,
        quality=Quality.PARTIAL,
        fleet="f",
        ioc="A:",
        stop_commanded_at=DAY,
        last_running_at=DAY,
        started_by=SHIFT,
        stopped_by=Who("other", "h", "a"),
        reason="why",
        adopted=True,
        config_name="old",
    ),
    modules=MODULES,
    measurements=(
        Measurement("pressure", Moment.START, DAY, 1.5, "torr", 1, "PV", DAY, False, "", "x"),
        Measurement("pressure", Moment.STOP, DAY, None, "torr", 3, "PV", None, False, "disconnected"),
        Measurement("gas", Moment.ENTERED, DAY, "D2", carried=True),
        Measurement("count", Moment.ENTERED, DAY, 2**60),
    ),
    events=(Event(DAY, "operation", "cobo0", "Start: no", False, True, 4, 0.5), Event(DAY, "stopped")),
    edits=(Edit("title", "before", DAY, "x@y"),),
)


async def numbers(store, which: RunFilter = RunFilter()) -> list[int]:  # noqa: B008
    return [run.number for run in (await store.runs(which)).runs]


async def test_filters(dsn):
    async with open_store(dsn) as store:
        await store.import_runs(
            [
                made(1, title="sparks on pad 12", run_class=RunClass.JUNK),
                made(2, comment="Sparking again", quality=Quality.BAD),
                made(3, operator="Ann", run_class=RunClass.BEAM),
                made(4, title="12C(alpha,p) at 5.1 MeV/u"),
                made(2, "another", title="sparks"),
            ]
        )
        await reserve(store)
        mine = RunFilter(experiment=EXPERIMENT)
        assert await numbers(store) == [4, 3, 2, 2, 1]
        assert await numbers(store, mine) == [4, 3, 2, 1]
        assert await numbers(store, replace(mine, number_from=2, number_to=3)) == [3, 2]
        between = replace(mine, since=DAY + timedelta(hours=2), until=DAY + timedelta(hours=4))
        assert await numbers(store, between) == [3, 2]
        assert await numbers(store, RunFilter(run_class=RunClass.JUNK)) == [1]
        assert await numbers(store, RunFilter(quality=Quality.BAD)) == [2]
        assert await numbers(store, RunFilter(text="spark")) == [2, 2, 1]
        assert await numbers(store, replace(mine, text="PAD sparks 1")) == [1]
        assert await numbers(store, replace(mine, text="ann")) == [3]
        assert await numbers(store, replace(mine, text="alpha 5.1")) == [4]
        assert await numbers(store, replace(mine, text="12C(alpha,p)")) == [4]
        assert await numbers(store, RunFilter(experiment="nowhere")) == []
        assert await numbers(store, RunFilter(number_from=2**40)) == []
        assert await store.count_runs(mine) == 4
        assert [r.number for r in await store.last_runs(2)] == [4, 3]


@pytest.mark.parametrize(
    "text", ["'", "!", "&|", "a:*", "\\", "<->", "\x00", "ü & (", ":*", "--", "%", "'' b"]
)
async def test_any_text_can_be_searched_for(dsn, text):
    async with open_store(dsn) as store:
        await store.import_runs([made(1, title="b")])
        assert await numbers(store, RunFilter(text=text)) in ([], [1])


@pytest.mark.parametrize("timed", [True, False])
async def test_pages_hold_every_run_once(dsn, timed):
    async with open_store(dsn) as store:
        same = DAY + timedelta(hours=1)
        await store.import_runs(
            made(n, started_at=same, start_commanded_at=same) if n % 3 else made(n) for n in range(25)
        )
        which = RunFilter(experiment=EXPERIMENT, since=DAY if timed else None)
        seen: list[int] = []
        after = None
        pages = 0
        while True:
            pages += 1
            page = await store.runs(which, limit=5, after=after)
            seen += [run.number for run in page.runs]
            after = page.next
            if after is None:
                break
    assert pages == 5
    assert len(seen) == 25
    assert set(seen) == set(range(25))
    assert timed or seen == sorted(seen, reverse=True)


async def test_import_and_stream_round_trip_exactly(dsn, database):
    plain = [made(n) for n in range(1200) if n != 7]
    async with open_store(dsn) as store, database() as other_dsn, open_store(other_dsn) as other:
        assert await store.import_runs([FULL, *plain]) == 1200
        assert await store.run(EXPERIMENT, 7) == FULL
        assert await other.import_runs(store.stream()) == 1200
        first = [detail async for detail in store.stream()]
        second = [detail async for detail in other.stream(RunFilter(experiment=EXPERIMENT))]
        assert first == second
        assert [d.run.number for d in first] == list(range(1200))
        assert [o.name for o in await other.observables(EXPERIMENT)] == ["pressure", "gas", "count"]
        bare = [detail async for detail in store.stream(events=False)]
        assert (bare[7].events, bare[7].edits, bare[7].modules) == ((), (), MODULES)


async def test_a_stream_can_be_left_early(dsn):
    async with open_store(dsn, pool_max=1) as store:
        await store.import_runs(made(n) for n in range(10))
        async with aclosing(store.stream()) as runs:
            async for detail in runs:
                assert detail.run.number == 0
                break
        assert await store.count_runs() == 10


async def test_a_stream_may_rest_for_as_long_as_its_reader_does(dsn):
    limit = "SHOW idle_in_transaction_session_timeout"
    async with open_store(dsn) as store:
        for read_only in (True, False):
            async with store._streaming(read_only=read_only) as connection:
                assert await connection.fetchval(limit) == "0"
        async with store._transaction() as connection:
            assert await connection.fetchval(limit) == "1min"


async def test_an_import_is_whole_or_not_at_all(dsn):
    async with open_store(dsn) as store:
        await store.import_runs([made(5)])
        with pytest.raises(Conflict, match=f"'{EXPERIMENT}' already has a run 5"):
            await store.import_runs([made(1), made(5)])
        with pytest.raises(Conflict, match="already has a run 2"):
            await store.import_runs([made(2), made(2)])
        with pytest.raises(StoreRejected):
            await store.import_runs([made(3), made(4, stopped_at=None, outcome=None)])

        def broken():
            yield made(6)
            raise KeyError("a broken file")

        with pytest.raises(KeyError):
            await store.import_runs(broken())
        assert await numbers(store) == [5]

        def unreadable():
            yield made(6)
            raise OSError("the disk of the file")

        with pytest.raises(OSError, match="the disk of the file"):
            await store.import_runs(unreadable())
        assert await numbers(store) == [5]


async def test_editing_a_run(dsn):
    changes = RunChanges("a\x00b", "Bob", RunClass.PULSER, "c" * 70_000, Quality.GOOD)
    async with open_store(dsn) as store:
        await store.import_runs([made(1, title="old")])
        assert await store.edit(EXPERIMENT, 1, RunChanges()) == made(1, title="old").run
        run = await store.edit(EXPERIMENT, 1, changes, who=SHIFT)
        assert (run.title, run.operator, run.run_class, run.quality) == (
            "a␀b",
            "Bob",
            RunClass.PULSER,
            Quality.GOOD,
        )
        assert len(run.comment) == 65536
        edits = (await store.run(EXPERIMENT, 1)).edits
        assert [e.field for e in edits] == ["title", "operator", "run_class", "comment", "quality"]
        assert {e.edited_by for e in edits} == {str(SHIFT)}
        for missing in ((EXPERIMENT, 2), ("nowhere", 1), (EXPERIMENT, 2**40)):
            with pytest.raises(NotFound, match="there is no run"):
                await store.edit(*missing, changes)
            with pytest.raises(NotFound, match="there is no run"):
                await store.run(*missing)


async def test_experiments(dsn):
    async with open_store(dsn) as store:
        assert await store.current_experiment() is None
        await store.create_experiment("a", "first", select=True)
        await store.create_experiment("b")
        with pytest.raises(Conflict, match="'a' exists already"):
            await store.create_experiment("a")
        await store.select_experiment("b")
        await store.select_experiment("c", create=True)
        with pytest.raises(NotFound, match="no experiment 'd'"):
            await store.select_experiment("d")
        with pytest.raises(Conflict, match="'b' exists already"):
            await store.rename_experiment("a", "b")
        with pytest.raises(NotFound, match="no experiment 'd'"):
            await store.rename_experiment("d", "e")
        await store.import_runs([made(4, "a"), made(9, "a")])
        await store.rename_experiment("a", "z")
        await store.comment_experiment("z", "last")
        found = await store.experiments(counted=True)
        assert [(e.name, e.is_current, e.comment, e.runs, e.next_number) for e in found] == [
            ("b", False, "", 0, -1),
            ("c", True, "", 0, -1),
            ("z", False, "last", 2, 10),
        ]
        assert (await store.experiment("z")).next_number == 10
        with pytest.raises(NotFound, match="no experiment 'a'"):
            await store.experiment("a")


async def test_the_put_log_and_its_retention(dsn):
    stamps = Stamps()
    puts = [
        put_of(stamps(), T0 + n, f"PV{n % 3}", Who(f"u{n % 2}", "h"), str(n), str(n + 1), n % 4 > 0, "")
        for n in range(30)
    ]
    async with open_store(dsn) as store:
        await store.apply_many(puts)
        page = await store.puts(limit=20)
        rest = await store.puts(limit=20, after=page.next)
        assert [int(p.old) for p in (*page.puts, *rest.puts)] == list(range(29, -1, -1))
        assert rest.next is None
        only = await store.puts(PutFilter(pv="PV0", user="u1"))
        assert {int(p.old) for p in only.puts} == {3, 9, 15, 21, 27}
        failed = await store.puts(PutFilter(failed=True))
        assert {int(p.old) for p in failed.puts} == set(range(0, 30, 4))
        since = datetime.fromtimestamp(T0 + 10, UTC)
        some = await store.puts(PutFilter(since=since, until=since + timedelta(seconds=5)))
        assert {int(p.old) for p in some.puts} == set(range(10, 15))
        assert await store.forget(puts_before=since) == 10
        assert await store.forget(puts_before=since) == 0
        assert (await counts(dsn))["puts"] == 20
        assert await store.forget(stamps_before=datetime.now(UTC) + timedelta(hours=1)) == 30


async def test_the_log(dsn):
    stamps = Stamps()
    async with open_store(dsn) as store:
        for n, level in enumerate((Level.INFO, Level.WARNING, Level.ERROR)):
            await follow(store, LogRecord(stamps(), T0 + n, level, f"text {n}", "shift"))
        assert [e.text for e in await store.log_entries()] == ["text 2", "text 1"]
        assert [e.text for e in await store.log_entries(alarming=False, limit=1)] == ["text 2"]
        assert len(await store.log_entries(alarming=False)) == 3
        assert await counts(dsn) == {"experiments": 0, "runs": 0, "events": 0, "puts": 0, "log_entries": 3}
