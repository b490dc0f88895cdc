"""Watching: what the PVs of each data router and of all together show, and when they are in alarm."""

from __future__ import annotations

import contextlib
import re
import time

import pytest

from attpc_ioc.errors import SettingsError
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from attpc_ioc.simulator.data.host import DataHost, Writing
from attpc_ioc.simulator.data.options import Access
from tests.support.ca import camonitor, eventually
from tests.support.data_rig import (
    ALL_ACCESS,
    SECTION,
    alarm,
    data_rig,
    section,
    shown,
    start_run,
    stop_run,
)
from tests.support.pace import Stopwatch
from tests.support.rig import rig

PARTS = {
    "Online_RBV": "bi",
    "Clean_RBV": "bi",
    "Files_RBV": "longin",
    "Written_RBV": "ai",
    "Rate_RBV": "ai",
    "DiskFree_RBV": "ai",
    "DiskUsed_RBV": "ai",
    "TimeToFull_RBV": "ai",
    "Flow_RBV": "mbbi",
}

LESS_THAN_STRAY = 50.0
"""MB/s. A CoBo sends 2, and more for a moment after a busy one; a stray file that counts is hundreds."""


def leave_stray(host: DataHost) -> None:
    """Make a large file that belongs to no run; nothing of it takes space."""
    with (host.staging / "stray.graw").open("wb") as file:
        file.truncate(500_000_000)


async def test_a_run_is_counted(tmp_path, monkeypatch, way):
    text = section(closing={"enabled": False})
    async with data_rig(tmp_path, monkeypatch, access=way, text=text) as it:
        await it.until(lambda: shown(it, "MuTAnT:Router:Online_RBV") == 1, what="MuTAnT's router online")
        for source in ("CoBo0", "CoBo1", "MuTAnT"):
            await it.until(lambda s=source: shown(it, f"{s}:Router:Online_RBV") == 1, what=f"{source} online")
            assert shown(it, f"{source}:Router:Clean_RBV") == 1
            assert shown(it, f"{source}:Router:Flow_RBV") == 0
            assert shown(it, f"{source}:Router:DiskFree_RBV") > 0
            assert alarm(it, f"{source}:Router:DiskFree_RBV") == "NO_ALARM"
        for part, rtyp in PARTS.items():
            assert await it.get(f"CoBo0:Router:{part}.RTYP") == rtyp, part
        await start_run(it)
        await it.until(lambda: 1.5 < shown(it, "CoBo0:Router:Rate_RBV") < 2.5, 10.0, "the rate of a CoBo")
        await it.until(lambda: 3.2 < shown(it, "Run:Rate_RBV") < 4.8, 10.0, "the rate of all")
        assert shown(it, "CoBo0:Router:Flow_RBV") == 1
        assert shown(it, "CoBo0:Router:Clean_RBV") == 0
        assert shown(it, "CoBo0:Router:Files_RBV") == 2
        await stop_run(it)
        hosts = it.fleet.data
        await it.until(lambda: all(h.writing is Writing.IDLE for h in hosts), what="all is written")
        there = {h.source: sum(f.stat().st_size for f in h.files()) / 1e9 for h in hosts}
        for source, written in there.items():
            await it.until(
                lambda s=source, w=written: (
                    shown(it, f"{s}:Router:Written_RBV") == pytest.approx(w, rel=1e-6)
                ),
                what=f"{source} wrote {written}",
            )
        await it.until(
            lambda: shown(it, "Run:Written_RBV") == pytest.approx(sum(there.values()), rel=1e-6),
            what="the sum of all",
        )
        await it.until(lambda: shown(it, "Run:Rate_RBV") == 0.0, 10.0, "no data any more")
        assert shown(it, "CoBo0:Router:Flow_RBV") == 0


@contextlib.asynccontextmanager
async def gone(it, source, how):
    """Have a host not answer for the length of a block."""
    host = next(host for host in it.fleet.data if host.source == source)
    if host.gate is None:
        away = host.staging.rename(host.staging.with_name("away"))
        yield
        away.rename(host.staging)
    elif how == "hung":
        host.gate.hung = True
        yield
        host.gate.hung = False
    else:
        await host.gate.close()
        yield
        await host.gate.open()


