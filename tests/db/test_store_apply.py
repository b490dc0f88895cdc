"""Applying records: once each, whatever the order, and a seen end beats an assumed one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from attpc_plugins.run_history.store import Step
from attpc_plugins.run_history.store.applying import batch as applying
from attpc_plugins.run_history.store.errors import PositionMoved
from attpc_plugins.run_history.store.model.history import Level, Moment, Quality, RunChanges, RunFilter, Stage
from attpc_plugins.run_history.store.model.records import (
    EditRecord,
    ExperimentRecord,
    LogRecord,
    MeasurementRecord,
    Phase,
    RunRef,
)

from attpc_ioc.model.events import OperationEnded, Origin, StateChanged
from attpc_ioc.model.run import RunClass, RunOutcome, RunTexts
from attpc_ioc.model.states import Operation, State, Transition
from tests.support.run_records import (
    EXPERIMENT,
    FLEET,
    IOC,
    MODULES,
    SHIFT,
    T0,
    Life,
    Stamps,
    counts,
    follow,
    open_store,
    put_of,
    reserve,
)


def seen_running(stamp, time_s, run):
    """The first CoBo in its start."""
    return StateChanged(
        stamp=stamp,
        time_s=time_s,
        module="cobo0",
        old=State.READY,
        new=State.RUNNING,
        transition=Transition.START,
        origin=Origin.OURS,
        run=run,
    )


def started(stamp, **facts):
    """The end of the first CoBo's Start."""
    return OperationEnded(stamp=stamp, time_s=T0, module="cobo0", operation=Operation.START, **facts)


async def test_a_run_from_reservation_to_end(dsn):
    stamps = Stamps()
    async with open_store(dsn) as store:
        number = await reserve(store, "a")
        life = Life(number, stamps, attempt="a")
        await follow(store, life.starting())
        assert (await store.run(EXPERIMENT, number)).run.stage is Stage.STARTING
        await follow(store, life.started())
        opened = await store.open_run(FLEET)
        assert opened is not None
        assert (opened.run.number, opened.run.stage, opened.modules) == (number, Stage.RUNNING, MODULES)
        lost = (replace(MODULES[0]), replace(MODULES[1], lost=True))
        await follow(store, life.record(Phase.DEGRADED, 10.0, modules=lost, lost=("cobo0",)))
        await follow(store, life.stopping())
        assert (await store.run(EXPERIMENT, number)).run.stage is Stage.STOPPING
        await follow(store, life.stopped())
        assert await store.open_run(FLEET) is None
        detail = await store.run(EXPERIMENT, number)
    run = detail.run
    assert (run.stage, run.outcome, run.duration_s) == (Stage.ENDED, RunOutcome.STOPPED, 60.0)
    assert (run.title, run.operator, run.run_class) == ("a title", "an operator", RunClass.BEAM)
    assert (run.started_by, run.stopped_by, run.ioc, run.fleet) == (SHIFT, SHIFT, IOC, FLEET)
    times = (run.start_commanded_at, run.started_at, run.stop_commanded_at, run.stopped_at)
    assert [t.timestamp() - T0 for t in times if t] == [0.0, 3.0, 60.0, 63.0]
    assert [e.kind for e in detail.events] == ["starting", "started", "degraded", "stopping", "stopped"]
    assert detail.lost == ("cobo0",)


