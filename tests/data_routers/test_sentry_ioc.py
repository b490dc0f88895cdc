"""A sentry under a whole IOC: no start while it moves files, unknown rates, a disk that it does not find."""

from __future__ import annotations

from dataclasses import replace

from attpc_plugins.data_routers.model import CloseState

from attpc_ioc.model.run import RunState
from attpc_ioc.model.states import State
from attpc_ioc.simulator.data.options import Access
from tests.support.closed_runs import all_in_place
from tests.support.data_rig import QUICK_DATA, alarm, data_rig, section, shown, start_run, stop_run


async def test_no_start_passes_while_the_sentry_moves_files_and_rates_are_not_known(tmp_path, monkeypatch):
    slow = replace(QUICK_DATA, catalog_wait_s=4.0)
    text = section(
        watch={"timeout_s": 20.0},
        interlocks=dict.fromkeys(("router_down", "run_exists"), "warn"),
        closing={"sentry_waits_s": 4.0},
    )
    async with data_rig(tmp_path, monkeypatch, access=Access.SENTRY, data=slow, text=text, cobos=1) as it:
        await start_run(it)
        number = it.run.number
        await it.until(lambda: shown(it, "Run:Written_RBV") > 0.001, what="data")
        assert alarm(it, "CoBo0:Router:Rate_RBV") == "NO_ALARM"
        await stop_run(it)
        moving = int(CloseState.MOVING)
        await it.until(lambda: shown(it, "CoBo0:Router:Close_RBV") == moving, what="it moves files")
        await it.ok("Run:Override", "Yes")
        message = await it.refused("Run:Start", because=f"its sentry is closing run {number} ")
        assert "it waits up to 4 s, until " in message
        listed = f"its sentry is closing run {number} and takes"
        await it.until(lambda: listed in shown(it, "Run:Checklist_RBV"), what="it is on the checklist")
        await it.until(lambda: alarm(it, "CoBo0:Router:Rate_RBV") == "INVALID", what="its rate is not known")
        await it.until(lambda: alarm(it, "Run:Rate_RBV") == "INVALID", what="nor is that of all")
        assert alarm(it, "CoBo0:Router:Written_RBV") == "NO_ALARM"
        await all_in_place(it, number)
        await it.until(lambda: alarm(it, "CoBo0:Router:Rate_RBV") == "NO_ALARM", what="it is known again")
        await it.until(lambda: alarm(it, "Run:Rate_RBV") == "NO_ALARM", what="the sum too")
        # Once it has moved them, nothing is in the way.
        await start_run(it)
        assert it.run.number == number + 1
        await stop_run(it)


async def test_a_disk_of_no_size_is_unknown_and_stops_no_run(tmp_path, monkeypatch):
    unknown = replace(QUICK_DATA, disk_total_gb=0.0, disk_free_gb=0.0)
    limits = {"stop_below_gb": 5.0, "start_min_gb": 20.0, "disk_after_s": 0.1, "disk_major_gb": 20.0}
    text = section(limits=limits)
    async with data_rig(tmp_path, monkeypatch, access=Access.SENTRY, data=unknown, text=text, cobos=1) as it:
        await it.take_to(State.READY)
        disk = ("DiskFree_RBV", "DiskUsed_RBV", "TimeToFull_RBV")
        await it.until(lambda: shown(it, "CoBo0:Router:DiskFree_RBV") == 0.0, what="it was polled")
        assert [alarm(it, f"CoBo0:Router:{part}") for part in disk] == ["INVALID"] * 3
        # A sentry shows no frames: events are not counted.
        # As with any refused entry of the run, its message says why, and for how long.
        assert (await it.put("Run:MaxEvents", "20")).code == 1
        assert shown(it, "Run:Message_RBV").startswith("Refused: MaxEvents: events are not counted here")
        assert alarm(it, "Run:Result_RBV") == "MINOR"
        assert (await it.put("Run:MaxEvents", "-1")).code == 1
        assert shown(it, "Run:Message_RBV").startswith("Refused: MaxEvents: ")
        assert (await it.put("Run:MaxEvents", "0")).code == 0
        assert shown(it, "Run:Message_RBV") == "MaxEvents set"
        assert alarm(it, "Run:Result_RBV") == "NO_ALARM"
        assert [alarm(it, f"Run:{part}") for part in ("Events_RBV", "EventRate_RBV")] == ["INVALID"] * 2
        await it.until(
            lambda: "its free disk space is not known" in shown(it, "AlarmText_RBV"), what="the reason"
        )
        assert "finds no disk" in shown(it, "AlarmText_RBV")
        await start_run(it)
        await it.until(lambda: shown(it, "Run:Written_RBV") > 0.002, what="data of more than the delay")
        assert it.run.state is RunState.RUNNING
        assert shown(it, "CoBo0:Router:TimeToFull_RBV") == 9999.0
        await stop_run(it)
