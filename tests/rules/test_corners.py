"""Corner cases of the rules: settings changed between two starts, ends that nobody saw, late replies."""

from __future__ import annotations

from attpc_ioc.control.modules.operation import OngoingOperation
from attpc_ioc.errors import EccBusy, EccRefused
from attpc_ioc.model.command import RUN, ResultCode, Who
from attpc_ioc.model.config import Loaded
from attpc_ioc.model.events import Origin
from attpc_ioc.model.states import Operation, State
from attpc_ioc.settings import EccSettings
from tests.support.patience import HANGS_S
from tests.support.rig import EXPERIMENT, Rig, rig
from tests.support.runs import Recorder, call_of, outside, ready, running, under_way

HUNG = f"""\
start_s = {HANGS_S}
stop_s = {HANGS_S}
stop_mutant_s = 0.2
arrival_grace_s = 0.1"""


async def restart_with(it: Rig, name: str, **changes: object) -> None:
    """Restart the IOC with other settings for one ECC server."""
    await it.stop_ioc()
    eccs: tuple[EccSettings, ...] = tuple(
        e.model_copy(update=changes) if e.name == name else e for e in it.settings.ecc
    )
    it.settings = it.settings.model_copy(update={"ecc": eccs})
    await it.start_ioc()
    await it.until(lambda: all(m.offered is not None for m in it.snapshot.modules.values()))


async def test_rule_06_a_selected_config_that_the_settings_no_longer_accept_is_dropped(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.select()
        await restart_with(it, "cobo0", describe="cobo7")
        assert it.module("cobo0").selected is None
        assert it.module("cobo1").selected is not None
        await it.refused("Describe", because="cobo0: no config is selected")
        await it.refused("Run:Start", because="cobo0: is in Idle, not Ready, and no config is selected")
        assert it.fleet.log.sequence() == []


async def test_rule_05_what_is_loaded_in_a_server_of_another_address_is_not_known(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await ready(it)
        await restart_with(it, "cobo0")
        assert it.module("cobo0").loaded == Loaded("cobo0", EXPERIMENT, EXPERIMENT)
        await restart_with(it, "cobo0", host="localhost")
        await it.until(lambda: it.module("cobo0").loaded == Loaded("?", "?", "?"))
        assert it.module("cobo1").loaded == Loaded("cobo1", EXPERIMENT, EXPERIMENT)
        await it.refused("Run:Start", because="cobo0: what is loaded is not known for sure")
        assert (await it.submit("GoTo", target=State.IDLE)).ok
        assert (await it.submit("GoTo", target=State.READY)).ok
        assert (await it.submit("Start", RUN)).ok


async def test_rule_04_an_operation_whose_end_nobody_saw_explains_the_change(tmp_path, monkeypatch):
    recorder = Recorder()
    async with rig(tmp_path, monkeypatch, limits=HUNG, plugins=[("recorder", recorder)]) as it:
        await ready(it)
        server = it.fleet["cobo1"]
        server.faults.hang("Start")
        server.faults.lose_reply("Start")
        start = under_way(it, "Start")
        await call_of(it, "cobo1", "Start")
        server.faults.refuse()
        await it.until(lambda: not it.module("cobo1").online)
        server.faults.clear("hang")
        assert (await start).code is not ResultCode.DONE
        await it.until(lambda: it.module("cobo1").outstanding is None)
        recorder.changes.clear()
        server.faults.clear()
        # It is stopped when it comes back (rule 13); both changes are ours.
        await it.until_all(State.READY)
        await it.until(lambda: [c.new for c in recorder.changes][-1:] == [State.READY])
        mine = [c for c in recorder.changes if c.module == "cobo1"]
        assert [c.origin for c in mine] == [Origin.OURS] * len(mine)
        assert State.RUNNING in [c.new for c in mine]
        await outside(it, "Breakup", "cobo1")
        await it.until(lambda: recorder.changes[-1].new is State.PREPARED)
        assert recorder.changes[-1].origin is Origin.EXTERNAL


async def test_rule_02_the_text_of_a_late_stop_is_reported(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=HUNG) as it:
        await running(it)
        faults = it.fleet["cobo1"].faults
        faults.hang("Stop")
        assert (await it.submit("Stop", RUN)).code is ResultCode.INCOMPLETE
        faults.fail("Stop", message="Exception: the board is on fire.")
        faults.clear("hang")
        await it.until(lambda: it.module("cobo1").outstanding is None)
        assert "Late: Stop failed" in it.module("cobo1").result.message
        assert "the board is on fire" in it.module("cobo1").result.message
        faults.clear()
        assert (await it.submit("Stop", RUN)).ok


async def test_rule_13_a_start_that_found_the_server_busy_has_not_run():
    def start(error: Exception) -> OngoingOperation:
        ongoing = OngoingOperation("cobo0", Operation.START, State.READY, State.RUNNING, None, Who("tester"))
        ongoing.answered(None, error)
        return ongoing

    assert not start(EccBusy(1, "The ECC state machine is busy!")).may_have_run
    assert start(EccRefused(3, "Exception")).may_have_run