async def test_every_record_counts_once(dsn):
    stamps = Stamps()
    ref = RunRef(EXPERIMENT, 4)
    records = [
        *Life(4, stamps).whole(),
        put_of(stamps(), T0, "ATTPC:Run:Title", SHIFT, "", "x", True),
        seen_running(stamps(), T0, ref),
        started(stamps(), ok=False, reason="busy", code=4, duration_s=0.1, who=SHIFT, run=ref),
        LogRecord(stamps(), T0, Level.WARNING, "spark", "shift", ref),
        MeasurementRecord(stamps(), T0, ref, "pressure", Moment.START, 1.5, "torr"),
        EditRecord(stamps(), T0 + 5, ref, RunChanges(comment="fine", quality=Quality.GOOD), SHIFT),
        ExperimentRecord(stamps(), T0, EXPERIMENT),
    ]
    async with open_store(dsn) as store:
        first = await store.apply_many(records)
        assert (first.new, first.repeated, first.rejected) == (len(records), 0, ())
        before = (await store.run(EXPERIMENT, 4), await counts(dsn), await store.puts())
        again = await store.apply_many(records + records)
        assert (again.new, again.repeated) == (0, 2 * len(records))
        assert [(await store.apply_many([record])).new for record in records] == [0] * len(records)
        assert (await store.run(EXPERIMENT, 4), await counts(dsn), await store.puts()) == before
        detail = before[0]
        current = await store.current_experiment()
    assert current is not None
    assert current.name == EXPERIMENT
    assert (detail.run.comment, detail.run.quality) == ("fine", Quality.GOOD)
    assert [(m.observable, m.value, m.units) for m in detail.measurements] == [("pressure", 1.5, "torr")]
    assert {(e.kind, e.module, e.ok) for e in detail.events} >= {
        ("state", "cobo0", True),
        ("operation", "cobo0", False),
    }


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
async def test_the_end_is_the_same_in_any_order(dsn, order):
    records = Life(1, Stamps()).whole()
    async with open_store(dsn) as store:
        for index in order:
            await follow(store, records[index])
        run = (await store.run(EXPERIMENT, 1)).run
    assert (run.stage, run.outcome, run.duration_s, run.title) == (
        Stage.ENDED,
        RunOutcome.STOPPED,
        60.0,
        "a title",
    )
    assert run.stop_commanded_at is not None


@pytest.mark.parametrize("seen_first", [True, False])
async def test_a_seen_end_beats_an_assumed_one(dsn, seen_first):
    life = Life(1, Stamps())
    begin = [life.starting(), life.started()]
    seen, assumed = life.stopped(), life.interrupted()
    async with open_store(dsn) as store:
        await store.apply_many([*begin, *((seen, assumed) if seen_first else (assumed, seen))])
        run = (await store.run(EXPERIMENT, 1)).run
    assert (run.outcome, run.duration_s, run.reason) == (RunOutcome.STOPPED, 60.0, "")


async def test_an_assumed_end_stands_where_nothing_was_seen(dsn):
    life = Life(1, Stamps())
    async with open_store(dsn) as store:
        await store.apply_many([life.starting(), life.started(), life.interrupted()])
        run = (await store.run(EXPERIMENT, 1)).run
    assert (run.outcome, run.duration_s, run.reason) == (RunOutcome.INTERRUPTED, 37.0, "not seen to end")


async def test_of_two_seen_ends_the_first_stays(dsn):
    life = Life(1, Stamps())
    async with open_store(dsn) as store:
        await store.apply_many([*life.whole(), life.stopped(90.0, "again")])
        assert (await store.run(EXPERIMENT, 1)).run.duration_s == 60.0


async def test_a_failed_start_stays_when_its_number_is_used_up(dsn):
    life = Life(1, Stamps(), attempt="a")
    async with open_store(dsn) as store:
        await store.apply_many([life.starting(), life.failed(released=False)])
        run = (await store.run(EXPERIMENT, 1)).run
        assert (run.stage, run.outcome, run.reason) == (Stage.ENDED, RunOutcome.FAILED, "cobo0: refused")
        assert run.duration_s is None
        assert await store.next_number(EXPERIMENT) == 2


async def test_a_failed_start_goes_when_its_number_is_released(dsn):
    stamps = Stamps()
    async with open_store(dsn) as store:
        number = await reserve(store, "a")
        life = Life(number, stamps, attempt="a")
        await store.apply_many([life.starting(), life.failed(released=True)])
        assert (await store.runs()).runs == ()
        assert await store.next_number(EXPERIMENT) == number
        ref = RunRef(EXPERIMENT, number)
        late = MeasurementRecord(stamps(), T0, ref, "pressure", Moment.START, 1.0)
        assert (await follow(store, late)).new == 1, "void, and nothing to report"
        assert (await store.runs()).runs == ()


async def test_a_restored_database_gets_the_run_from_any_record(dsn):
    life = Life(31, Stamps())
    life.starting(), life.started(), life.stopping()
    async with open_store(dsn) as store:
        await follow(store, life.stopped())
        detail = await store.run(EXPERIMENT, 31)
    assert (detail.run.duration_s, detail.members) == (60.0, ("MuTAnT", "cobo0"))


