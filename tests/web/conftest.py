"""What the tests of the page share: a browser, and databases for tests of runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.browser import chromium
from tests.support.needs import missing, skip
from tests.support.postgres import (  # noqa: F401
    database,
    database_place,
    dsn,
    no_variables,
    postgres_place,
    postgres_server,
)


@pytest.fixture(scope="session")
def browser() -> Iterator[str]:
    """Chromium, once for all tests of this process; the address at which it is driven."""
    if missing("chromium"):
        skip("chromium")
    with chromium() as at:
        yield at
