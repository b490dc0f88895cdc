"""Rules 1 to 4: what is sent, when it has arrived, and what others have done."""

from __future__ import annotations

import asyncio
import logging

from attpc_ioc.control.modules.operation import OngoingOperation, Verdict
from attpc_ioc.errors import EccBusy
from attpc_ioc.model.command import SYSTEM, ResultCode, Who
from attpc_ioc.model.config import Loaded
from attpc_ioc.model.events import OperationEnded, Origin, StateChanged
from attpc_ioc.model.states import Operation, State, Transition
from attpc_ioc.plugin.spec import hookimpl
from tests.support.patience import HANGS_S
from tests.support.rig import EXPERIMENT, ecc, rig
from tests.support.simfleet import call_and_leave, take_up, wait_until
from tests.support.trouble import said

SELDOM_POLLED = "quiet_period_s = 20.0\nmoving_period_s = 0.01\nbackoff_max_s = 20.0\ntimeout_s = 0.4"


class Listener:
    """A plugin that keeps what it is told."""

    def __init__(self) -> None:
        self.changes: list[StateChanged] = []
        self.ended: list[OperationEnded] = []

    @hookimpl
    def attpc_event(self, event: object) -> None:
        if isinstance(event, StateChanged):
            self.changes.append(event)
        elif isinstance(event, OperationEnded):
            self.ended.append(event)


# ---------------------------------------------------------------------- rule 1


async def test_rule_01_a_foreign_client_moved_the_module_since_the_last_poll(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, poll=SELDOM_POLLED) as it:
        await it.select()
        await take_up(it.fleet, State.PREPARED, "cobo0")
        assert it.module("cobo0").state is State.IDLE, "the IOC has not seen it yet"
        it.fleet.log.clear()
        outcome = await it.submit("Describe", ecc("cobo0"))
        assert outcome.code is ResultCode.REFUSED
        assert outcome.message == ("cobo0:Describe Refused: cobo0: is in Prepared; Describe starts from Idle")
        assert it.fleet.log.sequence() == []
        assert it.module("cobo0").state is State.PREPARED


async def test_rule_01_in_a_group_the_others_are_not_held_back(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, poll=SELDOM_POLLED) as it:
        await it.select()
        await take_up(it.fleet, State.PREPARED, "cobo0")
        it.fleet.log.clear()
        outcome = await it.submit("Describe")
        assert outcome.code is ResultCode.FAILED
        assert "cobo0: is in Prepared; Describe starts from Idle" in outcome.message
        # The other CoBo was in the same stage; the stage of the MuTAnT did not go out.
        assert it.fleet.log.sequence() == ["cobo1.Describe"]


