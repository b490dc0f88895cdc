"""With the database in trouble a run is stopped at once, no run is started, and everything arrives later."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.store.model.history import Stage
from attpc_plugins.run_history.store.model.puts import PutFilter
from attpc_plugins.run_history.supervisor import WATCH_PERIOD_S

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
from tests.support.pace import Stopwatch
from tests.support.postgres import Databases, order, programs, url_of
from tests.support.rig import Rig
from tests.support.state_dir import make_unwritable, make_writable


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
        waiting = "events are not in the database yet"
        await it.until(lambda: waiting in message(it), what=f"{waiting!r}, not {message(it)!r}")
        taking = Stopwatch(programs=True)
        await it.ok("Run:Stop")
        assert taking.s < 2.0
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
    """As in one that was emptied: what is still told of the run has no place, which is said once."""
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.start_run()
        await it.ok("Run:Stop")
        await drained(it)
        async with sql(dsn) as connection:
            await connection.execute("TRUNCATE attpc.runs CASCADE")
        for comment in ("what the backup does not know", "and more of it"):
            await it.ok("Run:Comment", comment)
        await drained(it)
        assert caplog.text.count("the database does not have this run") == 1
        assert service(it).writer.rejected == 0
        await untroubled(it)
        assert await it.get("Plugin:run_history:Status_RBV") == "Ok"
        await it.ok("Run:Start")
        assert it.run.number == 1
        await it.ok("Run:Stop")
        await ended(it, dsn, 1)


async def test_what_is_wrong_with_the_place_is_reported_as_by_the_commands(
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
            await it.until(lambda: message(it).startswith(said), 10.0, f"{said!r}, not {message(it)!r}")
            await it.until(lambda: said in it.run.checklist, 5.0, f"{said!r} in {it.run.checklist}")


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
            taking = Stopwatch(programs=True)
            await it.ok("Run:Stop")
            assert taking.s < 2.0
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
        taking = Stopwatch(programs=True)
        await it.until(lambda: "use a newer attpc-ioc" in message(it), 3.0 * WATCH_PERIOD_S, message(it))
        assert taking.s < 2.0 * WATCH_PERIOD_S, "it is looked at in every period"
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
            "attpc.schema_migrations is missing or empty",
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
async def test_a_schema_of_unknown_version(
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


async def test_disk_that_takes_no_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.start_run()
        await drained(it)
        make_unwritable(tmp_path / "state")
        await it.put("Run:Title", "kept in memory")
        await it.ok("Run:Stop")
        await it.refused("Run:Start", because="cannot be written")
        make_writable(tmp_path / "state")
        await it.until(lambda: not it.app.log.fault, what="the event log written again")
        await ended(it, dsn, 0)
        async with reading(dsn) as store:
            puts = (await store.puts(PutFilter(pv=f"{it.prefix}Run:Title"))).puts
        assert [put.new for put in puts] == ["kept in memory"]
        await untroubled(it)


async def test_a_restored_database_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    """What the database had at an earlier position it has once, and the rest comes again from the log."""
    tables = ("runs", "run_modules", "run_links", "events", "puts", "run_edits", "log_positions")
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.start_run()
        await it.ok("Run:Stop")
        await drained(it)
        await it.stop_ioc()
        async with sql(dsn) as connection:
            for table in tables:
                await connection.execute(f"CREATE TABLE public.{table} AS TABLE attpc.{table}")
        await it.start_ioc()
        await connected(it)
        await it.until(lambda: not it.run.checklist, what="ready")
        await it.ok("Run:Start")
        await it.ok("Run:Comment", "said in the second run")
        await it.ok("Run:Stop")
        await drained(it)
        before = await all_of(dsn)
        assert [number for number, *_ in before["runs"]] == [0, 1]
        await it.stop_ioc()
        async with sql(dsn) as connection:
            await connection.execute("TRUNCATE attpc.runs, attpc.puts, attpc.log_positions CASCADE")
            for table in tables:
                listed = await connection.fetchval(
                    "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns "
                    "WHERE table_schema = 'attpc' AND table_name = $1 AND is_generated = 'NEVER'",
                    table,
                )
                await connection.execute(
                    f"INSERT INTO attpc.{table} ({listed}) OVERRIDING SYSTEM VALUE "
                    f"SELECT {listed} FROM public.{table}"
                )
        await it.start_ioc()
        await connected(it)
        await drained(it)
        after = await all_of(dsn)
        for table, rows in before.items():
            assert after[table][: len(rows)] == rows, table
        await untroubled(it)


async def all_of(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return what a run history says of runs, events, puts and edits, in the order of their times."""
    queries = {
        "runs": "SELECT number, state, outcome, title, comment, started_at, stopped_at FROM attpc.runs "
        "ORDER BY number",
        "events": "SELECT happened_at, kind, module, text FROM attpc.events ORDER BY happened_at, seq",
        "puts": "SELECT put_at, pv, new_value, ok FROM attpc.puts ORDER BY put_at, pv",
        "run_edits": "SELECT edited_at, field, value FROM attpc.run_edits ORDER BY edited_at",
        "run_modules": "SELECT name, position, kind, url, transition_s FROM attpc.run_modules "
        "ORDER BY run_id, position",
    }
    async with sql(dsn) as connection:
        return {name: [tuple(r) for r in await connection.fetch(query)] for name, query in queries.items()}


async def test_an_event_log_that_was_put_back_is_followed_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    """Positions come again then, which the database has already: of events that were lost."""
    state = tmp_path / "state"
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.ok("Run:Title", "before")
        await drained(it)
        await it.stop_ioc()
        backup = (state / "state.db").read_bytes()
        await it.start_ioc()
        await connected(it)
        for number in range(20):
            await it.ok("Run:Title", f"lost {number}")
        await drained(it)
        await it.stop_ioc()
        (state / "state.db").write_bytes(backup)
        await it.start_ioc()
        await it.ok("Run:Title", "after")
        await connected(it)
        await drained(it)
        async with reading(dsn) as store:
            puts = (await store.puts(PutFilter(pv=f"{it.prefix}Run:Title"))).puts
        assert [put.new for put in puts] == ["after", *(f"lost {n}" for n in reversed(range(20))), "before"]
        await it.stop_ioc()
        await it.start_ioc()
        await connected(it)
        await drained(it)
        async with reading(dsn) as store:
            assert len((await store.puts(PutFilter(pv=f"{it.prefix}Run:Title"))).puts) == 22


async def test_an_empty_database_gets_what_the_event_log_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: Databases
) -> None:
    async with database() as first, history_rig(tmp_path, monkeypatch, first) as it:
        await it.ok("Run:Title", "a run")
        await it.start_run()
        await it.ok("Run:Comment", "good beam")
        await it.ok("Run:Stop")
        await drained(it)
        before = await all_of(first)
        store = service(it).supervisor.store
        async with sql(first) as connection:
            await connection.execute("DROP SCHEMA attpc CASCADE")
        await it.until(lambda: service(it).supervisor.store is not store, what="the loss noticed")
        await connected(it)
        await it.until(lambda: not it.run.checklist, what="ready again")
        await drained(it)
        after = await all_of(first)
        for table, rows in before.items():
            assert after[table][: len(rows)] == rows, table
        await it.ok("Run:Start")
        assert it.run.number == 1
        await it.ok("Run:Stop")
