from __future__ import annotations

from tests.support.postgres import database, dsn, postgres_server  # noqa: F401
