"""Data files and configuration files of runs in the store."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
from attpc_plugins.run_history.store.errors import StoreRejected
from attpc_plugins.run_history.store.model.history import RunDetail, RunFilter
from attpc_plugins.run_history.store.model.records import RunRef

from attpc_ioc.model.events import RunConfigs, RunConfigText, RunFiles
from tests.support.run_records import EXPERIMENT, T0, Life, Stamps, configs_of, follow, open_store

REF = RunRef(EXPERIMENT, 1)
SETUP = "<Setup>\n\t<Node id='CoBo'/>\n</Setup>\n"
OTHER = "<Setup><!-- Größe --></Setup>"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def used(stamps: Stamps, run: RunRef = REF, after_s: float = 1.0) -> RunConfigs:
    return configs_of(
        stamps(),
        T0 + after_s,
        run,
        RunConfigText("cobo0", "configure", "e20009", SETUP, "file"),
        RunConfigText("cobo0", "describe", "cobo0", OTHER, "reply"),
        RunConfigText("MuTAnT", "configure", "e20009", SETUP, "file"),
        RunConfigText("MuTAnT", "describe", "e20009", fault="no such file: describe-e20009.xcfg"),
    )


async def test_the_last_report_of_a_routers_files_stays(dsn):
    stamps = Stamps()
    moving = RunFiles(
        stamp=stamps(),
        time_s=T0 + 70,
        experiment=EXPERIMENT,
        number=1,
        router="data0",
        sources=("CoBo0",),
        state="Moving",
        files=2,
        data_bytes=10,
        location="/data",
    )
    done = replace(
        moving, stamp=stamps(), time_s=T0 + 80, state="Done", location="/data/e20009/run_0001", manifest="{}"
    )
    async with open_store(dsn) as store:
        for record in Life(1, stamps).whole():
            await follow(store, record)
        # The later one came first: the journal's order is that of the disk, not of a second program.
        assert (await follow(store, done)).new == 1
        assert (await follow(store, moving)).new == 1
        (files,) = (await store.run(EXPERIMENT, 1)).files
    assert (files.router, files.state, files.sources, files.files, files.data_bytes) == (
        "data0",
        "Done",
        ("CoBo0",),
        2,
        10,
    )
    assert (files.location, files.manifest) == ("/data/e20009/run_0001", "{}")


def files_of(stamps: Stamps, number: int, router: str = "data0", **facts: Any) -> RunFiles:
    known: dict[str, Any] = {"state": "Done", "files": 2, "data_bytes": 10, "time_s": T0 + 80} | facts
    return RunFiles(
        stamp=stamps(), experiment=EXPERIMENT, number=number, router=router, sources=("CoBo0",), **known
    )


COUNTS = {"event_count": 100, "missing_events": 0, "resets": 0, "damaged_frames": 0}
GOOD = COUNTS | {"first_event": 0, "last_event": 99, "all_from": 0}
NO_FRAME = COUNTS | {"event_count": 0}


@pytest.mark.parametrize(
    ("facts", "bad"),
    [
        ({}, False),
        (GOOD, False),
        (GOOD | {"checked": True}, False),
        (GOOD | {"checked": False}, True),
        (GOOD | {"missing_events": 1}, True),
        (GOOD | {"resets": 1}, True),
        (GOOD | {"damaged_frames": 1}, True),
        ({"damaged_frames": 1}, True),
        (GOOD | {"sync": "OutOfStep"}, True),
        ({"sync": "Torn"}, True),
        # A board has stopped before the others, or began after them, or a single AsAd board of it has.
        (GOOD | {"event_count": 50, "last_event": 49}, True),
        (GOOD | {"event_count": 99, "first_event": 1, "all_from": 1}, True),
        (GOOD | {"event_count": 99, "all_from": 1}, True),
        (GOOD | {"event_count": 50}, True),
        (GOOD | {"event_count": 0, "all_from": None}, True),
        (NO_FRAME, True),
        # The other one has.
        (GOOD | {"event_count": 200, "last_event": 199}, True),
        # There are two in a second: a stop may reach boards one after the other.
        (GOOD | {"event_count": 99, "last_event": 98}, False),
        (GOOD | {"event_count": 98, "last_event": 97}, True),
        ({"state": "Incomplete"}, True),
        ({"state": "Waiting"}, True),
        # What the message says is for people.
        (GOOD | {"message": "2 files, 10 bytes in /data; frames: none; frames checked: none"}, False),
    ],
)
async def test_a_run_to_look_at_is_found_by_what_its_files_say(
    dsn: str, facts: dict[str, Any], bad: bool
) -> None:
    stamps = Stamps()
    which = RunFilter(experiment=EXPERIMENT, bad=True)
    async with open_store(dsn) as store:
        await follow(store, *Life(1, stamps).whole(), files_of(stamps, 1, **GOOD))
        assert await store.count_runs(which) == 0
        await follow(store, files_of(stamps, 1, "data1", **facts))
        assert await store.count_runs(which) == len((await store.runs(which)).runs) == bad
        assert await store.count_runs(RunFilter(bad=True)) == bad
        # Later all is well.
        await follow(store, files_of(stamps, 1, "data1", **GOOD, time_s=T0 + 90))
        assert await store.count_runs(which) == 0


async def test_a_run_without_any_event_is_one_to_look_at(dsn: str) -> None:
    stamps = Stamps()
    async with open_store(dsn) as store:
        for number, known in ((1, {}), (2, NO_FRAME)):
            await follow(store, *Life(number, stamps).whole())
            for router in ("data0", "data1"):
                await follow(store, files_of(stamps, number, router, **known))
        found = (await store.runs(RunFilter(experiment=EXPERIMENT, bad=True))).runs
        assert [(run.number, run.event_count, run.unequal_events) for run in found] == [(2, 0, 0)]


async def test_a_report_without_a_manifest_leaves_the_one_that_is_there(dsn: str) -> None:
    """A closing that was reported keeps it no longer."""
    stamps = Stamps()
    async with open_store(dsn) as store:
        await follow(store, *Life(1, stamps).whole(), files_of(stamps, 1, manifest="{}"))
        await follow(store, files_of(stamps, 1, **GOOD, time_s=T0 + 90))
        (files,) = (await store.run(EXPERIMENT, 1)).files
        assert (files.manifest, files.event_count) == ("{}", 100)
        await follow(store, files_of(stamps, 1, manifest='{"a": 1}', time_s=T0 + 91))
        (files,) = (await store.run(EXPERIMENT, 1)).files
        assert files.manifest == '{"a": 1}'


async def test_a_run_that_did_not_end_orderly_is_one_to_look_at(dsn: str) -> None:
    stamps = Stamps()
    async with open_store(dsn) as store:
        await follow(store, *Life(1, stamps).whole())
        await follow(store, Life(2, stamps).starting(), Life(2, stamps).failed(released=False))
        await follow(store, Life(3, stamps).starting(), Life(3, stamps).started())
        await follow(store, Life(3, stamps).interrupted())
        await follow(store, Life(4, stamps).starting(), Life(4, stamps).started())
        found = (await store.runs(RunFilter(experiment=EXPERIMENT, bad=True))).runs
    assert [run.number for run in found] == [3, 2]


@pytest.mark.parametrize(
    ("routers", "run"),
    [
        ([{}], {"files_state": "Done"}),
        ([GOOD, GOOD], COUNTS | {"unequal_events": 0}),
        (
            [GOOD, GOOD | {"event_count": 90, "missing_events": 3, "last_event": 89}],
            COUNTS | {"event_count": 90, "missing_events": 3, "unequal_events": 10},
        ),
        # Their numbers are equal, and their events are not.
        (
            [GOOD, GOOD | {"first_event": 40, "last_event": 139, "all_from": 40}],
            COUNTS | {"event_count": 60, "unequal_events": 80},
        ),
        # A single AsAd board of each has begun late, and another one has stopped.
        (
            [GOOD | {"event_count": 60, "all_from": 10}, GOOD | {"event_count": 50, "all_from": 45}],
            COUNTS | {"event_count": 25, "unequal_events": 75},
        ),
        ([GOOD, NO_FRAME], COUNTS | {"unequal_events": 100}),
        # A single AsAd board has none.
        (
            [GOOD | {"event_count": 90, "all_from": None}, GOOD],
            COUNTS | {"event_count": 90, "unequal_events": 100},
        ),
        ([NO_FRAME, NO_FRAME], NO_FRAME | {"unequal_events": 0}),
        # The version before did not say which events there are, only how many.
        ([COUNTS, COUNTS], COUNTS),
        ([COUNTS, COUNTS | {"event_count": 90}], COUNTS | {"event_count": 90, "unequal_events": 10}),
        # Of one that is not known nothing is known of the run, but what is bad.
        (
            [GOOD | {"checked": True, "sync": "OutOfStep"}, {}],
            {"sync": "OutOfStep", "frames_check": "incomplete"},
        ),
        (
            [GOOD | {"missing_events": 3, "resets": 2, "checked": False}, {}],
            {"missing_events": 3, "resets": 2, "frames_check": "faults"},
        ),
        ([GOOD, GOOD | {"event_count": 60, "last_event": 59}, {}], {"unequal_events": 40}),
        (
            [GOOD | {"checked": True}, GOOD | {"checked": True}],
            COUNTS | {"frames_check": "no faults", "unequal_events": 0},
        ),
        (
            [GOOD, GOOD | {"last_event": 2**63 - 1, "first_event": 2**63 - 100, "all_from": 2**63 - 100}],
            COUNTS | {"event_count": 0, "unequal_events": 2**63 - 1},
        ),
        ([{"state": "Failed"}, {"state": "Waiting"}], {"files_state": "Failed"}),
        ([{"state": "Done"}, {"state": "Waiting"}], {"files_state": "Waiting"}),
        ([{"state": "Lost"}, {"state": "Failed"}], {"files_state": "Lost"}),
        ([{"sync": "Reset"}, {"sync": "Torn"}, {"sync": ""}], {"sync": "Torn"}),
        ([{"missing_events": 2**63 - 1}] * 2, {"missing_events": 2**63 - 1}),
    ],
)
async def test_a_run_has_what_its_routers_say_together(
    dsn: str, routers: list[dict[str, Any]], run: dict[str, Any]
) -> None:
    stamps = Stamps()
    async with open_store(dsn) as store:
        await follow(store, *Life(1, stamps).whole())
        for index, facts in enumerate(routers):
            await follow(store, files_of(stamps, 1, f"data{index}", **facts))
        # A later record of the core knows nothing of it.
        await follow(store, Life(1, stamps).stopped(after_s=70.0))
        found = await store.run(EXPERIMENT, 1)
    unknown = dict.fromkeys((*COUNTS, "unequal_events")) | {"files_state": "Done", "sync": ""}
    unknown |= {"frames_check": "not run"}
    assert {name: getattr(found.run, name) for name in unknown} == unknown | run
    assert [files.event_count for files in found.files] == [facts.get("event_count") for facts in routers]


async def test_the_same_text_is_kept_once(dsn):
    stamps = Stamps()
    async with open_store(dsn) as store:
        for number in (1, 2):
            for record in Life(number, stamps).whole():
                await follow(store, record)
            await follow(store, used(stamps, RunRef(EXPERIMENT, number)))
        first, second = [(await store.run(EXPERIMENT, number)).configs for number in (1, 2)]
        assert await store.config_texts([sha256(SETUP), sha256(OTHER), "0" * 64]) == {
            sha256(SETUP): SETUP,
            sha256(OTHER): OTHER,
        }
        async with store._use() as connection:
            assert await connection.fetchval("SELECT count(*) FROM attpc.config_texts") == 2
    # In the order of the members, and of the parts.
    assert [(c.module, c.part, c.name, c.source) for c in first] == [
        ("MuTAnT", "describe", "e20009", ""),
        ("MuTAnT", "configure", "e20009", "file"),
        ("cobo0", "describe", "cobo0", "reply"),
        ("cobo0", "configure", "e20009", "file"),
    ]
    assert [c.sha256 for c in first] == ["", sha256(SETUP), sha256(OTHER), sha256(SETUP)]
    assert first[0].fault == "no such file: describe-e20009.xcfg"
    assert second == first


async def test_imported_with_its_text_and_without(dsn):
    stamps = Stamps()
    async with open_store(dsn) as store:
        for record in Life(1, stamps).whole():
            await follow(store, record)
        await follow(store, used(stamps))
        detail = await store.run(EXPERIMENT, 1)
        run = replace(detail.run, experiment="copy")
        with_text = tuple(replace(c, text=OTHER if c.source == "reply" else c.text) for c in detail.configs)
        assert await store.import_runs([RunDetail(run, detail.modules, configs=with_text)]) == 1
        copied = await store.run("copy", 1)
        assert copied.configs == detail.configs
        wrong = tuple(replace(c, text="another") for c in detail.configs if c.sha256)
        with pytest.raises(StoreRejected, match="is not the one of SHA-256"):
            await store.import_runs([RunDetail(replace(run, number=2), configs=wrong)])
