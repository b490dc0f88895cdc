"""Rules 5 and 6: which configuration is in the hardware, and whose boards a server drives."""

from __future__ import annotations

from pathlib import Path

import pytest

from attpc_ioc.model.command import RUN, SYSTEM, ResultCode
from attpc_ioc.model.config import Loaded
from attpc_ioc.model.states import State
from attpc_ioc.simulator.xcfg import describe_text
from tests.support.patience import HANGS_S
from tests.support.rig import EXPERIMENT, Rig, ecc, rig
from tests.support.simfleet import take_up
from tests.support.trouble import assert_nothing_forbidden, said, shown

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
        for name in ("mutant", "cobo1"):
            assert (await it.submit("GoTo", ecc(name), State.PREPARED)).ok
        for name, operations in (("cobo0", ("Prepare", "Configure")), ("cobo1", ("Configure",))):
            for operation in operations:
                assert (await it.submit(operation, ecc(name))).ok
        assert (await it.submit("Configure", ecc("mutant"))).ok
        outcome = await it.submit("Start", RUN)
        assert outcome.code is ResultCode.REFUSED
        assert "cobo0: what is loaded is not known for sure" in outcome.message
        # GoTo describes it again, and it is still the wrong board.
        outcome = await it.submit("GoTo", SYSTEM, State.READY)
        assert "cobo0: the describe file cobo0 is for no board" in outcome.message
        await it.until_all(State.IDLE, "cobo0")


async def test_rule_06_a_wrong_board_that_comes_late_is_undone_too(tmp_path, monkeypatch):
    async with rig(tmp_path, monkeypatch, limits=f"describe_s = {HANGS_S}") as it:
        await it.select()
        await rewrite_describe(it, "cobo1")
        it.fleet["cobo0"].faults.hang("Describe")
        assert (await it.submit("Describe", ecc("cobo0"))).code is ResultCode.TIMED_OUT
        it.fleet["cobo0"].faults.clear()
        call = await it.fleet.log.wait_for(lambda c: c.operation == "Undo")
        await it.until_all(State.IDLE, "cobo0")
        assert call.server == "cobo0"
        assert "the describe file cobo0 is for CoBo[1]" in it.module("cobo0").result.message
