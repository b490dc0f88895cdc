"""Two IOCs with a fleet each, on one database and one experiment, start runs at the same time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from attpc_plugins.run_history.embedded.server import EmbeddedServer
from attpc_plugins.run_history.store import prepare_schema

from tests.support.postgres import programs, url_of
from tests.support.thorough import examples
from tests.support.two_iocs import check, two_iocs

STARTS = examples(8, 40)
"""Of each IOC; `python -m benchmarks.history_two_iocs` does a hundred."""


@pytest.mark.timeout(180)
async def test_two_iocs_at_once_never_get_the_same_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_place: Callable[[], Path]
) -> None:
    # A server with all its durability: the race is as it is in the laboratory.
    server = EmbeddedServer(postgres_place(), binaries=programs(), purpose="a test")
    await server.start_soon()
    try:
        dsn = url_of(server)
        await prepare_schema(dsn)
        first, second = await two_iocs(tmp_path, monkeypatch, dsn, STARTS)
        assert len(first.numbers) == len(second.numbers) == STARTS
        await check(dsn, first, second)
    finally:
        await server.stop_soon()
