"""How often what is kept of a run may be changed."""

from __future__ import annotations

import pytest
from attpc_plugins.run_history.pvs import edit_limit
from attpc_plugins.run_history.pvs.edit_limit import CHANGES_ALL, CHANGES_EACH, EditLimit

from attpc_ioc.errors import Refused
from attpc_ioc.model.command import Who


def who(host: int, port: int = 1) -> Who:
    return Who("u", "h", f"10.0.0.{host}:{port}")


def test_a_host_changes_a_pv_so_often_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(edit_limit.time, "monotonic", lambda: now[0])
    limit = EditLimit()
    for port in range(CHANGES_EACH):
        limit.take("Run:Comment", who(1, port))
    with pytest.raises(Refused, match=r"^Run:Comment: too many changes, 120 from this host .*; wait 60 s$"):
        limit.take("Run:Comment", who(1))
    limit.take("Run:Quality", who(1))
    for _ in range(CHANGES_ALL - CHANGES_EACH):
        limit.take("Run:Comment", who(2))
    limit.take("Run:Comment", who(3))
    with pytest.raises(Refused):
        limit.take("Run:Comment", who(3))
    now[0] += 60
    limit.take("Run:Comment", who(1))
