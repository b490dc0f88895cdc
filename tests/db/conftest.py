from __future__ import annotations

from tests.support.postgres import (  # noqa: F401
    database,
    dsn,
    empty_dsn,
    postgres_place,
    postgres_server,
)