@pytest.mark.parametrize(
    ("how", "within_s"),
    [("closed", 15.0), ("hung", 2 * 0.5 + 0.25)],
)
@pytest.mark.parametrize("access", ALL_ACCESS)
async def test_a_host_that_does_not_answer_is_invalid_within_two_periods(
    tmp_path, monkeypatch, access, how, within_s
):
    text = section(watch={"period_s": 0.5}, closing={"enabled": False})
    async with data_rig(tmp_path, monkeypatch, access=access, text=text) as it:
        await start_run(it)
        await it.until(lambda: shown(it, "CoBo0:Router:Flow_RBV") == 1, what="data of CoBo0")
        async with gone(it, "CoBo0", how):
            taking = Stopwatch()
            await it.until(lambda: alarm(it, "CoBo0:Router:Online_RBV") == "INVALID", what="INVALID")
            assert taking.s < within_s
            for part in PARTS:
                assert alarm(it, f"CoBo0:Router:{part}") == "INVALID", part
            assert await it.get("CoBo0:Router:Rate_RBV.STAT") == "COMM"
            assert shown(it, "CoBo0:Router:Files_RBV") == 2, "the last value stays"
            # The others go on as if nothing was.
            written = shown(it, "CoBo1:Router:Written_RBV")
            await it.until(lambda: shown(it, "CoBo1:Router:Written_RBV") > written + 1e-3, what="more data")
            assert shown(it, "CoBo1:Router:Flow_RBV") == 1
            await it.until(
                lambda: alarm(it, "CoBo1:Router:Rate_RBV") == alarm(it, "Run:Rate_RBV") == "NO_ALARM",
                what="rates are known",
            )
            # It is said, once.
            await it.until(lambda: shown(it, "Plugin:data_routers:Status_RBV") == 2, what="Degraded")
            assert shown(it, "Plugin:data_routers:Message_RBV").startswith("CoBo0: ")
            lines = [line for line in shown(it, "AlarmText_RBV").splitlines() if "CoBo0:Router" in line]
            assert len(lines) == 1, lines
            assert "Router:Online_RBV" in lines[0]
        await it.until(lambda: alarm(it, "CoBo0:Router:Online_RBV") == "NO_ALARM", what="it answers")
        await it.until(lambda: shown(it, "Plugin:data_routers:Status_RBV") == 1, what="Ok")
        # What came meanwhile is counted.
        host = it.fleet.data["CoBo[0]"]
        await stop_run(it)
        await it.until(lambda: host.writing is Writing.IDLE, what="all is written")
        there = sum(file.stat().st_size for file in host.files()) / 1e9
        await it.until(
            lambda: shown(it, "CoBo0:Router:Written_RBV") == pytest.approx(there, rel=1e-6),
            what=f"{there} GB counted",
        )


async def test_a_host_that_is_gone_is_asked_ever_more_rarely(tmp_path, monkeypatch):
    text = section(watch={"period_s": 0.1, "timeout_s": 0.3})
    async with data_rig(tmp_path, monkeypatch, access=Access.SENTRY, text=text, cobos=1) as it:
        await it.until(lambda: shown(it, "CoBo0:Router:Online_RBV") == 1, what="online")
        async with gone(it, "CoBo0", "closed"):
            await it.until(lambda: alarm(it, "CoBo0:Router:Online_RBV") == "INVALID", what="INVALID")
            service = it.app.host.plugins["data_routers"].plugin.service
            watch = next(router.watch for router in service.routers if router.label == "CoBo0")
            await it.until(lambda: watch.failures == 5, 10.0, "five failures")
            taking = Stopwatch()
            await it.until(lambda: watch.failures == 6, 10.0, "six failures")
            assert taking.wall_s > 0.7
            assert taking.s < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("access", ALL_ACCESS)
