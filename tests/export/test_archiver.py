"""The archiver's request, and that a busy fleet makes no sample that its engine would lose."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from datetime import datetime

import pytest

from attpc_ioc.export.archiver import archive_requests, archiver_text
from attpc_ioc.ioc.stamps import MAX_LEAD_S
from attpc_ioc.model.command import ScopeKind
from attpc_ioc.plugin import hookimpl
from attpc_ioc.pvs.row import Archive, Record, Row
from attpc_ioc.pvs.table import PvEntry
from tests.export.appliance import AHEAD_S, Channel, requests
from tests.export.bobfiles import table_of
from tests.support.ca import Monitor, camonitor, eventually, run
from tests.support.rig import Rig, rig

MAX_ARRAY_BYTES = 16384
"""EPICS_CA_MAX_ARRAY_BYTES of clients where nobody has set it."""
TIME_HEADER = 16
"""Alarm and time stamp before the value, rounded up."""


def test_every_row_with_a_policy_is_asked_for_as_it_says(table: tuple[PvEntry, ...]):
    channels = requests(archiver_text(table))
    policies = {e.name: e.row for e in table if e.row.archive is not Archive.NONE}
    assert channels.keys() == policies.keys()
    for name, channel in channels.items():
        assert channel.method == policies[name].archive.value.upper()
        assert channel.period_s == policies[name].archive_period_s
    assert {channel.method for channel in channels.values()} == {"SCAN", "MONITOR"}


def test_what_ticks_is_scanned_and_what_happens_is_monitored(table: tuple[PvEntry, ...]):
    for entry in table:
        if entry.row.archive is Archive.MONITOR:
            assert not entry.row.live, f"{entry.name} follows time: scan it"
    by_name = {request.pv: request for request in archive_requests(table)}
    assert by_name["T:IOC:HEARTBEAT"].method is Archive.SCAN
    assert by_name["T:CoBo0:Router:Rate_RBV"].method is Archive.SCAN
    assert by_name["T:Run:State_RBV"].method is Archive.MONITOR


@pytest.mark.parametrize("routers", [0, 2])
def test_a_source_without_a_data_router_is_not_archived_as_if_it_had_one(tmp_path, routers):
    asked = [request.pv for request in archive_requests(table_of(tmp_path, routers=routers))]
    with_one = {f"T:CoBo{number}" for number in range(routers)}
    assert {name.partition(":Router:")[0] for name in asked if ":Router:" in name} == with_one
    assert ("T:Run:Rate_RBV" in asked) == bool(routers)


def test_it_is_readable_a_line_a_pv(table: tuple[PvEntry, ...]):
    lines = archiver_text(table).splitlines()
    assert (lines[0], lines[-1]) == ("[", "]")
    assert json.loads(lines[1].rstrip(","))["samplingperiod"] == "0.1"
    assert len(lines) - 2 == len(archive_requests(table))


def test_every_sample_fits_what_clients_take_without_being_told_to_take_more(table: tuple[PvEntry, ...]):
    names = {request.pv for request in archive_requests(table)}
    sizes = {e.name: e.row.elements for e in table if e.name in names and e.row.record is Record.LONG_TEXT}
    assert {name: size for name, size in sizes.items() if size + TIME_HEADER > MAX_ARRAY_BYTES} == {}


# ---------------------------------------------------------------------- no sample is lost


class Engine:
    """Feeds the appliance's channels from `camonitor`, with the mask that the appliance subscribes with."""

    def __init__(self, channels: dict[str, Channel]) -> None:
        self.channels = channels
        self._kinds: dict[str, str] = {}

    async def look_at_types(self, it: Rig) -> None:
        """Ask for the types anew, as after each connection."""
        ran = await run(it.place, "cainfo", *self.channels, limit_s=30.0)
        assert ran.code == 0, ran.err
        name = ""
        for line in ran.out.splitlines():
            key, _, value = line.strip().partition(": ")
            if line and not line[0].isspace():
                name = line.strip()
                self._kinds[name] = ""
            elif key in ("Native data type", "Element count"):
                self._kinds[name] += value.strip() + " "

    def take(self, lines: Iterable[str]) -> None:
        """Take what came since a connection, with the time of each line as the time that it came."""
        first = set(self.channels)
        for line in lines:
            name, *words = line.split(" ", 3)
            words = line.removeprefix(name).split()
            if name not in self.channels or "***" in words:
                continue
            stamp_s = datetime.fromisoformat(f"{words[0]} {words[1]}").timestamp()
            self.channels[name].sample(self._kinds[name], stamp_s, stamp_s, first=name in first)
            first.discard(name)


async def settled(it: Rig, monitor: Monitor) -> None:
    """Wait until a change that is made now has come, and with it all before."""
    title = f"settled {time.monotonic_ns()}"
    assert (await it.put_text("Run:Title", title)).code == 0
    await monitor.until_text(title, 20.0)


