"""Decisions of plugins: plans, vetoes, access, run numbers; one that raises counts as "no"."""

from __future__ import annotations

import asyncio
import dataclasses
import re

import pytest

from attpc_ioc.control import controller
from attpc_ioc.errors import PluginError
from attpc_ioc.model.command import RUN, SYSTEM, Command, CommandName, Reason
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.plan import Plan, Stage, Step
from attpc_ioc.model.states import Kind, Operation, State
from attpc_ioc.plugin import hookimpl
from attpc_ioc.plugin.host import PluginHost
from tests.support.ca import caput
from tests.support.probe import covers
from tests.support.rig import PATIENT_LIMITS, rig

START = Plan(Command(RUN, CommandName.START))


def host_of(**plugins: object) -> PluginHost:
    host = PluginHost()
    for name, plugin in plugins.items():
        host.register(plugin, name)
    return host


class Gate:
    """A veto on an outside condition."""

    def __init__(self) -> None:
        self.why: object = None

    @hookimpl
    def attpc_veto(self, plan):
        if isinstance(self.why, Exception):
            raise self.why
        return self.why if plan.command.scope == RUN else None


@covers("attpc_veto")
async def test_vetoes_are_shown_together_and_never_asked_of_a_stop(tmp_path, monkeypatch):
    gate, other = Gate(), Gate()
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("gate", gate), ("other", other)]) as it:
        await it.take_to(State.READY)
        gate.why, other.why = "the hall door is open", [Reason("is too hot", "cobo0"), "no gas"]
        message = await it.refused("Run:Start", because="the hall door is open")
        assert "cobo0: is too hot" in message
        assert "no gas" in message
        # That is the message of runs; the system's is about its own last command.
        assert message.startswith("Run:Start Refused: ")
        assert await it.get_text("Message_RBV") == "GoTo Ready Done"
        # The checklist is live: within a second it follows, without any command.
        await it.until(lambda: "no gas" in it.run.checklist, what="the checklist")
        gate.why = other.why = None
        await it.until(lambda: not it.run.checklist, what="the empty checklist")
        await it.ok("Run:Start")
        gate.why = "too late"
        await it.ok("Run:Stop")


async def test_a_plugin_tells_that_its_veto_has_changed(tmp_path, monkeypatch):
    """So that nobody waits for the second after which it is asked anyway."""
    monkeypatch.setattr(controller, "TICK_S", 600.0)

    class Told(Gate):
        @hookimpl
        async def attpc_startup(self, ctx):
            self.ctx = ctx

    gate = Told()
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("gate", gate)]) as it:
        await it.take_to(State.READY)
        for why in ("the hall door is open", "the hall is dark", None):
            gate.why = why
            gate.ctx.vetoes_changed()
            await it.until(lambda w=why: it.run.checklist == ((w,) if w else ()), what=f"{why}")


@covers("attpc_veto")
async def test_a_veto_that_raises_is_a_no_until_it_answers(tmp_path, monkeypatch):
    gate = Gate()
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("gate", gate)]) as it:
        await it.take_to(State.READY)
        gate.why = ValueError("no reading")
        await it.refused("Run:Start", because="plugin gate failed in attpc_veto: ValueError: no reading")
        assert await it.get("Plugin:gate:Status_RBV") == "Degraded"
        gate.why = None
        await it.until(lambda: not it.run.checklist, what="the empty checklist")
        await it.ok("Run:Start")
        await it.until(lambda: it.app.host.plugins["gate"].status.name == "OK", what="Ok again")


@pytest.mark.parametrize("answer", [42, True, [None, object], SystemExit(1)])
@covers("attpc_veto")
def test_an_answer_that_is_none_is_a_no(answer):
    class Odd:
        @hookimpl
        def attpc_veto(self, plan):
            if isinstance(answer, BaseException):
                raise answer
            return answer

    assert host_of(odd=Odd()).vetoes(START, Fleet())


