"""The judging of what routers tell: only time and numbers go in, so any course of events can be tried."""

from __future__ import annotations

import math

import pytest
from attpc_plugins.data_routers.watch.flow import (
    NEVER_FULL_H,
    Count,
    Delayed,
    DelayedLevel,
    Flow,
    FlowJudge,
    Meter,
    below_level,
    far_below,
    full_level,
    hours_to_full,
)
from hypothesis import given
from hypothesis import strategies as st

GB = 10**9

steps = st.floats(0.01, 30.0)
"""Seconds between two looks."""

counts = st.builds(Count, st.integers(0, 50), st.integers(0, 10 * GB))


# ---------------------------------------------------------------------- the meter


def test_what_was_there_before_does_not_count():
    meter = Meter(window_s=10.0, quiet_s=30.0)
    meter.take(0.0, Count(3, 5 * GB))
    assert meter.written == Count()
    assert meter.start(1.0) == Count(3, 5 * GB)
    meter.take(2.0, Count(4, 5 * GB + 300))
    assert meter.written == Count(1, 300)
    assert meter.rate == pytest.approx(300 / 1.0)
    assert meter.grew_s == 2.0


def test_without_a_look_before_the_run_its_first_look_is_what_was_there():
    meter = Meter(10.0, 30.0)
    assert meter.start(0.0) is None
    meter.take(1.0, Count(2, 700))
    assert meter.written == Count()
    meter.take(2.0, Count(2, 900))
    assert meter.written == Count(0, 200)


def test_a_run_that_is_found_on_counts_all_that_was_not_there_at_its_beginning():
    meter = Meter(10.0, 30.0)
    meter.resume(100.0, Count(1, 1000))
    meter.take(100.1, Count(4, 9 * GB))
    assert meter.written == Count(3, 9 * GB - 1000)
    assert meter.rate == 0.0, "nobody saw when it came"
    assert meter.grew_s is None
    meter.take(102.1, Count(4, 9 * GB + 2000))
    assert meter.rate == pytest.approx(1000.0)


def test_the_rate_is_that_of_the_window():
    meter = Meter(window_s=10.0, quiet_s=30.0)
    meter.start(0.0)
    meter.take(0.0, Count())
    for second in range(1, 101):
        meter.take(float(second), Count(1, 1000 * second))
    assert meter.rate == pytest.approx(1000.0)
    for second in range(101, 106):
        meter.take(float(second), Count(1, 100_000))
    assert meter.rate == pytest.approx(500.0)
    for second in range(106, 120):
        meter.take(float(second), Count(1, 100_000))
    assert meter.rate == 0.0


def test_late_data_count_until_the_files_are_moved():
    meter = Meter(10.0, 30.0)
    meter.take(0.0, Count())
    meter.start(0.0)
    meter.take(1.0, Count(1, 1000))
    meter.stop(2.0)
    meter.take(3.0, Count(1, 1500))
    assert meter.written.data_bytes == 1500
    meter.take(4.0, Count(0, 0))
    assert (meter.written, meter.rate) == (Count(1, 1500), 0.0)
    meter.take(5.0, Count(1, 777))  # somebody's stray file
    assert meter.written == Count(1, 1500)


def test_a_sentry_reports_the_last_bytes_after_it_has_moved_the_files():
    meter = Meter(10.0, quiet_s=30.0)
    meter.take(0.0, Count(0, 5 * GB))
    meter.start(0.0)
    meter.take(2.0, Count(4, 5 * GB + 1000))
    meter.stop(3.0)
    meter.take(45.0, Count(0, 5 * GB + 1700))
    assert meter.written == Count(4, 1700)
    meter.take(47.0, Count(0, 5 * GB + 9999))
    assert meter.written == Count(4, 1700)


def test_strays_long_after_a_run_do_not_count():
    meter = Meter(10.0, quiet_s=30.0)
    meter.take(0.0, Count())
    meter.start(0.0)
    meter.take(1.0, Count(1, 1000))
    meter.stop(2.0)
    meter.take(33.0, Count(1, 1000))
    meter.take(35.0, Count(2, 5000))
    assert meter.written == Count(1, 1000)


