"""With the database in trouble a run is stopped at once, no run is started, and everything arrives later."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from attpc_plugins.run_history.embedded import EmbeddedServer
from attpc_plugins.run_history.journal_files import WITHOUT_RUN, read_lines
from attpc_plugins.run_history.keeper import WATCH_PERIOD_S
from attpc_plugins.run_history.store.model import PutFilter, Stage

from attpc_ioc.model.states import State
from tests.support.history import (
    EXPERIMENT,
    connected,
    drained,
    history_rig,
    message,
    reading,
    service,
    sql,
    untroubled,
)
from tests.support.postgres import order, programs, url_of
from tests.support.rig import Rig


@asynccontextmanager
async def own_server(place: Callable[[], Path]) -> AsyncIterator[tuple[EmbeddedServer, str]]:
    """A server that a test may stop and start; it knows its place over restarts."""
    server = EmbeddedServer(place(), binaries=programs(), purpose="a test")
    await server.start_soon()
    try:
        yield server, url_of(server)
    finally:
        await server.stop_soon()


async def ended(it: Rig, dsn: str, number: int) -> None:
    """See that a run is in the database with the times that the core has."""
    await drained(it)
    info = it.run.info
    assert info is not None
    async with reading(dsn) as store:
        detail = await store.run(EXPERIMENT, number)
    assert detail.run.stage is Stage.ENDED
    assert detail.run.started_at is not None
    assert detail.run.stopped_at is not None
    assert detail.run.started_at.timestamp() == pytest.approx(info.started_s, abs=1e-3)
    assert detail.run.stopped_at.timestamp() == pytest.approx(info.stopped_s, abs=1e-3)


async def refused(it: Rig, because: str) -> None:
    await it.until(lambda: because in " ".join(it.run.checklist), 8.0, f"{because!r} in {message(it)!r}")
    await it.refused("Run:Start", because=because)
    assert await it.get("Plugin:run_history:Status_RBV") == "Degraded"
    assert because in await it.get_text("Plugin:run_history:Message_RBV")


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Signal processes of a server that the test started; some of them may have ended by themselves."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


async def test_database_down_during_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_place: Callable[[], Path]
) -> None:
    async with own_server(postgres_place) as (server, dsn), history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.start_run()
        await server.stop_soon()
        await it.ok("Run:Title", "said while the database was down")
        began_s = time.monotonic()
        await it.ok("Run:Stop")
        assert time.monotonic() - began_s < 2.0
        await refused(it, "database")
        await server.start_soon()
        await connected(it)
        await ended(it, dsn, 0)
        async with reading(dsn) as store:
            puts = (await store.puts(PutFilter(pv=f"{it.prefix}Run:Title"))).puts
            assert [put.new for put in puts] == ["said while the database was down"]
            assert len((await store.puts(PutFilter(pv=f"{it.prefix}Run:Stop"))).puts) == 1
        await it.ok("Run:Start")
        assert it.run.number == 1
        await it.ok("Run:Stop")


async def test_killed_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.start_run()
        for _ in range(3):
            async with sql(dsn) as connection:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            await it.ok("Run:Title", "still here")
            await connected(it)
        await it.ok("Run:Stop")
        await ended(it, dsn, 0)
        await it.until(lambda: not it.run.checklist, what="ready again")


async def test_a_database_that_does_not_have_the_run_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a restore of an older backup: what is still told of the run is kept aside, once told of."""
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.start_run()
        await it.ok("Run:Stop")
        await drained(it)
        async with sql(dsn) as connection:
            await connection.execute("TRUNCATE attpc.runs CASCADE")
        for comment in ("what the backup does not know", "and more of it"):
            await it.ok("Run:Comment", comment)
        await drained(it)
        folder = service(it).journal.folder
        kept = [line.body for line in read_lines(folder / WITHOUT_RUN, 0, 0, None)]
        assert len(kept) == 2
        assert b"and more of it" in kept[1]
        assert caplog.text.count("the database does not have this run") == 1
        assert service(it).writer.rejected == 0
        assert service(it).journal.kept_aside() == []
        await untroubled(it)
        assert await it.get("Plugin:run_history:Status_RBV") == "Ok"
        await it.ok("Run:Start")
        assert it.run.number == 1
        await it.ok("Run:Stop")
        await ended(it, dsn, 1)


async def test_what_is_wrong_with_the_place_is_told_as_the_commands_tell_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{bound.getsockname()[1]}"
        dsn = f"postgresql://ioc:secret@{place}/attpc"
        async with history_rig(tmp_path, monkeypatch, dsn, ready=False) as it:
            said = (
                f"database attpc at {place}, user ioc (plugins.run_history.dsn): nothing listens there; is "
                "the server running, and are host and port right?"
            )
            await it.until(lambda: message(it) == said, 10.0, f"{said!r} and not {message(it)!r}")
            assert said in it.run.checklist