async def work(it: Rig) -> None:
    """As much as a shift can do in some seconds: a run, steps, refusals, setpoints, a server that goes.

    Done twice it is still fewer changes of any PV than the engine's buffer has room for in one of its rounds,
    so that it does not depend on how fast this machine is.
    """
    await it.select()
    await it.ok("GoTo", "Ready")
    await it.ok("Run:Start")
    for number in range(15):
        await it.refused("Run:Start")
        await it.put_text("Run:Title", f"title {number}")
    await it.ok("Run:Stop")
    await it.ok("GoTo", "Idle")
    it.fleet["cobo0"].faults.refuse()
    await it.until(lambda: not it.module("cobo0").online, what="gone")
    it.fleet["cobo0"].faults.clear()
    await it.until(lambda: it.module("cobo0").online, what="back")
    for name in ("Describe", "Prepare", "Configure"):
        await it.ok(name)
    for name in ("Reset", "Reset", "Reset"):
        await it.ok(name)


@pytest.mark.timeout(300)
async def test_no_sample_is_lost(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, cobos=11) as it:
        engine = Engine(requests(archiver_text(it.app.table)))
        began_s = time.time()
        for connection in range(2):
            await engine.look_at_types(it)
            async with camonitor(it.place, "-S", "-m", "la", *engine.channels) as monitor:
                await eventually(
                    lambda monitor=monitor: (
                        {line.split(" ")[0] for line in monitor.lines} >= engine.channels.keys()
                    ),
                    "a first value of every PV",
                    20.0,
                )
                await work(it)
                await settled(it, monitor)
            engine.take(monitor.lines)
            if connection == 0:
                await it.stop_ioc()
                await it.start_ioc()
                await it.until(lambda: all(m.offered is not None for m in it.snapshot.modules.values()))
        lost = {name: dict(channel.lost) for name, channel in engine.channels.items() if channel.lost}
        assert lost == {}
        kept = {name.removeprefix(it.prefix): len(c.kept) for name, c in engine.channels.items()}
        assert min(kept.values()) >= 1
        assert kept["Run:Result_RBV"] > 30
        # As few as the appliance's own default period leaves room for would not have been enough for as many
        # in three seconds, which a fast machine makes of them.
        again = Channel("MONITOR", 1.0)
        changes = len(engine.channels[f"{it.prefix}Run:Result_RBV"].kept)
        for number in range(changes):
            stamp_s = began_s + 3.0 * number / changes
            again.sample("mbbi", stamp_s, stamp_s)
        assert again.lost["buffer full"] > 0
        # What never changed has the time at which the IOC began, not one that no archiver would take.
        for name, channel in engine.channels.items():
            assert began_s - 60 < channel.kept[0] <= time.time() + 1, name


def test_the_lead_of_the_time_stamps_is_less_than_the_appliance_allows():
    assert MAX_LEAD_S < AHEAD_S


@pytest.mark.parametrize(
    ("kind", "stamp_s", "reason"),
    [
        ("other", 2.0, "type"),
        ("mbbi", -2e9, "before 1991"),
        ("mbbi", AHEAD_S + 60.0, "ahead"),
        ("mbbi", 0.5, "back in time"),
        ("mbbi", 1.0, "same time"),
        ("mbbi", 1.1, ""),
    ],
)
def test_what_the_appliance_would_lose(kind, stamp_s, reason):
    now_s = time.time()
    channel = Channel("MONITOR", 1.0)
    channel.sample("mbbi", now_s + 1.0, now_s)
    channel.sample(kind, now_s + stamp_s, now_s)
    assert dict(channel.lost) == ({reason: 1} if reason else {})


def test_only_what_is_one_value_is_archived(table: tuple[PvEntry, ...]):
    """Of a list, a change of one entry would store all of it; a text is one value."""
    for entry in table:
        if entry.row.archive is not Archive.NONE:
            assert entry.row.record not in (Record.STRINGS, Record.NUMBERS)


# ---------------------------------------------------------------------- dead bands

WAVE = [0.0, 0.4, 1.2, 2.0, 2.9, 5.4, 5.5, 6.8, 12.0]
MDEL, ADEL = 1.0, 5.0


class Wave:
    """A plugin with a PV that has dead bands."""

    @hookimpl
    def attpc_pvs(self, settings):
        yield Row(
            "Wave_RBV",
            ScopeKind.SYSTEM,
            Record.AI,
            "A wave",
            initial=-100.0,
            precision=1,
            mdel=MDEL,
            adel=ADEL,
            archive=Archive.MONITOR,
        )


def beyond(values: list[float], last: float, deadband: float) -> list[float]:
    """The values that are further than the dead band from the one before that was."""
    found = []
    for value in values:
        if abs(value - last) > deadband:
            found.append(value)
            last = value
    return found


@pytest.mark.parametrize(("mask", "deadband"), [("v", MDEL), ("l", ADEL), ("la", ADEL)])
async def test_dead_bands_are_honoured(tmp_path, monkeypatch, mask, deadband):
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("wave", Wave())]) as it:
        name = f"{it.prefix}Wave_RBV"
        assert await it.get("Wave_RBV.MDEL") == "1"
        assert await it.get("Wave_RBV.ADEL") == "5"
        async with camonitor(it.place, "-m", mask, name) as monitor:
            await monitor.until(1)
            for value in WAVE:
                it.app.server.publisher.publish(name, value)
                await asyncio.sleep(0)
            await monitor.until_text(" 12")
        seen = [float(line.split()[3]) for line in monitor.lines]
        assert seen == [-100.0, *beyond(WAVE, -100.0, deadband)]
        assert len(beyond(WAVE, -100.0, ADEL)) < len(beyond(WAVE, -100.0, MDEL)) < len(WAVE)
