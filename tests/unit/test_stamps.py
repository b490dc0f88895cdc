"""Rule 21: stamps increase by at most 30 s of lead; beyond that the clock wins and says so."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from attpc_ioc.ioc.stamps import NS_PER_S, StampClock


class Wall:
    def __init__(self, *times_s: float) -> None:
        self.times = [int(t * NS_PER_S) for t in times_s]

    def __call__(self) -> int:
        return self.times.pop(0) if len(self.times) > 1 else self.times[0]


def test_a_running_clock_is_taken_as_it_is():
    clock = StampClock(Wall(1000.0, 1000.5, 1001.25))
    assert [clock(), clock(), clock()] == [1000.0, 1000.5, 1001.25]
    assert clock.step_s == 0.0


def test_a_clock_that_stands_still_gives_increasing_stamps():
    clock = StampClock(Wall(1000.0))
    stamps = [clock() for _ in range(1000)]
    assert all(a < b for a, b in itertools.pairwise(stamps))
    assert stamps[-1] < 1000.01


def test_a_clock_set_back_by_less_than_the_lead_is_waited_for():
    clock = StampClock(Wall(1000.0, 971.0, 990.0, 999.9, 1000.5))
    stamps = [clock() for _ in range(5)]
    assert stamps == sorted(set(stamps))
    assert stamps[3] < 1000.001
    assert stamps[4] == 1000.5
    assert clock.step_s == 0.0


def test_a_clock_set_back_by_more_wins_and_says_so():
    clock = StampClock(Wall(1000.0, 900.0, 900.0))
    assert clock() == 1000.0
    assert clock() == 900.0
    assert clock.step_s == 100.0
    assert clock() > 900.0
    assert clock.step_s == 100.0


def test_a_clock_set_forward_is_followed_at_once():
    clock = StampClock(Wall(1000.0, 5000.0))
    assert [clock(), clock()] == [1000.0, 5000.0]


@given(st.lists(st.integers(0, 200), min_size=2, max_size=50))
def test_stamps_never_lead_by_more_than_30_s_and_only_go_back_with_a_step(times):
    for t in range(1, len(times)):
        clock = StampClock(Wall(*times))
        stamps = [clock() for _ in range(t + 1)]
        assert stamps[-1] - times[t] <= 30
        if stamps != sorted(set(stamps)):
            assert clock.step_s >= 29.9
