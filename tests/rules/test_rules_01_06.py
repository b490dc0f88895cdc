"""Rules 1 to 6: what is sent, when it has arrived, and which configuration is in the hardware."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from attpc_ioc.control.operation import OngoingOperation, Verdict
from attpc_ioc.errors import EccBusy
from attpc_ioc.model.command import RUN, SYSTEM, ResultCode, Who
from attpc_ioc.model.config import Loaded
from attpc_ioc.model.events import OperationEnded, Origin, StateChanged
from attpc_ioc.model.states import Operation, State, Transition
from attpc_ioc.plugin.spec import hookimpl
from attpc_ioc.simulator.xcfg import describe_text
from tests.support.rig import EXPERIMENT, Rig, ecc, rig
from tests.support.simfleet import call_and_leave, take_up, wait_until
from tests.support.trouble import assert_nothing_forbidden, shown

SELDOM_POLLED = "quiet_period_s = 20.0\nmoving_period_s = 0.01\nbackoff_max_s = 20.0\ntimeout_s = 0.4"


async def said(it: Rig, name: str) -> str:
    """A long text as it was before `caget` escaped its quotes."""
    return (await it.get_text(name)).replace("\\'", "'")


class Listener:
    """A plugin that keeps what it is told."""

    def __init__(self) -> None:
        self.changes: list[StateChanged] = []
        self.ended: list[OperationEnded] = []

    @hookimpl
    def attpc_state_changed(self, change: StateChanged) -> None:
        self.changes.append(change)

    @hookimpl
    def attpc_after_operation(self, event: OperationEnded) -> None:
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
    async with rig(tmp_path, monkeypatch, limits="describe_s = 0.3") as it:
        await it.select()
        it.fleet["cobo0"].faults.hang("Describe")
        assert (await it.put("Ecc:cobo0:Describe")).code == 1
        assert await it.get("Ecc:cobo0:Result_RBV") == "TimedOut"
        assert await it.severity("Ecc:cobo0:Result_RBV") == "MAJOR"
        await it.refused("Ecc:cobo0:Describe", because="cobo0: has not answered our Describe yet")
        assert await it.get("Ecc:cobo0:Result_RBV") == "Refused"
        assert await it.severity("Ecc:cobo0:Result_RBV") == "MINOR"
        assert await it.get("Ecc:cobo0:ResultCount_RBV") == "2"
        assert it.fleet.log.sequence() == ["cobo0.Describe"]


async def test_rule_01_a_busy_reply_says_that_our_operation_never_began():
    ongoing = OngoingOperation("m", Operation.DESCRIBE, State.IDLE, State.DESCRIBED, None, Who())
    ongoing.answered(None, EccBusy(1, "The ECC state machine is busy!"))
    # It is at its end at once: a foreign transition may go on for as long as it likes.
    assert ongoing.settled.done()
    assert ongoing.verdict is Verdict.FAILED
    assert ongoing.reason == "Describe failed (code 1: The ECC state machine is busy!)"


# ---------------------------------------------------------------------- rule 2


async def test_rule_02_a_late_success_is_recorded_and_told(tmp_path, monkeypatch):
    listener = Listener()
    plugins = [("listener", listener)]
    async with rig(tmp_path, monkeypatch, limits="describe_s = 0.3", plugins=plugins) as it:
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
    async with rig(tmp_path, monkeypatch, limits="describe_s = 0.3") as it:
        await it.select()
        faults = it.fleet["cobo0"].faults
        faults.hang("Describe")
        assert (await it.submit("Describe", ecc("cobo0"))).code is ResultCode.TIMED_OUT
        faults.fail("Describe", message="Exception: the board is on fire.")
        faults.clear("hang")
        await it.until(lambda: it.module("cobo0").outstanding is None)
        assert await it.get_text("Ecc:cobo0:Message_RBV") == (
            "Late: Describe failed (code 1: Exception: the board is on fire.)"
        )
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

        asked = [asyncio.create_task(module.fresh()) for _ in range(5)]
        await wait_until(polled_often)
        assert most == 1
        # All who ask meanwhile share the next poll, which goes out after they have asked.
        assert len({seen.asked_at_s for seen in await asyncio.gather(*asked)}) == 1


# ---------------------------------------------------------------------- rule 3


async def test_rule_03_a_config_file_that_has_vanished(tmp_path, monkeypatch):
    """Configure gives code 3 and State 4: a failure, the message says both, and no run starts."""
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(State.PREPARED)
        file = it.fleet.xcfg.path / f"configure-{EXPERIMENT}.xcfg"
        text = file.read_text()
        file.unlink()
        assert (await it.put("Ecc:cobo0:Configure")).code == 1
        message = await said(it, "Ecc:cobo0:Message_RBV")
        assert (
            f"Configure failed (code 3: Exception: Configuration '{EXPERIMENT}' does not exist.)" in message
        )
        assert "and yet the module is seen in Ready" in message
        assert await it.get("Ecc:cobo0:ErrorCode_RBV") == "3"
        assert await it.get("Ecc:cobo0:State_RBV") == "Ready"
        assert await it.get_text("Ecc:cobo0:Loaded_RBV") == f"cobo0/{EXPERIMENT}/?"
        assert await it.severity("Ecc:cobo0:Loaded_RBV") == "MINOR"
        file.write_text(text)
        await it.ok("GoTo", "Ready")
        message = await it.refused("Run:Start", because="cobo0: what is loaded is not known for sure")
        assert "take it back and configure it again" in message
        assert "cobo0: what is loaded" in await it.get_text("Run:Checklist_RBV")
        await it.ok("GoTo", "Prepared")
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
        text = "Idle → Described by no command of this IOC"
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
        assert back.reason == "Ready → Idle by no command of this IOC"


# ---------------------------------------------------------------------- rule 5


async def test_rule_05_selected_is_not_loaded(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(State.READY)
        assert await it.get_text("Ecc:cobo0:Loaded_RBV") == f"cobo0/{EXPERIMENT}/{EXPERIMENT}"
        assert await it.severity("Ecc:cobo0:Loaded_RBV") == "NO_ALARM"
        assert (await it.put_text("Ecc:cobo0:Config", "cobo0/pulser/pulser")).code == 0
        assert await it.get_text("Ecc:cobo0:Loaded_RBV") == f"cobo0/{EXPERIMENT}/{EXPERIMENT}"
        assert await it.severity("Ecc:cobo0:Loaded_RBV") == "MINOR"
        await it.refused(
            "Run:Start",
            because=f"cobo0: cobo0/{EXPERIMENT}/{EXPERIMENT} is loaded, cobo0/pulser/pulser is selected",
        )
        assert await it.get_text("Config_RBV") == "mixed"
        await it.ok("GoTo", "Described")
        await it.ok("GoTo", "Ready")
        assert await it.get_text("Ecc:cobo0:Loaded_RBV") == "cobo0/pulser/pulser"
        await it.ok("Run:Start")
        assert it.run.info is not None
        assert it.run.info.loaded == {
            "cobo0": "cobo0/pulser/pulser",
            "cobo1": f"cobo1/{EXPERIMENT}/{EXPERIMENT}",
            "mutant": f"{EXPERIMENT}/{EXPERIMENT}/{EXPERIMENT}",
        }


async def test_rule_05_each_part_is_cleared_on_the_way_back(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(State.READY)
        for loaded in (f"cobo0/{EXPERIMENT}/-", "cobo0/-/-", ""):
            assert (await it.submit("Reset")).ok
            assert shown(it, "Ecc:cobo0:Loaded_RBV") == (loaded, "NO_ALARM")


async def test_rule_05_seen_lower_than_recorded_is_unknown(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(State.READY)
        await it.fleet.call("cobo0", "Breakup")
        await it.until_all(State.PREPARED, "cobo0")
        assert it.module("cobo0").loaded == Loaded("cobo0", EXPERIMENT, "?")
        await it.fleet.call("cobo0", "Configure", config="cobo0/pulser/pulser")
        await it.until_all(State.READY, "cobo0")
        assert shown(it, "Ecc:cobo0:Loaded_RBV") == (f"cobo0/{EXPERIMENT}/?", "MINOR")
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.REFUSED
        assert f"cobo0: what is loaded is not known for sure (cobo0/{EXPERIMENT}/?)" in outcome.message
        for target in (State.PREPARED, State.READY):
            assert (await it.submit("GoTo", ecc("cobo0"), target)).ok
        assert (await it.submit("Start", RUN)).ok


async def test_rule_05_what_is_loaded_is_kept_and_what_moved_meanwhile_is_unknown(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.take_to(State.READY)
        await it.stop_ioc()
        await it.fleet.call("cobo1", "Breakup")
        await it.start_ioc()
        await it.until(lambda: all(m.online for m in it.snapshot.enabled))
        assert it.module("cobo0").loaded == Loaded("cobo0", EXPERIMENT, EXPERIMENT)
        assert it.module("cobo1").loaded == Loaded("cobo1", EXPERIMENT, "?")
        assert str(it.module("cobo1").selected) == f"cobo1/{EXPERIMENT}/{EXPERIMENT}"


async def test_rule_05_modules_that_a_foreign_client_configured(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, start=False) as it:
        await take_up(it.fleet, State.READY)
        await it.start_ioc()
        await it.until_all(State.READY)
        await it.select()
        assert it.module("cobo0").loaded == Loaded("?", "?", "?")
        outcome = await it.submit("Start", RUN)
        assert "cobo0: what is loaded is not known for sure (?/?/?)" in outcome.message
        assert outcome.code is ResultCode.REFUSED


async def test_rule_05_the_re_zero_sends_the_loaded_names(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.select("pulser")
        assert (await it.submit("GoTo", SYSTEM, State.READY)).ok
        it.fleet.log.clear()
        assert (await it.submit("Start", RUN)).ok
        (again,) = it.fleet.log.of("mutant", "Configure")
        assert (again.ids.describe, again.ids.prepare, again.ids.configure) == ("pulser",) * 3
        # Rule 5 and the protocol: no call ever carries an empty sub-id, and each has its data links.
        assert 'id="Mutant[master]"' in again.table


# ---------------------------------------------------------------------- rule 6


async def test_rule_06_another_boards_describe_name_is_refused(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        name = f"cobo1/{EXPERIMENT}/{EXPERIMENT}"
        assert (await it.put_text("Ecc:cobo0:Config", name)).code == 1
        message = await said(it, "Ecc:cobo0:Message_RBV")
        assert "cobo0 takes the describe name 'cobo0', not cobo1" in message
        assert "would take over another board" in message
        assert it.module("cobo0").selected is None
        assert name not in await it.get_text("Ecc:cobo0:ConfigList_RBV")


async def rewrite_describe(it: Rig, *boards: str) -> None:
    nodes = [it.fleet.default_describes()[board][0] for board in boards]
    (it.fleet.xcfg.path / "describe-cobo0.xcfg").write_text(describe_text(nodes))


@pytest.mark.parametrize("boards", [("cobo1",), ("cobo0", "cobo1"), ()], ids=str)
async def test_rule_06_a_wrong_board_is_undone_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boards: tuple[str, ...]
) -> None:
    async with rig(tmp_path, monkeypatch) as it:
        await it.select()
        await rewrite_describe(it, *boards)
        assert (await it.put("Describe")).code == 1
        message = await it.get_text("Message_RBV")
        theirs = ", ".join(f"CoBo[{name[-1]}]" for name in boards) or "no board"
        assert (
            f"cobo0: the describe file cobo0 is for {theirs}, this ECC server drives CoBo[0]; it was undone"
            in message
        )
        *described, last = it.fleet.log.sequence()
        assert (sorted(described), last) == (["cobo0.Describe", "cobo1.Describe"], "cobo0.Undo")
        await it.until_all(State.IDLE, "cobo0")
        assert it.module("cobo0").loaded in (Loaded(), Loaded("?"))
        assert it.module("cobo1").state is State.DESCRIBED
        assert_nothing_forbidden(it)


async def test_rule_06_a_wrong_board_that_cannot_be_undone_never_runs(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch) as it:
        await it.select()
        await rewrite_describe(it)
        it.fleet["cobo0"].faults.fail("Undo")
        outcome = await it.submit("Describe", ecc("cobo0"))
        assert "is for no board, this ECC server drives CoBo[0]; Undo failed (code 9: " in outcome.message
        assert it.module("cobo0").state is State.DESCRIBED
        assert shown(it, "Ecc:cobo0:Loaded_RBV") == ("?/-/-", "MINOR")
        assert (await it.submit("GoTo", SYSTEM, State.READY)).ok
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.REFUSED
        assert "cobo0: what is loaded is not known for sure" in outcome.message


async def test_rule_06_a_wrong_board_that_comes_late_is_undone_too(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits="describe_s = 0.3") as it:
        await it.select()
        await rewrite_describe(it, "cobo1")
        it.fleet["cobo0"].faults.hang("Describe")
        assert (await it.submit("Describe", ecc("cobo0"))).code is ResultCode.TIMED_OUT
        it.fleet["cobo0"].faults.clear()
        call = await it.fleet.log.wait_for(lambda c: c.operation == "Undo")
        await it.until_all(State.IDLE, "cobo0")
        assert call.server == "cobo0"
        assert "the describe file cobo0 is for CoBo[1]" in it.module("cobo0").result.message