@covers("attpc_plan")
async def test_a_sites_own_plan_replaces_the_built_in_one(tmp_path, monkeypatch):
    class AllAtOnce:
        """Describes everything in one stage, and leaves the rest to the built-in mapping."""

        @hookimpl
        def attpc_plan(self, command, fleet):
            if (command.scope, command.name) != (SYSTEM, CommandName.DESCRIBE):
                return None
            steps = (
                Step(m.name, Operation.DESCRIBE, frozenset((State.IDLE,)), State.DESCRIBED, 1.0)
                for m in fleet.enabled
                if m.kind is not Kind.MUTANT
            )
            return Plan(command, (Stage("all at once", tuple(steps)),))

    async with rig(tmp_path, monkeypatch, cobos=2, plugins=[("site", AllAtOnce())]) as it:
        await it.select()
        await it.ok("Describe")
        assert it.states() == {"cobo0": "Described", "cobo1": "Described", "mutant": "Idle"}
        # Whatever a plan says, the rules hold: a CoBo cannot be prepared without the MuTAnT's clock.
        await it.refused("Ecc:cobo0:Prepare", because="prepare the MuTAnT first")
        await it.ok("Reset")
        assert set(it.states().values()) == {"Idle"}


@covers("attpc_plan")
def test_a_plan_that_raises_or_is_none_of_ours_refuses():
    class Bad:
        @hookimpl
        def attpc_plan(self, command):
            if command.scope == RUN:
                raise KeyError("cobo7")
            return "Describe, please"

    host = host_of(good=Stay(), bad=Bad())
    assert "KeyError: 'cobo7'" in str(host.plan(START.command, Fleet()).refusals[0])
    assert "not a Plan" in str(host.plan(Command(SYSTEM, CommandName.DESCRIBE), Fleet()).refusals[0])
    assert host.plugins["bad"].status.name == "DEGRADED"


@covers("attpc_veto")
def test_the_last_registered_is_asked_first_unless_it_says_otherwise():
    def veto(name, **order):
        return type(name, (), {"attpc_veto": hookimpl(lambda self, plan: name, **order)})()

    host = host_of(
        first=veto("first"),
        last=veto("last", trylast=True),
        eager=veto("eager", tryfirst=True),
        newest=veto("newest"),
    )
    assert [str(reason) for reason in host.vetoes(START, Fleet())] == ["eager", "newest", "first", "last"]


class Stay:
    @hookimpl
    def attpc_plan(self, command):
        return Plan(dataclasses.replace(command, name=CommandName.STOP))


@covers("attpc_plan")
def test_a_plan_is_for_the_command_that_was_given():
    assert host_of(stay=Stay()).plan(START.command, Fleet()) == START


@covers("attpc_access")
async def test_who_may_write_is_asked_of_plugins(tmp_path, monkeypatch):
    class Guards:
        """Lets nobody but one user, who is not the account of the tests, write the title."""

        @hookimpl
        def attpc_access(self, who, row):
            if row.part == "Operator":
                raise LookupError("no list of operators")
            return who.user == "somebody-else" if row.part == "Title" else None

    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("guards", Guards())]) as it:
        ran = await it.put_text("Run:Title", "mine")
        assert "Write access denied" in ran.both
        ran = await it.put_text("Run:Operator", "me")
        assert "Write access denied" in ran.both
        assert await it.get_text("Run:Title") == ""
        assert "no list of operators" in await it.get_text("Plugin:guards:Message_RBV")
        await it.ok("Run:Class", "Beam")
        ran = await caput(it.place, "-t", f"{it.prefix}Run:Class", "Junk")
        assert ran.code == 0


class Owner:
    """A site's own source of run numbers."""

    def __init__(self, number: object = 500) -> None:
        self.number = number
        self.released: list[int] = []
        self.slow = asyncio.Event()

    @hookimpl
    def attpc_run_numbers(self):
        return self

    async def open_run(self):
        return None

    async def reserve(self, experiment):
        if isinstance(self.number, Exception):
            raise self.number
        if self.number == "slow":
            await self.slow.wait()
        return self.number

    async def release(self, experiment, number):
        self.released.append(number)

    def next(self, experiment):
        return self.number


