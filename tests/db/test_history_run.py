"""A run in the whole system is in the database with everything that is known of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from attpc_plugins.run_history.embedded.processes import servers_in
from attpc_plugins.run_history.store.model.history import Stage
from attpc_plugins.run_history.store.model.puts import PutFilter

from attpc_ioc.model.run import RunOutcome
from tests.support.ca import eventually
from tests.support.history import (
    EXPERIMENT,
    NAME,
    connected,
    drained,
    given_plugins,
    history_rig,
    reading,
    sql,
)
from tests.support.rig import rig


async def test_a_run_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.ok("Run:Title", "a first run")
        await it.start_run()
        info = it.run.info
        assert info is not None
        assert info.number == 0
        await it.ok("Run:Stop")
        await drained(it)
        async with reading(dsn) as store:
            detail = await store.run(EXPERIMENT, 0)
        ended = it.run.info
    assert ended is not None
    run = detail.run
    assert run.stage is Stage.ENDED
    assert run.outcome is RunOutcome.STOPPED
    assert run.title == "a first run"
    assert run.started_at is not None
    assert run.started_at.timestamp() == pytest.approx(ended.started_s, abs=1e-3)
    assert run.stopped_at is not None
    assert run.stopped_at.timestamp() == pytest.approx(ended.stopped_s, abs=1e-3)
    assert detail.members == ended.members
    assert not detail.lost
    for module in detail.modules:
        assert f"{module.describe}/{module.prepare}/{module.configure}" == ended.loaded[module.name]
        assert module.url == ended.urls[module.name]
        assert module.links
        assert module.transition_s


async def test_the_protocol_of_a_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    pytest.importorskip("p4p")
    from tests.support.pva import pvput

    async with history_rig(tmp_path, monkeypatch, dsn) as it:
        await it.ok("Run:Title", "over Channel Access")
        ran = await pvput(it.place, it.prefix + "Run:Title", "over PVAccess")
        assert ran.code == 0, ran.both
        await drained(it)
        async with reading(dsn) as store:
            puts = (await store.puts(PutFilter(pv=f"{it.prefix}Run:Title"))).puts
        assert [(put.new, put.protocol) for put in puts] == [
            ("over PVAccess", "pva"),
            ("over Channel Access", "ca"),
        ]


async def test_old_puts_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    async with sql(dsn) as connection:
        await connection.execute(
            "INSERT INTO attpc.puts (put_at, pv, ok) VALUES "
            "(now() - interval '11 days', 'old', true), (now() - interval '9 days', 'young', true)"
        )
    async with history_rig(tmp_path, monkeypatch, dsn, section="put_log_days = 10") as it:
        async with sql(dsn) as connection:

            async def forgotten() -> bool:
                return not await connection.fetchval("SELECT count(*) FROM attpc.puts WHERE pv = 'old'")

            await eventually(forgotten, "the old put forgotten")
            assert await connection.fetchval("SELECT count(*) FROM attpc.puts WHERE pv = 'young'") == 1
        await drained(it)


async def test_without_any_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_place: Callable[[], Path]
) -> None:
    """No DSN: the IOC answers at once, makes a database of its own meanwhile, and ends it with itself."""
    folder = postgres_place()
    for name in ("PGHOST", "PGSERVICE", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)
    section = {f"plugins.{NAME}": f'data_dir = "{folder}"'}
    async with rig(tmp_path, monkeypatch, plugins=given_plugins(), **section) as it:
        await connected(it, 30.0)
        await it.ok("Run:Experiment", EXPERIMENT)
        await it.start_run()
        await it.ok("Run:Stop")
        await drained(it)
        assert servers_in(folder / "data", folder / "server.lock")
        await it.stop_ioc()
        await eventually(
            lambda: not servers_in(folder / "data", folder / "server.lock"), "the server ended", 5.0
        )


async def test_an_ordinary_life_has_no_warnings(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    postgres_place: Callable[[], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    section = {f"plugins.{NAME}": f'data_dir = "{postgres_place()}"'}
    async with rig(tmp_path, monkeypatch, plugins=given_plugins(), **section) as it:
        await connected(it, 30.0)
        await it.start_run()
        await it.ok("Run:Stop")
        await drained(it)
    said = [r for r in caplog.records if r.name.startswith("attpc_plugins.run_history")]
    assert any(r.getMessage() == "database connected" for r in said)
    warnings = [f"{r.getMessage()} {r.__dict__.get('keys')}" for r in said if r.levelno >= logging.WARNING]
    # A disk that is slow at the time has a right to its warning.
    assert [text for text in warnings if "disk is slow" not in text] == []
