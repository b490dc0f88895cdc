"""Another program's transactions are in the way of the history's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from attpc_plugins.run_history.embedded.server import EmbeddedServer

from tests.support.history import drained, history_rig, service, sql, until
from tests.support.postgres import order

WAITING = """
    SELECT count(*) FROM pg_locks AS waits JOIN pg_locks AS has USING (pid, database)
    WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND NOT waits.granted AND waits.relation = 'attpc.runs'::regclass
      AND has.granted AND has.relation = 'attpc.log_positions'::regclass
"""
"""Transactions that have moved the position of an event log, and wait for the runs."""


async def test_a_deadlock_is_no_loss_of_the_database(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dsn: str,
    postgres_server: EmbeddedServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server ends the history's transaction: its connection, the run and the next start go on."""
    name = dsn.partition("@/")[2].partition("?")[0]
    # The history's is the transaction that gives way: the other one never looks for a deadlock.
    await order(postgres_server, f'ALTER DATABASE "{name}" SET deadlock_timeout = 2000')
    async with history_rig(tmp_path, monkeypatch, dsn) as it, sql(dsn) as other:
        await it.start_run()
        await drained(it)
        store = service(it).supervisor.store
        await other.execute("SET deadlock_timeout = '10min'")
        async with other.transaction():
            await other.execute("LOCK TABLE attpc.runs IN EXCLUSIVE MODE")
            await it.ok("Run:Stop")

            async def waits() -> bool:
                return await other.fetchval(WAITING) > 0

            await until(waits, what="the history waits for the runs")
            await other.execute("LOCK TABLE attpc.log_positions IN EXCLUSIVE MODE")
        await it.until(lambda: "gave way to another transaction" in caplog.text, what="the deadlock")
        assert not it.run.checklist
        await it.ok("Run:Start")
        await it.ok("Run:Stop")
        await drained(it)
        assert service(it).supervisor.store is store
        assert await other.fetchval("SELECT count(*) FROM attpc.runs WHERE state = 'ended'") == 2