@given(st.lists(st.tuples(steps, counts, st.sampled_from(["", "start", "stop", "resume"]))))
def test_whatever_files_do_nothing_is_ever_negative(course):
    meter, now_s = Meter(10.0, 30.0), 0.0
    for step, seen, event in course:
        now_s += step
        before = meter.written
        if event == "start":
            meter.start(now_s)
        elif event == "resume":
            meter.resume(now_s, Count(1, GB))
        elif event == "stop":
            meter.stop(now_s)
        meter.take(now_s, seen)
        assert meter.rate >= 0.0
        assert math.isfinite(meter.rate)
        if event not in ("start", "resume"):
            assert meter.written.files >= before.files
            assert meter.written.data_bytes >= before.data_bytes
        assert meter.grew_s is None or meter.grew_s <= now_s


@given(st.lists(st.tuples(st.floats(0.1, 5.0), st.integers(0, GB)), min_size=1))
def test_what_grows_is_counted_to_the_byte(course):
    meter, now_s, there = Meter(10.0, 30.0), 0.0, Count(7, 12345)
    meter.take(now_s, there)
    meter.start(now_s)
    samples = [(now_s, 0)]
    for step, grown in course:
        now_s += step
        there = Count(there.files + 1, there.data_bytes + grown)
        meter.take(now_s, there)
        samples.append((now_s, there.data_bytes - 12345))
    assert meter.written == Count(len(course), sum(grown for _, grown in course))
    # From the last look that is at least a window old, or from the beginning.
    old = [sample for sample in samples if sample[0] <= now_s - 10.0]
    first_s, first = old[-1] if old else samples[0]
    expected = (meter.written.data_bytes - first) / (now_s - first_s)
    assert meter.rate == pytest.approx(expected, rel=1e-6)


# ---------------------------------------------------------------------- conditions that must last


def test_a_blink_is_nothing():
    gone = Delayed(4.0)
    assert not gone.judge(0.0, True)
    assert gone.due_s == 4.0
    assert not gone.judge(3.9, True)
    assert not gone.judge(3.95, False)
    assert gone.due_s is None
    assert not gone.judge(4.0, True)
    assert gone.judge(8.0, True)
    assert gone.due_s is None
    assert not gone.judge(8.1, False)


@given(st.floats(0.1, 60.0), st.lists(st.tuples(steps, st.booleans()), min_size=1))
def test_only_what_has_held_all_the_time_is_reported(after_s, course):
    delayed, now_s, since_s = Delayed(after_s), 0.0, None
    for step, holds in course:
        now_s += step
        since_s = (now_s if since_s is None else since_s) if holds else None
        told = delayed.judge(now_s, holds)
        assert told == (since_s is not None and now_s >= since_s + after_s)
        assert (delayed.due_s is not None) == (holds and not told)
    if (due_s := delayed.due_s) is not None:
        assert due_s > now_s
        assert delayed.judge(due_s, True), "looked at when it is due, it is told"


def test_the_worse_level_takes_its_own_time():
    disk = DelayedLevel(4.0)
    assert disk.judge(0.0, 1) == 0
    assert disk.judge(4.0, 2) == 1
    assert disk.due_s == 8.0
    assert disk.judge(8.0, 2) == 2
    assert disk.judge(9.0, 1) == 1
    assert disk.judge(10.0, 0) == 0


# ---------------------------------------------------------------------- the flow


def test_dead_begins_after_its_time_and_ends_with_the_first_byte():
    judge = FlowJudge(dead_after_s=10.0, low_after_s=20.0)
    assert judge.judge(0.0, running=False, grew_s=None, low=False) is Flow.IDLE
    assert judge.judge(1.0, running=True, grew_s=None, low=False) is Flow.IDLE
    assert judge.judge(2.0, running=True, grew_s=2.0, low=False) is Flow.FLOWING
    assert judge.due_s == 12.0
    assert judge.judge(11.9, running=True, grew_s=2.0, low=False) is Flow.FLOWING
    assert judge.judge(12.0, running=True, grew_s=2.0, low=False) is Flow.DEAD
    assert judge.silent_since_s == 2.0
    assert judge.judge(13.0, running=True, grew_s=13.0, low=False) is Flow.FLOWING
    assert judge.judge(14.0, running=False, grew_s=13.0, low=False) is Flow.IDLE


