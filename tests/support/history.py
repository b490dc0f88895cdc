"""The run history in a rig: an IOC with the plugin on a real database."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from attpc_plugins.run_history import plugin as RunHistory
from attpc_plugins.run_history.service import Service
from attpc_plugins.run_history.store import Store

from attpc_ioc.plugin.status import PluginStatus
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig, rig

NAME = "run_history"
EXPERIMENT = "e20009"


def given_plugins() -> list[tuple[str, object]]:
    """The plugin where it is not installed with an entry point of its own."""
    installed = any(point.name == NAME for point in entry_points(group="attpc_ioc"))
    return [] if installed else [(NAME, RunHistory())]


def service(it: Rig) -> Service:
    """The history's own object in the IOC that runs now."""
    history: Any = it.app.host.plugins[NAME].plugin
    assert history.service is not None
    return history.service


@contextlib.asynccontextmanager
async def history_rig(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dsn: str,
    *,
    section: str = "",
    ready: bool = True,
    **options: Any,
) -> AsyncIterator[Rig]:
    """Run a fleet and an IOC with the history on this database; `ready`: wait until it is connected."""
    text = f'dsn = "{dsn}"\n{section}'
    async with rig(
        tmp_path, monkeypatch, plugins=given_plugins(), **{f"plugins.{NAME}": text}, **options
    ) as it:
        if ready:
            await connected(it)
            await it.ok("Run:Experiment", EXPERIMENT)
        yield it


async def connected(it: Rig, limit_s: float = PATIENCE_S) -> None:
    """Wait until a start is not refused because of the history."""
    await it.until(
        lambda: service(it).supervisor.store is not None and service(it).lease.ours.is_set(),
        limit_s,
        f"history connected: {it.app.host.plugins[NAME].message}",
    )


def message(it: Rig) -> str:
    """What the plugin says of itself."""
    return it.app.host.plugins[NAME].message


async def untroubled(it: Rig) -> None:
    """Wait until the plugin says Ok."""
    await it.until(
        lambda: it.app.host.plugins[NAME].status is PluginStatus.OK, PATIENCE_S, "the plugin is Ok"
    )


async def drained(it: Rig, limit_s: float = PATIENCE_S) -> None:
    """Wait until the database has everything that happened."""
    await it.until(lambda: service(it).writer.drained, limit_s, f"everything recorded: {message(it)}")


@contextlib.asynccontextmanager
async def reading(dsn: str) -> AsyncIterator[Store]:
    """A store of the test's own."""
    store = await Store.connect(dsn)
    try:
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def sql(dsn: str) -> AsyncIterator[Any]:
    """A plain connection."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def until(
    done: Callable[[], Awaitable[object]], limit_s: float = PATIENCE_S, what: str = "the condition"
) -> None:
    """Wait for a condition that must be awaited itself."""
    end_s = time.monotonic() + limit_s
    while not await done():
        assert time.monotonic() < end_s, f"{what} was not met within {limit_s} s"
        await asyncio.sleep(0.02)
