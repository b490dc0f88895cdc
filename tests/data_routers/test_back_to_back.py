"""Runs back to back: the next one begins while the files of the last one are still written and closed."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from attpc_plugins.data_routers.hosts.names import sender_of, stream_of
from attpc_plugins.data_routers.model import CloseState

from attpc_ioc.model.command import RUN
from attpc_ioc.model.states import State
from attpc_ioc.simulator.data.host import DataHost
from attpc_ioc.simulator.data.options import Access
from tests.data_routers.test_start_listing import AT_ONCE, closed, entries_of
from tests.support.data_rig import QUICK_DATA, data_rig, section, shown, stop_run
from tests.support.graw import read_graw
from tests.support.pace import busy
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig
from tests.support.sshd import Sshd

BUFFERED = replace(QUICK_DATA, tick_s=0.02, drain_s=0.8, cobo_bytes_s=4e5, file_limit_bytes=40_000)
"""Data come long after the stop, in many parts."""
OVERLAP = {"quiet_s": 1.5}
"""Longer than a run: two are being closed when the next begins."""


@pytest.fixture(params=[Access.LOCAL, Access.SSH, "sshd"])
def files_way(request: pytest.FixtureRequest) -> Access | Sshd:
    """Give each way to a host whose files have names, and a real server."""
    return request.param if isinstance(request.param, Access) else request.getfixturevalue("shared_sshd")


async def ready(it: Rig) -> None:
    await it.take_to(State.READY)
    await it.until(lambda: it.run.next_number >= 0 and not it.run.checklist, 30.0, "a start is possible")


async def start_soon(it: Rig) -> float:
    """Start a run as soon as it is accepted; returns how long that took."""
    began_s, waited = time.monotonic(), [0.0]
    while not (outcome := await it.submit("Start", RUN)).ok:
        assert "data router" in outcome.message, outcome.message
        assert time.monotonic() - began_s < PATIENCE_S, outcome.message
        await asyncio.sleep(0.02)
        waited.append(time.monotonic() - began_s)
    return waited[-1]


async def all_write(it: Rig) -> None:
    """Wait until every sender has begun a stream of this run."""
    hosts = list(it.fleet.data)
    wanted = {sender for host in hosts for sender in host.writer._names}
    before = {stream_of(path.name) for host in hosts for path in host.staging.rglob("*.graw")}

    def begun() -> set[str]:
        names = [path.name for host in hosts for path in host.files()]
        return {sender_of(name) for name in names if stream_of(name) not in before}

    await it.until(lambda: begun() >= wanted, PATIENCE_S, "every sender has begun")


def events_of(folder: Path) -> dict[str, dict[str, list[int]]]:
    """Return the event numbers in a run's folder, by sender and stream."""
    found: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob("*.graw")):
        graw = read_graw(path)
        assert graw.rest == 0, path
        found[sender_of(path.name)][stream_of(path.name)] += graw.events
    return {sender: dict(streams) for sender, streams in found.items()}


def folder_of(it: Rig, host: DataHost, number: int) -> Path:
    return host.staging / it.run.experiment / f"run_{number:04d}"


def check_all(it: Rig, numbers: list[int]) -> None:
    """Every run's folder has one stream of each sender with all its events; nothing else is left."""
    hosts = list(it.fleet.data)
    for number in numbers:
        lasts = set()
        for host in hosts:
            found = events_of(folder_of(it, host, number))
            assert found.keys() == set(host.writer._names), (number, host.name)
            for sender, streams in found.items():
                ((stream, events),) = streams.items()
                assert events == list(range(len(events))), (number, sender, stream)
                lasts.add(len(events))
        assert len(lasts) == 1, f"run {number}: boards have {lasts} events"
    for host in hosts:
        assert not host.files()
        files = list(host.staging.rglob("*.graw"))
        assert sum(path.stat().st_size for path in files) == host.written_bytes


@pytest.mark.timing
async def test_ten_runs_back_to_back(tmp_path, monkeypatch, files_way):
    """With data that come late: all are in their run's folder, and no time is lost."""
    text = section(closing=OVERLAP)
    async with data_rig(
        tmp_path, monkeypatch, access=files_way, data=BUFFERED, text=text, durations=AT_ONCE, cobos=2
    ) as it:
        await ready(it)
        numbers, waits = [], []
        for _ in range(10):
            waits.append(await start_soon(it))
            numbers.append(it.run.number)
            await all_write(it)
            await it.until(lambda: shown(it, "CoBo0:Router:Written_RBV") > 0.0, PATIENCE_S, "it is counted")
            await stop_run(it)
            assert any(e.state is not CloseState.DONE for e in entries_of(it, numbers[-1]))
        await closed(it, *numbers)
        check_all(it, numbers)
        print("WAITS", [round(w, 2) for w in waits])
        assert sorted(waits[1:])[4] < 1.0 * busy(), waits
        for host in it.fleet.data:
            assert shown(it, f"{host.source}:Router:Clean_RBV") == 1
