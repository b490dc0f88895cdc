"""The faults of boards, as they are seen in the files."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from attpc_ioc.model.states import State
from attpc_ioc.simulator.data.host import DataHost
from attpc_ioc.simulator.data.options import DataOptions
from attpc_ioc.simulator.data.orders import Amounts, HostFault, switch
from attpc_ioc.simulator.durations import INSTANT
from attpc_ioc.simulator.fleet import SimulatedFleet
from tests.support.graw import Graw, read_graw
from tests.support.simfleet import take_up, wait_until

OPTIONS = DataOptions(trigger_hz=200.0, drain_s=0.0, asads=2, tick_s=0.02)


@pytest.fixture
async def fleet() -> AsyncIterator[SimulatedFleet]:
    """A fleet of which CoBo 0 is to be disturbed, with a run that is on."""
    async with SimulatedFleet(2, durations=INSTANT, data=OPTIONS) as made:
        await take_up(made, State.RUNNING)
        await wait_until(lambda: all(newest(host) > 5 for host in made.data), what="events")
        yield made


def files(host: DataHost, stream: str = "AsAd0") -> list[Path]:
    return [path for path in host.files() if stream in path.name or "MuTanT" in path.name]


def last(host: DataHost, stream: str = "AsAd0") -> Graw:
    """The newest file of a board."""
    found = files(host, stream)
    return read_graw(found[-1]) if found else Graw((), 0)


def newest(host: DataHost, stream: str = "AsAd0") -> int:
    return max(last(host, stream).events, default=-1)


async def more(host: DataHost, events: int = 20) -> None:
    """Wait until so many more frames of the MuTAnT (or of another) are written."""
    size = sum(host.sizes())
    each = last(host).frames[0].length
    await wait_until(lambda: sum(host.sizes()) > size + events * each, what="more frames")


def apart(host: DataHost, other: DataHost) -> list[int]:
    """By how many ticks the times of the same events differ."""
    times = {frame.event: frame.ticks for frame in last(other).frames}
    return [frame.ticks - times[frame.event] for frame in last(host).frames if frame.event in times]


async def test_late_by_a_constant_time(fleet: SimulatedFleet) -> None:
    host, mutant = fleet.data["CoBo[0]"], fleet.data["Mutant[master]"]
    await switch(host, HostFault.DATA_LATE, amounts=Amounts(extra_s=0.3))
    seen = newest(host)
    await more(mutant, 30)
    assert newest(host) == seen
    await wait_until(lambda: newest(host) > seen + 20)
    assert newest(mutant) - newest(host) > 0.3 * 200 - 20
    await switch(host, HostFault.DATA_LATE, on=False)
    await wait_until(lambda: abs(newest(mutant) - newest(host)) < 20, what="caught up")
    assert last(host).events == list(range(len(last(host).frames)))


async def test_further_and_further_behind(fleet: SimulatedFleet) -> None:
    host, mutant = fleet.data["CoBo[0]"], fleet.data["Mutant[master]"]
    await switch(host, HostFault.DATA_BEHIND, amounts=Amounts(factor=0.25))
    for behind in (40, 120):
        await wait_until(lambda b=behind: newest(mutant) - newest(host) > b, what=f"{behind} behind")
    await fleet.call("mutant", "Stop")
    await switch(host, HostFault.DATA_BEHIND, on=False)
    await wait_until(lambda: newest(mutant) == newest(host), what="caught up")
    assert last(host).events == last(mutant).events == list(range(len(last(host).frames)))


async def test_lost_events(fleet: SimulatedFleet) -> None:
    host = fleet.data["CoBo[0]"]
    await switch(host, HostFault.DATA_LOSE, amounts=Amounts(factor=0.5))
    await more(fleet.data["Mutant[master]"], 60)
    for stream in ("AsAd0", "AsAd1"):
        events = last(host, stream).events
        assert events == sorted(set(events))
        missing = set(range(events[-1])) - set(events)
        assert len(missing) > 10
    assert last(host, "AsAd0").events != last(host, "AsAd1").events


async def test_a_counter_that_is_reset_in_the_run(fleet: SimulatedFleet) -> None:
    host = fleet.data["CoBo[0]"]
    await switch(host, HostFault.DATA_RESET)
    await wait_until(lambda: len(files(host)) == 2 and newest(host) > 10)
    first, second = (read_graw(path) for path in files(host))
    assert {path.name[-10:] for path in files(host)} == {"_0000.graw"}
    assert second.events == list(range(len(second.frames)))
    assert second.frames[0].ticks > first.frames[-1].ticks, "the clock goes on"
    # It is over with the next run.
    for operation in ("Stop", "Breakup", "Configure", "Start"):
        await fleet.call("mutant", operation)
    await wait_until(lambda: not host.faults.reset)
    await wait_until(lambda: len(files(host)) == 3 and newest(host) > 0)
    mutant = fleet.data["Mutant[master]"]
    await wait_until(lambda: len(set(apart(host, mutant))) == 1)


@pytest.mark.parametrize("shift", [7, -3])
async def test_out_of_step(fleet: SimulatedFleet, shift: int) -> None:
    host, mutant = fleet.data["CoBo[0]"], fleet.data["Mutant[master]"]
    right = apart(host, mutant)[0]
    await switch(host, HostFault.DATA_SHIFT, amounts=Amounts(events=shift))
    await more(mutant, 20)
    assert len(files(host)) == (1 if shift > 0 else 2), "a number that is not larger begins a stream"
    jumps = [b - a for path in files(host) for a, b in itertools.pairwise(read_graw(path).events)]
    assert sorted(set(jumps)) == ([1, 1 + shift] if shift > 0 else [1])
    # The event that has the same number was another one.
    await wait_until(lambda: apart(host, mutant)[-1] - right == pytest.approx(-shift * 5e5, abs=2.5e5))


async def test_a_clock_that_jumps(fleet: SimulatedFleet) -> None:
    host, mutant = fleet.data["CoBo[0]"], fleet.data["Mutant[master]"]
    right = set(apart(host, mutant))
    assert len(right) == 1
    await switch(host, HostFault.DATA_CLOCK, amounts=Amounts(extra_s=1.5e-7))
    await more(mutant)
    await switch(host, HostFault.DATA_CLOCK, on=False)
    await more(mutant)
    found = apart(host, mutant)
    assert set(found) == right | {time + 15 for time in right}
    assert [time for time, _ in itertools.groupby(found)] == [*right, *(time + 15 for time in right), *right]


async def test_a_torn_frame(fleet: SimulatedFleet) -> None:
    host = fleet.data["CoBo[0]"]
    await switch(host, HostFault.DATA_TORN)
    await more(fleet.data["Mutant[master]"])
    assert not host.faults.torn
    assert last(host, "AsAd0").rest > 0
    assert last(host, "AsAd1").rest == 0
    assert host.files()[0].stat().st_size % 256


async def test_full_readout(fleet: SimulatedFleet) -> None:
    host = fleet.data["CoBo[0]"]
    await switch(host, HostFault.DATA_FULL)
    await more(fleet.data["Mutant[master]"])
    await switch(host, HostFault.DATA_FULL, on=False)
    await more(fleet.data["Mutant[master]"])
    found = last(host)
    kinds = [kind for kind, _ in itertools.groupby(frame.type for frame in found.frames)]
    assert (kinds, found.rest) == ([1, 2, 1], 0)
    assert {frame.length for frame in found.frames if frame.type == 2} == {278_784}


async def test_what_was_stopped_is_missing(fleet: SimulatedFleet) -> None:
    host, mutant = fleet.data["CoBo[0]"], fleet.data["Mutant[master]"]
    await switch(host, HostFault.DATA_STOP)
    await more(mutant)
    await switch(host, HostFault.DATA_STOP, on=False)
    await more(mutant)
    gaps = [b - a for a, b in itertools.pairwise(last(host).events) if b - a > 1]
    assert len(gaps) == 1
    assert gaps[0] >= 20
