"""What is kept for a time only: what goes, what stays, and that finding it is no walk through the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attpc_plugins.run_history.store import puts

from tests.support.history import drained, history_rig, sql, until
from tests.support.run_records import open_store

NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=400)

FILL = """
INSERT INTO attpc.experiments (name) VALUES ('e1');
INSERT INTO attpc.runs (experiment_id, number, state, outcome, stopped_at)
    SELECT id, 0, 'ended', 'stopped', now() FROM attpc.experiments;
INSERT INTO attpc.boots (ioc, boot) VALUES ('T:', 'b');
"""

MANY = f"""
INSERT INTO attpc.events (run_id, happened_at, kind)
    SELECT r.id, '{OLD}'::timestamptz + n * interval '1 s', 'state'
    FROM attpc.runs r, generate_series(1, 40000) n;
INSERT INTO attpc.events (happened_at, kind) SELECT '{NOW}'::timestamptz - n * interval '1 d', 'state'
    FROM generate_series(1, 2000) n;
INSERT INTO attpc.log_entries (run_id, logged_at, level, text)
    SELECT r.id, '{OLD}'::timestamptz + n * interval '1 s', 'warning', 'of a run'
    FROM attpc.runs r, generate_series(1, 40000) n;
INSERT INTO attpc.log_entries (logged_at, level, text)
    SELECT '{NOW}'::timestamptz - n * interval '1 d', 'info', 'x'
    FROM generate_series(1, 2000) n;
INSERT INTO attpc.puts (put_at, pv, ok) SELECT '{NOW}'::timestamptz - n * interval '1 min', 'PV', true
    FROM generate_series(1, 40000) n;
INSERT INTO attpc.applied_stamps (boot_id, seq, applied_at)
    SELECT b.id, n, '{NOW}'::timestamptz - (40000 - n) * interval '1 min'
    FROM attpc.boots b, generate_series(1, 40000) n;
"""


async def test_what_is_old_is_found_by_an_index(dsn: str) -> None:
    async with sql(dsn) as connection:
        await connection.execute(FILL)
        await connection.execute(MANY)
        await connection.execute("ANALYZE")
        await connection.execute("SET plan_cache_mode = force_custom_plan")  # as the store has it
        for statement, index, days in (
            (puts.DELETE_EVENTS, "events_without_run", 1990),
            (puts.DELETE_LOG, "log_entries_without_run", 1990),
            (puts.DELETE_PUTS, "puts_by_time", 27),
            (puts.DELETE_STAMPS, "applied_stamps_by_age", 27),
        ):
            when = NOW - timedelta(days=days)
            rows = await connection.fetch(f"EXPLAIN {statement}", when, puts.DELETE_BATCH)
            plan = "\n".join(row[0] for row in rows)
            assert f" {index} " in f"{plan.replace(chr(10), ' ')} ", plan


async def test_what_belongs_to_a_run_stays(dsn: str) -> None:
    async with sql(dsn) as connection, open_store(dsn) as store:
        await connection.execute(FILL)
        for when in (OLD, NOW):
            for run in ("(SELECT id FROM attpc.runs)", "NULL"):
                await connection.execute(
                    f"INSERT INTO attpc.events (run_id, happened_at, kind) VALUES ({run}, $1, 'state')", when
                )
                await connection.execute(
                    "INSERT INTO attpc.log_entries (run_id, logged_at, level, text) "
                    f"VALUES ({run}, $1, 'warning', 'x')",
                    when,
                )
        before = NOW - timedelta(days=365)
        assert await store.forget(events_before=before) == 1
        assert await store.forget(log_before=before) == 1
        for table, column in (("events", "happened_at"), ("log_entries", "logged_at")):
            left = await connection.fetch(
                f"SELECT run_id IS NOT NULL AS of_run, {column} FROM attpc.{table} ORDER BY 1, 2"
            )
            assert [tuple(row) for row in left] == [(False, NOW), (True, OLD), (True, NOW)]


async def test_the_settings_say_for_how_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    """Log entries and puts each have their own time."""
    async with sql(dsn) as connection:
        await connection.execute(
            "INSERT INTO attpc.log_entries (logged_at, level, text) VALUES "
            "(now() - interval '21 days', 'warning', 'old'), (now() - interval '19 days', 'warning', 'young')"
        )
        await connection.execute(
            "INSERT INTO attpc.events (happened_at, kind, text) VALUES "
            "(now() - interval '11 days', 'state', 'old'), (now() - interval '9 days', 'state', 'young')"
        )
    async with (
        history_rig(tmp_path, monkeypatch, dsn, section="put_log_days = 10\nlog_days = 20") as it,
        sql(dsn) as connection,
    ):

        async def left(table: str) -> list[Any]:
            rows = await connection.fetch(
                f"SELECT text FROM attpc.{table} WHERE text = ANY (ARRAY['old', 'young'])"
            )
            return [row["text"] for row in rows]

        async def forgotten() -> bool:
            return await left("log_entries") == await left("events") == ["young"]

        await until(forgotten, 20.0, "the old entries forgotten")
        await drained(it)


async def test_an_experiment_that_was_only_chosen_goes_and_one_that_has_anything_stays(dsn: str) -> None:
    async with sql(dsn) as connection, open_store(dsn) as store:
        await connection.execute(FILL)
        await connection.execute(
            "INSERT INTO attpc.experiments (name, is_current, comment, chosen_at) VALUES "
            "('only chosen', false, '', $1), ('chosen now', false, '', $2), ('current', true, '', $1), "
            "('commented', false, 'x', $1), ('made', false, '', NULL), ('observed', false, '', $1), "
            "('attempted', false, '', $1)",
            OLD,
            NOW,
        )
        await connection.execute("UPDATE attpc.experiments SET chosen_at = $1 WHERE name = 'e1'", OLD)
        await connection.execute(
            "INSERT INTO attpc.observables (experiment_id, name, kind) "
            "SELECT id, 'pressure', 'float' FROM attpc.experiments WHERE name = 'observed'"
        )
        await connection.execute(
            "INSERT INTO attpc.released_attempts (attempt, experiment_id, number, released_at) "
            "SELECT 'a', id, 1, $1 FROM attpc.experiments WHERE name = 'attempted'",
            OLD,
        )
        before = NOW - timedelta(days=365)
        assert await store.forget(experiments_before=before) == 1
        kept = {"e1", "chosen now", "current", "commented", "made", "observed", "attempted"}
        assert {e.name for e in await store.experiments()} == kept
        assert await store.forget(stamps_before=before, experiments_before=before) == 2
        assert {e.name for e in await store.experiments()} == kept - {"attempted"}