@covers("attpc_run_numbers")
async def test_one_owner_of_run_numbers_and_never_a_fallback(tmp_path, monkeypatch):
    owner = Owner()
    limits = re.sub("run_number_s = .*", "run_number_s = 2.0", PATIENT_LIMITS)
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("owner", owner)], limits=limits) as it:
        await it.take_to(State.READY)
        for number, because in (
            (ConnectionError("no database"), "owner gave no run number: ConnectionError: no database"),
            ("slow", "owner gave no run number: it took more than 2 s"),
            (-1, "owner gave -1, not a run number"),
            (2**31, "owner gave 2147483648, not a run number"),
            (True, "owner gave True, not a run number"),
        ):
            owner.number = number
            await it.refused("Run:Start", because=because)
            assert set(it.states().values()) == {"Ready"}, number
            assert await it.get("Run:Result_RBV") == "Refused"
        owner.number = 500
        assert not it.fleet.log.of("mutant", "Start")
        await it.until(lambda: it.run.next_number == 500, what="the next number")
        # The number is given back when nothing can have run under it.
        it.fleet["mutant"].faults.fail("Breakup")
        await it.refused("Run:Start", because="run number 500 was released")
        assert owner.released == [500]
        await it.ok("GoTo", "Ready")
        await it.ok("Run:Start")
        assert await it.get("Run:Number_RBV") == "500"


@covers("attpc_run_numbers")
def test_a_next_number_that_nobody_can_tell():
    assert host_of(owner=Owner(12)).next_number("e1") == 12
    host = host_of(owner=Owner("twelve"))
    assert host.next_number("e1") is None
    assert "'twelve', not a run number" in host.plugins["owner"].message
    assert PluginHost().next_number("e1") is None


@covers("attpc_run_numbers")
async def test_an_owner_may_fail_in_every_way():
    class Odd:
        @hookimpl
        def attpc_run_numbers(self):
            return self

        def next(self, experiment):
            raise OSError("gone")

        async def reserve(self, experiment):
            raise asyncio.CancelledError

        def release(self, experiment, number):
            raise OSError("gone")

        async def open_run(self):
            return "a run"

    host = host_of(odd=Odd())
    with pytest.raises(PluginError, match="it cancelled itself"):
        await host.reserve_number("e1", 1.0)
    await host.release_number("e1", 3, 1.0)
    assert host.next_number("e1") is None
    assert await host.open_run(1.0) is None
    with pytest.raises(PluginError, match="no plugin owns the run numbers"):
        await PluginHost().reserve_number("e1", 1.0)


@covers("attpc_run_numbers")
async def test_an_owner_that_is_none_refuses_every_start(tmp_path, monkeypatch):
    class NoOwner:
        answer: object = 7

        @hookimpl
        def attpc_run_numbers(self):
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

    plugin = NoOwner()
    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("site", plugin)]) as it:
        await it.take_to(State.READY)
        await it.refused("Run:Start", because="it gave 7, not an owner of run numbers")
        plugin.answer = OSError("gone")
        await it.refused("Run:Start", because="plugin site failed in attpc_run_numbers: OSError: gone")
        assert await it.get("Run:NextNumber_RBV") == "-1"
        # One that owns none leaves it to the next.
        plugin.answer = None
        await it.ok("Run:Start")
        assert it.run.number == 0


async def test_a_plugin_that_could_not_be_loaded_holds_starts_until_it_is_switched_off(tmp_path, monkeypatch):
    class NoRows:
        @hookimpl
        def attpc_pvs(self):
            raise FileNotFoundError("rows.csv")

    async with rig(tmp_path, monkeypatch, cobos=1, plugins=[("broken", NoRows())]) as it:
        await it.take_to(State.READY)
        message = await it.refused("Run:Start", because="plugin broken failed in attpc_pvs")
        assert "rows.csv" in message
        assert "[plugins.broken] enabled = false" in message
        assert await it.get("Plugin:broken:Status_RBV") == "Failed"
    off = "enabled = false"
    async with rig(
        tmp_path, monkeypatch, cobos=1, plugins=[("broken", NoRows())], **{"plugins.broken": off}
    ) as it:
        assert await it.get("Plugin:broken:Status_RBV") == "Off"
        await it.start_run()
