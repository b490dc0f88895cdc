"""Runs back to back: each is started as soon as it is accepted; whether all files are in their folders."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from attpc_plugins.data_routers.closing import manifest
from attpc_plugins.data_routers.hosts.names import sender_of, stream_of

from attpc_ioc.model.command import RUN
from attpc_ioc.model.states import State
from attpc_ioc.simulator.data.host import DataHost
from tests.support.data_rig import QUICK_DATA
from tests.support.graw import read_graw
from tests.support.pace import Stopwatch
from tests.support.patience import PATIENCE_S
from tests.support.rig import Rig

BUFFERED = replace(QUICK_DATA, tick_s=0.02, drain_s=0.8, cobo_bytes_s=4e5, file_limit_bytes=40_000)
"""Data come long after the stop, in many parts."""
OVERLAP = {"quiet_s": 1.5}
"""Longer than a run: two are being closed when the next begins."""


async def ready(it: Rig) -> None:
    await it.take_to(State.READY)
    await it.until(lambda: it.run.next_number >= 0 and not it.run.checklist, 30.0, "a start is possible")


async def start_soon(it: Rig) -> float:
    """Start a run as soon as it is accepted, and wait until all write; returns how long the start took."""
    hosts = list(it.fleet.data)
    wanted = {sender for host in hosts for sender in host.writer._names}
    before = streams_now(hosts)
    taking, waited = Stopwatch(programs=True), [0.0]
    while not (outcome := await it.submit("Start", RUN)).ok:
        assert "data router" in outcome.message, outcome.message
        assert taking.wall_s < PATIENCE_S, outcome.message
        await asyncio.sleep(0.02)
        waited.append(taking.s)

    def begun() -> set[str]:
        return {sender_of(f"{stream}_0000.graw") for stream in streams_now(hosts) - before}

    await it.until(lambda: begun() >= wanted, PATIENCE_S, "every sender has begun")
    return waited[-1]


async def another_stream(it: Rig) -> None:
    """Wait until a sender has begun a further stream."""
    hosts = list(it.fleet.data)
    before = streams_now(hosts)
    await it.until(lambda: streams_now(hosts) - before, PATIENCE_S, "a further stream has begun")


def streams_now(hosts: Sequence[DataHost]) -> set[str]:
    """Return the streams of which there is a file."""
    # Folders get other names meanwhile.
    names = [name for host in hosts for _, _, found in os.walk(host.staging) for name in found]
    return {stream_of(name) for name in names} - {""}


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


def counted(folder: Path, label: str) -> dict[str, list[list[int]]]:
    """Return the event numbers that a run's manifest tells of, by sender: of each stream from 0 to its last.

    Of the streams but the last the manifest has only their frames together.
    """
    streams = manifest.load((folder / manifest.FILE_NAME).read_bytes(), label).streams
    assert streams is not None
    found = {}
    for stream in streams:
        assert (stream.first, stream.missing, stream.back, stream.torn) == (0, 0, 0, 0), stream
        assert stream.frames is not None
        before = stream.frames - stream.last - 1
        assert (before > 0) == (stream.resets > 0) == (stream.resets == 1), stream
        found[stream.sender] = [list(range(n)) for n in (before, stream.last + 1) if n]
    return found


def check_all(
    it: Rig, numbers: list[int], short: Collection[str] = (), resets: Collection[str] = ()
) -> list[set[str]]:
    """Every run's folder has one stream of each sender with all its events; nothing else is left.

    Hosts in `short` have lost their last events, those in `resets` have two streams of each sender. Returns
    the streams of the last of these, by run.
    """
    hosts = list(it.fleet.data)
    seen: list[set[str]] = []
    for number in numbers:
        lasts = set()
        for host in hosts:
            found = events_of(folder_of(it, host, number))
            assert found.keys() == set(host.writer._names), (number, host.name)
            for sender, streams in found.items():
                assert len(streams) == (2 if host.name in resets else 1), (number, streams.keys())
                for stream, events in streams.items():
                    assert events == list(range(len(events))), (number, sender, stream)
                    if host.name not in short:
                        lasts.add(len(events))
                if host.name in resets:
                    seen.append(set(streams))
            assert counted(folder_of(it, host, number), host.name) == {
                sender: [events for _, events in sorted(streams.items())] for sender, streams in found.items()
            }
        assert len(lasts) == 1, f"run {number}: boards have {lasts} events"
    for host in hosts:
        assert not host.files()
        files = list(host.staging.rglob("*.graw"))
        assert sum(path.stat().st_size for path in files) == host.written_bytes
    return seen
