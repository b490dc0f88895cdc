"""What was wrong with a router in a run is in the log, and in what others are told of the run's files."""

from __future__ import annotations

import logging
import re
import time

import pytest
from attpc_plugins.data_routers.watch.incidents import clock

from attpc_ioc.model.events import RunFiles, RunStopped, RunStopping
from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from attpc_ioc.simulator.data.options import Access
from tests.support.data_rig import alarm, data_rig, section, shown, start_run, stop_run
from tests.support.probe import Probe
from tests.support.rig import Rig

DEAD = 3
AT = r"\d\d:\d\d:\d\d"


def told(probe: Probe, state: str) -> dict[str, RunFiles]:
    """What was told last of each router's files with this state."""
    return {e.router: e for e in probe.of(RunFiles) if e.state == state}


def troubles(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, str]]]:
    """The log entries of faults and their ends: level, and what they say."""
    return [
        (record.levelname, {key: str(value) for key, value in getattr(record, "keys", {}).items()})
        for record in caplog.records
        if record.getMessage().startswith("fault of data taking")
    ]


async def all_done(it: Rig, probe: Probe, count: int) -> dict[str, RunFiles]:
    await it.until(lambda: len(told(probe, "Done")) == count, 30.0, "all routers are done")
    return told(probe, "Done")