async def test_a_record_of_another_start_is_refused_and_named(dsn):
    stamps = Stamps()
    async with open_store(dsn) as store:
        number = await reserve(store, "mine")
        good = Life(number + 5, stamps).whole()
        foreign = Life(number, stamps, attempt="other").starting()
        done = await store.apply_many([good[0], foreign, *good[1:]])
        assert done.new == 4
        assert [r.record for r in done.rejected] == [foreign]
        assert "belongs to another start" in done.rejected[0].reason
        assert (await store.run(EXPERIMENT, number + 5)).run.outcome is RunOutcome.STOPPED
        again = await store.apply_many([foreign])
        assert len(again.rejected) == 1, "a refused record is not taken for applied"


async def test_bad_data_spoils_only_itself(dsn):
    stamps = Stamps()
    ref = RunRef(EXPERIMENT, 1)
    bad = [
        MeasurementRecord(stamps(), T0, ref, "big", Moment.START, 2**70),
        MeasurementRecord(stamps(), T0, ref, "", Moment.START, 1),
        MeasurementRecord(stamps(), T0, ref, "severe", Moment.START, 1, severity=9),
        MeasurementRecord(stamps(), T0, RunRef(EXPERIMENT, 99), "x", Moment.START, 1),
        EditRecord(stamps(), T0, RunRef("nowhere", 1), RunChanges(title="x")),
        started(stamps(), ok=True, code=2**40),
        Life(2**40, stamps).starting(),
        Life(-1, stamps).starting(),
    ]
    good = Life(1, stamps).whole()
    async with open_store(dsn) as store:
        done = await store.apply_many([*good, *bad])
        assert done.new == len(good)
        assert [r.record for r in done.rejected] == bad
        assert all(r.reason for r in done.rejected)
        assert len((await follow(store, bad[0])).rejected) == 1
        assert (await store.run(EXPERIMENT, 1)).run.stage is Stage.ENDED


async def test_texts_of_any_kind_are_kept(dsn):
    stamps = Stamps()
    title = "46Ar(πü,p) \x00 \ud800 ü 東京 🧪 \"quotes'; DROP TABLE runs; -- %s $1"
    life = Life(1, stamps, title=title)
    async with open_store(dsn) as store:
        await store.apply_many([life.starting(), put_of(stamps(), T0, "a", SHIFT, title, "\x00" * 3, True)])
        run = (await store.run(EXPERIMENT, 1)).run
        assert run.title == title.replace("\x00", "␀").replace("\ud800", "?")
        assert (await store.puts()).puts[0].new == "␀␀␀"
        assert (await store.runs(RunFilter(text="東京"))).runs == (run,)


async def test_a_run_that_nobody_saw_end_is_closed_by_the_next(dsn):
    stamps = Stamps()
    old, new = Life(1, stamps), Life(2, stamps, t0=T0 + 1000)
    other = Life(3, stamps, fleet="fleet-b")
    async with open_store(dsn) as store:
        await store.apply_many([old.starting(), old.started(), other.starting(), other.started()])
        await follow(store, new.starting())
        run = (await store.run(EXPERIMENT, 1)).run
        assert (run.outcome, run.duration_s) == (RunOutcome.INTERRUPTED, 0.0)
        assert "before run 2" in run.reason
        assert (await store.run(EXPERIMENT, 3)).run.stage is Stage.RUNNING, "another fleet's"
        await follow(store, old.stopped())
        assert (await store.run(EXPERIMENT, 1)).run.duration_s == 60.0


async def test_a_late_record_of_an_old_run_does_not_close_the_present_one(dsn):
    stamps = Stamps()
    old, new = Life(1, stamps), Life(2, stamps, t0=T0 + 1000)
    async with open_store(dsn) as store:
        await store.apply_many([new.starting(), new.started(), old.starting(), old.started()])
        assert (await store.run(EXPERIMENT, 2)).run.stage is Stage.RUNNING


async def test_edits_the_latest_wins_field_by_field(dsn):
    stamps = Stamps()
    ref = RunRef(EXPERIMENT, 1)
    life = Life(1, stamps, title="as begun")
    edits = [
        EditRecord(stamps(), T0 + 20, ref, RunChanges(title="second")),
        EditRecord(stamps(), T0 + 10, ref, RunChanges(title="first", operator="Ann")),
        EditRecord(stamps(), T0 + 15, ref, RunChanges(run_class=RunClass.JUNK)),
    ]
    async with open_store(dsn) as store:
        await store.apply_many([life.starting(), life.started(), *edits, life.stopping(), life.stopped()])
        detail = await store.run(EXPERIMENT, 1)
        run = detail.run
        assert (run.title, run.operator, run.run_class) == ("second", "Ann", RunClass.JUNK)
        assert len(detail.edits) == 4
        await store.edit(EXPERIMENT, 1, RunChanges(title="by shell"), who=SHIFT)
        await follow(store, EditRecord(stamps(), T0 + 30, ref, RunChanges(title="late in the journal")))
        assert (await store.run(EXPERIMENT, 1)).run.title == "by shell"


