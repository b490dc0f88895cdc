"""The trigger of a simulated fleet."""

from __future__ import annotations

import pytest

from attpc_ioc.model.states import State
from attpc_ioc.simulator.boards import Board, Clock
from attpc_ioc.simulator.data.trigger import Burst, Trigger


def test_a_burst_in_pieces_has_the_same_events() -> None:
    whole = Burst(zeroed=1, first=10, count=7, began_ticks=200_000_001, step_ticks=10_000_000, sent_s=100.0)
    events = list(whole.events())
    assert events == [(10 + i, 200_000_001 + i * 10_000_000) for i in range(7)]
    for time_s, count in ((99.0, 0), (100.0, 0), (100.25, 2), (100.7, 7), (200.0, 7)):
        due, rest = whole.until(time_s)
        assert (due.count, rest.count) == (count, 7 - count)
        assert [*due.events(), *rest.events()] == events
        assert rest.sent_s == pytest.approx(100.0 + 0.1 * count)


def test_without_a_mutant_each_run_begins_at_0() -> None:
    board = Board("CoBo[0]", Clock())
    trigger = Trigger([board], 10.0)
    assert trigger.advance(1.0).count == 0
    firsts = []
    for state in (State.RUNNING, State.RUNNING, State.READY, State.RUNNING):
        board.state = state
        burst = trigger.advance(1.0)
        firsts.append((burst.zeroed, burst.first, burst.count))
    assert firsts == [(1, 0, 10), (1, 10, 10), (1, 20, 0), (2, 0, 10)]
