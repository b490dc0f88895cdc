"""What goes wrong between the store and the server comes out as the store's own exceptions, in time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time

import asyncpg
import psutil
import pytest
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.errors import StoreError
from attpc_plugins.run_history.store import Store, prepare_schema
from attpc_plugins.run_history.store.errors import (
    StoreConflict,
    StoreDenied,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    translate,
)

from tests.support.pace import Stopwatch
from tests.support.postgres import QUICK, order, programs, url_of
from tests.support.run_records import EXPERIMENT, Life, Stamps, open_store, reserve


async def answering(store: Store) -> None:
    """Return when the store has a connection that works; one or the other may be found dead first."""
    for _ in range(5):
        with contextlib.suppress(StoreUnavailable):
            await store.writable()
            return
    pytest.fail("the store did not come back")


async def test_killed_connections_come_back_by_themselves(dsn, postgres_server):
    name = dsn.split("?")[0].rpartition("/")[2]
    async with open_store(dsn) as store:
        await reserve(store)
        for _ in range(3):
            await order(
                postgres_server,
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
            )
            await answering(store)
        await store.apply_many(Life(7, Stamps()).whole())
        assert (await store.run(EXPERIMENT, 7)).run.duration_s == 60.0


async def test_a_connection_lost_within_a_call_is_a_fault_whatever_asyncpg_says(dsn):
    """Between preparing and executing, asyncpg finds its protocol gone and raises AttributeError."""
    said = "'NoneType' object has no attribute 'bind_execute'"
    async with open_store(dsn) as store:
        with pytest.raises(StoreUnavailable, match=r"^database: "):  # noqa: PT012 - within a call
            async with store._use() as connection:
                connection.terminate()
                raise AttributeError(said)
        with pytest.raises(AttributeError):
            async with store._use():
                raise AttributeError(said)
        await answering(store)


async def test_a_batch_that_is_cut_leaves_nothing(dsn, postgres_server):
    name = dsn.split("?")[0].rpartition("/")[2]
    async with open_store(dsn) as store:
        blocker = await asyncpg.connect(dsn)
        await blocker.execute("BEGIN; LOCK TABLE attpc.runs IN EXCLUSIVE MODE")
        records = Life(7, Stamps()).whole()
        batch = asyncio.ensure_future(store.apply_many(records))
        waiting = (
            "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'attpc.runs'::regclass)"
        )
        async with asyncio.timeout(5):
            while not await blocker.fetchval(waiting):
                pass
        await order(
            postgres_server,
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' "
            f"AND pid <> {blocker.get_server_pid()}",
        )
        with pytest.raises(StoreUnavailable):
            await batch
        await blocker.execute("ROLLBACK")
        await blocker.close()
        assert (await store.runs()).runs == ()
        assert (await store.apply_many(records)).new == 4


async def test_a_lock_that_is_not_let_go_is_waited_for_in_bounds(dsn):
    async with open_store(dsn, limit_s=0.3) as store:
        blocker = await asyncpg.connect(dsn)
        await blocker.execute("BEGIN; LOCK TABLE attpc.runs IN ACCESS EXCLUSIVE MODE")
        taking = Stopwatch(programs=True)
        with pytest.raises(StoreUnavailable):
            await reserve(store)
        assert taking.s < 2
        await blocker.execute("ROLLBACK")
        await blocker.close()
        assert await reserve(store) == 0


async def test_a_hung_server_is_given_up_in_time(postgres_place):
    server = EmbeddedServer(postgres_place(), binaries=programs(), options=QUICK, purpose="a test")
    server.start()
    assert server.pid is not None
    processes = psutil.Process(server.pid)
    stopped: list[psutil.Process] = []
    try:
        await prepare_schema(url_of(server))
        async with open_store(url_of(server), limit_s=0.5) as store:
            await reserve(store)
            stopped = [processes, *processes.children(recursive=True)]
            for process in stopped:
                os.kill(process.pid, signal.SIGSTOP)
            for _ in range(6):
                taking = Stopwatch(programs=True)
                with pytest.raises(StoreUnavailable, match="in time"):
                    await reserve(store)
                assert taking.s < 1.5
            with pytest.raises(StoreUnavailable):
                await Store.connect(url_of(server), limit_s=0.3)
            for process in reversed(stopped):
                os.kill(process.pid, signal.SIGCONT)
            stopped = []
            deadline = time.monotonic() + 20
            while True:
                try:
                    await store.writable()
                    break
                except StoreUnavailable:
                    assert time.monotonic() < deadline
            assert await reserve(store) >= 1
    finally:
        for process in reversed(stopped):
            os.kill(process.pid, signal.SIGCONT)
        server.stop()


async def test_a_read_only_database_says_so(dsn, postgres_server):
    name = dsn.split("?")[0].rpartition("/")[2]
    async with open_store(dsn) as store:
        await store.writable()
        await order(postgres_server, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        await store._pool.expire_connections()
        with pytest.raises(StoreReadOnly, match="read-only"):
            await store.writable()
        with pytest.raises(StoreReadOnly):
            await store.apply_many(Life(1, Stamps()).whole())
        assert (await store.runs()).runs == ()
        await order(postgres_server, f'ALTER DATABASE "{name}" RESET default_transaction_read_only')
        # A connection from before may be found read-only once more; new ones are made then.
        with contextlib.suppress(StoreReadOnly):
            await store.apply_many(Life(1, Stamps()).whole())
        assert (await store.apply_many(Life(1, Stamps()).whole())).rejected == ()
        assert (await store.run(EXPERIMENT, 1)).run.duration_s == 60.0


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda url: url.replace("postgresql://", "mysql://"), StoreError),
        (lambda url: url.replace("?host=", "nothing?host="), StoreDenied),
        (lambda url: url.split("?")[0] + "?host=/nowhere", StoreUnavailable),
        (lambda _: "postgresql://x@127.0.0.1:1/x", StoreUnavailable),
        (lambda url: url.replace("://", "://nobody-"), StoreError),
    ],
)
async def test_a_wrong_dsn_is_one_of_the_stores_exceptions(dsn, spoil, kind):
    with pytest.raises(kind) as caught:
        await Store.connect(spoil(dsn), limit_s=3.0)
    assert str(caught.value)
    with pytest.raises(kind):
        await prepare_schema(spoil(dsn), limit_s=3.0)


async def test_the_constraints_make_nonsense_impossible(dsn):
    connection = await asyncpg.connect(dsn)
    await connection.execute("INSERT INTO attpc.experiments (name) VALUES ('a'), ('b')")
    insert = "INSERT INTO attpc.runs (experiment_id, number, state"
    nonsense = [
        "INSERT INTO attpc.experiments (name) VALUES ('')",
        "INSERT INTO attpc.experiments (name) VALUES ('a')",
        "UPDATE attpc.experiments SET is_current = true, chosen_at = now()",
        "UPDATE attpc.experiments SET is_current = true WHERE name = 'a'",
        f"{insert}) VALUES (99, 1, 'reserved')",
        f"{insert}) VALUES (1, -1, 'reserved')",
        f"{insert}) VALUES (1, 1, 'over')",
        f"{insert}) VALUES (1, 1, 'reserved'), (1, 1, 'reserved')",
        f"{insert}) VALUES (1, 1, 'running')",
        f"{insert}) VALUES (1, 1, 'ended')",
        f"{insert}, outcome) VALUES (1, 1, 'starting', 'stopped')",
        f"{insert}, started_at) VALUES (1, 1, 'reserved', now())",
        f"{insert}, stopped_at) VALUES (1, 1, 'starting', now())",
        f"{insert}, run_class) VALUES (1, 1, 'reserved', 'Fun')",
        f"{insert}, quality) VALUES (1, 1, 'reserved', 'Fine')",
    ]
    for statement in nonsense:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await connection.execute(statement)
    await connection.execute(f"{insert}) VALUES (1, 1, 'reserved')")
    await connection.execute(
        "INSERT INTO attpc.observables (experiment_id, name, kind) VALUES (1, 'o', 'float')"
    )
    measure = (
        "INSERT INTO attpc.measurements (run_id, observable_id, moment, number, measured_at, "
        "kind, integer_value, float_value, string_value, fault, severity) VALUES "
        "((SELECT id FROM attpc.runs), 1, 'start', 1, now(), "
    )
    for values in (
        "NULL, NULL, NULL, NULL, '', 0)",
        "NULL, 1, NULL, NULL, 'x', 0)",
        "'integer', NULL, NULL, NULL, '', 0)",
        "'integer', 1, 1.5, NULL, '', 0)",
        "'float', 1, NULL, NULL, '', 0)",
        "'string', NULL, NULL, 'x', '', 4)",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(measure + values)
    await connection.close()


def test_faults_of_the_server_have_their_own_words():
    assert isinstance(translate(asyncpg.DiskFullError("no space left")), StoreFull)
    assert isinstance(translate(asyncpg.CannotConnectNowError("starting up")), StoreUnavailable)
    assert not isinstance(translate(asyncpg.CannotConnectNowError("starting up")), StoreReadOnly)
    assert isinstance(translate(asyncpg.AdminShutdownError("terminating")), StoreUnavailable)
    assert isinstance(translate(asyncpg.DeadlockDetectedError("deadlock")), StoreConflict)
    assert isinstance(translate(asyncpg.SerializationError("concurrent update")), StoreConflict)
    assert isinstance(translate(ConnectionResetError()), StoreUnavailable)
    assert str(translate(TimeoutError())) == "the database does not answer in time"
