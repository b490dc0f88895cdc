"""Interlocks: what refuses the start of a run, what may be passed, and what only warns."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from attpc_plugins.data_routers.closing.beside import BY_SENTRY
from attpc_plugins.data_routers.model import Polled
from attpc_plugins.data_routers.settings import Firmness, InterlockSettings, LimitsSettings
from attpc_plugins.data_routers.watch.flow import Count
from attpc_plugins.data_routers.watch.interlocks import Facts, NextRun, against_start, in_short, refusing

from attpc_ioc.model.command import RUN, Put
from attpc_ioc.model.run import RunRef, RunState, RunView
from attpc_ioc.model.states import State
from attpc_ioc.simulator.data.options import Access
from tests.support.data_rig import ALL_ACCESS, QUICK_DATA, data_rig, section, shown, start_run, stop_run
from tests.support.probe import Probe

NEXT = RunRef("e20009", 42)
LIMITS = LimitsSettings(start_min_gb=20.0)
GOOD = Polled(True, 0, 0, 500_000_000_000, 1_000_000_000_000, next_exists=False)


def facts(polled=GOOD, **changes):
    known = {"asked": NEXT, "process": "dataRouter", "staging": "/data"}
    return Facts("CoBo3", "192.168.41.63", polled=polled, **{**known, **changes})


def poll(**changes):
    return Polled(
        **{
            "process": True,
            "files": 0,
            "data_bytes": 0,
            "disk_free_bytes": 500_000_000_000,
            "disk_total_bytes": 1_000_000_000_000,
            "next_exists": False,
            **changes,
        }
    )


NAME = "data router CoBo3 on 192.168.41.63"

CASES = [
    (
        "router_down",
        facts(None, unreachable="CoBo3: 192.168.41.63: no route"),
        "CoBo3: 192.168.41.63: no route",
    ),
    ("router_down", facts(None), f"{NAME}: not asked yet"),
    ("router_down", facts(poll(process=False)), f"{NAME}: no process dataRouter"),
    ("router_down", facts(poll(process=False), partial=True), f"{NAME}: no process dataRouter"),
    ("router_down", facts(poll(process=False, note="Inactive")), "no process dataRouter (Inactive)"),
    ("router_restarted", facts(restarted=True), f"{NAME}: it was restarted after its board was configured"),
    ("dirty", facts(poll(files=1, data_bytes=2_000_000)), f"{NAME}: 1 stray file in /data, 0.002 GB"),
    ("dirty", facts(poll(files=7)), "7 stray files in /data"),
    (
        "dirty",
        facts(poll(files=3, data_bytes=3_000_000), expected=Count(2, 1_000_000)),
        "1 stray file in /data, 0.002 GB",
    ),
    ("dirty", facts(closing="the files of an earlier run are not closed yet"), "not closed yet"),
    ("disk", facts(poll(disk_free_bytes=19_900_000_000)), f"{NAME}: 19.9 GB free, less than 20 GB"),
    ("run_exists", facts(poll(next_exists=True)), f"{NAME}: e20009/run_0042 exists already"),
    ("run_exists", facts(asked=RunRef("e20009", 41)), "not asked yet about e20009/run_0042"),
    ("run_exists", facts(asked=None), "not asked yet about e20009/run_0042"),
]


@pytest.mark.parametrize("firmness", list(Firmness))
@pytest.mark.parametrize(("interlock", "router", "text"), CASES)
def test_each_reason_has_the_firmness_that_the_settings_give_it(interlock, router, text, firmness):
    others = {name: Firmness.REFUSE for name in InterlockSettings.model_fields if name != interlock}
    interlocks = InterlockSettings.model_validate({**others, interlock: firmness})
    (reason,) = against_start([router], NEXT, interlocks, LIMITS)
    assert text in reason.text
    assert reason.firmness is firmness
    assert bool(refusing([reason], override=False)) == (firmness is not Firmness.WARN)
    assert bool(refusing([reason], override=True)) == (firmness is Firmness.REFUSE)
    (said,) = in_short([reason])
    assert said.startswith(reason.text)
    assert ("Run:Override passes this" in said) == (firmness is Firmness.PASSABLE)


def test_what_is_the_same_of_several_routers_is_said_once():
    late = "the files of an earlier run are not closed yet"
    routers = [replace(facts(closing=late), label=f"CoBo{number}") for number in range(3)]
    other = replace(facts(poll(files=1, data_bytes=5_000_000)), label="CoBo3")
    gone = replace(facts(None, unreachable="CoBo4: 192.168.41.64: no route"), label="CoBo4")
    reasons = against_start([*routers, other, gone], NEXT, InterlockSettings(), LIMITS)
    assert len(reasons) == 5
    assert list(in_short(reasons)) == [
        f"data routers CoBo0, CoBo1, CoBo2: {late} (Run:Override passes this)",
        f"{NAME}: 1 stray file in /data, 0.005 GB (Run:Override passes this)",
        "data router CoBo4: 192.168.41.64: no route",
    ]


def test_nothing_is_against_a_router_that_is_ready():
    assert against_start([facts()], NEXT, InterlockSettings(), LIMITS) == []
    # The files of the run that is on are no strays.
    assert against_start([facts(poll(files=4), taking=True)], NEXT, InterlockSettings(), LIMITS) == []
    # A sentry cannot tell whether the folder exists; without a number nobody can.
    assert against_start([facts(poll(next_exists=None))], NEXT, InterlockSettings(), LIMITS) == []
    assert against_start([facts(asked=None)], None, InterlockSettings(), LIMITS) == []


@pytest.mark.parametrize("firmness", list(Firmness))
def test_a_sentry_at_work_refuses_every_start(firmness):
    """Whatever the settings say: the next run's files would go into the last run's folder."""
    interlocks = InterlockSettings.model_validate(dict.fromkeys(InterlockSettings.model_fields, firmness))
    at_work = facts(poll(files=3), moving="its sentry is closing run 41", closing="not closed yet")
    (reason,) = refusing(against_start([at_work], NEXT, interlocks, LIMITS), override=True)
    assert reason.text == f"{NAME}: its sentry is closing run 41"


def test_a_disk_of_no_size_is_unknown_and_refuses_nothing():
    unknown = poll(disk_free_bytes=0, disk_total_bytes=0, note="the sentry finds no disk 'x'")
    (reason,) = against_start([facts(unknown)], NEXT, InterlockSettings(), LIMITS)
    assert reason.text == f"{NAME}: its free disk space is not known (the sentry finds no disk 'x')"
    assert reason.firmness is Firmness.WARN


def test_every_reason_is_reported_at_once():
    bad = poll(process=False, files=2, disk_free_bytes=0, next_exists=True)
    reasons = against_start([facts(bad), facts(None), facts()], NEXT, InterlockSettings(), LIMITS)
    assert len(reasons) == 5


@pytest.mark.parametrize(("process", "files", "free", "exists"), list(itertools.product([0, 1], repeat=4)))
def test_reasons_do_not_hide_one_another(process, files, free, exists):
    seen = poll(process=bool(process), files=files, disk_free_bytes=free * 10**12, next_exists=bool(exists))
    reasons = against_start([facts(seen)], NEXT, InterlockSettings(), LIMITS)
    assert len(reasons) == (not process) + files + (not free) + exists


def test_the_run_that_is_being_started_is_asked_for_until_it_is_on():
    key = NextRun()
    assert key.of(RunView(RunState.UNKNOWN, experiment="e1", next_number=-1)) is None
    assert key.of(RunView(RunState.STOPPED, experiment="", next_number=3)) is None
    assert key.of(RunView(RunState.STOPPED, experiment="e1", next_number=3)) == RunRef("e1", 3)
    # The number was taken: the next one is that of the run after this.
    assert key.of(RunView(RunState.STARTING, experiment="e1", next_number=4)) == RunRef("e1", 3)
    assert key.of(RunView(RunState.RUNNING, experiment="e1", next_number=4)) == RunRef("e1", 4)


# ---------------------------------------------------------------------- the whole


async def until_checklist(it, text, *, there=True):
    await it.until(
        lambda: any(text in line for line in it.run.checklist) == there,
        what=f"{text!r} in the checklist: {it.run.checklist}",
    )


async def test_stray_files_refuse_a_start_until_it_is_overridden_once(tmp_path, monkeypatch, way):
    probe = Probe()
    async with data_rig(tmp_path, monkeypatch, access=way, plugins=[("probe", probe)]) as it:
        await it.take_to(State.READY)
        await it.until(lambda: not it.run.checklist, what="nothing against a start")
        stray = it.fleet.data["CoBo[0]"].staging / "stray.graw"
        stray.write_bytes(bytes(1000))
        await until_checklist(it, "data router CoBo0")
        await it.refused("Run:Start", because="1 stray file")
        assert "stray file" in await it.get_text("Run:Checklist_RBV")
        assert await it.get("Run:Ready_RBV") == "NotReady"

        await it.ok("Run:Override", "Yes")
        await until_checklist(it, "stray file", there=False)
        await it.ok("Run:Start")
        await it.until(lambda: shown(it, "Run:Override") == 0, what="the override is used up")
        puts = [put for put in probe.of(Put) if put.pv.endswith("Run:Override")]
        assert [(put.old, put.new, put.ok) for put in puts] == [("No", "Yes", True)]
        await stop_run(it)


@pytest.mark.parametrize("access", ALL_ACCESS[:2])
async def test_the_folder_of_the_next_run_refuses_a_start(tmp_path, monkeypatch, access):
    async with data_rig(tmp_path, monkeypatch, access=access) as it:
        await it.take_to(State.READY)
        await it.until(lambda: not it.run.checklist, what="nothing against a start")
        staging = it.fleet.data["CoBo[1]"].staging
        folder = staging / it.run.experiment / "run_0000"
        folder.mkdir(parents=True)
        reason = f"{it.run.experiment}/run_0000 exists already"
        await until_checklist(it, reason)
        await it.ok("Run:Override", "Yes")
        message = await it.refused("Run:Start", because=reason)
        assert "data router CoBo1" in message
        assert "Run:Override" not in message
        assert shown(it, "Run:Override") == 1, "only an accepted start uses it up"
        folder.rmdir()
        await until_checklist(it, reason, there=False)
        await start_run(it)
        await it.until(lambda: shown(it, "Run:Override") == 0, what="the override is used up")
        # The one after it is asked for now.
        (staging / it.run.experiment / "run_0001").mkdir(parents=True)
        await until_checklist(it, "run_0001 exists already")
        await stop_run(it)


async def test_an_answer_counts_for_the_run_that_was_asked_about_only(tmp_path, monkeypatch):
    text = section(watch={"period_s": 5.0, "timeout_s": 10.0})
    async with data_rig(tmp_path, monkeypatch, access=Access.SSH, text=text) as it:
        await it.until(lambda: shown(it, "CoBo0:Router:Online_RBV") == 1, what="online")
        gate = it.fleet.data["CoBo[0]"].gate
        gate.hung = True
        assert (await it.put_text("Run:Experiment", "e21001")).code == 0
        await until_checklist(it, "data router CoBo0 on 127.0.0.1: not asked yet about e21001/run_0000")
        gate.hung = False
        await until_checklist(it, "not asked yet", there=False)


async def test_what_only_warns_is_said_and_passes(tmp_path, monkeypatch, caplog):
    async with data_rig(tmp_path, monkeypatch, text=section(interlocks={"dirty": "warn"})) as it:
        await it.take_to(State.READY)
        (it.fleet.data["CoBo[0]"].staging / "stray.graw").write_bytes(b"x")
        message = "Plugin:data_routers:Message_RBV"
        await it.until(lambda: "1 stray file" in shown(it, message), what="the warning")
        assert shown(it, "Plugin:data_routers:Status_RBV") == 1
        await start_run(it)
        await it.until(lambda: "run starts in spite of" in caplog.text, what="the log")
        await stop_run(it)


@pytest.mark.parametrize("access", ALL_ACCESS[1:])
async def test_a_router_or_a_host_that_is_down_refuses_a_start(tmp_path, monkeypatch, access):
    async with data_rig(tmp_path, monkeypatch, access=access) as it:
        await it.take_to(State.READY)
        await it.until(lambda: not it.run.checklist, what="nothing against a start")
        await it.fleet.routers["CoBo[0]"].stop()
        await it.fleet.data["CoBo[1]"].gate.close()
        await until_checklist(it, "data router CoBo0 on 127.0.0.1: no process DataExporter or dataRouter")
        await until_checklist(it, "data router CoBo1: ")
        message = await it.refused("Run:Start", because="no process DataExporter or dataRouter")
        assert "data router CoBo1: " in message
        # Those of modules that take no part do not count.
        await it.ok("Ecc:cobo0:Enable", "No")
        await it.ok("Ecc:cobo1:Enable", "No")
        await until_checklist(it, "data router", there=False)
        await start_run(it)
        await stop_run(it)


async def test_nothing_refuses_to_adopt_what_runs(tmp_path, monkeypatch):
    async with data_rig(tmp_path, monkeypatch) as it:
        await it.take_to(State.READY)
        (it.fleet.data["CoBo[0]"].staging / "stray.graw").write_bytes(b"x")
        await until_checklist(it, "stray file")
        for name in ("mutant", "cobo0", "cobo1"):
            assert not (await it.fleet.call(name, "Start")).code
        await it.until_run(RunState.ORPHAN)
        outcome = await it.submit("Adopt", RUN)
        assert outcome.ok, outcome.message
        await it.until(lambda: shown(it, "CoBo0:Router:Flow_RBV") == 1, what="flowing")
        await stop_run(it)


async def test_with_a_sentry_the_next_start_waits_until_the_files_are_moved(tmp_path, monkeypatch):
    slow = replace(QUICK_DATA, drain_s=1.0, catalog_wait_s=3.0)

    # The checklist follows about once a second, and a busy machine's later: one of the two may be missed.
    def refused() -> bool:
        reasons = (f"not closed yet: {BY_SENTRY}", "its sentry is closing run ")
        return any(reason in line for line in it.run.checklist for reason in reasons)

    text = section(closing={"quiet_s": 3.0})
    async with data_rig(tmp_path, monkeypatch, access=Access.SENTRY, data=slow, text=text) as it:
        for number in range(2):
            await start_run(it)
            assert it.run.number == number
            await it.until(lambda: it.fleet.data["CoBo[0]"].files(), what="data of this run")
            await it.until(lambda: shown(it, "Run:Written_RBV") > 0.001, what="data")
            await stop_run(it)
            await it.until(refused, what="a start waits")
            await it.until(lambda: not it.run.checklist, what="nothing against a start")
            run = it.fleet.data["CoBo[0]"].staging / it.run.experiment / f"run_{number:04d}"
            assert list(run.glob("*.graw"))
            assert shown(it, "CoBo0:Router:Clean_RBV") == 1
            assert shown(it, "Run:Written_RBV") > 0.001, "the last run's, until the next begins"


@pytest.mark.parametrize("access", ALL_ACCESS[:2])
async def test_files_without_a_time_in_their_names_delay_the_next_start(tmp_path, monkeypatch, access):
    async with data_rig(tmp_path, monkeypatch, access=access, text=section(closing={"quiet_s": 1.5})) as it:
        await start_run(it)
        host = it.fleet.data["CoBo[0]"]
        await it.until(host.files, what="data of this run")
        (host.staging / "other.graw").write_bytes(b"x")
        await it.until(lambda: shown(it, "CoBo1:Router:Written_RBV") > 0.0, what="data")
        await stop_run(it)
        await until_checklist(it, "CoBo0 on ")
        await until_checklist(it, "do not have their streams' times (other.graw); they are moved in ")
        await it.refused("Run:Start", because="the files of run 0 are not closed yet")
        await it.until(lambda: not it.run.checklist, 20.0, f"nothing against a start: {it.run.checklist}")
        assert (host.staging / it.run.experiment / "run_0000" / "other.graw").exists()
