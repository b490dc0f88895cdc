"""Connections to databases that cannot be made, as tests ask for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from attpc_plugins.run_history.connection.database import Database, DatabaseKeys, locate
from attpc_plugins.run_history.errors import DatabaseError

SECRET = "s3cr3t/p@ss#w:rd"
QUOTED = "s3cr3t%2Fp%40ss%23w%3Ard"


def at(dsn: str) -> Database:
    return locate(DatabaseKeys(dsn=dsn), Path("/nowhere"))


async def fault(database: Database, kind: type[DatabaseError], **limits: float) -> str:
    """Return why no connection can be made; it must be of that kind and hold no password."""
    with pytest.raises(kind) as caught:
        await database.connect(**limits)
    text = str(caught.value)
    assert SECRET not in text
    assert QUOTED not in text
    assert database.key in text
    return text