def test_what_never_gave_a_byte_is_dead_too():
    judge = FlowJudge(10.0, 20.0)
    assert judge.judge(5.0, running=True, grew_s=None, low=True) is Flow.IDLE
    assert judge.judge(15.0, running=True, grew_s=None, low=True) is Flow.DEAD


def test_what_can_get_no_data_any_more_is_dead_at_once():
    judge = FlowJudge(10.0, 20.0)
    assert judge.judge(1.0, running=True, grew_s=1.0, low=False) is Flow.FLOWING
    assert judge.judge(1.5, running=True, grew_s=1.0, low=False, cut=True) is Flow.DEAD
    assert judge.silent_since_s == 1.0
    assert judge.judge(1.6, running=True, grew_s=1.0, low=False) is Flow.FLOWING
    assert judge.judge(2.0, running=False, grew_s=1.0, low=False, cut=True) is Flow.IDLE


def test_low_begins_after_its_time():
    judge = FlowJudge(10.0, 20.0)
    seen = [judge.judge(float(t), running=True, grew_s=float(t), low=t >= 5) for t in range(30)]
    assert seen == [Flow.FLOWING] * 25 + [Flow.LOW] * 5
    assert judge.judge(30.0, running=True, grew_s=30.0, low=False) is Flow.FLOWING


@given(
    st.floats(0.5, 60.0),
    st.lists(st.tuples(st.floats(0.01, 3.0), st.booleans(), st.booleans(), st.booleans()), min_size=1),
)
def test_dead_and_alive_are_never_taken_for_each_other(dead_after_s, course):
    """Dead exactly where it has been Running, without a byte, for the time that the settings say."""
    judge = FlowJudge(dead_after_s, low_after_s=5.0)
    now_s, grew_s, silent_s = 0.0, None, None
    for step, running, grows, low in course:
        now_s += step
        if grows:
            grew_s = now_s
        if not running:
            silent_s = None
        elif silent_s is None or grows:
            silent_s = now_s
        flow = judge.judge(now_s, running=running, grew_s=grew_s, low=low)
        assert (flow is Flow.DEAD) == (silent_s is not None and now_s >= silent_s + dead_after_s)
        if not running:
            assert flow is Flow.IDLE
        if running and flow is not Flow.DEAD:
            assert judge.due_s is not None
            assert now_s < judge.due_s <= now_s + dead_after_s


# ---------------------------------------------------------------------- comparisons


def test_far_below_the_others():
    assert not far_below(0.0, (), 0.3)
    assert far_below(1.0, (10.0, 10.0, 0.0), 0.3)
    assert not far_below(3.0, (10.0, 10.0, 10.0), 0.3)
    assert not far_below(0.0, (0.0, 0.0, 10.0), 0.3), "all are silent: that is no CoBo's own fault"
    assert not far_below(1.0, (10.0,), 0.0), "switched off"


def test_time_to_full():
    assert hours_to_full(360 * GB, 100e6) == pytest.approx(1.0)
    assert hours_to_full(5, 0.0) == NEVER_FULL_H
    assert hours_to_full(10**18, 1.0) == NEVER_FULL_H
    assert hours_to_full(-1, 10.0) == 0.0
    assert full_level(NEVER_FULL_H, minor_h=1e6, remaining_s=None) == 0
    assert full_level(1.9, minor_h=2.0, remaining_s=None) == 1
    assert full_level(1.9, minor_h=2.0, remaining_s=3600.0) == 1
    assert full_level(1.9, minor_h=2.0, remaining_s=7200.0) == 2
    assert full_level(3.0, minor_h=2.0, remaining_s=4 * 3600.0) == 2
    assert full_level(3.0, minor_h=2.0, remaining_s=3600.0) == 0


def test_levels_of_free_disk():
    assert [below_level(free, minor=100.0, major=20.0) for free in (101, 100, 21, 20, 0)] == [0, 1, 1, 2, 2]


def test_what_the_closing_has_found_is_final():
    meter = Meter(10.0, 1.0)
    meter.take(0.0, Count())
    meter.start(0.0)
    meter.take(1.0, Count(1, 100))
    meter.settle(Count(1, 5))
    assert meter.written == Count(1, 100), "not while the run is on"
    meter.stop(1.5)
    meter.settle(Count(2, 150))
    meter.take(2.0, Count(0, 0))
    assert meter.written == Count(2, 150)
    assert meter.rate == 0.0
