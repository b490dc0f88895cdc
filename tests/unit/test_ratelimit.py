"""The limit of what is reported one by one."""

from __future__ import annotations

from attpc_ioc.ratelimit import Counted, RateLimit
from tests.support.ca import eventually


async def test_the_first_items_pass_and_the_rest_are_reported_by_their_number() -> None:
    reports: list[list[Counted[int]]] = []
    limit = RateLimit(reports.append, window_s=0.05, each=3, in_all=4)
    assert [limit.passes("a", item) for item in range(5)] == [True] * 3 + [False] * 2
    assert [limit.passes("b", item, count_only=item == 10) for item in range(10, 15)] == [
        False,
        True,
        False,
        False,
        False,
    ]
    await eventually(lambda: bool(reports))
    assert reports == [[Counted(10, 14, passed=1, number=4), Counted(3, 4, passed=3, number=2)]]
    assert limit.passes("a", 20)
    limit.end()
    assert len(reports) == 1, "nothing was counted"
