"""Data files and configuration files of runs in the store."""

from __future__ import annotations

import hashlib
from dataclasses import replace

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


async def test_runs_to_look_at_are_found(dsn):
    stamps = Stamps()

    def files(number: int, state: str, message: str) -> RunFiles:
        return RunFiles(
            stamp=stamps(),
            time_s=T0 + 80,
            experiment=EXPERIMENT,
            number=number,
            router="data0",
            sources=("CoBo0",),
            state=state,
            files=2,
            data_bytes=10,
            message=message,
        )

    async with open_store(dsn) as store:
        for number in range(1, 6):
            for record in Life(number, stamps).whole():
                await follow(store, record)
        await follow(store, files(1, "Done", "2 files, 10 bytes in /data; frames checked: all 9 whole"))
        await follow(store, files(2, "Done", "2 files, 10 bytes in /data; frames: CoBo0_AsAd0: 1 torn"))
        await follow(store, files(3, "Incomplete", "gone"))
        await follow(store, files(4, "Done", "2 files, 10 bytes in /data"))
        which = RunFilter(experiment=EXPERIMENT, to_look_at=True)
        assert [run.number for run in (await store.runs(which)).runs] == [3, 2]
        assert await store.count_runs(which) == 2


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
