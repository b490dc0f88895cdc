"""The SQL that db/README.md shows does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
import pytest
from attpc_plugins.run_history.schema.migrate import migrations

from tests.support.postgres import order
from tests.support.run_records import Life, Stamps, open_store, reserve

README = (Path(__file__).parents[2] / "db" / "README.md").read_text("utf-8")
QUERIES, ROLE = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)


async def test_the_queries_can_be_asked(dsn):
    async with open_store(dsn) as store:
        await store.apply_many(Life(await reserve(store), Stamps()).whole())
    connection = await asyncpg.connect(dsn)
    answers = [await connection.fetch(query) for query in QUERIES.split(";") if query.strip()]
    await connection.close()
    assert [len(rows) for rows in answers] == [1, 0, 0]


async def test_the_role_can_read_and_nothing_else(dsn, postgres_server):
    name = dsn.split("?")[0].rpartition("/")[2]
    await order(postgres_server, ROLE, name=name)
    try:
        connection = await asyncpg.connect(dsn)
        try:
            settings = await connection.fetchval(
                "SELECT rolconfig FROM pg_roles WHERE rolname = 'attpc_reader'"
            )
            assert "default_transaction_read_only=on" in settings
            await connection.execute("SET ROLE attpc_reader")
            assert await connection.fetchval("SELECT count(*) FROM attpc.runs") == 0
            assert await connection.fetchval("SELECT count(*) FROM attpc.puts") == 0
            for nonsense in ("DELETE FROM attpc.runs", "CREATE TABLE attpc.mine (a integer)"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(nonsense)
        finally:
            await connection.close()
    finally:
        await order(postgres_server, "DROP OWNED BY attpc_reader", "DROP ROLE attpc_reader", name=name)


def test_every_table_is_explained():
    tables = {
        table
        for migration in migrations()
        for table in re.findall(r"CREATE TABLE attpc\.(\w+)", migration.sql)
    }
    assert {table for table in tables if f"`{table}`" not in README} == set()