async def test_a_board_that_dies_is_dead_while_its_ecc_server_says_running(tmp_path, monkeypatch, access):
    """With the settings' own period, and seen by a client of EPICS base."""
    dead_after_s = 5.0
    text = section(watch={"period_s": 2.0}, limits={"dead_after_s": dead_after_s})
    async with data_rig(tmp_path, monkeypatch, access=access, text=text) as it:
        await start_run(it)
        name = f"{it.prefix}CoBo0:Router:Flow_RBV"
        async with camonitor(it.place, name) as monitor:
            await monitor.until_text("Flowing")
            died_s = time.monotonic()
            it.fleet.boards["CoBo[0]"].die()
            line = await monitor.until_text("Dead")
            took_s = time.monotonic() - died_s
            assert "STATE MAJOR" in line
            assert dead_after_s - 0.5 < took_s < dead_after_s + 10.0
            assert it.module("cobo0").state is State.RUNNING
            assert await it.get("CoBo0:State_RBV") == "Running"
            assert shown(it, "CoBo1:Router:Flow_RBV") == shown(it, "MuTAnT:Router:Flow_RBV") == 1
            text = await it.get_text("AlarmText_RBV")
            assert "CoBo0:Router:Flow_RBV: data router CoBo0 on " in text
            assert re.search(r"running without any data since \d\d:\d\d:\d\d(;|$|\\n)", text)
            await stop_run(it)
            await monitor.until_text("Idle")


async def test_one_cobo_far_below_the_others_is_low(tmp_path, monkeypatch):
    text = section(limits={"low_after_s": 1.0})
    async with data_rig(tmp_path, monkeypatch, text=text, cobos=4) as it:
        await start_run(it)
        await it.until(lambda: shown(it, "CoBo2:Router:Flow_RBV") == 1, what="flowing")
        it.fleet.data["CoBo[2]"].faults.factor = 0.1
        slow_s = time.monotonic()
        await it.until(lambda: shown(it, "CoBo2:Router:Flow_RBV") == 2, what="low")
        assert time.monotonic() - slow_s > 1.0
        assert alarm(it, "CoBo2:Router:Flow_RBV") == "MINOR"
        assert "is far below that of the other CoBos" in await it.get_text("AlarmText_RBV")
        for source in ("CoBo0", "CoBo1", "CoBo3", "MuTAnT"):
            assert shown(it, f"{source}:Router:Flow_RBV") == 1, source
        it.fleet.data["CoBo[2]"].faults.factor = 1.0
        await it.until(lambda: shown(it, "CoBo2:Router:Flow_RBV") == 1, what="flowing again")


@pytest.mark.parametrize("access", ALL_ACCESS[1:])
async def test_a_router_that_is_gone_and_one_that_blinks(tmp_path, monkeypatch, access):
    text = section(limits={"gone_after_s": 1.0})
    async with data_rig(tmp_path, monkeypatch, access=access, text=text) as it:
        await it.until(lambda: shown(it, "CoBo0:Router:Online_RBV") == 1, what="online")
        router = it.fleet.routers["CoBo[0]"]
        await router.stop()
        await it.until(lambda: shown(it, "CoBo0:Router:Online_RBV") == 0, what="offline")
        assert alarm(it, "CoBo0:Router:Online_RBV") == "NO_ALARM"
        await router.start()
        await it.until(lambda: shown(it, "CoBo0:Router:Online_RBV") == 1, what="online again")
        await router.stop()
        taking = Stopwatch()
        await it.until(lambda: alarm(it, "CoBo0:Router:Online_RBV") == "MAJOR", what="MAJOR")
        assert taking.wall_s > 1.0
        assert taking.s < 1.0 + 3 * 0.2 + 0.3
        assert alarm(it, "CoBo1:Router:Online_RBV") == "NO_ALARM"
        await router.start()
        await it.until(lambda: alarm(it, "CoBo0:Router:Online_RBV") == "NO_ALARM", what="over")