async def test_read_only_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str, postgres_server: EmbeddedServer
) -> None:
    name = dsn.partition("@/")[2].partition("?")[0]
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.start_run()
        await order(postgres_server, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        async with sql(dsn) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await it.ok("Run:Stop")
        await refused(it, "read-only")
        await order(postgres_server, f'ALTER DATABASE "{name}" SET default_transaction_read_only = off')
        await connected(it)
        await ended(it, dsn, 0)


async def test_hung_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_place: Callable[[], Path]
) -> None:
    async with own_server(postgres_place) as (server, dsn), history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.start_run()
        assert server.pid is not None
        async with sql(dsn) as connection:
            pids = [r[0] for r in await connection.fetch("SELECT pid FROM pg_stat_activity")] + [server.pid]
        signal_all(pids, signal.SIGSTOP)
        try:
            began_s = time.monotonic()
            await it.ok("Run:Stop")
            assert time.monotonic() - began_s < 2.0
            await refused(it, "does not answer in time")
        finally:
            signal_all(pids, signal.SIGCONT)
        await connected(it, 15.0)
        await ended(it, dsn, 0)


LATER = "INSERT INTO attpc.schema_migrations (version, name, checksum) VALUES (99, '0099_later', 'x')"


async def test_newer_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.start_run()
        async with sql(dsn) as connection:
            await connection.execute(LATER)
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await it.ok("Run:Stop")
        await refused(it, "use a newer attpc-ioc")
        async with sql(dsn) as connection:
            await connection.execute("DELETE FROM attpc.schema_migrations WHERE version = 99")
        await connected(it)
        await ended(it, dsn, 0)


async def test_a_schema_that_becomes_newer_while_all_connections_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.start_run()
        async with sql(dsn) as connection:
            await connection.execute(LATER)
        began_s = time.monotonic()
        await it.until(lambda: "use a newer attpc-ioc" in message(it), 3.0 * WATCH_PERIOD_S, message(it))
        assert time.monotonic() - began_s < 2.0 * WATCH_PERIOD_S, "it is looked at in every period"
        await it.ok("Run:Stop")
        await refused(it, "use a newer attpc-ioc")
        async with sql(dsn) as connection:
            await connection.execute("DELETE FROM attpc.schema_migrations WHERE version = 99")
        await connected(it)
        await ended(it, dsn, 0)


@pytest.mark.parametrize(
    ("spoil", "mend", "because"),
    [
        (
            "ALTER TABLE attpc.schema_migrations RENAME TO away",
            "ALTER TABLE attpc.away RENAME TO schema_migrations",
            "attpc.schema_migrations is not there or empty",
        ),
        (
            "UPDATE attpc.schema_migrations SET checksum = 'x' || checksum WHERE version = 1",
            "UPDATE attpc.schema_migrations SET checksum = substr(checksum, 2) WHERE version = 1",
            "was changed after it was applied",
        ),
        (
            "ALTER TABLE attpc.schema_migrations RENAME checksum TO proof",
            "ALTER TABLE attpc.schema_migrations RENAME proof TO checksum",
            "schema is not what this program needs",
        ),
    ],
)
async def test_a_schema_of_which_the_version_cannot_be_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str, spoil: str, mend: str, because: str
) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.start_run()
        async with sql(dsn) as connection:
            await connection.execute(spoil)
        await it.ok("Run:Stop")
        await refused(it, because)
        async with sql(dsn) as connection:
            await connection.execute(mend)
        await connected(it)
        await ended(it, dsn, 0)


async def test_the_ioc_answers_while_the_database_is_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn = f"postgresql://nobody@/nothing?host={tmp_path}/nowhere"
    async with history_rig(tmp_path, monkeypatch, dsn, ready=False) as it:
        assert await it.get("Run:State_RBV") == "Stopped"
        await it.ok("Run:Experiment", EXPERIMENT)
        await it.take_to(State.READY)
        await refused(it, "database")


async def test_disk_that_takes_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.start_run()
        journal = service(it).journal
        await drained(it)
        # The open segment's disk is full, and a file is where the folder is to be: nobody, root neither, can
        # write there.
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, journal._disk._segment._fd)
        os.close(full)
        real = journal.folder.with_name("journal.away")
        journal.folder.rename(real)
        journal.folder.write_text("in the way")
        await it.ok("Run:Title", "kept in memory")
        await it.ok("Run:Stop")
        await refused(it, "journal cannot be written")
        journal.folder.unlink()
        real.rename(journal.folder)
        await it.until(lambda: not journal.fault, what="journal written again")
        await ended(it, dsn, 0)
        async with reading(dsn) as store:
            puts = (await store.puts(PutFilter(pv=f"{it.prefix}Run:Title"))).puts
        assert [put.new for put in puts] == ["kept in memory"]
        await untroubled(it)
