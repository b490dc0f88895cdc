"""Migrations on a real server: once, in order, all or nothing, and by a program that knows the schema."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import asyncpg
import pytest
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.errors import SchemaError, SchemaTooNew
from attpc_plugins.run_history.schema.migrate import Migration, migrate, migrations, status
from attpc_plugins.run_history.store import Store, prepare_schema
from attpc_plugins.run_history.store.model.history import RunFilter
from attpc_plugins.run_history.store.model.leases import Holder

from tests.support.needs import skip
from tests.support.postgres import QUICK, order, url_of
from tests.support.run_records import Life, Stamps, open_store, reserve

ONE = Migration(1, "0001_one", "CREATE TABLE attpc.one (a integer)")
TWO = Migration(2, "0002_two", "CREATE TABLE attpc.two (a integer); INSERT INTO attpc.one VALUES (2)")
ROOT = Path(__file__).parents[2]


@pytest.fixture
async def connection(empty_dsn: str):
    connection = await asyncpg.connect(empty_dsn)
    yield connection
    await connection.close()


async def test_a_fresh_database_gets_everything_once(connection):
    before = await status(connection)
    assert before.version == 0
    assert before.pending == tuple(m.name for m in migrations())
    assert not before.ready
    assert await migrate(connection) == [m.name for m in migrations()]
    assert await migrate(connection) == []
    after = await status(connection)
    assert after.ready
    assert after.version == after.known == len(migrations())


async def test_asking_for_the_status_changes_nothing(connection):
    await status(connection)
    assert await connection.fetchval("SELECT to_regnamespace('attpc')") is None


async def test_later_migrations_are_added_to_earlier_ones(connection):
    assert await migrate(connection, (ONE,)) == ["0001_one"]
    assert await migrate(connection, (ONE, TWO)) == ["0002_two"]
    assert await connection.fetchval("SELECT a FROM attpc.one") == 2


async def test_runs_of_the_version_before_the_figures_of_frames_stay(connection, empty_dsn):
    """Nothing is known of their frames, and that is not 0; a check was known by its words in the message."""
    await migrate(connection, migrations()[:5])
    await connection.execute("INSERT INTO attpc.experiments (name) VALUES ('e1')")
    told = {
        1: [("data0", "Done", "2 files, 9 bytes in /data")],
        2: [("data0", "Done", "2 files in /data; frames: CoBo0_AsAd0: 1 torn"), ("data1", "Done", "1 file")],
        3: [("data0", "Incomplete", "gone"), ("data1", "Done", "1 file; frames checked: all 9 whole")],
        4: [(name, "Done", "1 file; frames checked: all 9 whole") for name in ("data0", "data1")],
        5: [],
    }
    for number, files in told.items():
        key = await connection.fetchval(
            "INSERT INTO attpc.runs (experiment_id, number, state, outcome, started_at) "
            "VALUES (1, $1, 'ended', 'stopped', now()) RETURNING id",
            number,
        )
        for router, state, message in files:
            await connection.execute(
                "INSERT INTO attpc.run_files (run_id, router, state, message, told_at) "
                "VALUES ($1, $2, $3, $4, now())",
                *(key, router, state, message),
            )
    assert await migrate(connection) == [m.name for m in migrations()[5:]]
    async with open_store(empty_dsn) as store:
        runs = {number: (await store.run("e1", number)).run for number in told}
        details = {number: (await store.run("e1", number)).files for number in told}
        bad = (await store.runs(RunFilter(experiment="e1", bad=True))).runs
    counts = [(r.event_count, r.missing_events, r.resets, r.damaged_frames) for r in runs.values()]
    assert counts == [(None,) * 4] * 5
    assert {n: run.files_state for n, run in runs.items()} == {
        **dict.fromkeys((1, 2, 4), "Done"),
        3: "Incomplete",
        5: "",
    }
    assert {n: run.frames_check.value for n, run in runs.items()} == {
        1: "not run",
        2: "faults",
        3: "incomplete",
        4: "no faults",
        5: "not run",
    }
    assert {n: [files.message for files in found] for n, found in details.items()} == {
        n: [message for _, _, message in files] for n, files in told.items()
    }
    assert [run.number for run in bad] == [3, 2]


async def test_runs_of_the_version_before_boards_were_compared_stay(connection, empty_dsn):
    """Their numbers of events tell which boards had fewer; where these are equal, nothing is known."""
    await migrate(connection, migrations()[:6])
    await connection.execute("INSERT INTO attpc.experiments (name) VALUES ('e1')")
    told = {
        1: [("data0", 100, True), ("data1", 100, True)],
        2: [("data0", 100, None), ("data1", 50, None)],
        3: [("data0", 100, None), ("data1", None, None)],
        4: [("data0", 100, False), ("data1", 100, True)],
        5: [("data0", 100, None), ("data1", 0, None)],
        6: [],
    }
    for number, files in told.items():
        key = await connection.fetchval(
            "INSERT INTO attpc.runs (experiment_id, number, state, outcome, files_state, checked, "
            "event_count) VALUES (1, $1, 'ended', 'stopped', $2, $3, $4) RETURNING id",
            *(
                number,
                "Done" if files else "",
                {1: True, 4: False}.get(number),
                {3: None, 5: 0}.get(number, 50),
            ),
        )
        for router, events, checked in files:
            await connection.execute(
                "INSERT INTO attpc.run_files (run_id, router, event_count, checked, manifest, state, told_at)"
                " VALUES ($1, $2, $3, $4, '{}', 'Done', now())",
                *(key, router, events, checked),
            )
    assert await migrate(connection) == [m.name for m in migrations()[6:]]
    async with open_store(empty_dsn) as store:
        details = {number: await store.run("e1", number) for number in told}
        bad = (await store.runs(RunFilter(experiment="e1", bad=True))).runs
    assert {n: detail.run.unequal_events for n, detail in details.items()} == {
        **dict.fromkeys((1, 3, 4, 6)),
        2: 50,
        5: 100,
    }
    # A board without data makes no events of those that others have unknown, or 0.
    assert [detail.run.event_count for detail in details.values()] == [50, 50, None, 50, 100, 50]
    assert {n: detail.run.frames_check.value for n, detail in details.items()} == {
        **dict.fromkeys((2, 3, 5, 6), "not run"),
        1: "no faults",
        4: "faults",
    }
    assert [files.frames_check.value for files in details[4].files] == ["faults", "no faults"]
    assert {(f.first_event, f.manifest) for detail in details.values() for f in detail.files} == {
        (None, "{}")
    }
    assert sorted(run.number for run in bad) == [2, 4, 5]


async def test_two_programs_at_once_do_it_once(empty_dsn):
    done = await asyncio.gather(*(prepare_schema(empty_dsn) for _ in range(4)))
    assert sorted(name for names in done for name in names) == [m.name for m in migrations()]


async def test_a_migration_that_fails_leaves_nothing_of_itself(connection):
    broken = Migration(2, "0002_broken", "CREATE TABLE attpc.half (a integer); SELECT 1/0")
    with pytest.raises(SchemaError, match="0002_broken failed: division by zero"):
        await migrate(connection, (ONE, broken))
    assert await connection.fetchval("SELECT to_regclass('attpc.half')") is None
    assert (await status(connection, (ONE, broken))).version == 1


async def test_a_changed_migration_is_refused_by_name(connection):
    await migrate(connection, (ONE,))
    changed = Migration(1, "0001_one", ONE.sql + "; -- a word more")
    assert (await status(connection, (changed,))).changed == ("0001_one",)
    with pytest.raises(SchemaError, match="0001_one was changed"):
        await migrate(connection, (changed, TWO))
    assert await connection.fetchval("SELECT to_regclass('attpc.two')") is None


def test_line_ends_do_not_change_a_migration():
    assert Migration(1, "a", "x\r\ny\r\n").checksum == Migration(1, "a", "x\ny\n").checksum


async def test_a_newer_schema_is_left_alone(connection):
    await migrate(connection, (ONE, TWO))
    now = await status(connection, (ONE,))
    assert now.too_new
    assert now.unknown == ("0002_two",)
    with pytest.raises(SchemaTooNew, match=r"version 2 .0002_two.*knows up to 1"):
        await migrate(connection, (ONE,))


async def test_a_store_distinguishes_a_newer_schema_from_none(empty_dsn, connection):
    with pytest.raises(SchemaError, match="attpc-ioc db migrate"):
        await Store.connect(empty_dsn)
    await migrate(connection)
    await connection.execute(
        "INSERT INTO attpc.schema_migrations (version, name, checksum) VALUES (999, '0999_later', 'x')"
    )
    with pytest.raises(SchemaTooNew, match="0999_later"):
        await Store.connect(empty_dsn)


async def test_a_database_of_another_encoding_is_refused(postgres_server):
    await order(postgres_server, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(SchemaError, match=r"LATIN1.*UTF8"):
            await prepare_schema(url_of(postgres_server, "latin"))
    finally:
        await order(postgres_server, "DROP DATABASE latin WITH (FORCE)")


@pytest.mark.parametrize("programs", sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres")) or [None])
async def test_other_releases_of_postgresql_do_as_well(postgres_place, programs):
    if programs is None:
        skip("PostgreSQL of the system")
    server = EmbeddedServer(postgres_place(), binaries=str(programs.parent), options=QUICK, purpose="a test")
    server.start()
    try:
        assert await prepare_schema(url_of(server)) == [m.name for m in migrations()]
        async with open_store(url_of(server)) as store:
            await store.apply_many(Life(await reserve(store), Stamps()).whole())
            (run,) = await store.last_runs()
            assert run.duration_s == 60.0
            assert (await store.runs(RunFilter(text="tit"))).runs == (run,)
            assert [detail.run async for detail in store.stream()] == [run]
            assert (await store.acquire_lease("f", Holder("A:", "h", "b"))).ours
            assert await store.previous_values(run.experiment, 1) == {}
    finally:
        server.stop()


def test_the_files_are_numbered_without_gaps():
    assert [m.version for m in migrations()] == list(range(1, len(migrations()) + 1))
    shipped = sorted(path.stem for path in (ROOT / "db" / "migrations").glob("*.sql"))
    assert [m.name for m in migrations()] == shipped


@pytest.mark.slow
def test_a_wheel_carries_the_migrations(tmp_path):
    # A copy, because a build writes into its tree; symbolic links stay what they are.
    source = tmp_path / "source"
    unwanted = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "tests", "docs")
    shutil.copytree(ROOT, source, symlinks=True, ignore=unwanted)
    options = ("--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path))
    command = [sys.executable, "-m", "pip", "wheel", *options, str(source)]
    done = subprocess.run(command, timeout=100, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        folder = "attpc_plugins/run_history/schema/migrations/"
        carried = {
            n.removeprefix(folder): archive.read(n).decode() for n in archive.namelist() if folder in n
        }
    assert {n.removesuffix(".sql"): text for n, text in carried.items() if n.endswith(".sql")} == {
        m.name: m.sql for m in migrations()
    }
