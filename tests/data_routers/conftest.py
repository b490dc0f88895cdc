"""Hosts that the tests of the data routers share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from attpc_plugins.data_routers.state import Records

from attpc_ioc.simulator.data.options import Access
from tests.support.closings import records_in
from tests.support.datahosts import Place, place
from tests.support.sshd import Sshd, sshd_server


@pytest.fixture(scope="session")
def shared_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """Run one server for all tests that leave it as it is."""
    with sshd_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest_asyncio.fixture(params=["local", "ssh"])
async def at(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Give a staging folder, reached in each way."""
    server = request.getfixturevalue("shared_sshd") if request.param == "ssh" else None
    async with place(tmp_path / "staging", server) as made:
        yield made


@pytest.fixture(params=[*Access, "sshd"])
def way(request: pytest.FixtureRequest) -> Access | Sshd:
    """Give each way to a simulated host, and a real server."""
    return request.param if isinstance(request.param, Access) else request.getfixturevalue("shared_sshd")


@pytest_asyncio.fixture
async def records(tmp_path: Path) -> AsyncIterator[Records]:
    """Give what the plugin keeps, in a new state directory."""
    async with records_in(tmp_path / "state") as made:
        yield made