async def test_rule_01_a_foreign_transition_is_under_way(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.select()
        it.fleet["cobo0"].faults.hang("Describe")
        await call_and_leave(it.fleet, "cobo0", "Describe")
        await it.until(lambda: it.module("cobo0").transition is Transition.DESCRIBE)
        for name, scope, goto in (
            ("Describe", ecc("cobo0"), None),
            ("Describe", SYSTEM, None),
            ("GoTo", SYSTEM, State.READY),
            ("GoTo", SYSTEM, State.IDLE),
        ):
            outcome = await it.submit(name, scope, goto)
            assert outcome.code is ResultCode.REFUSED, outcome.message
            assert "cobo0: is in transition Describe" in outcome.message
        assert it.fleet.log.sequence() == ["cobo0.Describe"]


async def test_rule_01_an_unanswered_operation_blocks_a_second(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=f"describe_s = {HANGS_S}") as it:
        await it.select()
        it.fleet["cobo0"].faults.hang("Describe")
        assert (await it.put("Ecc:cobo0:Describe")).code == 1
        assert await it.get("Ecc:cobo0:Result_RBV") == "TimedOut"
        assert await it.severity("Ecc:cobo0:Result_RBV") == "MAJOR"
        await it.refused("Ecc:cobo0:Describe", because="cobo0: has not answered our Describe yet")
        assert await it.get("Ecc:cobo0:Result_RBV") == "Refused"
        # Rule 22: the refusal does not hide what is worse.
        assert await it.severity("Ecc:cobo0:Result_RBV") == "MAJOR"
        assert await it.get("Ecc:cobo0:ResultCount_RBV") == "2"
        assert it.fleet.log.sequence() == ["cobo0.Describe"]


async def test_rule_01_a_busy_reply_says_that_our_operation_never_began():
    ongoing = OngoingOperation("m", Operation.DESCRIBE, State.IDLE, State.DESCRIBED, None, Who())
    ongoing.answered(None, EccBusy(1, "The ECC state machine is busy!"))
    # It is at its end at once: a foreign transition may go on for as long as it likes.
    assert ongoing.settled.done()
    assert ongoing.verdict is Verdict.FAILED
    assert ongoing.reason == "Describe failed (code 1: The ECC state machine is busy!)"


async def test_rule_01_a_foreign_client_is_quicker_by_a_millisecond(tmp_path, monkeypatch):
    """Between our look and our call: the server says busy, and what then happens is the other one's doing."""
    async with rig(tmp_path, monkeypatch) as it:
        await it.select()
        server, client = it.fleet["cobo0"], it.app.controller.modules["cobo0"]._client
        call = client.transition

        async def overtaken(*args: object) -> object:
            await call_and_leave(it.fleet, "cobo0", "Describe")
            await wait_until(lambda: server.transition is Transition.DESCRIBE)
            return await call(*args)  # type: ignore[arg-type]

        server.faults.hang("Describe")
        with monkeypatch.context() as patch:
            patch.setattr(client, "transition", overtaken)
            outcome = await it.submit("Describe", ecc("cobo0"))
        assert outcome.code is ResultCode.FAILED
        assert "Describe failed (code 1: The ECC state machine is busy!)" in outcome.message
        assert it.module("cobo0").outstanding is None
        server.faults.clear()
        await it.until_all(State.DESCRIBED, "cobo0")
        message = "External: Idle -> Described by no command of this IOC"
        assert it.module("cobo0").result.message == message
        assert it.module("cobo0").loaded == Loaded("?")


# ---------------------------------------------------------------------- rule 2


async def test_rule_02_a_late_success_is_recorded_and_reported(tmp_path, monkeypatch):
    listener = Listener()
    plugins = [("listener", listener)]
    async with rig(tmp_path, monkeypatch, limits=f"describe_s = {HANGS_S}", plugins=plugins) as it:
        await it.select()
        it.fleet["cobo0"].faults.hang("Describe")
        outcome = await it.submit("Describe", ecc("cobo0"))
        assert outcome.code is ResultCode.TIMED_OUT
        assert it.module("cobo0").outstanding is Operation.DESCRIBE
        it.fleet["cobo0"].faults.clear()
        await it.until_all(State.DESCRIBED, "cobo0")
        assert it.module("cobo0").loaded == Loaded("cobo0")
        assert it.module("cobo0").result.message == "Late: Describe arrived in Described"
        await it.until(lambda: [e.ok for e in listener.ended] == [True])
        await it.until(lambda: listener.changes[-1:])
        assert listener.changes[-1].origin is Origin.OURS


async def test_rule_02_the_text_of_a_late_failure_is_shown(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=f"describe_s = {HANGS_S}") as it:
        await it.select()
        faults = it.fleet["cobo0"].faults
        faults.hang("Describe")
        assert (await it.submit("Describe", ecc("cobo0"))).code is ResultCode.TIMED_OUT
        faults.fail("Describe", message="Exception: the board is on fire.")
        faults.clear("hang")
        await it.until(lambda: it.module("cobo0").outstanding is None)
        message = await it.get_text("Ecc:cobo0:Message_RBV")
        assert message.startswith("Late: Describe failed (code 1: Exception: the board is on fire.)")
        assert "cobo0:Describe TimedOut" in message
        assert await it.get("Ecc:cobo0:ErrorCode_RBV") == "1"


async def test_rule_02_one_outstanding_poll_a_server(tmp_path, monkeypatch):
    poll = "moving_period_s = 0.005\nquiet_period_s = 0.005\ntimeout_s = 2.0"
    async with rig(tmp_path, monkeypatch, cobos=1, mutant=False, poll=poll) as it:
        server, module = it.fleet["cobo0"], it.app.controller.modules["cobo0"]
        server.faults.slow("GetState", extra_s=0.03)
        most, polls = 0, server.polls

        def polled_often() -> bool:
            nonlocal most
            most = max(most, server.open_connections)
            return server.polls >= polls + 10

        asked = [asyncio.create_task(module.answers.fresh(5.0)) for _ in range(5)]
        await wait_until(polled_often)
        assert most == 1
        # All who ask meanwhile share the next poll, which goes out after they have asked.
        assert len({seen.asked_at_s for seen in await asyncio.gather(*asked)}) == 1


# ---------------------------------------------------------------------- rule 3


async def test_rule_03_a_config_file_that_has_vanished(tmp_path, monkeypatch):
    """The describe file's: Configure gives code 3 and State 4, the message says both, and no run starts."""
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(State.PREPARED)
        file = it.fleet.xcfg.path / "describe-cobo0.xcfg"
        text = file.read_text()
        file.unlink()
        assert (await it.put("Ecc:cobo0:Configure")).code == 1
        message = await said(it, "Ecc:cobo0:Message_RBV")
        assert "Configure failed (code 3: Configuration 'cobo0' does not exist.)" in message
        assert "and yet the module is seen in Ready" in message
        assert await it.get("Ecc:cobo0:ErrorCode_RBV") == "3"
        assert await it.get("Ecc:cobo0:State_RBV") == "Ready"
        assert await it.get_text("Ecc:cobo0:Loaded_RBV") == f"cobo0/{EXPERIMENT}/?"
        assert await it.severity("Ecc:cobo0:Loaded_RBV") == "MINOR"
        file.write_text(text)
        for name in ("cobo1", "mutant"):
            await it.ok(f"Ecc:{name}:Configure")
        message = await it.refused("Run:Start", because="cobo0: what is loaded is not known for sure")
        assert "GoTo Ready takes it back to Prepared and up again" in message
        assert "cobo0: what is loaded" in await it.get_text("Run:Checklist_RBV")
        await it.ok("GoTo", "Ready")
        await it.ok("Run:Start")


async def test_rule_03_the_configure_file_has_vanished(tmp_path, monkeypatch):
    """Configure gives code 3 and stays in State 3: once the file is back, the next one does."""
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(State.PREPARED)
        file = it.fleet.xcfg.path / f"configure-{EXPERIMENT}.xcfg"
        text = file.read_text()
        file.unlink()
        assert (await it.put("Ecc:cobo0:Configure")).code == 1
        message = await said(it, "Ecc:cobo0:Message_RBV")
        assert f"code 3: Exception: Configuration '{EXPERIMENT}' does not exist." in message
        assert await it.get("Ecc:cobo0:State_RBV") == "Prepared"
        assert await it.get_text("Ecc:cobo0:Loaded_RBV") == f"cobo0/{EXPERIMENT}/-"
        file.write_text(text)
        await it.ok("GoTo", "Ready")
        await it.ok("Run:Start")


async def test_rule_03_a_server_that_wakes_within_the_limit_has_arrived(tmp_path, monkeypatch):
    """Its reply may come before the next poll, while the module is still shown as Offline."""
    poll = "moving_period_s = 0.01\nquiet_period_s = 0.1\ntimeout_s = 0.3\nbackoff_max_s = 5.0"
    async with rig(tmp_path, monkeypatch, limits="describe_s = 30.0", poll=poll) as it:
        await it.select()
        faults = it.fleet["cobo0"].faults
        faults.hang("Describe")
        command = asyncio.create_task(it.submit("Describe", ecc("cobo0")))
        await it.until(lambda: it.module("cobo0").transition is Transition.DESCRIBE)
        faults.stall()
        faults.clear("hang")
        await it.until(lambda: it.module("cobo0").state is State.OFFLINE)
        faults.clear()
        outcome = await command
        assert outcome.ok, outcome.message
        assert it.module("cobo0").loaded == Loaded("cobo0")


# ---------------------------------------------------------------------- rule 4


async def test_rule_04_an_external_change_is_reported(tmp_path, monkeypatch, caplog):
    listener = Listener()
    async with rig(tmp_path, monkeypatch, plugins=[("listener", listener)]) as it:
        await it.select()
        assert (await it.submit("Describe", ecc("mutant"))).ok
        with caplog.at_level(logging.WARNING, logger="attpc_ioc"):
            await take_up(it.fleet, State.DESCRIBED, "cobo0")
            await it.until_all(State.DESCRIBED, "cobo0")
        text = "Idle -> Described by no command of this IOC"
        assert it.module("cobo0").result.message == f"External: {text}"
        assert "External: " in await it.get_text("Ecc:cobo0:Message_RBV")
        lines = [r for r in caplog.records if r.getMessage() == "external change"]
        assert [getattr(r, "keys")["module"] for r in lines] == ["cobo0"]  # noqa: B009
        await it.until(lambda: [c for c in listener.changes if c.module == "cobo0"])
        found = {c.module: (c.origin, c.old, c.new) for c in listener.changes if c.old < State.OFFLINE}
        assert found == {
            "cobo0": (Origin.EXTERNAL, State.IDLE, State.DESCRIBED),
            "mutant": (Origin.OURS, State.IDLE, State.DESCRIBED),
        }
        # Once a command of ours has taken it somewhere, the message is no longer about that.
        assert (await it.submit("GoTo", target=State.READY)).ok
        assert it.module("cobo0").result.message == ""


async def test_rule_04_a_server_that_was_restarted_is_an_external_change(tmp_path, monkeypatch):
    listener = Listener()
    async with rig(tmp_path, monkeypatch, plugins=[("listener", listener)]) as it:
        await it.take_to(State.READY)
        listener.changes.clear()
        it.fleet["cobo0"].faults.die()
        await it.until(lambda: it.module("cobo0").state is State.OFFLINE)
        it.fleet["cobo0"].faults.clear()
        await it.until_all(State.IDLE, "cobo0")
        await it.until(lambda: len(listener.changes) == 2)
        lost, back = listener.changes
        assert (lost.old, lost.new, lost.origin) == (State.READY, State.OFFLINE, Origin.EXTERNAL)
        assert (back.old, back.new, back.origin) == (State.OFFLINE, State.IDLE, Origin.EXTERNAL)
        assert back.reason == "Ready -> Idle by no command of this IOC"
