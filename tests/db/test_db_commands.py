"""The commands `attpc-ioc db ...`, beside a running server and without one, embedded and a facility's."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from attpc_plugins.run_history.commands import experiments
from attpc_plugins.run_history.commands.database import app
from attpc_plugins.run_history.connection.database import Database, Source
from attpc_plugins.run_history.embedded.processes import FolderLock
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.numbers.reserved import TOPIC
from attpc_plugins.run_history.store import Store, prepare_schema
from attpc_plugins.run_history.store.model.leases import Holder
from typer.testing import CliRunner, Result

from attpc_ioc.errors import AttpcError
from attpc_ioc.eventlog.log import read_kept
from tests.support.postgres import FacilityServer, facility_server, url_of
from tests.support.thorough import examples

pytestmark = pytest.mark.usefixtures("no_variables")


def settings_file(place: Path, dsn: str = "", name: str = "ioc.toml") -> Path:
    from attpc_ioc.settings.template import FleetRequest, fleet_text

    text = fleet_text(FleetRequest(1, "127.0.0.1", "", "", "T:"))
    lines = [
        f'state_dir = "{place / "state"}"' if line.lstrip("# ").startswith("state_dir") else line
        for line in text.splitlines()
    ]
    own = f'dsn = "{dsn}"' if dsn else f'data_dir = "{place / "db"}"'
    file = place / name
    file.write_text("\n".join(lines) + f"\n[plugins.run_history]\n{own}\n")
    return file


def ran(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def refused(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(result.exception, AttpcError), (result.output, result.exception)
    return str(result.exception)


def with_store(dsn: str, work: Callable[[Store], Awaitable[Any]]) -> Any:
    async def do() -> Any:
        store = await Store.connect(dsn)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(do())


def reserve(dsn: str, *experiments: str) -> None:
    async def work(store: Store) -> None:
        for experiment in experiments:
            await store.reserve_number(experiment, fleet="f", ioc="T:")

    with_store(dsn, work)


def numbers(dsn: str) -> dict[str, int]:
    async def work(store: Store) -> dict[str, int]:
        found = {}
        for experiment in await store.experiments():
            found[experiment.name] = await store.next_number(experiment.name) - 1
        return found

    return with_store(dsn, work)


def listed_next(file: Path) -> dict[str, str]:
    """The next number of each experiment, as `experiments list` shows it."""
    words = ["list", "--format", "csv", "--settings", str(file)]
    result = CliRunner().invoke(experiments.app, words)
    assert result.exit_code == 0, (result.output, result.exception)
    return {row["name"]: row["next_number"] for row in csv.DictReader(io.StringIO(result.stdout))}


@pytest.fixture
def embedded(place: Path) -> Iterator[EmbeddedServer]:
    """Run the server of `settings_file(place)`, as the IOC does."""
    server = EmbeddedServer(place / "db")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def facility() -> Iterator[FacilityServer]:
    with facility_server() as server:
        yield server


# --- migrate, status, url ------------------------------------------------------------


def test_without_an_ioc_the_server_runs_for_the_command(place: Path) -> None:
    file = settings_file(place)
    assert (
        "to be applied: 0001_history, 0002_edits, 0003_files_and_configs, 0004_retention"
        in ran("status", "--settings", file).output
    )
    assert "applied 0001_history" in ran("migrate", "--settings", file).output
    assert "up to date" in ran("migrate", "--settings", file).output
    said = ran("status", "--settings", file).output
    assert f"the embedded server in {place / 'db'}" in said
    assert "up to date" in said
    assert "runs:        0" in said
    assert "is not running" in refused("url", "--settings", file)


def test_beside_an_ioc_its_server_is_used(place: Path, embedded: EmbeddedServer) -> None:
    file = settings_file(place)
    pid = embedded.pid
    ran("migrate", "--settings", file)
    reserve(url_of(embedded), "e1", "e1")

    async def lease(store: Store) -> None:
        await store.acquire_lease("f", Holder("T:", "here", "boot", "x"))

    with_store(url_of(embedded), lease)
    said = ran("status", "--settings", file).output
    assert "runs:        2" in said
    assert "f is commanded by T: on here, for 1" in said

    async def expired(hours: int) -> None:
        connection = await asyncpg.connect(url_of(embedded))
        try:
            await connection.execute(
                "UPDATE attpc.leases SET (acquired_at, renewed_at, expires_at) = (SELECT t, t, t FROM "
                "(SELECT now() - make_interval(hours => $1) AS t) AS x)",
                hours,
            )
        finally:
            await connection.close()

    asyncio.run(expired(23))
    assert "f is commanded by T: on here, expired" in ran("status", "--settings", file).output
    asyncio.run(expired(25))
    assert "is commanded by" not in ran("status", "--settings", file).output
    assert embedded.pid == pid
    url = ran("url", "--settings", file).output.strip()

    async def count() -> int:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval("SELECT count(*) FROM attpc.runs")
        finally:
            await connection.close()

    assert asyncio.run(count()) == 2


def test_a_server_of_an_ioc_that_does_not_answer_is_named_so(place: Path, embedded: EmbeddedServer) -> None:
    file = settings_file(place)
    asyncio.run(prepare_schema(url_of(embedded)))
    assert embedded.pid is not None
    os.kill(embedded.pid, signal.SIGSTOP)
    try:
        said = refused("status", "--settings", file)
    finally:
        os.kill(embedded.pid, signal.SIGCONT)
    assert said.startswith(f"the database of the running IOC ({place / 'db'}) does not answer within 5 s")
    assert "end that first" not in said


def test_the_url_holds_no_password(place: Path, facility: FacilityServer) -> None:
    file = settings_file(place, facility.url("ioc", facility.password))
    assert ran("url", "--settings", file).output.strip() == facility.url("ioc")


def test_every_fault_is_reported(place: Path) -> None:
    file = settings_file(place, "postgresql://ioc:s3cr3t@x@db.lab/attpc")
    said = refused("status", "--settings", file)
    assert "plugins.run_history.dsn" in said
    assert "s3cr3t" not in said


# --- backup and restore ------------------------------------------------------------


def test_backup_and_restore_on_another_machine(place: Path, embedded: EmbeddedServer) -> None:
    file, copy = settings_file(place), place / "copy"
    asyncio.run(prepare_schema(url_of(embedded)))
    reserve(url_of(embedded), "e1", "e1", "é 'x'")
    assert "written" in ran("backup", place / "b", "--settings", file).output
    assert "exists already" in refused("backup", place / "b", "--settings", file)
    ran("backup", place / "b", "--force", "--settings", file)
    (place / "link").symlink_to("b")
    ran("backup", place / "link", "--force", "--settings", file)
    assert (place / "link").is_symlink()
    os.mkfifo(place / "pipe")
    assert "is not a file" in refused("backup", place / "pipe", "--force", "--settings", file)
    assert (place / "pipe").is_fifo()
    copy.mkdir(mode=0o711)
    other = settings_file(copy)
    said = ran("restore", place / "b", "--settings", other).output
    assert "the next run of e1 gets number 2\n" in said
    with_other = EmbeddedServer(copy / "db")
    with_other.start()
    try:
        assert numbers(url_of(with_other)) == {"e1": 1, "é 'x'": 0}
    finally:
        with_other.stop()


def test_after_a_restore_no_number_comes_twice(place: Path) -> None:
    file = settings_file(place)
    server = EmbeddedServer(place / "db")
    server.start()
    asyncio.run(prepare_schema(url_of(server)))
    reserve(url_of(server), "e1", "e1")
    ran("backup", place / "b", "--settings", file)
    reserve(url_of(server), "e1", "e1", "e2")
    server.stop()
    state = place / "state"
    state.mkdir()
    (state / "numbers.json").write_text(json.dumps({"next": {"e3": 7, "e1": 1}}))
    assert "has runs already (e1, e2); with --force" in refused("restore", place / "b", "--settings", file)
    said = ran("restore", place / "b", "--force", "--settings", file).output
    for line in ("e1 gets number 4", "e2 gets number 1", "e3 gets number 7", "schema attpc_before_"):
        assert line in said
    known = read_kept(state, f"run_history/{TOPIC}")
    assert {name: value["number"] + 1 for name, value in known.items()} == {"e1": 4, "e2": 1, "e3": 7}
    assert listed_next(file) == {"e1": "4"}
    (state / "state.db").unlink()
    (state / "numbers.json").write_text("{")
    assert listed_next(file) == {"e1": "2"}
    server.start()
    try:
        assert numbers(url_of(server)) == {"e1": 1}
    finally:
        server.stop()


@pytest.mark.parametrize("content", ["absent", "empty", "text", "cut"])
def test_a_backup_that_is_none_changes_nothing(place: Path, embedded: EmbeddedServer, content: str) -> None:
    file, bad = settings_file(place), place / "bad"
    asyncio.run(prepare_schema(url_of(embedded)))
    reserve(url_of(embedded), "e1")
    ran("backup", place / "b", "--settings", file)
    whole = (place / "b").read_bytes()
    if content != "absent":
        bad.write_bytes({"empty": b"", "text": b"SELECT 1;", "cut": whole[: len(whole) // 2]}[content])
    assert str(bad) in refused("restore", bad, "--force", "--settings", file)
    assert numbers(url_of(embedded)) == {"e1": 0}


def test_no_restore_beside_an_ioc(place: Path, embedded: EmbeddedServer) -> None:
    file = settings_file(place)
    asyncio.run(prepare_schema(url_of(embedded)))
    reserve(url_of(embedded), "e1")
    ran("backup", place / "b", "--settings", file)
    (place / "state").mkdir()
    lock = FolderLock(place / "state" / "lock")
    assert lock.take()
    lock.write("4711\n")
    try:
        assert "process 4711" in refused("restore", place / "b", "--force", "--settings", file)
    finally:
        lock.release()

    async def lease(store: Store) -> None:
        await store.acquire_lease("f", Holder("OTHER:", "there", "boot", "x"))

    with_store(url_of(embedded), lease)
    assert "OTHER: on there" in refused("restore", place / "b", "--force", "--settings", file)


def test_from_the_embedded_server_to_the_facilitys(
    place: Path, embedded: EmbeddedServer, facility: FacilityServer
) -> None:
    asyncio.run(prepare_schema(url_of(embedded)))
    reserve(url_of(embedded), "e1", "e1", "e2")
    ran("backup", place / "b", "--settings", settings_file(place))
    there = facility.url("ioc", facility.password)
    moved = settings_file(place, there, "moved.toml")
    assert "the next run of e1 gets number 2\n" in ran("restore", place / "b", "--settings", moved).output
    assert numbers(there) == {"e1": 1, "e2": 0}
    reserve(there, "e1")
    ran("backup", place / "b2", "--settings", moved)
    assert "e1 gets number 3\n" in ran("restore", place / "b2", "--force", "--settings", moved).output
    assert Database(Source.SETTINGS, there).public_url == facility.url("ioc")


MEASURED = """
import sys
from attpc_plugins.run_history.commands.database import app
app(sys.argv[1:], standalone_mode=False)
# What the kernel tells of a child begins with the memory of its parent; this does not.
(line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
print(int(line.split()[1]) // 1024)
"""

LARGE_MB = examples(80, 400)


def peak_mb(*words: object) -> int:
    """Run a `db` command in a process of its own; returns the most memory that this had, in MB."""
    result = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout.splitlines()[-1])


@pytest.mark.timeout(240)
def test_a_history_larger_than_the_memory_is_backed_up_and_restored(
    place: Path, embedded: EmbeddedServer
) -> None:
    file = settings_file(place)
    asyncio.run(prepare_schema(url_of(embedded)))
    reserve(url_of(embedded), "e1")
    small = peak_mb("backup", place / "small", "--settings", file)
    small = max(small, peak_mb("restore", place / "small", "--force", "--settings", file))

    async def fill() -> None:
        connection = await asyncpg.connect(url_of(embedded))
        try:
            await connection.execute(
                "INSERT INTO attpc.events (happened_at, kind, text) "
                "SELECT now(), 'state', repeat(md5(n::text), 32768) FROM generate_series(1, $1::int) n",
                LARGE_MB,
            )
        finally:
            await connection.close()

    async def held() -> tuple[int, int]:
        connection = await asyncpg.connect(url_of(embedded))
        try:
            return tuple(await connection.fetchrow("SELECT count(*), sum(length(text)) FROM attpc.events"))
        finally:
            await connection.close()

    asyncio.run(fill())
    assert peak_mb("backup", place / "large", "--settings", file) < small + LARGE_MB / 4
    assert peak_mb("restore", place / "large", "--force", "--settings", file) < small + LARGE_MB / 4
    assert asyncio.run(held()) == (LARGE_MB, LARGE_MB * 2**20)