@pytest.mark.parametrize("access", ALL_ACCESS[1:])
async def test_limits_of_the_disk(tmp_path, monkeypatch, access):
    text = section(limits={"disk_minor_gb": 100.0, "disk_major_gb": 20.0, "disk_after_s": 0.3})
    async with data_rig(tmp_path, monkeypatch, access=access, text=text, cobos=1) as it:
        host, free = it.fleet.data["CoBo[0]"], "CoBo0:Router:DiskFree_RBV"
        for free_gb, severity, status in (
            (90.0, "MINOR", "LOW"),
            (10.0, "MAJOR", "LOLO"),
            (500.0, "NO_ALARM", "NO_ALARM"),
        ):
            host.disk_free_gb = free_gb

            async def is_shown(severity: str = severity, status: str = status) -> bool:
                # A host on a busy machine may miss its two short periods at any moment.
                return alarm(it, free) == severity and await it.get(f"{free}.STAT") == status

            await eventually(is_shown, f"{free_gb} GB is {severity}")
            assert shown(it, free) == pytest.approx(free_gb, abs=0.1)
        assert shown(it, "CoBo0:Router:DiskUsed_RBV") == pytest.approx(50.0, abs=0.1)
        assert await it.get(f"{free}.LOLO") == "20"
        assert shown(it, "CoBo0:Router:TimeToFull_RBV") == 9999.0


async def test_time_to_full_and_an_orderly_stop_before_the_disk_is_full(tmp_path, monkeypatch):
    text = section(
        limits={"full_minor_h": 2.0, "disk_after_s": 0.3, "stop_below_gb": 5.0},
        closing={"enabled": False},
    )
    async with data_rig(tmp_path, monkeypatch, access=Access.SENTRY, text=text, cobos=1) as it:
        host, hours = it.fleet.data["CoBo[0]"], "CoBo0:Router:TimeToFull_RBV"
        await start_run(it)
        expected_h = pytest.approx(500e9 / 2e6 / 3600, rel=0.2)
        await it.until(lambda: shown(it, hours) == expected_h, what="the time to full")
        assert alarm(it, hours) == "NO_ALARM"
        host.disk_free_gb = 10.8  # an hour and a half
        await it.until(lambda: alarm(it, hours) == "MINOR", what="MINOR")
        await it.ok("Run:MaxDuration", "14400")
        await it.until(lambda: alarm(it, hours) == "MAJOR", what="full before the run ends")
        # The list of alarms is another PV, which follows.
        await it.until(lambda: "before the run ends" in shown(it, "AlarmText_RBV"), what="its text")
        assert it.run.state is RunState.RUNNING
        host.disk_free_gb = 4.0
        await it.until_run(RunState.STOPPED)
        assert it.run.info is not None
        assert it.run.info.outcome == "stopped"
        assert str(it.run.info.stopped_by) == "plugin:data_routers@ioc"
        message = await it.get_text("Plugin:data_routers:Message_RBV")
        assert "run 0 is stopped: data router CoBo0" in message
        assert "less than limits.stop_below_gb (5 GB)" in message


async def test_files_that_shrink_and_go_away_in_a_run(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, text=section(closing={"enabled": False}), cobos=1) as it:
        host = it.fleet.data["CoBo[0]"]
        leave_stray(host)
        await it.until(lambda: shown(it, "CoBo0:Router:Clean_RBV") == 0, what="dirty")
        await it.ok("Run:Override", "Yes")
        await it.take_to(State.READY)
        await it.ok("Run:Start")
        await it.until(lambda: shown(it, "CoBo0:Router:Flow_RBV") == 1, what="flowing")
        assert shown(it, "CoBo0:Router:Written_RBV") < 0.1, "what was there does not count"
        seen = [0.0]

        def rates_are_right() -> bool:
            seen.append(shown(it, "CoBo0:Router:Rate_RBV"))
            return shown(it, "CoBo0:Router:Written_RBV") > 0.006

        (host.staging / "stray.graw").unlink()
        await it.until(rates_are_right, what="more data")
        assert min(seen) >= 0.0
        assert max(seen) < LESS_THAN_STRAY


