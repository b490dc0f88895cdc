"""Which database is used, and the URLs that name one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from attpc_plugins.run_history.connection import dsn as urls
from attpc_plugins.run_history.connection.database import KEY, DatabaseKeys, Source, locate
from attpc_plugins.run_history.embedded.server import DATABASE
from attpc_plugins.run_history.errors import DatabaseSettingsError, EmbeddedError

from tests.support.databases import QUOTED, SECRET, at

pytestmark = pytest.mark.usefixtures("no_variables")


# --- which one --------------------------------------------------------------------------------------------


def test_the_settings_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere")
    database = locate(DatabaseKeys(dsn=f"postgresql://ioc:{QUOTED}@db.lab:5433/attpc"), tmp_path)
    assert database.source is Source.SETTINGS
    assert database.where == "attpc at db.lab:5433, user ioc"
    assert database.public_url == "postgresql://ioc@db.lab:5433/attpc"
    assert database.client_environment()["PGPASSWORD"] == SECRET
    assert "s3cr3t" not in f"{database!r} {database}"


@pytest.mark.parametrize("name", ["PGHOST", "PGSERVICE", "PGDATABASE"])
def test_variables_that_name_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv(name, "there")
    monkeypatch.setenv("PGPASSWORD", SECRET)
    database = locate(DatabaseKeys(), tmp_path)
    assert database.source is Source.ENVIRONMENT
    assert database.dsn == ""
    assert "there" in database.where
    assert "there" in database.public_url
    assert name in database.key
    assert SECRET not in f"{database!r} {database.where} {database.public_url} {database.key}"


def test_otherwise_the_embedded_server(
    monkeypatch: pytest.MonkeyPatch, postgres_place: Callable[[], Path]
) -> None:
    state_dir = postgres_place()
    for name in ("PGUSER", "PGPASSWORD", "PGPORT", "PGSSLMODE"):
        monkeypatch.setenv(name, "5432")
    database = locate(DatabaseKeys(), state_dir)
    assert database.source is Source.EMBEDDED
    assert database.server is not None
    assert database.server.folder == state_dir / "postgres"
    assert locate(DatabaseKeys(data_dir="/srv/x"), state_dir).where == "the embedded server in /srv/x"
    with pytest.raises(EmbeddedError, match="was not started"):
        assert database.dsn
    assert not (state_dir / "postgres").exists()


async def test_variables_do_not_lead_away_from_the_embedded_server(
    monkeypatch: pytest.MonkeyPatch, postgres_place: Callable[[], Path]
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGUSER", "somebody")
    monkeypatch.setenv("PGPASSWORD", SECRET)
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")
    async with locate(DatabaseKeys(data_dir=str(postgres_place())), Path("/nowhere")).attached() as database:
        connection = await database.connect()
        assert await connection.fetchval("SELECT current_database()") == DATABASE
        assert await connection.fetchval("SHOW timezone") == "UTC"
        await connection.close()
        assert not [name for name in database.client_environment() if name.startswith("PG")]


async def test_a_command_uses_the_server_that_runs(postgres_place: Callable[[], Path]) -> None:
    folder = postgres_place()
    ioc = locate(DatabaseKeys(data_dir=str(folder)), Path("/nowhere"))
    command = locate(DatabaseKeys(data_dir=str(folder)), Path("/nowhere"), purpose="a command")
    await ioc.start()
    try:
        async with command.attached() as database:
            connection = await database.connect()
            pid = int(
                await connection.fetchval("SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)")
            )
            await connection.close()
        assert ioc.server is not None
        assert pid == ioc.server.pid
        assert ioc.server.running
    finally:
        await ioc.stop()
    async with command.attached() as database:
        assert database.server is not None
        assert database.server.running
    assert command.server is not None
    assert not command.server.running


async def test_a_command_beside_an_ioc_that_just_starts(postgres_place: Callable[[], Path]) -> None:
    folder = postgres_place()
    ioc = locate(DatabaseKeys(data_dir=str(folder)), Path("/nowhere"))
    command = locate(DatabaseKeys(data_dir=str(folder)), Path("/nowhere"), purpose="a command")

    async def use() -> int:
        async with command.attached(wait_s=20) as database:
            connection = await database.connect()
            try:
                return await connection.fetchval("SELECT 1")
            finally:
                await connection.close()

    try:
        _, one = await asyncio.gather(ioc.start(), use())
        assert one == 1
        assert ioc.server is not None
        assert ioc.server.running
    finally:
        await ioc.stop()


# --- URLs that will not do --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("   ", "is empty"),
        ("db.lab", "is not a URL"),
        (f"host=db.lab password={SECRET}", "keys and values of libpq"),
        ("mysql://ioc@db.lab/attpc", "postgresql://"),
        (f"postgresql://ioc:{SECRET}@db.lab/attpc", "%40"),
        ("postgresql://ioc:s3cr3t/x@db.lab/attpc", "%2F"),
        ("postgresql://ioc:s3cr3t@x@db.lab/attpc", "%40"),
        ("postgresql://ioc:s3cr3t#x@db.lab/attpc", "%23"),
        ("postgresql://ioc@db.lab:port/attpc", "port"),
        ("postgresql://ioc@db.lab:0/attpc", "port"),
        ("postgresql://ioc@db.lab:65536/attpc", "port"),
        ("postgresql://ioc@db.lab/attpc?port=x", "port="),
        ("postgresql://ioc@db.lab/attpc/x", "database's name"),
        ("postgresql://ioc@db.lab/attpc?sslmode=on", "verify-full"),
        ("postgresql://ioc@db.lab/attpc?connect_timeout=3", "connect_timeout="),
        ("postgresql://ioc@db.lab/attpc?sslmode", "is not a readable URL"),
        ("postgresql://ioc@[::1/attpc", "is not a readable URL"),
        ("postgresql:///attpc", "names no host"),
    ],
)
def test_urls_that_cannot_be_used(text: str, told: str) -> None:
    with pytest.raises(DatabaseSettingsError) as caught:
        at(text)
    assert KEY in str(caught.value)
    assert told in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("postgresql://ioc@db.lab/attpc", "attpc at db.lab:5432, user ioc"),
        ("postgres://db.lab", "the default database at db.lab:5432"),
        ("postgresql://ioc@[::1]:5433/attpc", "attpc at [::1]:5433, user ioc"),
        ("postgresql://ioc@a:1,b/attpc?target_session_attrs=primary", "attpc at a:1 or b:5432, user ioc"),
        ("postgresql://ioc@/attpc?host=/run/postgresql", "attpc at /run/postgresql, user ioc"),
        ("postgresql://db.lab/a%20b?user=x&password=y", "a b at db.lab:5432, user x"),
        ("postgresql:///?service=beam", "the default database at the service beam"),
    ],
)
def test_urls_that_can(text: str, where: str) -> None:
    assert urls.faults(text) == []
    assert urls.read(text).where == where
    assert "password" not in urls.read(text).public


def test_a_port_in_the_variables_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PGHOST", "db.lab")
    monkeypatch.setenv("PGPORT", "x")
    with pytest.raises(DatabaseSettingsError, match="PGPORT"):
        locate(DatabaseKeys(), tmp_path)
