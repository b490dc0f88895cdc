from __future__ import annotations

from tests.support.history_shell import full, shell  # noqa: F401
from tests.support.postgres import (  # noqa: F401
    database,
    database_place,
    dsn,
    empty_dsn,
    no_variables,
    postgres_place,
    postgres_server,
)