async def test_the_texts_of_the_newest_record_stand_without_edits(dsn):
    life = Life(1, Stamps(), title="as begun")
    begin, started = life.starting(), life.started()
    stopped = life.record(
        Phase.STOPPED, 63.0, stopped_s=T0 + 63, texts=RunTexts("as ended", "", RunClass.JUNK)
    )
    async with open_store(dsn) as store:
        await store.apply_many([begin, stopped, started])
        run = (await store.run(EXPERIMENT, 1)).run
    assert (run.title, run.run_class, run.stage) == ("as ended", RunClass.JUNK, Stage.ENDED)


async def test_the_latest_choice_of_an_experiment_wins(dsn):
    stamps = Stamps()
    late, early = ExperimentRecord(stamps(), T0 + 9, "late"), ExperimentRecord(stamps(), T0, "early")
    async with open_store(dsn) as store:
        await store.apply_many([late, early])
        current = await store.current_experiment()
        assert current is not None
        assert current.name == "late"
        assert [(e.name, e.is_current) for e in await store.experiments()] == [
            ("early", False),
            ("late", True),
        ]


async def test_a_step_along_the_log_is_applied_with_its_position(dsn):
    life = Life(1, Stamps())
    async with open_store(dsn) as store:
        assert await store.position("log") == 0
        await store.follow([life.starting()], Step("log", IOC, 0, 7))
        await store.follow([], Step("log", IOC, 7, 9))
        assert await store.position("log") == 9
        assert await store.position("another") == 0
        again = Stamps()
        for step in (Step("log", IOC, 0, 7), Step("log", IOC, 8, 10), Step("another", IOC, 1, 2)):
            with pytest.raises(PositionMoved):
                await store.follow([put_of(again(), T0, "a", SHIFT, "", "x", True)], step)
        assert await store.position("log") == 9
        assert await store.position("another") == 0
        assert not (await store.puts()).puts, "nothing of a step that begins elsewhere is there"
        bad = Life(-1, Stamps()).starting()
        done = await store.follow([life.started(), bad, life.stopped()], Step("log", IOC, 9, 12))
        assert (done.new, [r.record for r in done.rejected]) == (2, [bad])
        assert await store.position("log") == 12
        assert (await store.run(EXPERIMENT, 1)).run.stage is Stage.ENDED


async def test_a_fault_of_the_program_spoils_only_its_record(dsn, monkeypatch):
    stamps = Stamps()
    broken = started(stamps(), ok=True)

    async def fail(*_arguments: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(applying, "apply_operation", fail)
    async with open_store(dsn) as store:
        good = Life(1, stamps).whole()
        done = await store.follow([good[0], broken, *good[1:]], Step("log", IOC, 0, 5))
        assert [r.reason for r in done.rejected] == ["fault of the program: ZeroDivisionError('a fault')"]
        assert (await store.run(EXPERIMENT, 1)).run.stage is Stage.ENDED
        assert await store.position("log") == 5


async def test_what_an_imported_run_has_is_not_added_again_by_the_log(database):
    """A database was made anew of an export, and the IOC's log still has all that the runs are made of."""
    stamps = Stamps()
    life = Life(4, stamps)
    edit = EditRecord(stamps(), T0 + 30, life.ref, RunChanges(title="another", quality=Quality.GOOD), SHIFT)
    state = seen_running(stamps(), T0 + 2, life.ref)
    entered = [
        MeasurementRecord(stamps(), T0 + after_s, life.ref, "Pressure", Moment.ENTERED, after_s, who=SHIFT)
        for after_s in (10.0, 20.0)
    ]
    begin, *rest = life.whole()
    records = [begin, state, *entered, edit, *rest]
    async with database() as first, database() as second, open_store(first) as one, open_store(second) as two:
        await one.follow(records, Step("log", IOC, 0, 9))
        detail = await one.run(EXPERIMENT, 4)
        assert len(detail.events) == 5
        assert len(detail.edits) == 3
        await two.import_runs([detail])
        await two.follow(records, Step("log", IOC, 0, 9))
        assert await two.run(EXPERIMENT, 4) == detail
