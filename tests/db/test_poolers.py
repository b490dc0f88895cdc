"""The run history through a real PgBouncer: all works, or it is said what to set."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from attpc_plugins.run_history.connection.peer import connect
from attpc_plugins.run_history.connection.poolers import is_shared, shares_sessions
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.errors import DatabaseRefused, DatabaseUnreachable
from attpc_plugins.run_history.store import Store, prepare_schema
from attpc_plugins.run_history.store.errors import StoreUnavailable
from attpc_plugins.run_history.store.model.history import Stage
from attpc_plugins.run_history.store.model.leases import Holder

from attpc_ioc.model.command import RUN
from tests.db.test_history_trouble import own_server
from tests.support.databases import at
from tests.support.forked import PIPE, SHELL, STDOUT, forked
from tests.support.history import (
    EXPERIMENT,
    connected,
    drained,
    history_rig,
    message,
    reading,
    sql,
    until,
)
from tests.support.pgbouncer import PASSWORD, Bouncer, bouncer, needs_pgbouncer
from tests.support.postgres import order
from tests.support.rig import Rig

pytestmark = needs_pgbouncer

MODES = ("session", "transaction")
LEFT = "SELECT count(*) FROM pg_prepared_statements"


@contextlib.asynccontextmanager
async def connections(*dsns: str) -> AsyncIterator[list]:
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for dsn in dsns:
            found.append(await connect(dsn))
            stack.callback(found[-1].terminate)
        yield found


@pytest.mark.parametrize("mode", MODES)
async def test_a_pooler_is_recognised_and_its_mode_where_it_matters(
    postgres_server: EmbeddedServer, dsn: str, mode: str
) -> None:
    for more in ({}, {"server_round_robin": "1", "min_pool_size": "3"}):
        async with (
            bouncer(postgres_server, dsn, pool_mode=mode, **more) as pooler,
            connections(pooler.dsn, pooler.dsn) as (first, second),
        ):
            assert is_shared(first)
            assert await shares_sessions(first, second) is (mode == "transaction")
    async with connections(dsn) as (direct,):
        assert not is_shared(direct)


async def test_a_direct_connection_has_its_limits_on_the_server(dsn: str) -> None:
    async with reading(dsn) as store, store._use() as connection:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        assert [await connection.fetchval(f"SHOW {name}") for name in names] == ["5s", "5s", "1min"]
        assert await connection.fetchval("SHOW plan_cache_mode") == "force_custom_plan"


async def test_nothing_is_left_in_a_session_that_others_get(
    postgres_server: EmbeddedServer, empty_dsn: str
) -> None:
    options = {"pool_mode": "transaction", "default_pool_size": "1"}
    async with bouncer(postgres_server, empty_dsn, **options) as pooler:
        await prepare_schema(pooler.dsn)
        async with reading(pooler.dsn) as store:
            me, other = Holder("A:", "a", "boot a", "a"), Holder("B:", "b", "boot b", "b")
            assert (await store.acquire_lease("fleet", me)).ours
            assert not (await store.acquire_lease("fleet", other)).ours
            async with store._transaction() as connection:
                limit = "SHOW idle_in_transaction_session_timeout"
                assert await connection.fetchval(limit) == "1min"
        async with connections(pooler.dsn) as (plain,):
            assert await plain.fetchval(LEFT) == 0
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
                assert await plain.fetchval(f"SHOW {name}") == "0"


@pytest.mark.parametrize("mode", MODES)
async def test_runs_are_recorded_and_a_pooler_that_goes_and_comes_back_costs_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    postgres_server: EmbeddedServer,
    dsn: str,
    mode: str,
) -> None:
    async with (
        bouncer(postgres_server, dsn, pool_mode=mode) as pooler,
        history_rig(tmp_path, monkeypatch, pooler.dsn) as it,
    ):
        await it.start_run()
        await it.ok("Run:Title", "through a pooler")
        pooler.stop()
        await degraded(it, "")
        await it.ok("Run:Stop")
        await pooler.start()
        await connected(it, 20.0)
        await drained(it)
        async with reading(dsn) as store:
            detail = await store.run(EXPERIMENT, 0)
        assert detail.run.stage is Stage.ENDED
        assert detail.run.title == "through a pooler"
        # The server's connections end under the pooler, which answers all the time.
        name = pooler.database
        await order(
            postgres_server,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        )

        async def started() -> bool:
            # Where the loss is noticed just now, it is said, and the next start finds new connections.
            await connected(it, 20.0)
            outcome = await it.submit("Start", RUN)
            lost = "connection to the database was lost", "the database does not answer in time"
            assert outcome.ok or any(words in outcome.message for words in lost)
            return outcome.ok

        await until(started, what="the start of a run")
        await it.ok("Run:Stop")
        await drained(it)
        assert "Traceback" not in caplog.text


async def degraded(it: Rig, because: str) -> None:
    async def is_said() -> bool:
        status = await it.get("Plugin:run_history:Status_RBV")
        return status == "Degraded" and because in message(it)

    try:
        await until(is_said, 20.0)
    except AssertionError:
        pytest.fail(f"{because!r} is not in {message(it)!r}")


@pytest.mark.parametrize(
    ("options", "because"),
    [
        ({"pool_mode": "statement"}, "set 'pool_mode = session'"),
        ({"pool_mode": "session", "default_pool_size": "1"}, "does it have 4 server connections"),
        ({"max_client_conn": "1"}, "raise 'max_client_conn'"),
        ({"auth_type": "scram-sha-256"}, "the pooler knows no such role or password"),
    ],
)
async def test_what_is_to_be_set_is_said_for_as_long_as_it_is_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    postgres_server: EmbeddedServer,
    dsn: str,
    options: dict[str, str],
    because: str,
) -> None:
    async with (
        bouncer(postgres_server, dsn, **options) as pooler,
        history_rig(tmp_path, monkeypatch, pooler.dsn, ready=False, section="query_limit_s = 2.0") as it,
    ):
        await degraded(it, because)
        assert "Traceback" not in caplog.text
        pooler.stop()
        pooler.write(pool_mode="session", default_pool_size="20", max_client_conn="100", auth_type="any")
        await pooler.start()
        await connected(it, 30.0)

        await it.until(lambda: "pooler" not in message(it), 20.0, message(it))


async def said(call: Awaitable[object], kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        await call
    return str(caught.value)


async def test_the_faults_of_a_pooler_are_reported_with_what_to_set(
    postgres_server: EmbeddedServer, dsn: str
) -> None:
    async with bouncer(postgres_server, dsn, auth_type="scram-sha-256", pool_mode="session") as pooler:
        good = pooler.url(password=PASSWORD)
        await (await at(good).connect()).close()
        for url, words in (
            (pooler.url(password="wrong"), "knows no such role or password"),
            (pooler.url("nowhere", password=PASSWORD), "the pooler knows no such database"),
            (
                f"{good}?search_path=other",
                "does not accept search_path=: leave it out of the URL, or add it to",
            ),
        ):
            text = await said(at(url).connect(), DatabaseRefused)
            assert words in text
            assert PASSWORD not in text
        await pooler.order(f"DISABLE {pooler.database}")
        assert "switched off for now" in await said(at(good).connect(), DatabaseUnreachable)
        await pooler.order(f"ENABLE {pooler.database}")
        await (await at(good).connect()).close()


async def test_a_pool_that_is_used_up_is_reported_as_that(postgres_server: EmbeddedServer, dsn: str) -> None:
    options = {"pool_mode": "session", "default_pool_size": "1", "query_wait_timeout": "1"}
    async with bouncer(postgres_server, dsn, **options) as pooler, connections(pooler.dsn) as (first,):
        await first.fetchval("SELECT 1")
        words = "the pooler had no server connection free in time: give it at least 4"
        assert words in await said(at(pooler.dsn).connect(), DatabaseUnreachable)
        assert words in await said(Store.connect(pooler.dsn), StoreUnavailable)


async def test_a_pooler_whose_server_or_database_is_gone(postgres_place: Callable[[], Path]) -> None:
    async with (
        own_server(postgres_place) as (server, dsn),
        bouncer(server, dsn, server_login_retry="1", query_wait_timeout="2") as pooler,
    ):
        pooler.database = "gone"
        pooler.stop()
        pooler.write()
        await pooler.start()
        text = await said(at(pooler.dsn).connect(), DatabaseRefused)
        # PgBouncer 1.24 sends on the server's error as it is, so that nothing shows the pooler.
        assert "no such database; on the server: CREATE DATABASE" in text
        await server.stop_soon()
        assert "the pooler" in await said(at(pooler.dsn).connect(), DatabaseUnreachable)


def settings(folder: Path, pooler: Bouncer) -> Path:
    file = folder / "it.toml"
    file.write_text(
        f'[ioc]\nprefix = "T:"\nstate_dir = "{folder}/state"\n'
        '[[ecc]]\nname = "a"\nhost = "127.0.0.1"\nkind = "cobo"\n[[ecc.source]]\nid = "CoBo[0]"\n'
        '[[ecc.source.link]]\nname = "data0"\naddress = "127.0.0.1"\n'
        f'[plugins.run_history]\ndsn = "{pooler.dsn}"\n'
    )
    return file


async def command(file: Path, *words: str) -> tuple[int, str]:
    ran = await forked(SHELL, *words, "--settings", file, stdout=PIPE, stderr=STDOUT)
    out, _ = await ran.communicate()
    assert b"Traceback" not in out, out.decode()
    assert ran.returncode is not None
    return ran.returncode, out.decode()


async def test_commands_work_or_say_what_to_set(
    tmp_path: Path, postgres_server: EmbeddedServer, empty_dsn: str
) -> None:
    for mode in MODES:
        async with bouncer(postgres_server, empty_dsn, pool_mode=mode) as pooler:
            file = settings(tmp_path, pooler)
            assert (await command(file, "db", "migrate"))[0] == 0
            code, text = await command(file, "db", "status")
            assert (code, "up to date" in text) == (0, True), text
            assert (await command(file, "history", "list", "--all"))[0] in (0, 1, 2)
            code, text = await command(file, "db", "backup", str(tmp_path / f"{mode}.dump"))
            if mode == "session":
                assert code == 0, text
            else:
                assert code == 1
                assert "pg_dump needs one of its own: set 'pool_mode = session' for this database" in text
                code, text = await command(file, "db", "restore", str(tmp_path / "session.dump"), "--force")
                # One transaction on one connection, which is all that it needs.
                assert (code, "restored" in text) == (0, True), text
    async with bouncer(postgres_server, empty_dsn, pool_mode="statement") as pooler:
        code, text = await command(settings(tmp_path, pooler), "db", "status")
        assert code == 1
        assert "set 'pool_mode = session' or 'transaction' for this database in pgbouncer.ini" in text
    async with sql(empty_dsn) as connection:
        assert await connection.fetchval("SELECT count(*) FROM attpc.runs") == 0
