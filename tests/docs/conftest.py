from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import place as passable


@pytest.fixture
def state_home() -> Iterator[dict[str, str]]:
    """Return the variable that names a state home which the account of root's database can reach too."""
    with passable() as folder:
        yield {"XDG_STATE_HOME": str(folder)}