async def test_a_restarted_ioc_counts_the_run_on(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, text=section(closing={"enabled": False}), cobos=1) as it:
        host = it.fleet.data["CoBo[0]"]
        leave_stray(host)
        await it.until(lambda: shown(it, "CoBo0:Router:Clean_RBV") == 0, what="dirty")
        await it.ok("Run:Override", "Yes")
        await it.take_to(State.READY)
        await it.ok("Run:Start")
        await it.until(lambda: shown(it, "CoBo0:Router:Written_RBV") > 0.001, what="data")
        await it.stop_ioc()
        await it.start_ioc()
        await it.until_run(RunState.RUNNING)
        await it.until(lambda: shown(it, "CoBo0:Router:Flow_RBV") == 1, what="flowing")
        assert shown(it, "CoBo0:Router:Rate_RBV") < LESS_THAN_STRAY
        await stop_run(it)
        await it.until(lambda: host.writing is Writing.IDLE, what="all is written")
        there = sum(file.stat().st_size for file in host.files() if file.name != "stray.graw") / 1e9
        await it.until(
            lambda: shown(it, "CoBo0:Router:Written_RBV") == pytest.approx(there, rel=1e-6),
            what=f"{there} GB counted",
        )
        assert shown(it, "CoBo0:Router:Files_RBV") == 2


async def test_a_disabled_ecc_servers_router_is_in_no_alarm(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch, access=Access.SENTRY) as it:
        await it.until(lambda: shown(it, "CoBo0:Router:Online_RBV") == 1, what="online")
        async with gone(it, "CoBo0", "closed"):
            await it.until(lambda: alarm(it, "CoBo0:Router:Online_RBV") == "INVALID", what="INVALID")
            await it.ok("Ecc:cobo0:Enable", "No")
            await it.until(lambda: alarm(it, "CoBo0:Router:Online_RBV") == "NO_ALARM", what="no alarm")
            await it.until(lambda: shown(it, "Plugin:data_routers:Status_RBV") == 1, what="Ok")
            await it.ok("Ecc:cobo0:Enable", "Yes")
            await it.until(lambda: alarm(it, "CoBo0:Router:Online_RBV") == "INVALID", what="INVALID again")


async def test_without_routers_the_plugin_is_quiet(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, cobos=1) as it:
        assert await it.get("Plugin:data_routers:Status_RBV") == "Ok"
        assert await it.get_text("Plugin:data_routers:Message_RBV") == "no data routers in the settings"
        for pv in ("CoBo0:Router:Flow_RBV", "CoBo0:Router:DiskFree_RBV", "Run:Written_RBV"):
            assert await it.get(f"{pv}.SEVR") == "INVALID"
            assert await it.get(f"{pv}.STAT") == "UDF"
        assert await it.get_text("AlarmText_RBV") == ""
        await it.start_run()


async def test_what_the_fleet_does_not_have_is_named_with_its_key(tmp_path, monkeypatch):
    tables = "\n".join(
        [
            "[[plugins.data_routers.router]]",
            'sources = ["CoBo0"]',
            'access = "local"',
            'staging = "/tmp"',
            "[[plugins.data_routers.router]]",
            'sources = ["CoBo12"]',
            'access = "local"',
            'staging = "/tmp"',
            "[[plugins.data_routers.ecc]]",
            'names = ["cobo7"]',
            'access = "local"',
            'xcfg = "/tmp"',
        ]
    )
    async with rig(tmp_path, monkeypatch, cobos=1, start=False, **{SECTION: tables}) as it:
        with pytest.raises(SettingsError) as refused:
            await it.start_ioc()
        assert refused.value.faults == [
            "plugins.data_routers.router.1.sources: Value error, there is no data source CoBo12; "
            "there are: CoBo0, MuTAnT",
            "plugins.data_routers.ecc.0.names: Value error, there is no ECC server cobo7; "
            "there are: cobo0, mutant",
        ]


@pytest.mark.parametrize("access", ALL_ACCESS[1:])
async def test_the_ioc_ends_at_once_while_hosts_hang(tmp_path, monkeypatch, access):
    async with data_rig(tmp_path, monkeypatch, access=access) as it:
        await it.until(lambda: shown(it, "CoBo0:Router:Online_RBV") == 1, what="online")
        for host in it.fleet.data:
            host.gate.hung = True
        await it.until(lambda: alarm(it, "CoBo0:Router:Online_RBV") == "INVALID", what="INVALID")
        taking = Stopwatch()
        await it.stop_ioc()
        assert taking.s < 2.0
        for host in it.fleet.data:
            host.gate.hung = False
