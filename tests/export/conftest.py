from __future__ import annotations

from pathlib import Path

import pytest

from attpc_ioc.export.screens import screens
from attpc_ioc.pvs.table import PvEntry
from tests.export.bobfiles import OBSERVABLES, Shown, shown, table_of
from tests.support.postgres import database, dsn, postgres_place, postgres_server  # noqa: F401


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[PvEntry, ...]:
    return table_of(Path(tmp_path_factory.mktemp("fleet")), extra=OBSERVABLES)


@pytest.fixture(scope="session")
def files(table: tuple[PvEntry, ...]) -> dict[str, str]:
    return screens(table, tables=True)


@pytest.fixture(scope="session")
def widgets(files: dict[str, str]) -> list[Shown]:
    return shown(files)