async def test_a_time_without_data(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    probe = Probe()
    text = section(limits={"dead_after_s": 3.0})
    async with data_rig(tmp_path, monkeypatch, text=text, cobos=2, plugins=[("probe", probe)]) as it:
        host = it.fleet.data["CoBo[0]"]
        await start_run(it)
        await it.until(lambda: shown(it, "CoBo0:Router:Flow_RBV") == 1, what="data of CoBo0")
        host.faults.stopped = True
        stopped_s = time.time()
        await it.until(lambda: shown(it, "CoBo0:Router:Flow_RBV") == DEAD, what="dead")
        host.faults.stopped = False
        await it.until(lambda: shown(it, "CoBo0:Router:Flow_RBV") == 1, what="data again")
        await stop_run(it)
        done = await all_done(it, probe, 3)
        message = done["CoBo0"].message
        found = re.search(rf"(?:GB|MB|kB|bytes).*; no data \(Dead\) from ({AT}) to {AT}(?:; |$)", message)
        assert found is not None, message
        # Since the last byte came, not since it was an alarm; a router may have had some still to write.
        nearly = [clock(stopped_s + late_s) for late_s in (-1.0, 0.0, 1.0)]
        assert found[1] in nearly, (found[1], nearly)
        assert "no data" not in done["CoBo1"].message
        # On a busy machine some host may have seemed not to answer for a moment.
        lines = [line for line in troubles(caplog) if "answer" not in line[1]["reason"]]
        assert [level for level, _ in lines] == ["WARNING", "INFO"], lines
        assert all((keys["router"], keys["run"]) == ("CoBo0", "0") for _, keys in lines)
        assert "without any data" in lines[0][1]["reason"]


@pytest.mark.parametrize("access", [Access.LOCAL, Access.SENTRY])
async def test_a_router_that_wrote_nothing_is_named(tmp_path, monkeypatch, access):
    probe = Probe()
    text = section(limits={"dead_after_s": 1.0})
    more = {"text": text, "cobos": 1, "plugins": [("probe", probe)]}
    async with data_rig(tmp_path, monkeypatch, access=access, **more) as it:
        it.fleet.data["CoBo[0]"].faults.stopped = True
        await start_run(it)
        await it.until(lambda: shown(it, "CoBo0:Router:Flow_RBV") == DEAD, what="dead")
        await stop_run(it)
        done = await all_done(it, probe, 2)
        assert done["CoBo0"].files == 0
        assert done["CoBo0"].message.startswith("no file was written")
        assert "(Dead)" in done["CoBo0"].message
        assert "no file was written" not in done["MuTAnT"].message
        message = shown(it, "Run:ClosingMessage_RBV")
        assert "CoBo0: Done: run 0: no file was written" in message
        assert "MuTAnT" not in message


async def test_what_lasts_until_the_end_and_longer(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    probe = Probe()
    text = section(limits={"gone_after_s": 0.2})
    more = {"access": Access.SSH, "text": text, "cobos": 1, "plugins": [("probe", probe)]}
    async with data_rig(tmp_path, monkeypatch, **more) as it:
        host = it.fleet.data["CoBo[0]"]
        await start_run(it)
        await it.until(lambda: host.written_bytes > 0, what="data of CoBo0")
        # On a machine that is busy a router may have seemed gone before.
        caplog.clear()
        await it.fleet.routers["CoBo[0]"].stop()
        await it.until(lambda: shown(it, "CoBo0:Router:Online_RBV") == 0, what="offline")
        await it.until(lambda: "no process" in str(troubles(caplog)), what="it is logged")
        await stop_run(it)
        done = await all_done(it, probe, 2)
        message = done["CoBo0"].message
        assert re.search(rf"; its process was gone since {AT} until the run's end", message), message
        assert re.search(rf"no data \(Dead\), its process was gone since {AT} until the run's end", message)
        await it.fleet.routers["CoBo[0]"].start()

        def over() -> list[str]:
            said = [keys for _, keys in troubles(caplog) if keys["router"] == "CoBo0"]
            return [keys.get("run", "none") for keys in said if "its process was gone from" in keys["reason"]]

        await it.until(over, what="it is over")
        assert over() == ["none"]


async def test_why_a_plugin_stopped_the_run_is_in_its_record(tmp_path, monkeypatch):
    probe = Probe()
    text = section(limits={"disk_after_s": 0.3, "stop_below_gb": 5.0}, closing={"enabled": False})
    more = {"access": Access.SENTRY, "text": text, "cobos": 1, "plugins": [("probe", probe)]}
    async with data_rig(tmp_path, monkeypatch, **more) as it:
        host = it.fleet.data["CoBo[0]"]
        await start_run(it)
        await it.until(lambda: shown(it, "CoBo0:Router:Flow_RBV") == 1, what="data of CoBo0")
        host.disk_free_gb = 4.0
        await it.until_run(RunState.STOPPED)
        await it.until(lambda: probe.of(RunStopped), what="the end is told")
        assert it.run.info is not None
        for reason in (
            it.run.info.reason,
            probe.of(RunStopped)[0].run.reason,
            probe.of(RunStopping)[0].reason,
        ):
            assert "data router CoBo0 on" in reason
            assert "less than limits.stop_below_gb (5 GB)" in reason
        assert shown(it, "Plugin:data_routers:Status_RBV") == 2
        host.disk_free_gb = 400.0
        await it.until(lambda: shown(it, "Plugin:data_routers:Status_RBV") == 1, what="Ok again")


async def test_a_host_that_does_not_answer_is_named_once(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    # So long that a host on a busy machine is not silent by itself.
    text = section(watch={"period_s": 2.0, "timeout_s": 4.0}, closing={"enabled": False})
    async with data_rig(tmp_path, monkeypatch, access=Access.SSH, text=text, cobos=1) as it:
        host = it.fleet.data["CoBo[0]"]
        await it.until(lambda: shown(it, "CoBo0:Router:Online_RBV") == 1, what="online")
        assert host.gate is not None
        host.gate.hung = True
        where = f"CoBo0: {host.gate.host} port {host.gate.port} did not answer within 4 s"
        message = "Plugin:data_routers:Message_RBV"
        await it.until(lambda: shown(it, message).startswith(where), 25.0, f"said: {shown(it, message)}")
        assert [level for level, _ in troubles(caplog)] == ["WARNING"], troubles(caplog)
        host.gate.hung = False
        await it.until(lambda: len(troubles(caplog)) == 2, 25.0, "it is over")
        assert re.search(rf"its host did not answer from {AT} to {AT}", troubles(caplog)[1][1]["reason"])


async def test_another_reason_of_the_same_trouble_is_logged_once(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    text = section(watch={"connect_timeout_s": 2.0}, closing={"enabled": False})
    async with data_rig(tmp_path, monkeypatch, access=Access.SSH, text=text, cobos=1) as it:
        host = it.fleet.data["CoBo[0]"]
        await it.until(lambda: shown(it, "CoBo0:Router:Online_RBV") == 1, what="online")
        assert host.gate is not None
        for _ in range(2):
            host.gate.hung = True
            await it.until(lambda: "did not answer" in reason_shown(it), 25.0, "no answer")
            host.gate.hung = False
            await host.gate.close()
            await it.until(lambda: "onnection refused" in reason_shown(it), 25.0, "refused")
            await host.gate.open()
            host.gate.hung = True
        reasons = [keys["reason"] for level, keys in troubles(caplog) if level == "WARNING"]
        assert len([reason for reason in reasons if "onnection refused" in reason]) == 1, reasons
        assert "answer" in reasons[0], reasons
        host.gate.hung = False


def reason_shown(it: Rig) -> str:
    return shown(it, "Plugin:data_routers:Message_RBV")


async def test_a_full_disk_is_one_line_and_its_alarm_text_does_not_follow_the_figures(
    tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)
    # On a busy machine a poll takes long: no host is to be taken for gone, and no server for slow.
    watch, poll = {"period_s": 1.5, "timeout_s": 3.0}, "timeout_s = 20.0"
    text = section(watch, limits={"disk_after_s": 0.3, "disk_minor_gb": 100.0, "disk_major_gb": 20.0})
    async with data_rig(tmp_path, monkeypatch, access=Access.SENTRY, text=text, cobos=1, poll=poll) as it:
        host = it.fleet.data["CoBo[0]"]
        await it.until(lambda: alarm(it, "CoBo0:Router:DiskFree_RBV") == "NO_ALARM", what="room")
        host.disk_free_gb = 4.0
        await it.until(lambda: alarm(it, "CoBo0:Router:DiskFree_RBV") == "MAJOR", what="full")
        await it.until(lambda: of_the_disk(it), what="named")
        said = of_the_disk(it)
        assert said.endswith(f"{where(it)}: less than 20 GB free"), said
        for free_gb in (3.9, 2.7, 1.2):
            host.disk_free_gb = free_gb
            await it.until(
                lambda free_gb=free_gb: abs(shown(it, "CoBo0:Router:DiskFree_RBV") - free_gb) < 0.01,
                what="seen",
            )
            assert of_the_disk(it) == said
        reasons = [keys["reason"] for level, keys in troubles(caplog) if level == "WARNING"]
        assert reasons == [f"data router CoBo0 on {where(it)}: less than 20 GB free: 4.0 GB"]


def of_the_disk(it: Rig) -> str:
    """The line of the alarm text that names the disk of CoBo0."""
    lines = shown(it, "AlarmText_RBV").splitlines()
    return next((line for line in lines if "CoBo0:Router:DiskFree_RBV" in line), "")


def where(it: Rig) -> str:
    section = it.app.settings.plugins["data_routers"]
    return next(router["host"] for router in section["router"] if router["sources"] == ["CoBo0"])


async def test_what_a_start_was_in_spite_of_is_in_the_runs_record(tmp_path, monkeypatch):
    probe = Probe()
    async with data_rig(tmp_path, monkeypatch, cobos=1, plugins=[("probe", probe)]) as it:
        (it.fleet.data["CoBo[0]"].staging / "stray.graw").write_bytes(bytes(1000))
        await it.until(lambda: shown(it, "CoBo0:Router:Clean_RBV") == 0, what="dirty")
        await it.take_to(State.READY)
        await it.ok("Run:Override", "Yes")
        await it.ok("Run:Start")
        await it.until(lambda: shown(it, "CoBo0:Router:Flow_RBV") == 1, what="flowing")
        await stop_run(it)
        done = await all_done(it, probe, 2)
        assert "started in spite of: 1 stray file" in done["CoBo0"].message
        assert "in spite of" not in done["MuTAnT"].message
