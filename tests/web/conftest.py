"""Databases, for tests of runs."""

from __future__ import annotations

from tests.support.postgres import (  # noqa: F401
    database,
    database_place,
    dsn,
    no_variables,
    postgres_place,
    postgres_server,
)
